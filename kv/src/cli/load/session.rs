//! One client of a run: it asks, counts what it is told, and writes it down where that is wanted.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kv::client::Client;
use kv::error::Outcome;
use kv_core::Level;

use super::pace::Pace;
use super::plan::{Kind, Operation, Plan, Script};
use super::record::{Record, Who};
use super::tally::{Ended, Progress, Tallies};

/// A client, what it is to do, and whom it tells.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) script: Script,
    pub(super) level: Level,
    pub(super) progress: Arc<Progress>,
    pub(super) recording: Option<Recording>,
}

/// A session's place in the history.
pub(super) struct Recording {
    pub(super) record: Arc<Record>,
    pub(super) who: Who,
}

impl Session {
    /// Asks for as long as the run lasts.
    pub(super) async fn run(mut self, pace: Arc<Pace>, mut tallies: Tallies) -> (Self, Tallies) {
        while let Some(begun) = pace.next().await {
            let operation = self.script.next();
            let ended = self.perform(&operation, self.level).await;
            tallies.note(operation.kind, begun, Instant::now(), ended);
            self.progress.note(ended);
        }
        (self, tallies)
    }

    /// Performs the same kind of operation on each of some keys, until one does not end well: that one.
    pub(super) async fn visit(
        mut self,
        kind: Kind,
        keys: impl Iterator<Item = u64>,
    ) -> (Self, Result<(), (Bytes, Ended)>) {
        for number in keys {
            let operation = Operation {
                kind,
                key: Plan::key(number),
                number: 0,
            };
            let ended = self.perform(&operation, Level::Quorum).await;
            if ended != Ended::Ok {
                return (self, Err((operation.key, ended)));
            }
        }
        (self, Ok(()))
    }

    async fn perform(&mut self, operation: &Operation, level: Level) -> Ended {
        let key = operation.key.clone();
        if let Some(Recording { record, who }) = &self.recording {
            let is_session_read = operation.kind == Kind::Get && level == Level::Replica;
            let token = is_session_read.then(|| self.client.token(&key)).flatten();
            record.invoke(*who, operation, level, token);
        }
        match operation.kind {
            Kind::Get => {
                let outcome = self.client.get(key, level).await;
                if let Some(Recording { record, who }) = &mut self.recording {
                    *who = record.complete(*who, operation, level, &outcome);
                }
                ended(&outcome)
            }
            Kind::Set | Kind::Delete => {
                let outcome = match operation.kind {
                    Kind::Set => {
                        let value = self.script.value(operation.number);
                        self.client.set(key, value).await
                    }
                    _ => self.client.delete(key).await,
                };
                if let Some(Recording { record, who }) = &mut self.recording {
                    *who = record.complete(*who, operation, level, &outcome);
                }
                ended(&outcome)
            }
        }
    }
}

fn ended<T>(outcome: &Outcome<T>) -> Ended {
    match outcome {
        Outcome::Ok(_) => Ended::Ok,
        Outcome::Fail(fail) => Ended::Fail(fail.name()),
        Outcome::Info(unsure) => Ended::Info(unsure.name()),
    }
}
