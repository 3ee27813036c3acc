//! Clients' requests: from the ask to the replica, and from its reply back to the client.

use bytes::Bytes;
use kv_core::{Input, Level, Operation, Refused, Reply, RequestId, Slot, slot_of};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Driver;
use crate::error::NodeError;
use crate::handle::{Answer, Ask, Follower, Gauges, Refusal, Request, Status};
use crate::store::StoreError;

/// A client that waits for an answer.
#[derive(Debug)]
pub(super) struct Waiting {
    key: Bytes,
    deadline: Instant,
    reply: oneshot::Sender<Answer>,
}

impl Driver {
    /// Puts a batch of asks in: reads and questions one by one; all writes are held until the log is ready for them.
    pub(super) fn on_asks(&mut self, asks: Vec<Ask>) -> Result<(), NodeError> {
        for ask in asks {
            match ask {
                Ask::Snapshot(reply) => self.want_snapshot(reply),
                Ask::HandOver => self.step(Input::HandOver)?,
                Ask::Leave(left) => self.leaving = Some(left),
                Ask::Status { digest, reply } => {
                    // Whoever asked may have gone meanwhile.
                    let _ = reply.send(self.status(digest)?);
                }
                Ask::Request(Request::Get { key, level, token }, deadline, reply) => {
                    if let Some(request) = self.wait(key, deadline, reply) {
                        let holds = self.lease_holds();
                        self.step(Input::Lease(holds))?;
                        self.step(Input::Read {
                            request,
                            level,
                            token,
                        })?;
                    }
                }
                Ask::Request(Request::Set { key, value }, deadline, reply) => {
                    let request = self.wait(key.clone(), deadline, reply);
                    self.held
                        .extend(request.map(|each| (each, Operation::Set { key, value })));
                }
                Ask::Request(Request::Delete { key }, deadline, reply) => {
                    let request = self.wait(key.clone(), deadline, reply);
                    self.held
                        .extend(request.map(|each| (each, Operation::Delete { key })));
                }
            }
        }
        Ok(())
    }

    /// Puts the writes that were held in as one batch, unless the log is being synced. Whoever is no writer refuses them at once.
    pub(super) fn put_held(&mut self) -> Result<(), NodeError> {
        let is_busy = self.replica.role_of().is_some() && !self.unsynced.is_empty();
        if self.held.is_empty() || is_busy {
            return Ok(());
        }
        let writes = std::mem::take(&mut self.held);
        self.step(Input::Write(writes))
    }

    /// The deadline of a write has passed before it was put in: it has not happened, and will not.
    pub(super) fn refuse_held(&mut self, index: usize) {
        let (request, _) = self.held.remove(index);
        if let Some(waiting) = self.answered(request) {
            let _ = waiting.reply.send(Answer::Refused(Refusal::TryAgain));
        }
    }

    /// Notes a client down, unless its key belongs to another shard: then it is told so.
    fn wait(
        &mut self,
        key: Bytes,
        deadline: std::time::Duration,
        reply: oneshot::Sender<Answer>,
    ) -> Option<RequestId> {
        let slot = slot_of(&key);
        let owned = self
            .replica
            .observed()
            .is_some_and(|seen| seen.record.slots.iter().any(|range| range.contains(slot)));
        if !owned {
            let _ = reply.send(Answer::Refused(self.moved(slot)));
            return None;
        }
        self.last_request = RequestId(self.last_request.0 + 1);
        let request = self.last_request;
        let deadline = Instant::now() + deadline;
        self.deadlines.insert((deadline, request));
        self.waiting.insert(
            request,
            Waiting {
                key,
                deadline,
                reply,
            },
        );
        Some(request)
    }

    /// Where the cluster map says that a slot is served.
    fn moved(&self, slot: Slot) -> Refusal {
        let cluster = self.cluster.borrow();
        let shard = cluster.owner(slot);
        let writer = shard.and_then(|shard| cluster.shards.get(&shard)?.writer);
        Refusal::Moved {
            slot,
            shard,
            writer,
        }
    }

    /// Takes a client off the list.
    fn answered(&mut self, request: RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&request)?;
        self.deadlines.remove(&(waiting.deadline, request));
        Some(waiting)
    }

    /// Reads the engine and answers. After a lease read the clock is looked at once more (R16): where the lease has ended
    /// meanwhile, what was read proves nothing, and the read goes the slower way.
    pub(super) fn perform_serve(
        &mut self,
        request: RequestId,
        level: Level,
    ) -> Result<(), NodeError> {
        let Some(waiting) = self.waiting.get(&request) else {
            return Ok(());
        };
        let found = self.store.get(&waiting.key)?;
        if level == Level::Lease && !self.lease_holds() {
            self.follow_ups.push_back(Input::Lease(false));
            self.follow_ups.push_back(Input::Read {
                request,
                level: Level::Quorum,
                token: None,
            });
            return Ok(());
        }
        let (Some(waiting), Some(shard)) = (self.answered(request), self.shard) else {
            return Ok(());
        };
        let version = found.as_ref().map(|found| found.version);
        let value = found.and_then(|found| found.value);
        let token = self.store.applied().version;
        let _ = waiting.reply.send(Answer::Value {
            value,
            version,
            token,
            shard,
        });
        Ok(())
    }

    pub(super) fn perform_reply(&mut self, request: RequestId, reply: Reply) {
        let (Some(waiting), Some(shard)) = (self.answered(request), self.shard) else {
            return;
        };
        let answer = match reply {
            Reply::Written(version) => {
                self.phases.on_acknowledged(version.offset);
                Answer::Written { version, shard }
            }
            Reply::Unknown => Answer::Unknown,
            Reply::Refused(refused) => Answer::Refused(match refused {
                Refused::NotWriter(writer) => Refusal::Moved {
                    slot: slot_of(&waiting.key),
                    shard: Some(shard),
                    writer,
                },
                Refused::NotReady => Refusal::TryAgain,
                Refused::RolledBack => Refusal::RolledBack,
                Refused::Behind => Refusal::Behind,
                Refused::Unconfirmed => Refusal::Unconfirmed,
            }),
        };
        // A client that has gone gets no answer.
        let _ = waiting.reply.send(answer);
    }

    fn gauges(&self) -> Result<Gauges, NodeError> {
        Ok(Gauges {
            applied: self.store.applied().version.offset,
            checkpoint: self.store.durable().names.end().offset,
            followers: self.followers(),
            log_bytes: self.log.bytes(),
            engine_bytes: self
                .store
                .engine()
                .bytes_on_disk()
                .map_err(StoreError::from)?,
            requests_queued: self.queued.requests,
            requests_waiting: self.waiting.len() as u64,
            messages_queued: self.queued.messages,
        })
    }

    fn followers(&self) -> Vec<Follower> {
        let known = self.replica.followers_known();
        known
            .map(|(node, matched, committed)| Follower {
                node,
                matched,
                committed,
            })
            .collect()
    }

    fn status(&self, digest: bool) -> Result<Status, NodeError> {
        Ok(Status {
            node: self.config.id,
            shard: self.shard,
            writer_of: self.replica.writer_of(),
            promised: self.replica.promised(),
            end: self.replica.log().end(),
            committed: self.replica.committed(),
            runs: self.replica.log().runs(),
            digest: digest.then(|| self.store.digest()).transpose()?,
            gauges: self.gauges()?,
            is_suspect: self.replica.is_suspect(),
        })
    }
}
