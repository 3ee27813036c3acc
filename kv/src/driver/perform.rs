//! What each effect of a replica does (`kv_core`'s list of the driver's duties).

use std::collections::BTreeMap;

use kv_core::limits::BATCH_BYTES_MAX;
use kv_core::{
    Body, Effect, Entry, Epoch, Fencing, Message, NodeId, Notable, Offset, Operation, Version,
};

use super::Driver;
use crate::agent::Command;
use crate::error::NodeError;
use crate::events::Event;
use crate::store::{Applied, Batch};

impl Driver {
    pub(super) fn perform(&mut self, effect: Effect) -> Result<(), NodeError> {
        match effect {
            Effect::Append(entries) => {
                self.unsynced
                    .push_back(entries.last().map(|entry| entry.version));
                let is_written_here = self.replica.role_of().is_some();
                if let Some(last) = entries.last()
                    && is_written_here
                    && last.operation != Operation::EpochStart
                {
                    self.phases.on_appended(last.version.offset);
                }
                self.log.append(entries);
            }
            Effect::Truncate { after } => {
                self.phases.forget();
                self.unsynced.push_back(Some(self.replica.log().end()));
                self.log.truncate(after);
            }
            Effect::Promise(epoch) => {
                self.unsynced.push_back(None);
                self.log.promise(epoch);
            }
            Effect::Send { to, message } => self.transport.send(to, message),
            Effect::Ship {
                to,
                epoch,
                prev,
                last,
                committed,
            } => {
                self.perform_ship(to, epoch, prev, last, committed)?;
            }
            Effect::Apply { upto } => {
                self.perform_apply(upto)?;
                self.phases.on_committed(upto);
            }
            Effect::Rewind { after } => self.perform_rewind(after)?,
            Effect::Serve { request, level } => self.perform_serve(request, level)?,
            Effect::Reply { request, reply } => self.perform_reply(request, reply),
            Effect::SetTimer(timer) => self.perform_set_timer(timer),
            Effect::CancelTimer(timer) => {
                self.timers.remove(&timer);
            }
            Effect::Lock => self.ask_agent(Command::Lock),
            Effect::Unlock => self.ask_agent(Command::Unlock),
            Effect::ReadRecord => self.ask_agent(Command::Read),
            Effect::SetRecord { revision, record } => {
                self.ask_agent(Command::Set { revision, record });
            }
            Effect::Observe(notable) => {
                if matches!(notable, Notable::Demoted(_)) {
                    self.phases.forget();
                }
                self.perform_observe(notable);
            }
            Effect::Restart(names) => {
                self.unsynced.push_back(Some(names.end()));
                self.log.restart(names);
            }
            Effect::DeclareWhole => self.log.declare_whole(),
            Effect::Fetch {
                from,
                epoch,
                at,
                bytes,
            } => self.perform_fetch(from, epoch, at, bytes)?,
            Effect::Store {
                at,
                position,
                bytes,
                crc,
                ..
            } => self.perform_store(at, position, &bytes, crc)?,
            Effect::ShipSnapshot {
                to,
                epoch,
                at,
                position,
            } => self.perform_ship_snapshot(to, epoch, at, position)?,
        }
        Ok(())
    }

    /// Sends the entries after `prev` up to `last`, in as many `Prepare`s as their size asks for; an empty one for none. Where the log
    /// no longer has them, a snapshot is offered.
    fn perform_ship(
        &mut self,
        to: NodeId,
        epoch: Epoch,
        mut prev: Version,
        last: Offset,
        committed: Offset,
    ) -> Result<(), NodeError> {
        if prev.offset < last && prev.offset.next() < self.log.first() {
            self.offer_snapshot(to, epoch);
            return Ok(());
        }
        loop {
            let entries = match prev.offset < last {
                true => self.log.read(prev.offset.next(), last, BATCH_BYTES_MAX)?,
                false => Vec::new(),
            };
            let next = entries.last().map(|entry| entry.version);
            let body = Body::Prepare {
                prev,
                entries,
                committed,
            };
            self.transport.send(to, Message { epoch, body });
            match next {
                Some(next) if next.offset < last => prev = next,
                _ => return Ok(()),
            }
        }
    }

    fn perform_apply(&mut self, upto: Offset) -> Result<(), NodeError> {
        loop {
            let applied = self.store.applied();
            let first = applied.version.offset.next();
            if first > upto {
                return Ok(());
            }
            let entries = self.log.read(first, upto, BATCH_BYTES_MAX)?;
            let mut chain = applied.chain;
            for entry in &entries {
                chain = chain_after(chain, entry);
                self.chains.note(entry.version, chain);
                if let Some(shard) = self.shard {
                    let version = entry.version;
                    self.events.record(Event::Committed {
                        shard,
                        version,
                        chain,
                    });
                }
            }
            self.store.apply(&Batch { entries, chain })?;
        }
    }

    fn perform_rewind(&mut self, after: Offset) -> Result<(), NodeError> {
        let to = self.chains.back_to(after);
        self.store.rewind(to);
        Ok(())
    }

    fn perform_observe(&self, notable: Notable) {
        let Some(shard) = self.shard else { return };
        let log = || self.replica.log().clone();
        self.events.record(match notable {
            Notable::Promoted(epoch) => Event::Promoted {
                shard,
                epoch,
                log: log(),
            },
            Notable::Demoted(epoch) => Event::Demoted(shard, epoch),
            Notable::Promised(epoch) => Event::Promised(shard, epoch),
            Notable::Elected { epoch, writer } => Event::Elected {
                shard,
                epoch,
                writer,
            },
            Notable::RolledBack { epoch, after } => Event::RolledBack {
                shard,
                epoch,
                after,
                log: log(),
            },
            Notable::Released(epoch) => Event::Released(shard, epoch),
            Notable::Truncated { after } => Event::Truncated { shard, after },
            Notable::Acknowledged { version, members } => Event::Acknowledged {
                shard,
                version,
                members,
            },
            Notable::RefusedStale { epoch, from } => Event::RefusedStale { shard, epoch, from },
            Notable::Contradicted { offset, from } => Event::Contradicted {
                shard,
                offset,
                from,
            },
            Notable::Forgot { after } => Event::Forgot { shard, after },
            Notable::Suspect => {
                let after = self.replica.log().end().offset;
                Event::Lost { shard, after }
            }
            Notable::Whole => Event::Whole(shard),
            Notable::Installed(_) => return, // `install` tells more of it.
        });
    }
}

/// The chained CRC-32 of a log after one more entry: two logs with the same chain at an offset are the same up to it.
fn chain_after(chain: u32, entry: &Entry) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(&entry.version.epoch.0.to_le_bytes());
    hasher.update(&entry.version.offset.0.to_le_bytes());
    match &entry.operation {
        Operation::EpochStart => hasher.update(b"e"),
        Operation::Set { key, value } => {
            hasher.update(b"s");
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(value);
        }
        Operation::Delete { key } => {
            hasher.update(b"d");
            hasher.update(key);
        }
    }
    hasher.finalize()
}

/// The chain at every applied offset, so that a rewind finds it. Only the plain protocol rewinds, so only there is it kept.
#[derive(Debug)]
pub(super) struct Chains {
    kept: Option<BTreeMap<Offset, Applied>>,
}

impl Chains {
    pub(super) fn new(fencing: Fencing) -> Self {
        Self {
            kept: (fencing == Fencing::None).then(BTreeMap::new),
        }
    }

    fn note(&mut self, version: Version, chain: u32) {
        if let Some(kept) = &mut self.kept {
            kept.insert(version.offset, Applied { version, chain });
        }
    }

    fn back_to(&mut self, after: Offset) -> Applied {
        let Some(kept) = &mut self.kept else {
            return Applied::default();
        };
        kept.split_off(&after.next());
        kept.get(&after).copied().unwrap_or_default()
    }
}
