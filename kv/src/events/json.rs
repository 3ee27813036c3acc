//! Events as JSON, one object a line: what the checker reads (`checker/FORMAT.md`).

use kv_core::{NodeId, ShardId, Version};
use serde_json::{Map, Value, json};

use super::Event;

/// Where an event stands among all that happens on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Nanoseconds on the machine's monotonic clock, which all of its processes share; no two events of a node have the same.
    pub time: u64,
    /// Whose event.
    pub node: NodeId,
    /// Which life of the node, from 1.
    pub incarnation: u64,
    /// The number of the event within that life, from 0.
    pub sequence: u64,
}

/// An event as an object. Its `index` is its time, so that the files of all nodes of one machine merge by it.
#[must_use]
pub fn object(at: Position, event: &Event) -> Map<String, Value> {
    let mut object = Map::new();
    let place = [
        ("index", at.time),
        ("time", at.time),
        ("node", at.node.0),
        ("incarnation", at.incarnation),
        ("sequence", at.sequence),
    ];
    object.extend(place.map(|(name, number)| (name.to_owned(), number.into())));
    object.insert("event".to_owned(), kind(event).into());
    let fields = fields(event).into_iter();
    object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    object
}

/// The kind of an event, as the field `event` has it.
#[must_use]
pub fn kind(event: &Event) -> String {
    event.name().replace('-', "_")
}

/// What an event says, field by field.
#[must_use]
pub fn fields(event: &Event) -> Vec<(&'static str, Value)> {
    let of = |shard: &ShardId, rest: Vec<(&'static str, Value)>| {
        let shard = ("shard", Value::from(shard.0));
        std::iter::once(shard).chain(rest).collect()
    };
    let entry = |version: &Version| {
        vec![
            ("epoch", Value::from(version.epoch.0)),
            ("offset", version.offset.0.into()),
        ]
    };
    let with = |mut fields: Vec<(&'static str, Value)>, name, value| {
        fields.push((name, value));
        fields
    };
    match event {
        Event::Started { .. } => vec![],
        Event::Shard(record) => {
            let voters: Vec<u64> = record.voters.iter().map(|node| node.0).collect();
            let rest = vec![
                ("epoch", record.epoch.0.into()),
                ("voters", voters.into()),
                ("write_quorum", record.write_quorum.into()),
                ("writer", json!(record.writer.map(|writer| writer.node.0))),
            ];
            of(&record.shard, rest)
        }
        Event::Synced(shard, version) => of(shard, entry(version)),
        Event::Committed {
            shard,
            version,
            chain,
        }
        | Event::Installed {
            shard,
            version,
            chain,
        } => of(shard, with(entry(version), "chain", (*chain).into())),
        Event::Acknowledged {
            shard,
            version,
            members,
        } => {
            let members: Vec<u64> = members.iter().map(|node| node.0).collect();
            of(shard, with(entry(version), "members", members.into()))
        }
        Event::Truncated { shard, after }
        | Event::Lost { shard, after }
        | Event::Forgot { shard, after } => of(shard, vec![("after", after.0.into())]),
        Event::Promoted { shard, epoch, .. }
        | Event::Demoted(shard, epoch)
        | Event::Promised(shard, epoch)
        | Event::Released(shard, epoch) => of(shard, vec![("epoch", epoch.0.into())]),
        Event::Elected {
            shard,
            epoch,
            writer,
        } => of(
            shard,
            vec![("epoch", epoch.0.into()), ("writer", writer.0.into())],
        ),
        Event::RolledBack {
            shard,
            epoch,
            after,
            ..
        } => of(
            shard,
            vec![("epoch", epoch.0.into()), ("after", after.0.into())],
        ),
        Event::RefusedStale { shard, epoch, from } => of(
            shard,
            vec![("epoch", epoch.0.into()), ("from", from.0.into())],
        ),
        Event::Contradicted {
            shard,
            offset,
            from,
        } => of(
            shard,
            vec![("offset", offset.0.into()), ("from", from.0.into())],
        ),
        Event::Whole(shard) => of(shard, vec![]),
        Event::SnapshotRefused(why) | Event::Stopped(why) => vec![("why", why.clone().into())],
        Event::Checkpoint(version) => entry(version),
    }
}
