//! What clients asked and were told, and what must be true of it.
//!
//! Every write has a value of its own, so that a value tells which request wrote it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::invariants::Process;
use kv_core::{Entry, Level, Operation, Refused, Reply, RequestId, Version};

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Reply(Reply),
    /// The value as it was read, at the level and the position at which it was read.
    Served {
        level: Level,
        applied: Version,
        value: Option<Bytes>,
    },
}

/// A request and the process that it was sent to.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) to: Process,
    pub(crate) level: Option<Level>,
    /// For a read: the newest version that anybody knew of when it began.
    floor: Version,
    pub(crate) answer: Option<Answer>,
}

/// All requests of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) requests: BTreeMap<RequestId, Request>,
    /// The acknowledged writes.
    pub(crate) acknowledged: BTreeMap<Version, RequestId>,
    /// The values that are committed somewhere.
    committed: BTreeMap<Bytes, Version>,
    /// The greatest version that an answer has carried.
    floor: Version,
    pub(crate) rolled_back_count: u64,
    pub(crate) quorum_read_count: u64,
}

impl Ledger {
    /// The next request id.
    pub(crate) fn open(&mut self, to: Process, level: Option<Level>) -> RequestId {
        let request = RequestId(u64::try_from(self.requests.len()).unwrap() + 1);
        let floor = self.floor;
        self.requests.insert(
            request,
            Request {
                to,
                level,
                floor,
                answer: None,
            },
        );
        request
    }

    /// The value that a request writes.
    pub(crate) fn value(request: RequestId) -> Bytes {
        Bytes::from(request.0.to_string())
    }

    pub(crate) fn answer(&self, request: RequestId) -> Option<&Answer> {
        self.requests[&request].answer.as_ref()
    }

    /// The requests that a process has not answered.
    pub(crate) fn waiting_at(&self, process: Process) -> Vec<RequestId> {
        let waits = |request: &Request| request.answer.is_none() && request.to == process;
        let waiting = self.requests.iter().filter(|(_, request)| waits(request));
        waiting.map(|(id, _)| *id).collect()
    }

    /// Notes an answer. Where `strict`, it must be one that the fenced protocol can give.
    pub(crate) fn answered(
        &mut self,
        id: RequestId,
        answer: Answer,
        strict: bool,
    ) -> Result<(), String> {
        let request = self
            .requests
            .get_mut(&id)
            .ok_or(format!("{id} is unknown"))?;
        if let Some(first) = request.answer.replace(answer.clone()) {
            return Err(format!("{id} was answered twice: {first:?}, {answer:?}"));
        }
        let floor = request.floor;
        match answer {
            Answer::Reply(Reply::Written(version)) => {
                self.floor = self.floor.max(version);
                if let Some(other) = self.acknowledged.insert(version, id)
                    && strict
                {
                    return Err(format!(
                        "{other} and {id} are both acknowledged as {version}"
                    ));
                }
                if strict && self.committed.get(&Self::value(id)) != Some(&version) {
                    return Err(format!(
                        "{id} is acknowledged as {version}, which nobody committed"
                    ));
                }
            }
            Answer::Reply(Reply::Refused(why)) => {
                self.rolled_back_count += u64::from(why == Refused::RolledBack);
                if strict && self.committed.contains_key(&Self::value(id)) {
                    return Err(format!("{id} is refused ({why:?}) but committed"));
                }
            }
            Answer::Reply(Reply::Unknown) => {}
            Answer::Served { level, applied, .. } => {
                if matches!(level, Level::Lease | Level::Quorum) {
                    self.quorum_read_count += 1;
                    if strict && applied < floor {
                        return Err(format!(
                            "{id}: a {level:?} read saw {applied} after {floor} was known"
                        ));
                    }
                    self.floor = self.floor.max(applied);
                }
            }
        }
        Ok(())
    }

    /// Notes that an entry is committed at some member.
    pub(crate) fn committed(&mut self, entry: &Entry, strict: bool) -> Result<(), String> {
        let Operation::Set { value, .. } = &entry.operation else {
            return Ok(());
        };
        let known = self.committed.insert(value.clone(), entry.version);
        let id = RequestId(std::str::from_utf8(value).unwrap().parse().unwrap());
        if !strict {
            return Ok(());
        }
        if known.is_some_and(|known| known != entry.version) {
            return Err(format!(
                "{id} is committed twice: {known:?}, {}",
                entry.version
            ));
        }
        match self
            .requests
            .get(&id)
            .and_then(|request| request.answer.as_ref())
        {
            Some(Answer::Reply(Reply::Refused(why))) => {
                Err(format!("{id} was refused ({why:?}) and is committed now"))
            }
            _ => Ok(()),
        }
    }

    /// The acknowledged writes that a log lacks.
    pub(crate) fn lost(&self, log: &[Entry]) -> Vec<(RequestId, Version)> {
        let held: BTreeSet<_> = log
            .iter()
            .filter_map(|entry| match &entry.operation {
                Operation::Set { value, .. } => Some((entry.version, value.clone())),
                _ => None,
            })
            .collect();
        let lost = |(version, id): &(&Version, &RequestId)| {
            !held.contains(&(**version, Self::value(**id)))
        };
        let lost = self.acknowledged.iter().filter(lost);
        lost.map(|(version, id)| (*id, *version)).collect()
    }
}
