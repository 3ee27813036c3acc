//! One line of a history: what a client asked, or what it was told.
//!
//! The shape is Jepsen's, plus a few optional fields of our own store that make the checks sharper. Nothing but Jepsen's
//! own fields is required, so that anybody's history can be judged; fields that are not listed here are tolerated.
//! Written out, the order of the fields is fixed and empty ones are left out: the same events give the same bytes.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of a log entry, `(epoch, offset)`; written as `[epoch, offset]`, ordered lexicographically.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Version {
    /// The configuration in which the entry was created.
    pub epoch: u64,
    /// The place of the entry in its shard's log, from 1.
    pub offset: u64,
}

impl From<(u64, u64)> for Version {
    fn from((epoch, offset): (u64, u64)) -> Self {
        Self { epoch, offset }
    }
}

impl From<Version> for (u64, u64) {
    fn from(version: Version) -> Self {
        (version.epoch, version.offset)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.epoch, self.offset)
    }
}

/// What an event says about its operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The process asks.
    Invoke,
    /// It took effect and was answered.
    Ok,
    /// It did not happen and never will.
    Fail,
    /// Nobody knows: it may take effect at any time from its invocation on, or never.
    Info,
}

/// The operations that this checker judges: those of a register per key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Returns the value of the key; null when there is none.
    Read,
    /// Sets the value of the key.
    Write,
    /// Removes the key: a write of nothing.
    Delete,
}

/// How strong a read was asked to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// At whoever believes to be the writer.
    Local,
    /// At the writer, while its lease holds.
    Lease,
    /// At the writer, after a quorum confirmed its epoch.
    Quorum,
    /// At any replica.
    Replica,
}

/// One event of a history, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The position in the one global order that `events.jsonl` shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The logical client; it has at most one open operation.
    pub process: u64,
    /// The client session, which outlives a process that ended in `info`. Without it, the process is the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// Whether this is an invocation, or how the operation ended.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The operation.
    pub f: Function,
    /// The key; null where the whole history is about one register.
    pub key: Option<String>,
    /// What is written, or what an `ok` read returned (null: nothing there).
    pub value: Value,
    /// Nanoseconds; informative only, since the order of the lines is the order.
    #[serde(default)]
    pub time: u64,
    /// The shard that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// The node that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    /// The level of a read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The entry that wrote the value seen, or that this write became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// On an invocation: the log position that the answer must include. On a completion: the one that it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Version>,
    /// Why it ended in `fail` or `info`, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Event {
    /// An event with Jepsen's fields only; set the others as they are known.
    pub fn new(process: u64, kind: EventKind, f: Function, key: &str, value: Value) -> Self {
        Self {
            index: None,
            process,
            session: None,
            kind,
            f,
            key: Some(key.to_owned()),
            value,
            time: 0,
            shard: None,
            node: None,
            level: None,
            version: None,
            token: None,
            error: None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Lease => "lease",
            Self::Quorum => "quorum",
            Self::Replica => "replica",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_event_keeps_its_bytes_through_a_round_trip() {
        let line = concat!(
            r#"{"index":7,"process":3,"session":1,"type":"ok","f":"read","key":"a","value":4,"time":12,"shard":0,"#,
            r#""node":2,"level":"lease","version":[2,17],"token":[2,20]}"#
        );
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(
            event.version,
            Some(Version {
                epoch: 2,
                offset: 17
            })
        );
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }

    #[test]
    fn key_and_value_are_written_even_when_there_are_none() {
        let mut event = Event::new(0, EventKind::Invoke, Function::Read, "a", Value::Null);
        event.key = None;
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"process":0,"type":"invoke","f":"read","key":null,"value":null,"time":0}"#
        );
    }

    #[test]
    fn foreign_fields_are_tolerated_and_null_is_none() {
        let line = r#"{"process":0,"type":"ok","f":"read","key":"a","value":1,"time":0,"version":null,"colour":"red"}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.version, None);
    }

    #[test]
    fn versions_are_ordered_by_epoch_first() {
        assert!(
            Version {
                epoch: 1,
                offset: 9
            } < Version {
                epoch: 2,
                offset: 1
            }
        );
    }
}
