//! What a node records, in the words of the checker.

use checker::NodeEventKind;
use kv::events::{Event, json};
use kv_core::{NodeId, ShardId};

/// The checker's words for a node's event.
#[must_use]
pub fn translate(event: Event) -> NodeEventKind {
    match event {
        Event::Started { .. } => NodeEventKind::Started {},
        Event::Shard(record) => NodeEventKind::Shard {
            shard: number(record.shard),
            epoch: record.epoch.0,
            voters: ids(record.voters),
            write_quorum: u32::try_from(record.write_quorum).unwrap_or(u32::MAX),
            writer: record.writer.map(|writer| writer.node.0),
        },
        Event::Synced(shard, version) => NodeEventKind::Synced {
            shard: number(shard),
            epoch: version.epoch.0,
            offset: version.offset.0,
        },
        Event::Committed {
            shard,
            version,
            chain,
        } => NodeEventKind::Committed {
            shard: number(shard),
            epoch: version.epoch.0,
            offset: version.offset.0,
            chain,
        },
        Event::Acknowledged {
            shard,
            version,
            members,
        } => NodeEventKind::Acknowledged {
            shard: number(shard),
            epoch: version.epoch.0,
            offset: version.offset.0,
            members: ids(members),
        },
        Event::Truncated { shard, after } => NodeEventKind::Truncated {
            shard: number(shard),
            after: after.0,
        },
        Event::Lost { shard, after } => NodeEventKind::Lost {
            shard: number(shard),
            after: after.0,
        },
        // No check leans on more of these than their name.
        other => NodeEventKind::other(&json::kind(&other), json::fields(&other)),
    }
}

/// A shard's number as the checker writes it.
#[must_use]
pub fn number(shard: ShardId) -> u32 {
    u32::try_from(shard.0).unwrap_or(u32::MAX)
}

fn ids(nodes: impl IntoIterator<Item = NodeId>) -> Vec<u64> {
    nodes.into_iter().map(|node| node.0).collect()
}

#[cfg(test)]
mod tests {
    use kv_core::{Epoch, Log, Offset, Version};

    use super::*;

    #[test]
    fn every_event_keeps_its_shard_and_its_facts() {
        let shard = ShardId(1);
        let version = Version::new(Epoch(2), Offset(7));
        let members = vec![NodeId(4), NodeId(6)];
        let acknowledged = translate(Event::Acknowledged {
            shard,
            version,
            members,
        });
        assert_eq!(
            acknowledged,
            NodeEventKind::Acknowledged {
                shard: 1,
                epoch: 2,
                offset: 7,
                members: vec![4, 6]
            }
        );
        for (event, name) in [
            (
                Event::Promoted {
                    shard,
                    epoch: Epoch(2),
                    log: Log::default(),
                },
                "promoted",
            ),
            (Event::Demoted(shard, Epoch(2)), "demoted"),
            (
                Event::Forgot {
                    shard,
                    after: Offset(3),
                },
                "forgot",
            ),
            (
                Event::Truncated {
                    shard,
                    after: Offset(3),
                },
                "truncated",
            ),
        ] {
            let kind = translate(event);
            assert_eq!((kind.name(), kind.shard()), (name, Some(1)));
        }
    }

    /// One of each.
    fn every_event() -> Vec<Event> {
        let (shard, epoch, after) = (ShardId(1), Epoch(2), Offset(7));
        let version = Version::new(epoch, after);
        let (node, log, chain) = (NodeId(3), Log::default(), 77);
        let members = vec![NodeId(4), NodeId(6)];
        let record = kv_core::ShardRecord {
            shard,
            epoch,
            writer: Some(kv_core::WriterRecord {
                node,
                session: kv_core::SessionId(9),
            }),
            released_by: None,
            voters: members.iter().copied().collect(),
            write_quorum: 2,
            election_quorum: 1,
            slots: Vec::new(),
            fencing: kv_core::Fencing::Epoch,
        };
        vec![
            Event::Started {
                end: version,
                cut: None,
                suspect: None,
            },
            Event::Shard(record.clone()),
            Event::Shard(kv_core::ShardRecord {
                writer: None,
                ..record
            }),
            Event::Synced(shard, version),
            Event::Committed {
                shard,
                version,
                chain,
            },
            Event::Acknowledged {
                shard,
                version,
                members,
            },
            Event::Truncated { shard, after },
            Event::Promoted {
                shard,
                epoch,
                log: log.clone(),
            },
            Event::Demoted(shard, epoch),
            Event::Promised(shard, epoch),
            Event::Elected {
                shard,
                epoch,
                writer: node,
            },
            Event::RolledBack {
                shard,
                epoch,
                after,
                log,
            },
            Event::Released(shard, epoch),
            Event::RefusedStale {
                shard,
                epoch,
                from: node,
            },
            Event::Contradicted {
                shard,
                offset: after,
                from: node,
            },
            Event::Forgot { shard, after },
            Event::Lost { shard, after },
            Event::Whole(shard),
            Event::Installed {
                shard,
                version,
                chain,
            },
            Event::SnapshotRefused("torn".to_owned()),
            Event::Checkpoint(version),
            Event::Stopped("full".to_owned()),
        ]
    }

    /// What a real node writes into its file reads as what the simulator is told.
    #[test]
    fn the_files_of_nodes_say_the_same_in_the_same_words() {
        let at = kv::events::json::Position {
            time: 5,
            node: NodeId(3),
            incarnation: 2,
            sequence: 9,
        };
        for event in every_event() {
            let object = kv::events::json::object(at, &event);
            let read: checker::NodeEvent = serde_json::from_value(object.into()).unwrap();
            let expected = checker::NodeEvent {
                index: 5,
                time: 5,
                node: Some(3),
                incarnation: 2,
                sequence: 9,
                kind: translate(event),
            };
            assert_eq!(read, expected);
        }
    }
}
