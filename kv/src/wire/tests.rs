//! Property: whatever is put on the wire comes off it unchanged. Property: no bytes make reading panic.

use std::time::Duration;

use bytes::Bytes;
use kv_core::limits::{BATCH_ENTRIES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kv_core::{
    Body, Entry, Epoch, Fencing, Level, Message, NodeId, Offset, Operation, SessionId, ShardId,
    Slot, SlotRange, Version,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::handle::{Answer, ClusterMap, Follower, Gauges, Refusal, Request, ShardView, Status};

fn any_version() -> impl Strategy<Value = Version> {
    (0..=NUMBER_MAX, 0..=NUMBER_MAX).prop_map(|(e, o)| Version::new(Epoch(e), Offset(o)))
}

fn any_offset() -> impl Strategy<Value = Offset> {
    (0..=NUMBER_MAX).prop_map(Offset)
}

fn any_key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..40).prop_map(Bytes::from)
}

fn any_value() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let operation = prop_oneof![
        Just(Operation::EpochStart),
        (any_key(), any_value()).prop_map(|(key, value)| Operation::Set { key, value }),
        any_key().prop_map(|key| Operation::Delete { key }),
    ];
    (any_version(), operation).prop_map(|(version, operation)| Entry { version, operation })
}

fn any_message() -> impl Strategy<Value = Message> {
    let body = prop_oneof![
        (any_version(), vec(any_entry(), 0..5), any_offset()).prop_map(
            |(prev, entries, committed)| Body::Prepare {
                prev,
                entries,
                committed
            }
        ),
        (any_offset(), any_offset())
            .prop_map(|(upto, committed)| Body::Prepared { upto, committed }),
        (any_version(), any_version()).prop_map(|(prev, hint)| Body::Refused { prev, hint }),
        (0..=NUMBER_MAX).prop_map(|promised| Body::Stale {
            promised: Epoch(promised)
        }),
        any_offset().prop_map(|upto| Body::Commit { upto }),
        any_offset().prop_map(|upto| Body::Committed { upto }),
        Just(Body::Seal),
        (any_version(), any::<u64>()).prop_map(|(end, session)| Body::Sealed {
            end,
            session: SessionId(session)
        }),
        any::<u64>().prop_map(|round| Body::Confirm { round }),
        any::<u64>().prop_map(|round| Body::Confirmed { round }),
        any_offset().prop_map(|after| Body::Rollback { after }),
        any::<u64>().prop_map(|session| Body::Lost {
            session: SessionId(session)
        }),
        (any::<u64>(), any_offset()).prop_map(|(session, end)| Body::Extent {
            session: SessionId(session),
            end
        }),
        (any_version(), any::<u64>()).prop_map(|(at, bytes)| Body::Offer { at, bytes }),
        (any_version(), any::<u64>()).prop_map(|(at, position)| Body::Fetch { at, position }),
        (
            any_version(),
            any::<u64>(),
            vec(any::<u8>(), 0..50),
            any::<u32>()
        )
            .prop_map(|(at, position, bytes, crc)| Body::Chunk {
                at,
                position,
                bytes: bytes.into(),
                crc
            }),
    ];
    (0..=NUMBER_MAX, body).prop_map(|(epoch, body)| Message {
        epoch: Epoch(epoch),
        body,
    })
}

fn any_refusal() -> impl Strategy<Value = (Refusal, Option<String>)> {
    let moved = (
        0u16..1024,
        option::of(any::<u64>()),
        option::of(any::<u64>()),
        option::of("[a-z.]{1,9}:[0-9]{1,5}"),
    );
    let moved = moved.prop_map(|(slot, shard, writer, address)| {
        let refusal = Refusal::Moved {
            slot: Slot::new(slot).unwrap(),
            shard: shard.map(ShardId),
            writer: writer.map(NodeId),
        };
        (refusal, address)
    });
    prop_oneof![
        moved,
        Just((Refusal::TryAgain, None)),
        Just((Refusal::Behind, None)),
        Just((Refusal::RolledBack, None)),
        Just((Refusal::Unconfirmed, None)),
        Just((Refusal::Busy, None)),
    ]
}

fn refused_reply() -> impl Strategy<Value = Reply> {
    (any::<u64>(), any_refusal()).prop_map(|(node, (refusal, address))| Reply {
        node: NodeId(node),
        answer: Answer::Refused(refusal),
        address,
    })
}

fn answered(answer: impl Strategy<Value = Answer>) -> impl Strategy<Value = Reply> {
    (any::<u64>(), answer).prop_map(|(node, answer)| Reply {
        node: NodeId(node),
        answer,
        address: None,
    })
}

fn any_read_reply() -> impl Strategy<Value = Reply> {
    let value = (
        option::of(any_value()),
        option::of(any_version()),
        any_version(),
        any::<u64>(),
    );
    let value = value.prop_map(|(value, version, token, shard)| Answer::Value {
        value,
        version,
        token,
        shard: ShardId(shard),
    });
    prop_oneof![answered(value), refused_reply()]
}

fn any_write_reply() -> impl Strategy<Value = Reply> {
    let written = (any_version(), any::<u64>()).prop_map(|(version, shard)| Answer::Written {
        version,
        shard: ShardId(shard),
    });
    prop_oneof![
        answered(written),
        answered(Just(Answer::Unknown)),
        refused_reply()
    ]
}

fn any_level() -> impl Strategy<Value = Level> {
    prop_oneof![
        Just(Level::Local),
        Just(Level::Lease),
        Just(Level::Quorum),
        Just(Level::Replica),
    ]
}

fn any_range() -> impl Strategy<Value = SlotRange> {
    (0u16..1024).prop_flat_map(|start| {
        (start + 1..=1024).prop_map(move |end| SlotRange::new(start, end).unwrap())
    })
}

fn any_shard() -> impl Strategy<Value = ShardView> {
    let fencing = prop_oneof![Just(Fencing::Epoch), Just(Fencing::None)];
    (
        0..=NUMBER_MAX,
        option::of(any::<u64>()),
        btree_set(any::<u64>().prop_map(NodeId), 0..5),
        0usize..20,
        vec(any_range(), 0..4),
        fencing,
    )
        .prop_map(
            |(epoch, writer, voters, write_quorum, slots, fencing)| ShardView {
                epoch: Epoch(epoch),
                writer: writer.map(NodeId),
                voters,
                write_quorum,
                slots,
                fencing,
            },
        )
}

fn any_gauges() -> impl Strategy<Value = Gauges> {
    let follower =
        (any::<u64>(), any_offset(), any_offset()).prop_map(|(node, matched, committed)| {
            Follower {
                node: NodeId(node),
                matched,
                committed,
            }
        });
    (
        any_offset(),
        any_offset(),
        vec(follower, 0..4),
        any::<[u64; 5]>(),
    )
        .prop_map(|(applied, checkpoint, followers, numbers)| {
            let [
                log_bytes,
                engine_bytes,
                requests_queued,
                requests_waiting,
                messages_queued,
            ] = numbers;
            Gauges {
                applied,
                checkpoint,
                followers,
                log_bytes,
                engine_bytes,
                requests_queued,
                requests_waiting,
                messages_queued,
            }
        })
}

fn any_status() -> impl Strategy<Value = Status> {
    let number = || 0..=NUMBER_MAX;
    let run = (number(), any_offset(), any_offset()).prop_map(|(e, f, l)| (Epoch(e), f, l));
    (
        (
            any::<u64>(),
            option::of(any::<u64>()),
            option::of(any::<u32>()),
            any::<bool>(),
        ),
        option::of(number()),
        number(),
        any_version(),
        any_offset(),
        (vec(run, 0..4), any_gauges()),
    )
        .prop_map(
            |(
                (node, shard, digest, is_suspect),
                writer_of,
                promised,
                end,
                committed,
                (runs, gauges),
            )| {
                Status {
                    node: NodeId(node),
                    shard: shard.map(ShardId),
                    writer_of: writer_of.map(Epoch),
                    promised: Epoch(promised),
                    end,
                    committed,
                    runs,
                    digest,
                    gauges,
                    is_suspect,
                }
            },
        )
}

fn any_info() -> impl Strategy<Value = Info> {
    (
        btree_map(any::<u64>().prop_map(NodeId), "[a-z]{1,9}:[0-9]{4}", 0..4),
        btree_map(any::<u64>().prop_map(ShardId), any_shard(), 0..4),
        option::of(any_status()),
    )
        .prop_map(|(nodes, shards, status)| Info {
            cluster: ClusterMap { nodes, shards },
            status,
        })
}

/// Through bytes, as the network does it.
fn over_the_wire<M: prost::Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_peer_message_comes_off_the_wire_as_it_went_on(message in any_message()) {
        prop_assert_eq!(decode(encode(&message)).unwrap(), message.clone());
        let envelope = envelope_to_proto(NodeId(3), NodeId(7), &message);
        prop_assert_eq!(
            envelope_from_proto(over_the_wire(&envelope)).unwrap(),
            (NodeId(3), NodeId(7), message)
        );
    }

    #[test]
    fn a_read_comes_off_the_wire_as_it_went_on(
        key in any_key(), level in any_level(), token in option::of(any_version()), ms in 1u64..u64::MAX
    ) {
        let deadline = Duration::from_millis(ms);
        let sent = get_to_proto(key.clone(), level, token, deadline);
        prop_assert_eq!(
            get_from_proto(over_the_wire(&sent)).unwrap(),
            (Request::Get { key, level, token }, Some(deadline))
        );
    }

    #[test]
    fn a_write_comes_off_the_wire_as_it_went_on(key in any_key(), value in any_value()) {
        let deadline = Duration::from_millis(250);
        let sent = set_to_proto(key.clone(), value.clone(), deadline);
        prop_assert_eq!(
            set_from_proto(over_the_wire(&sent)).unwrap(),
            (Request::Set { key: key.clone(), value }, Some(deadline))
        );
        let sent = delete_to_proto(key.clone(), deadline);
        prop_assert_eq!(
            delete_from_proto(over_the_wire(&sent)).unwrap(),
            (Request::Delete { key }, Some(deadline))
        );
    }

    #[test]
    fn a_reply_comes_off_the_wire_as_it_went_on(read in any_read_reply(), write in any_write_reply()) {
        let sent = read_reply_to_proto(read.clone()).unwrap();
        prop_assert_eq!(read_reply_from_proto(over_the_wire(&sent)).unwrap(), read);
        let sent = write_reply_to_proto(write.clone()).unwrap();
        prop_assert_eq!(write_reply_from_proto(over_the_wire(&sent)).unwrap(), write);
    }

    #[test]
    fn the_cluster_map_and_a_status_come_off_the_wire_as_they_went_on(info in any_info()) {
        prop_assert_eq!(info_from_proto(over_the_wire(&info_to_proto(&info))).unwrap(), info);
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = decode(bytes.clone());
        let _ = proto::Envelope::decode(bytes.clone()).map(envelope_from_proto);
        let _ = proto::GetRequest::decode(bytes.clone()).map(get_from_proto);
        let _ = proto::SetRequest::decode(bytes.clone()).map(set_from_proto);
        let _ = proto::DeleteRequest::decode(bytes.clone()).map(delete_from_proto);
        let _ = proto::ReadReply::decode(bytes.clone()).map(read_reply_from_proto);
        let _ = proto::WriteReply::decode(bytes.clone()).map(write_reply_from_proto);
        let _ = proto::InfoReply::decode(bytes).map(info_from_proto);
    }

    /// Damaged messages get past the protobuf layer more often than random bytes do.
    #[test]
    fn no_damage_makes_reading_panic(message in any_message(), at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = encode(&message).to_vec();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = decode(Bytes::from(bytes));
    }
}

#[test]
fn keys_and_values_beyond_the_limits_are_refused() {
    let deadline = Duration::from_secs(1);
    let set = |key_bytes: usize, value_bytes: usize| {
        set_from_proto(set_to_proto(
            vec![0; key_bytes].into(),
            vec![0; value_bytes].into(),
            deadline,
        ))
    };
    assert!(set(1, 0).is_ok());
    assert!(set(KEY_BYTES_MAX, VALUE_BYTES_MAX).is_ok());
    assert_eq!(set(0, 0), Err(WireError::KeyLength(0)));
    let long = KEY_BYTES_MAX + 1;
    assert_eq!(set(long, 0), Err(WireError::KeyLength(long)));
    let large = VALUE_BYTES_MAX + 1;
    assert_eq!(set(1, large), Err(WireError::ValueLength(large)));
    let get = get_to_proto(Bytes::new(), Level::Lease, None, deadline);
    assert_eq!(get_from_proto(get), Err(WireError::KeyLength(0)));
    let delete = delete_to_proto(Bytes::new(), deadline);
    assert_eq!(delete_from_proto(delete), Err(WireError::KeyLength(0)));
}

#[test]
fn a_prepare_beyond_the_limits_is_refused() {
    let prepare = |count: u64, key_bytes: usize| {
        let entry = Entry {
            version: Version::new(Epoch(1), Offset(1)),
            operation: Operation::Delete {
                key: vec![0; key_bytes].into(),
            },
        };
        decode(encode(&Message {
            epoch: Epoch(1),
            body: Body::Prepare {
                prev: Version::ZERO,
                entries: (0..count).map(|_| entry.clone()).collect(),
                committed: Offset::ZERO,
            },
        }))
    };
    assert!(prepare(BATCH_ENTRIES_MAX, 1).is_ok());
    assert!(prepare(BATCH_ENTRIES_MAX + 1, 1).is_err());
    assert!(prepare(1, 0).is_err());
    assert!(prepare(1, KEY_BYTES_MAX + 1).is_err());
}

#[test]
fn numbers_near_overflow_are_refused() {
    let commit = |epoch: u64, upto: u64| {
        decode(encode(&Message {
            epoch: Epoch(epoch),
            body: Body::Commit { upto: Offset(upto) },
        }))
    };
    assert!(commit(NUMBER_MAX, NUMBER_MAX).is_ok());
    assert!(commit(u64::MAX, 1).is_err());
    assert!(commit(1, u64::MAX).is_err());
}

#[test]
fn an_answer_that_does_not_belong_to_the_request_is_not_put_on_the_wire() {
    let reply = |answer| Reply {
        node: NodeId(1),
        answer,
        address: None,
    };
    assert_eq!(
        read_reply_to_proto(reply(Answer::Unknown)),
        Err(WireError::Mismatch)
    );
    let value = Answer::Value {
        value: None,
        version: None,
        token: Version::ZERO,
        shard: ShardId(0),
    };
    assert_eq!(write_reply_to_proto(reply(value)), Err(WireError::Mismatch));
}
