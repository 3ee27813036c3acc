//! What the store writes into znodes: JSON that a person can read with any ZooKeeper browser.
//!
//! The types here mirror those of `kv_core`, which knows no serialisation. Reading is strict: a field that this version
//! does not know is an error, since a conditional set of ours would drop it.

use std::collections::BTreeSet;

use kv_core::{
    Epoch, Fencing, NodeId, SessionId, ShardId, ShardRecord, SlotRange, WriterRecord,
    election_quorum,
};
use serde::{Deserialize, Serialize};

use crate::coordination::CoordinationError;

/// What `nodes/<id>` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeJson {
    /// The node's RPC address.
    pub address: String,
}

/// What `shards/<id>` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardJson {
    shard: u64,
    epoch: u64,
    writer: Option<WriterJson>,
    released_by: Option<u64>,
    voters: BTreeSet<u64>,
    write_quorum: usize,
    election_quorum: usize,
    /// Half-open: the first slot, and the one after the last.
    slots: Vec<(u16, u16)>,
    fencing: FencingJson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriterJson {
    node: u64,
    session: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FencingJson {
    Epoch,
    None,
}

/// A node's registration as JSON.
#[must_use]
pub fn encode_node(node: &NodeJson) -> Vec<u8> {
    serde_json::to_vec(node).expect("text is JSON")
}

/// A node's registration from JSON.
///
/// # Errors
/// `Unreadable`.
pub fn decode_node(data: &[u8]) -> Result<NodeJson, CoordinationError> {
    serde_json::from_slice(data).map_err(|_| CoordinationError::Unreadable)
}

/// A shard record as JSON.
#[must_use]
pub fn encode_shard(record: &ShardRecord) -> Vec<u8> {
    let json = ShardJson {
        shard: record.shard.0,
        epoch: record.epoch.0,
        writer: record.writer.map(|writer| WriterJson {
            node: writer.node.0,
            session: writer.session.0,
        }),
        released_by: record.released_by.map(|node| node.0),
        voters: record.voters.iter().map(|node| node.0).collect(),
        write_quorum: record.write_quorum,
        election_quorum: record.election_quorum,
        slots: record.slots.iter().map(|r| (r.start(), r.end())).collect(),
        fencing: match record.fencing {
            Fencing::Epoch => FencingJson::Epoch,
            Fencing::None => FencingJson::None,
        },
    };
    serde_json::to_vec(&json).expect("numbers are JSON")
}

/// A shard record from JSON, checked.
///
/// # Errors
/// `Unreadable`: it is no record of this version, or its quorums or slots are impossible.
pub fn decode_shard(data: &[u8]) -> Result<ShardRecord, CoordinationError> {
    let json: ShardJson =
        serde_json::from_slice(data).map_err(|_| CoordinationError::Unreadable)?;
    let (n, q, e) = (json.voters.len(), json.write_quorum, json.election_quorum);
    election_quorum(n, q, Some(e)).map_err(|_| CoordinationError::Unreadable)?;
    let slots = json
        .slots
        .iter()
        .map(|(start, end)| SlotRange::new(*start, *end));
    let slots: Option<Vec<SlotRange>> = slots.collect();
    Ok(ShardRecord {
        shard: ShardId(json.shard),
        epoch: Epoch(json.epoch),
        writer: json.writer.map(|writer| WriterRecord {
            node: NodeId(writer.node),
            session: SessionId(writer.session),
        }),
        released_by: json.released_by.map(NodeId),
        voters: json.voters.into_iter().map(NodeId).collect(),
        write_quorum: q,
        election_quorum: e,
        slots: slots.ok_or(CoordinationError::Unreadable)?,
        fencing: match json.fencing {
            FencingJson::Epoch => Fencing::Epoch,
            FencingJson::None => Fencing::None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ShardRecord {
        ShardRecord {
            shard: ShardId(1),
            epoch: Epoch(7),
            writer: Some(WriterRecord {
                node: NodeId(4),
                session: SessionId(99),
            }),
            released_by: None,
            voters: [4, 5, 6].map(NodeId).into(),
            write_quorum: 2,
            election_quorum: 2,
            slots: vec![SlotRange::new(512, 1024).unwrap()],
            fencing: Fencing::Epoch,
        }
    }

    #[test]
    fn a_shard_record_is_read_as_it_was_written() {
        let released = ShardRecord {
            writer: None,
            released_by: Some(NodeId(4)),
            fencing: Fencing::None,
            ..record()
        };
        for record in [record(), released] {
            assert_eq!(decode_shard(&encode_shard(&record)), Ok(record));
        }
    }

    #[test]
    fn the_json_of_a_shard_record_stays_as_it_is() {
        let json = String::from_utf8(encode_shard(&record())).unwrap();
        assert_eq!(
            json,
            r#"{"shard":1,"epoch":7,"writer":{"node":4,"session":99},"released_by":null,"#
                .to_string()
                + r#""voters":[4,5,6],"write_quorum":2,"election_quorum":2,"slots":[[512,1024]],"fencing":"epoch"}"#
        );
    }

    #[test]
    fn what_this_version_does_not_understand_is_unreadable() {
        let json = String::from_utf8(encode_shard(&record())).unwrap();
        for (from, to) in [
            ("{\"shard\"", "{\"migration\":1,\"shard\""),
            ("\"write_quorum\":2", "\"write_quorum\":4"),
            ("\"election_quorum\":2", "\"election_quorum\":1"),
            ("[512,1024]", "[512,1025]"),
            ("\"epoch\"}", "\"paxos\"}"),
            ("{\"shard\"", "[\"shard\""),
        ] {
            let changed = json.replace(from, to);
            assert_ne!(changed, json);
            let read = decode_shard(changed.as_bytes());
            assert_eq!(read, Err(CoordinationError::Unreadable), "{changed}");
        }
        assert_eq!(decode_node(b"{}"), Err(CoordinationError::Unreadable));
    }
}
