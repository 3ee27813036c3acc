//! Property: no bytes from a disk or a wire make this crate panic, or allocate more than they allow. The bodies are those of the fuzz
//! targets in `kv/fuzz`; here they get bytes that are nearly right.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use bytes::Bytes;
use kv::engine::EngineKind;
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::store::{Batch, Options, Store};
use kv::wal::record::Record;
use kv::wire;
use kv_core::{Body, Entry, Epoch, Level, Log, Message, NodeId, Offset, Operation, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

#[path = "../fuzz/bodies/wire.rs"]
mod message;
#[path = "../fuzz/bodies/snapshot.rs"]
mod snapshot;
#[path = "../fuzz/bodies/wal.rs"]
mod wal;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs a body, which may allocate so many bytes, and so many more for each byte of input.
fn bounded(body: fn(&[u8]), bytes: &[u8], fixed: usize, each: usize) {
    let region = Region::new(ALLOCATOR);
    body(bytes);
    let allocated = region.change().bytes_allocated;
    let allowed = fixed + each * bytes.len();
    assert!(
        allocated <= allowed,
        "{allocated} bytes for {} of input",
        bytes.len()
    );
}

fn record(bytes: &[u8]) {
    bounded(wal::record, bytes, 4096, 16);
}

fn files(bytes: &[u8]) {
    bounded(wal::files, bytes, 64 * 1024, 256);
}

fn on_the_wire(bytes: &[u8]) {
    bounded(message::message, bytes, 4096, 64);
}

fn snapshots(bytes: &[u8]) {
    bounded(snapshot::snapshot, bytes, 64 * 1024, 64);
}

/// A snapshot as a store writes it.
fn whole_snapshot() -> Vec<u8> {
    let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
    let opened = Store::open(&folder, EngineKind::Memory, Options::default(), true);
    let mut store = futures::executor::block_on(opened).unwrap();
    let entries = (1..=9_u64).map(|offset| Entry {
        version: Version::new(Epoch(1), Offset(offset)),
        operation: match offset % 3 {
            0 => Operation::Delete { key: "k1".into() },
            _ => Operation::Set {
                key: format!("k{offset}").into(),
                value: "v".repeat(offset as usize).into(),
            },
        },
    });
    let entries = entries.collect();
    store.apply(&Batch { entries, chain: 7 }).unwrap();
    let names = Log::from_runs(&[(Epoch(1), Offset(1), Offset(9))]);
    let position = store.begin_checkpoint(names).unwrap().run().unwrap();
    store.end_checkpoint(position);
    let name = |_| "snapshot".to_owned();
    let written =
        kv::store::snapshot::write(store.engine().as_ref(), folder.as_ref(), name).unwrap();
    let mut bytes = vec![0; written.bytes as usize];
    let file = folder.open(&written.name).unwrap();
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// What changes in bytes that were right.
#[derive(Clone, Debug)]
enum Wound {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Repeat(Index, Index),
}

fn wounds() -> impl Strategy<Value = Vec<Wound>> {
    let wound = prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Wound::Flip(at, bit)),
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Wound::Set(at, byte)),
        1 => any::<Index>().prop_map(Wound::Cut),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Wound::Repeat(from, to)),
    ];
    vec(wound, 0..4)
}

fn wounded(mut bytes: Vec<u8>, wounds: Vec<Wound>) -> Vec<u8> {
    for wound in wounds {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match wound {
            Wound::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Wound::Set(at, byte) => bytes[at.index(len)] = byte,
            Wound::Cut(at) => bytes.truncate(at.index(len)),
            Wound::Repeat(from, to) => {
                let (from, to) = (from.index(len), to.index(len));
                bytes.extend_from_within(from.min(to)..from.max(to));
            }
        }
    }
    bytes
}

fn version() -> impl Strategy<Value = Version> {
    (0..4_u64, 0..6_u64).prop_map(|(epoch, offset)| Version::new(Epoch(epoch), Offset(offset)))
}

fn entry() -> impl Strategy<Value = Entry> {
    let bytes = |least| vec(any::<u8>(), least..40).prop_map(Bytes::from);
    let operation = prop_oneof![
        Just(Operation::EpochStart),
        (bytes(1), bytes(0)).prop_map(|(key, value)| Operation::Set { key, value }),
        bytes(1).prop_map(|key| Operation::Delete { key }),
    ];
    (version(), operation).prop_map(|(version, operation)| Entry { version, operation })
}

/// Records as the log writes them, as one piece of bytes behind a header.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let other = prop_oneof![
        version().prop_map(|version| (4, version)),
        version().prop_map(|version| (5, version)),
        version().prop_map(|version| (6, version)),
        Just((7, Version::ZERO)),
    ];
    let one = prop_oneof![
        3 => entry().prop_map(Ok),
        1 => other.prop_map(Err),
    ];
    vec(one, 0..8).prop_map(|records| {
        const HEADER_BYTES: u64 = 80;
        let mut bytes = Vec::new();
        for record in &records {
            let record = match record {
                Ok(entry) => Record::of(entry),
                Err((4, version)) => Record::Truncate(*version),
                Err((5, version)) => Record::Promise(version.epoch),
                Err((6, version)) => Record::SyncMark(HEADER_BYTES + 16 * version.offset.0),
                Err(_) => Record::Whole,
            };
            record.encode(HEADER_BYTES + bytes.len() as u64, &mut bytes);
        }
        bytes
    })
}

/// Bodies of records, each with its length before it.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let numbers = (0..4_u8, 0..6_u8, 0..9_u8, 0..4_u8);
    let body = (numbers, vec(any::<u8>(), 0..20));
    let body = body.prop_map(|((epoch, offset, op, key), rest)| {
        let mut body = vec![0; 19];
        (body[0], body[8], body[16], body[17]) = (epoch, offset, op, key);
        body.extend(rest);
        body.insert(0, body.len() as u8);
        body
    });
    vec(body, 0..8).prop_map(|bodies| bodies.concat())
}

/// Messages of every kind, with the byte before them that says which.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let seconds = Duration::from_secs(1);
    let bytes = |least| vec(any::<u8>(), least..40).prop_map(Bytes::from);
    let request = (bytes(1), bytes(0), version()).prop_map(move |(key, value, token)| {
        let get = wire::get_to_proto(key.clone(), Level::Replica, Some(token), seconds);
        let set = wire::set_to_proto(key.clone(), value, seconds);
        let delete = wire::delete_to_proto(key, seconds);
        vec![
            [vec![0], get.encode_to_vec()].concat(),
            [vec![1], set.encode_to_vec()].concat(),
            [vec![2], delete.encode_to_vec()].concat(),
        ]
    });
    let prepare =
        (version(), vec(entry(), 0..4), 0..9_u64).prop_map(|(prev, entries, committed)| {
            let committed = Offset(committed);
            let body = Body::Prepare {
                prev,
                entries,
                committed,
            };
            let message = Message {
                epoch: Epoch(3),
                body,
            };
            let envelope = wire::envelope_to_proto(NodeId(1), NodeId(2), &message);
            vec![
                [vec![3], envelope.encode_to_vec()].concat(),
                [&[4], &wire::encode(&message)[..]].concat(),
            ]
        });
    let all = prop_oneof![request, prepare];
    (all, any::<Index>()).prop_map(|(all, index)| all[index.index(all.len())].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    // One test: what other threads allocate would be counted, too.
    #[test]
    fn any_bytes_are_understood_or_refused(
        kind: u8,
        bytes in vec(any::<u8>(), 0..300),
        (position, entry) in (0..9_u64, entry()),
        (records, bodies, right) in (records(), bodies(), messages()),
        wounds in wounds(),
    ) {
        record(&bytes);
        let mut encoded = Vec::new();
        Record::of(&entry).encode(position * 16, &mut encoded);
        let encoded = [&(position * 16).to_le_bytes()[..], &encoded].concat();
        record(&wounded(encoded, wounds.clone()));

        files(&[&[kind], &bytes[..]].concat());
        files(&[&[1], &wounded(records, wounds.clone())[..]].concat());
        files(&[&[2], &wounded(bodies, wounds.clone())[..]].concat());

        snapshots(&[&b"splitsnp\x01"[..], &bytes[..]].concat());
        snapshots(&wounded(whole_snapshot(), wounds.clone()));

        on_the_wire(&bytes);
        on_the_wire(&right);
        on_the_wire(&wounded(right, wounds));
    }
}
