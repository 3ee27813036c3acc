//! What a store promises, over every engine that this build has.

use std::collections::BTreeMap;

use kv_core::{Epoch, Offset};
use proptest::prelude::*;

use super::*;
use crate::fs::memory::MemoryFileSystem;
use crate::fs::os::OsFileSystem;

/// A folder that is kept until the test ends.
struct Folder {
    files: Arc<dyn FileSystem>,
    _on_disk: Option<tempfile::TempDir>,
}

fn folder(kind: EngineKind) -> Folder {
    match kind {
        EngineKind::Memory | EngineKind::Redb => Folder {
            files: Arc::new(MemoryFileSystem::default()),
            _on_disk: None,
        },
        EngineKind::Sled | EngineKind::Rocksdb => {
            let on_disk = tempfile::tempdir().unwrap();
            Folder {
                files: Arc::new(OsFileSystem::open(on_disk.path()).unwrap()),
                _on_disk: Some(on_disk),
            }
        }
    }
}

fn kinds() -> Vec<EngineKind> {
    let here = |kind: &EngineKind| *kind != EngineKind::Rocksdb || cfg!(feature = "rocksdb");
    EngineKind::ALL.into_iter().filter(here).collect()
}

async fn open(folder: &Folder, kind: EngineKind) -> Store {
    open_with(folder, kind, Options::default()).await
}

async fn open_with(folder: &Folder, kind: EngineKind, options: Options) -> Store {
    Store::open(&folder.files, kind, options, true)
        .await
        .unwrap()
}

fn set(epoch: u64, offset: u64, key: &str, value: &str) -> Entry {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    entry(epoch, offset, Operation::Set { key, value })
}

fn delete(epoch: u64, offset: u64, key: &str) -> Entry {
    let key = key.to_owned().into();
    entry(epoch, offset, Operation::Delete { key })
}

fn entry(epoch: u64, offset: u64, operation: Operation) -> Entry {
    Entry {
        version: Version::new(Epoch(epoch), Offset(offset)),
        operation,
    }
}

fn apply(store: &mut Store, entries: Vec<Entry>, chain: u32) {
    store.apply(&Batch { entries, chain }).unwrap();
}

/// The names of a log of one epoch.
fn names(end: u64) -> Log {
    match end {
        0 => Log::default(),
        end => Log::from_runs(&[(Epoch(1), Offset(1), Offset(end))]),
    }
}

fn checkpoint(store: &mut Store) {
    let end = store.applied().version.offset.0;
    let flush = store.begin_checkpoint(names(end)).unwrap();
    let position = flush.run().unwrap();
    store.end_checkpoint(position);
}

fn found(store: &Store, key: &str) -> Option<(u64, u64, Option<String>)> {
    let found = store.get(key.as_bytes()).unwrap()?;
    let value = found
        .value
        .map(|value| String::from_utf8(value.to_vec()).unwrap());
    Some((found.version.epoch.0, found.version.offset.0, value))
}

fn is(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test]
async fn a_store_reads_what_was_applied_before_during_and_after_a_checkpoint() {
    for kind in kinds() {
        let folder = folder(kind);
        let mut store = open(&folder, kind).await;
        assert_eq!(store.applied(), Applied::default());
        assert_eq!(found(&store, "a"), None);
        let first = vec![
            entry(1, 1, Operation::EpochStart),
            set(1, 2, "a", "one"),
            set(1, 3, "b", ""),
            set(1, 4, "a", "two"),
        ];
        apply(&mut store, first, 7);
        assert_eq!(found(&store, "a"), Some((1, 4, is("two"))));
        assert_eq!(found(&store, "b"), Some((1, 3, is(""))));

        let flush = store.begin_checkpoint(names(4)).unwrap();
        assert_eq!(found(&store, "a"), Some((1, 4, is("two"))));
        apply(&mut store, vec![delete(1, 5, "a")], 8);
        assert_eq!(found(&store, "a"), Some((1, 5, None)), "{kind}");
        assert!(store.begin_checkpoint(names(5)).is_none(), "one at a time");
        let position = flush.run().unwrap();
        assert_eq!(position.applied().version.offset, Offset(4));
        store.end_checkpoint(position);
        assert_eq!(found(&store, "a"), Some((1, 5, None)));
        assert_eq!(found(&store, "b"), Some((1, 3, is(""))));
        checkpoint(&mut store);
        assert_eq!(found(&store, "a"), Some((1, 5, None)), "remembered");
        assert_eq!(found(&store, "never"), None);
    }
}

#[tokio::test]
async fn a_crash_leaves_the_last_checkpoint_and_a_replay_goes_on_from_there() {
    for kind in kinds() {
        let folder = folder(kind);
        let mut store = open(&folder, kind).await;
        apply(&mut store, vec![set(1, 1, "a", "one")], 1);
        checkpoint(&mut store);
        apply(
            &mut store,
            vec![set(1, 2, "a", "two"), delete(1, 3, "b")],
            3,
        );
        let digest = store.digest().unwrap();
        drop(store);
        let mut store = open(&folder, kind).await;
        let (version, chain) = (Version::new(Epoch(1), Offset(1)), 1);
        assert_eq!(store.applied(), Applied { version, chain }, "{kind}");
        assert_eq!(store.durable().names, names(1));
        assert_eq!(found(&store, "a"), Some((1, 1, is("one"))));
        let again = Batch {
            entries: vec![set(1, 1, "a", "one")],
            chain: 1,
        };
        apply(
            &mut store,
            vec![set(1, 2, "a", "two"), delete(1, 3, "b")],
            3,
        );
        assert_eq!(store.digest().unwrap(), digest);
        assert!(store.apply(&again).is_err(), "nothing is applied twice");
        assert!(store.get(b"a").is_err(), "an error poisons");
    }
}

#[tokio::test]
async fn equal_contents_have_equal_digests_wherever_they_lie() {
    for kind in kinds() {
        let batches = [
            vec![set(1, 1, "a", "x"), set(1, 2, "b", "y")],
            vec![set(1, 3, "c", "z"), delete(1, 4, "a")],
            vec![set(1, 5, "d", "x")],
        ];
        let mut digests = BTreeMap::new();
        for checkpoints in 0..8_u32 {
            let folder = folder(kind);
            let mut store = open(&folder, kind).await;
            for (index, batch) in batches.iter().enumerate() {
                apply(&mut store, batch.clone(), 0);
                if checkpoints & (1 << index) != 0 {
                    checkpoint(&mut store);
                }
            }
            digests.insert(store.digest().unwrap(), checkpoints);
        }
        assert_eq!(digests.len(), 1, "{kind}");
    }
    let others = [
        vec![set(1, 1, "a", "x"), set(1, 2, "b", "z")],
        vec![set(1, 1, "a", "x"), set(1, 2, "c", "y")],
        vec![set(1, 1, "a", "x"), set(2, 2, "b", "y")],
        vec![set(1, 1, "ax", ""), set(1, 2, "b", "y")],
        vec![set(1, 1, "a", "x"), set(1, 2, "b", "y")],
    ];
    let mut digests = std::collections::BTreeSet::new();
    for other in others {
        let folder = folder(EngineKind::Memory);
        let mut store = open(&folder, EngineKind::Memory).await;
        apply(&mut store, other, 0);
        digests.insert(store.digest().unwrap());
    }
    assert_eq!(digests.len(), 5, "other contents, other digests");
}

#[tokio::test]
async fn rows_come_in_the_order_of_their_slots() {
    for kind in kinds() {
        let folder = folder(kind);
        let mut store = open(&folder, kind).await;
        let entries = (1..=300).map(|number| set(1, number, &format!("k{number}"), "v"));
        let (old, new): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.version.offset.0 <= 150);
        apply(&mut store, old, 0);
        checkpoint(&mut store);
        apply(&mut store, new, 0);
        let mut rows = Vec::new();
        store
            .for_each_row(&mut |key, _| {
                rows.push((kv_core::slot_of(key).number(), key.to_vec()));
            })
            .unwrap();
        assert_eq!(rows.len(), 300);
        assert!(rows.is_sorted(), "{kind}");
    }
}

#[tokio::test]
async fn the_oldest_deletes_are_forgotten_first() {
    for kind in kinds() {
        let folder = folder(kind);
        let options = Options {
            tombstones_max: 3,
            ..Options::default()
        };
        let mut store = open_with(&folder, kind, options).await;
        apply(
            &mut store,
            (1..=5).map(|n| delete(1, n, &format!("k{n}"))).collect(),
            0,
        );
        checkpoint(&mut store);
        let remembered = |store: &Store, count: u64| -> Vec<u64> {
            let is_there = |n: &u64| found(store, &format!("k{n}")).is_some();
            (1..=count).filter(is_there).collect()
        };
        assert_eq!(remembered(&store, 5), [3, 4, 5], "{kind}");
        // The third is written again, so that what is forgotten of it is not its row.
        apply(
            &mut store,
            vec![set(1, 6, "k3", "back"), delete(1, 7, "k7")],
            0,
        );
        checkpoint(&mut store);
        drop(store);
        let mut store = open_with(&folder, kind, options).await;
        assert_eq!(found(&store, "k3"), Some((1, 6, is("back"))));
        assert_eq!(remembered(&store, 7), [3, 4, 5, 7]);
        apply(&mut store, vec![delete(1, 8, "k8"), delete(1, 9, "k9")], 0);
        checkpoint(&mut store);
        assert_eq!(remembered(&store, 9), [3, 7, 8, 9]);
    }
}

#[tokio::test]
async fn under_the_plain_protocol_nothing_is_kept_and_a_store_can_go_back() {
    let folder = folder(EngineKind::Redb);
    let open = async || {
        let options = Options::default();
        Store::open(&folder.files, EngineKind::Redb, options, false)
            .await
            .unwrap()
    };
    let mut store = open().await;
    apply(&mut store, vec![set(1, 1, "a", "one")], 1);
    let early = store.applied();
    apply(&mut store, vec![set(1, 2, "a", "two")], 2);
    assert!(store.begin_checkpoint(names(2)).is_none());
    store.rewind(early);
    assert_eq!(store.applied(), early);
    assert_eq!(
        found(&store, "a"),
        Some((1, 2, is("two"))),
        "nothing is undone"
    );
    apply(&mut store, vec![set(2, 2, "a", "other")], 5);
    drop(store);
    assert_eq!(open().await.applied(), Applied::default());
}

#[tokio::test]
async fn a_folder_keeps_its_engine_until_it_is_migrated() {
    let folder = folder(EngineKind::Sled);
    let mut store = open(&folder, EngineKind::Redb).await;
    apply(
        &mut store,
        vec![set(1, 1, "a", "one"), delete(1, 2, "b")],
        9,
    );
    checkpoint(&mut store);
    let (digest, applied) = (store.digest().unwrap(), store.applied());
    drop(store);
    let options = Options::default();
    let refused = Store::open(&folder.files, EngineKind::Sled, options, true).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("kv data migrate --to sled"), "{refused}");
    for kind in [EngineKind::Sled, EngineKind::Memory, EngineKind::Redb] {
        let done = migrate(&folder.files, kind, engine::Options::default()).await;
        assert_eq!(
            done.unwrap().unwrap().pairs,
            4,
            "two rows, a delete, a position"
        );
        let store = open(&folder, kind).await;
        assert_eq!(
            (store.digest().unwrap(), store.applied()),
            (digest, applied)
        );
        let files = folder.files.list("").unwrap();
        let engines = files.iter().filter(|name| name.starts_with("engine-"));
        assert_eq!(engines.count(), 1, "{files:?}");
    }
}

#[tokio::test]
async fn a_pointer_that_makes_no_sense_or_is_newer_is_refused() {
    for (content, expected) in [
        ("", "unreadable"),
        ("{", "unreadable"),
        (
            r#"{"format": 1, "engine": "rocks", "generation": 1}"#,
            "rocks",
        ),
        (r#"{"format": 2, "what": 7}"#, "format 2"),
    ] {
        let folder = folder(EngineKind::Memory);
        let file = folder.files.open("engine").unwrap();
        file.write_at(0, content.as_bytes()).unwrap();
        let refused = current_generation(folder.files.as_ref());
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

/// A store with a checkpoint, and a snapshot of it.
async fn snapshotted(kind: EngineKind) -> (Folder, Store, snapshot::Snapshot) {
    let folder = folder(kind);
    let mut store = open(&folder, kind).await;
    let entries = (1..=200).map(|number| match number % 5 {
        0 => delete(1, number, &format!("k{}", number - 1)),
        _ => set(
            1,
            number,
            &format!("k{number}"),
            &"v".repeat(number as usize),
        ),
    });
    apply(&mut store, entries.collect(), 77);
    checkpoint(&mut store);
    let name = |at: Version| format!("snapshot-{}", at.offset.0);
    let written = snapshot::write(store.engine().as_ref(), folder.files.as_ref(), name);
    (folder, store, written.unwrap())
}

#[tokio::test]
async fn a_snapshot_is_the_store_at_its_last_checkpoint_whatever_engine_takes_it_over() {
    for kind in kinds() {
        for into in kinds() {
            let (folder, mut store, snapshot) = snapshotted(kind).await;
            assert_eq!(snapshot.at, Version::new(Epoch(1), Offset(200)));
            let (digest, applied) = (store.digest().unwrap(), store.applied());
            apply(&mut store, vec![set(1, 201, "later", "x")], 78);
            if into != kind && matches!(into, EngineKind::Sled | EngineKind::Rocksdb) {
                continue; // They need a real folder, which the others' test has not.
            }
            let generation = store.generation().next(into);
            let options = engine::Options::default();
            let loaded = snapshot::load(&folder.files, &snapshot, generation, options).unwrap();
            assert_eq!(loaded, *store.durable());
            drop(store);
            make_current_generation(&folder.files, generation)
                .await
                .unwrap();
            let taken = open(&folder, into).await;
            assert_eq!(
                (taken.digest().unwrap(), taken.applied()),
                (digest, applied)
            );
        }
    }
}

#[tokio::test]
async fn a_store_switches_over_to_a_snapshot_and_goes_on() {
    let (ahead, _, snapshot) = snapshotted(EngineKind::Redb).await;
    let behind = folder(EngineKind::Redb);
    let mut store = open(&behind, EngineKind::Redb).await;
    apply(&mut store, vec![set(1, 1, "stale", "x")], 1);
    let (from, to) = (
        ahead.files.open(&snapshot.name).unwrap(),
        behind.files.open(&snapshot.name).unwrap(),
    );
    let mut bytes = vec![0; snapshot.bytes as usize];
    from.read_at(0, &mut bytes).unwrap();
    to.write_at(0, &bytes).unwrap();
    let generation = store.generation().next(EngineKind::Redb);
    let options = engine::Options::default();
    snapshot::load(&behind.files, &snapshot, generation, options).unwrap();
    store.switch(&behind.files, generation).await.unwrap();
    assert_eq!(store.applied().version.offset, Offset(200));
    assert_eq!(found(&store, "stale"), None);
    apply(&mut store, vec![set(1, 201, "on", "x")], 2);
    drop(store);
    let store = open(&behind, EngineKind::Redb).await;
    assert_eq!(
        store.applied().version.offset,
        Offset(200),
        "durable at once"
    );
    let files = behind.files.list("").unwrap();
    let engines = files.iter().filter(|name| name.starts_with("engine-"));
    assert_eq!(engines.count(), 1, "the old one is gone: {files:?}");
}

#[tokio::test]
async fn a_snapshot_that_lacks_or_changed_anything_is_refused() {
    let (folder, store, snapshot) = snapshotted(EngineKind::Memory).await;
    let file = folder.files.open(&snapshot.name).unwrap();
    let mut whole = vec![0; snapshot.bytes as usize];
    file.read_at(0, &mut whole).unwrap();
    let generation = store.generation().next(EngineKind::Memory);
    let options = engine::Options::default();
    let load = || snapshot::load(&folder.files, &snapshot, generation, options);
    for byte in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (byte % 8);
        file.write_at(0, &bytes).unwrap();
        assert!(load().is_err(), "byte {byte} was flipped");
        file.set_len(byte as u64).unwrap();
        assert!(load().is_err(), "it was cut at {byte}");
    }
    file.write_at(0, &whole).unwrap();
    file.write_at(snapshot.bytes, b"more").unwrap();
    assert!(load().is_err(), "there is more than it says");
    file.set_len(snapshot.bytes).unwrap();
    load().unwrap();
}

proptest! {
    #[test]
    fn any_bytes_are_a_position_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Some(position) = Position::decode(&bytes) {
            prop_assert_eq!(&position.encode()[..], &bytes[..]);
        }
    }

    #[test]
    fn a_position_comes_back(
        runs in proptest::collection::vec((1..5_u64, 1..5_u64), 0..20),
        chain: u32,
        tombstones: u64,
    ) {
        let (mut epoch, mut last) = (0, 0);
        let runs: Vec<_> = runs
            .into_iter()
            .map(|(step, count)| {
                epoch += step;
                let first = last + 1;
                last += count;
                (Epoch(epoch), Offset(first), Offset(last))
            })
            .collect();
        let names = Log::from_runs(&runs);
        let position = Position { names, chain, tombstones };
        prop_assert_eq!(Position::decode(&position.encode()), Some(position));
    }

    #[test]
    fn any_bytes_are_a_snapshot_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        begins_right: bool,
    ) {
        let folder = MemoryFileSystem::default();
        let file = folder.open("snapshot").unwrap();
        let mut content = if begins_right { b"splitsnp\x01".to_vec() } else { Vec::new() };
        content.extend(bytes);
        file.write_at(0, &content).unwrap();
        if let Ok(mut reader) = snapshot::Reader::open(file, "snapshot") {
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
