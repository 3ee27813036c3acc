//! What the nodes themselves recorded, and what was done to them: `events.jsonl`, beside the history and in one global
//! order with it.
//!
//! `FORMAT.md`, beside the crate's manifest, describes both files field by field. In short, three hands write events:
//! - the *nodes*: `started`, `synced`, `committed`, `acknowledged`, `truncated`, `lost`, `promoted`, `demoted`, and
//!   `shard` for each configuration that they see published;
//! - the *nemesis*: `links` (the complete present state of the links between nodes: once before the first operation,
//!   and again whenever something changes), `fault`, and `healed` (the last fault is over, and coordination is up);
//! - the *end of the run*: `probe` (who shows that a shard works again), `final_state` of each member after a silence,
//!   and `final_log` of each shard.
//!
//! The checks lean on these kinds only. All others are kept as they are, so that nothing gets lost between reading and
//! writing, and new kinds need no change here. `promoted` (`shard`, `epoch`), `demoted` and `healed` (no fields) are
//! kept so as well, since their names say nearly all: see [`NodeEventKind::other`].
//!
//! The order of events is their index. Their times serve three checks, which need a bound: those of `links`, `probe`
//! and `final_state`. They compare times that one hand wrote down on one clock: that of the nemesis and the clients.

mod impossible;
mod text;

use std::{fs, path::Path};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::{Map, Value};

use self::impossible::Scrutiny;
use crate::{
    error::{Error, Problem},
    history::{Version, parse::for_each_line},
    limits::LINK_GRACE_NS,
};

/// One event of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// The position in the one global order that the history shares.
    pub index: u64,
    /// Nanoseconds, on the clock of the history where the nemesis or the end of the run wrote it; informative otherwise.
    #[serde(default)]
    pub time: u64,
    /// The node that saw it; none for what happened outside of all nodes.
    pub node: Option<u64>,
    /// Which life of the node.
    #[serde(default)]
    pub incarnation: u64,
    /// The number of the event within that life.
    #[serde(default)]
    pub sequence: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: NodeEventKind,
}

/// What happened at a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "event", rename_all = "snake_case")]
pub enum NodeEventKind {
    /// The configuration of an epoch, as published. May repeat.
    Shard {
        /// The shard.
        shard: u32,
        /// The number of the configuration.
        epoch: u64,
        /// The members that count.
        voters: Vec<u64>,
        /// How many of them must commit a write before it is acknowledged.
        write_quorum: u32,
        /// The writer; none while an election is under way.
        writer: Option<u64>,
    },
    /// On this node the log up to the entry of this name is now durable.
    Synced {
        /// The shard.
        shard: u32,
        /// The epoch in which the entry was created.
        epoch: u64,
        /// The place of the entry.
        offset: u64,
    },
    /// This node committed and applied this entry. A restarted node replays, and says so again.
    Committed {
        /// The shard.
        shard: u32,
        /// The epoch in which the entry was created.
        epoch: u64,
        /// The place of the entry.
        offset: u64,
        /// The chained checksum of all entries up to this one.
        chain: u32,
    },
    /// This node, as the writer, answered `ok` to the write that is this entry.
    Acknowledged {
        /// The shard.
        shard: u32,
        /// The epoch in which the entry was created.
        epoch: u64,
        /// The place of the entry.
        offset: u64,
        /// Whom it counted as having committed the entry, itself included.
        members: Vec<u64>,
    },
    /// This node removed all entries above `after`.
    Truncated {
        /// The shard.
        shard: u32,
        /// The last offset that stays.
        after: u64,
    },
    /// A new life of the node begins.
    Started {},
    /// After a power loss, the recovered log ends at `after`.
    Lost {
        /// The shard.
        shard: u32,
        /// The last offset that is still there.
        after: u64,
    },
    /// What the live writer's log holds at the end of the run, after healing.
    FinalLog {
        /// The shard.
        shard: u32,
        /// Runs of entries of one epoch: `[epoch, first offset, last offset]`.
        runs: Vec<(u64, u64, u64)>,
        /// The last committed offset.
        committed: u64,
    },
    /// Which links between nodes there are from now on: all that is not named here is up and linked.
    Links {
        /// The nodes that are down or paused.
        down: Vec<u64>,
        /// The links that are cut, each in one direction: `[from, to]`.
        cut: Vec<(u64, u64)>,
        /// How far from this moment, in either direction, the change may really have come about.
        #[serde(default = "link_grace_ns")]
        grace_ns: u64,
    },
    /// How the session goes about showing that a shard works again after `healed`: it writes this key until that is `ok`.
    Probe {
        /// The shard.
        shard: u32,
        /// The session in the history (its process, where the history names no sessions).
        session: u64,
        /// The key that it writes, which belongs to the shard.
        key: String,
        /// How soon after `healed` a write must be `ok`.
        within_ns: u64,
    },
    /// What this member of the shard holds at the end of the run, after a silence.
    FinalState {
        /// The shard.
        shard: u32,
        /// The epoch of the last entry that it has applied; 0 where its log does not tell.
        epoch: u64,
        /// The offset of the last entry that it has committed and applied.
        committed: u64,
        /// A checksum of all that it holds.
        digest: u64,
        /// Whether it is up and has said so itself; where it has not, the three fields before mean nothing.
        live: bool,
        /// For how long nothing had been written.
        #[serde(default)]
        quiet_ns: u64,
    },
    /// Anything else.
    #[serde(skip)]
    Other {
        /// The kind, as written in the field `event`.
        kind: String,
        /// Its fields, as they are.
        fields: Map<String, Value>,
    },
}

const KNOWN: [&str; 11] = [
    "shard",
    "synced",
    "committed",
    "acknowledged",
    "truncated",
    "started",
    "lost",
    "final_log",
    "links",
    "probe",
    "final_state",
];

fn link_grace_ns() -> u64 {
    LINK_GRACE_NS
}

impl NodeEventKind {
    /// An event that the checks need nothing further of, such as `fault`, `promoted` or `sealed`.
    pub fn other(kind: &str, fields: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self::Other {
            kind: kind.to_owned(),
            fields,
        }
    }

    /// The name of the kind, as in the field `event`.
    pub fn name(&self) -> &str {
        match self {
            Self::Shard { .. } => "shard",
            Self::Synced { .. } => "synced",
            Self::Committed { .. } => "committed",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Truncated { .. } => "truncated",
            Self::Started {} => "started",
            Self::Lost { .. } => "lost",
            Self::FinalLog { .. } => "final_log",
            Self::Links { .. } => "links",
            Self::Probe { .. } => "probe",
            Self::FinalState { .. } => "final_state",
            Self::Other { kind, .. } => kind,
        }
    }

    /// The log entry that it is about, if it is about one: the shard and the name of the entry.
    pub fn entry(&self) -> Option<(u32, Version)> {
        let (shard, epoch, offset) = match self {
            Self::Synced {
                shard,
                epoch,
                offset,
            }
            | Self::Committed {
                shard,
                epoch,
                offset,
                ..
            }
            | Self::Acknowledged {
                shard,
                epoch,
                offset,
                ..
            } => (*shard, *epoch, *offset),
            _ => return None,
        };
        Some((shard, Version { epoch, offset }))
    }

    /// The shard that it is about, if it is about one.
    pub fn shard(&self) -> Option<u32> {
        match self {
            Self::Shard { shard, .. }
            | Self::Synced { shard, .. }
            | Self::Committed { shard, .. }
            | Self::Acknowledged { shard, .. }
            | Self::Truncated { shard, .. }
            | Self::Lost { shard, .. }
            | Self::FinalLog { shard, .. }
            | Self::Probe { shard, .. }
            | Self::FinalState { shard, .. } => Some(*shard),
            Self::Started {} | Self::Links { .. } => None,
            Self::Other { fields, .. } => fields.get("shard")?.as_u64()?.try_into().ok(),
        }
    }
}

impl NodeEvent {
    /// Reads the nodes' events from a file of JSON Lines.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, Error> {
        let unreadable = |reason| Error::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let bytes = fs::read(path).map_err(unreadable)?;
        Self::parse_all(&bytes, &path.display().to_string())
    }

    /// Parses the nodes' events from JSON Lines; `file` is what errors call it.
    pub fn parse_all(bytes: &[u8], file: &str) -> Result<Vec<Self>, Error> {
        let mut events: Vec<Self> = Vec::new();
        let mut scrutiny = Scrutiny::default();
        for_each_line(bytes, file, |line, text| {
            let event = serde_json::from_slice::<Self>(text).map_err(|error| diagnose(&error))?;
            if let Some(last) = events.last().filter(|last| last.index >= event.index) {
                return Err(Problem::IndexNotIncreasing {
                    index: event.index,
                    previous: last.index,
                });
            }
            scrutiny.look(&event, line)?;
            events.push(event);
            Ok(())
        })?;
        let in_file = |(line, problem)| Error::Line {
            file: file.to_owned(),
            line,
            problem,
        };
        scrutiny.finish().map_err(in_file)?;
        Ok(events)
    }
}

fn diagnose(error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let detail = message
        .split(" at line ")
        .next()
        .unwrap_or(&message)
        .to_owned();
    if error.is_data() {
        Problem::Field { detail }
    } else {
        Problem::NotJson { detail }
    }
}

// `remote = "Self"` derives the code for the listed kinds as functions of the type; these two add all the others.
impl Serialize for NodeEventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self::Other { kind, fields } = self else {
            return Self::serialize(self, serializer);
        };
        let mut map = serializer.serialize_map(Some(fields.len() + 1))?;
        map.serialize_entry("event", kind)?;
        for (name, value) in fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for NodeEventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let Some(kind) = fields
            .get("event")
            .and_then(Value::as_str)
            .map(str::to_owned)
        else {
            return Err(de::Error::custom("the field event is missing or no text"));
        };
        if KNOWN.contains(&kind.as_str()) {
            return Self::deserialize(Value::Object(fields)).map_err(de::Error::custom);
        }
        fields.shift_remove("event");
        Ok(Self::Other { kind, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"index":3,"time":5,"node":1,"incarnation":2,"sequence":9"#;

    #[test]
    fn every_kind_keeps_its_bytes_through_a_round_trip() {
        for rest in [
            r#""event":"shard","shard":0,"epoch":2,"voters":[1,2,3],"write_quorum":2,"writer":null}"#,
            r#""event":"synced","shard":0,"epoch":2,"offset":7}"#,
            r#""event":"committed","shard":0,"epoch":2,"offset":7,"chain":77}"#,
            r#""event":"acknowledged","shard":0,"epoch":2,"offset":7,"members":[1,2]}"#,
            r#""event":"truncated","shard":0,"after":7}"#,
            r#""event":"started"}"#,
            r#""event":"lost","shard":0,"after":7}"#,
            r#""event":"final_log","shard":0,"runs":[[1,1,4],[2,5,9]],"committed":9}"#,
            r#""event":"links","down":[3],"cut":[[1,2],[2,1]],"grace_ns":5}"#,
            r#""event":"probe","shard":0,"session":8,"key":"a","within_ns":5}"#,
            r#""event":"final_state","shard":0,"epoch":2,"committed":7,"digest":77,"live":true,"quiet_ns":5}"#,
            r#""event":"healed"}"#,
            r#""event":"fault","description":"writer cut off","nodes":[1]}"#,
        ] {
            let line = format!("{HEADER},{rest}");
            let event: NodeEvent = serde_json::from_str(&line).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
            assert_eq!(
                matches!(event.kind, NodeEventKind::Other { .. }),
                ["fault", "healed"].contains(&event.kind.name())
            );
        }
    }

    #[test]
    fn known_kinds_are_strict_and_unknown_fields_tolerated() {
        let parse = |line: String| NodeEvent::parse_all(line.as_bytes(), "events.jsonl");
        let more = parse(format!("{HEADER},\"event\":\"started\",\"mood\":1}}\n")).unwrap();
        assert_eq!(more[0].kind, NodeEventKind::Started {});
        let error = parse(format!("{HEADER},\"event\":\"synced\",\"shard\":0}}\n"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("events.jsonl, line 1") && error.contains("epoch"),
            "{error}"
        );
    }

    #[test]
    fn the_shard_of_any_event_is_found() {
        assert_eq!(
            NodeEventKind::other("promoted", [("shard", Value::from(4))]).shard(),
            Some(4)
        );
        assert_eq!(NodeEventKind::Started {}.shard(), None);
    }

    #[test]
    fn an_index_that_does_not_rise_is_refused() {
        let line = format!("{HEADER},\"event\":\"started\"}}\n");
        let error = NodeEvent::parse_all(line.repeat(2).as_bytes(), "events.jsonl").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("line 2: the index 3 does not come after 3"),
            "{error}"
        );
    }
}
