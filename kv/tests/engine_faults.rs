//! Engines on a disk that fails: they stop, say why, and lose nothing that was acknowledged.
//!
//! Every step that an engine takes to the disk fails once, each in a run of its own.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kv::engine::conformance::contents;
use kv::engine::{Change, Engine, EngineError, EngineKind, Options, open};
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::fs::watched::{Step, WatchedFileSystem};

type Map = BTreeMap<Bytes, Bytes>;

/// Lets the step of that number fail, and keeps those that come after it.
struct Fault {
    at: usize,
    kind: io::ErrorKind,
    steps: AtomicUsize,
    after: Mutex<Vec<Step>>,
}

impl Fault {
    fn watch(self: &Arc<Self>, folder: &MemoryFileSystem) -> Arc<dyn FileSystem> {
        let fault = Arc::clone(self);
        let watcher = move |step| {
            let number = fault.steps.fetch_add(1, Ordering::Relaxed);
            if number == fault.at {
                return Err(fault.kind.into());
            }
            if number > fault.at {
                fault.after.lock().unwrap().push(step);
            }
            Ok(())
        };
        let inner = Arc::new(folder.clone());
        Arc::new(WatchedFileSystem::new(inner, Arc::new(watcher)))
    }

    fn has_fired(&self) -> bool {
        self.steps.load(Ordering::Relaxed) > self.at
    }
}

/// The batch of that number: a few keys change, some go, and it is large enough for files to be written anew.
fn batch(number: u8) -> Vec<Change> {
    let set = |key: u8, bytes: usize| Change {
        key: Bytes::from(vec![key]),
        value: Some(Bytes::from(vec![number; bytes])),
    };
    let gone = Change {
        key: Bytes::from(vec![number.wrapping_sub(2)]),
        value: None,
    };
    vec![set(200, 250_000), set(201, 100_000), set(number, 20), gone]
}

fn after(map: &Map, changes: &[Change]) -> Map {
    let mut map = map.clone();
    for Change { key, value } in changes {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
    map
}

/// Each later call says what the first one did: whoever asks next may be the one who is heard.
fn assert_poisoned(engine: &dyn Engine, said: &str) {
    let results = [
        engine.get(&[200]).map(drop),
        engine.scan(&[0]..&[255], 100).map(drop),
        engine.write(Vec::new()),
        engine.write(batch(99)),
        engine.bytes_on_disk().map(drop),
    ];
    for result in results {
        let Err(EngineError::Poisoned { first }) = result else {
            panic!("{result:?}");
        };
        assert_eq!(first, said);
    }
}

/// Writes batch after batch, until one fails. What was acknowledged, and what may be there instead.
fn run(engine: &dyn Engine) -> (Map, Option<Map>) {
    let mut map = Map::new();
    for number in 0..7 {
        let changes = batch(number);
        let next = after(&map, &changes);
        if let Err(error) = engine.write(changes) {
            let said = error.to_string();
            assert!(
                said.starts_with("cannot "),
                "the first error says why: {said}"
            );
            assert_poisoned(engine, &said);
            return (map, Some(next));
        }
        map = next;
    }
    (map, None)
}

fn opened(kind: EngineKind, folder: &Arc<dyn FileSystem>) -> Result<Arc<dyn Engine>, EngineError> {
    open(kind, Options::default(), folder, "data")
}

fn check_every_step(kind: EngineKind) {
    let (mut at, mut kept, mut took_effect) = (0, 0, 0);
    loop {
        let folder = MemoryFileSystem::default();
        let fault = Arc::new(Fault {
            at,
            kind: match at % 2 {
                0 => io::ErrorKind::StorageFull,
                _ => io::ErrorKind::Other,
            },
            steps: AtomicUsize::new(0),
            after: Mutex::default(),
        });
        let engine = opened(kind, &fault.watch(&folder));
        if engine.is_err() {
            // What was begun may still be closed: it has no name yet.
            fault.after.lock().unwrap().clear();
        }
        let (map, other) = match engine {
            Ok(engine) => run(engine.as_ref()),
            Err(_) => (Map::new(), None),
        };
        if !fault.has_fired() {
            break;
        }
        let after = fault.after.lock().unwrap();
        assert_eq!(
            *after,
            [],
            "step {at}: nothing gets to the disk after an error"
        );
        let folder: Arc<dyn FileSystem> = Arc::new(folder);
        let engine = opened(kind, &folder).unwrap();
        let found: Map = contents(engine.as_ref()).into_iter().collect();
        kept += usize::from(found == map);
        took_effect += usize::from(Some(&found) == other.as_ref());
        assert!(found == map || Some(&found) == other.as_ref(), "step {at}");
        engine.write(batch(77)).unwrap();
        assert!(engine.get(&[77]).unwrap().is_some(), "it goes on");
        at += 1;
    }
    assert!(kept > 10, "vacuous: {kept} of {at} errors undid the write");
    assert!(took_effect > 0, "vacuous: no write that failed is there");
}

#[test]
fn a_failed_step_poisons_memory_and_loses_nothing() {
    check_every_step(EngineKind::Memory);
}

#[test]
fn a_failed_step_poisons_redb_and_loses_nothing() {
    check_every_step(EngineKind::Redb);
}
