//! What every [`Engine`] must do, as one test that each implementation calls.

use bytes::Bytes;
use kv_core::{Entry, Epoch, Offset, Operation, Version};

use super::{Applied, Batch, Engine, EngineError};

/// Checks an implementation. Each call of `open` opens another engine, new and empty.
///
/// # Panics
/// When the implementation breaks the contract of [`Engine`].
pub fn check(open: &dyn Fn() -> Box<dyn Engine>) {
    check_reads(open().as_mut());
    check_order(open);
    check_digest(open);
    check_rewind(open().as_mut());
}

fn entry(epoch: u64, offset: u64, operation: Operation) -> Entry {
    Entry {
        version: Version::new(Epoch(epoch), Offset(offset)),
        operation,
    }
}

fn set(epoch: u64, offset: u64, key: &'static str, value: &'static str) -> Entry {
    let (key, value) = (Bytes::from(key), Bytes::from(value));
    entry(epoch, offset, Operation::Set { key, value })
}

fn delete(epoch: u64, offset: u64, key: &'static str) -> Entry {
    let key = Bytes::from(key);
    entry(epoch, offset, Operation::Delete { key })
}

fn apply(engine: &mut dyn Engine, entries: Vec<Entry>, chain: u32) {
    engine
        .apply(&Batch { entries, chain })
        .expect("a batch that follows is applied");
}

/// What is found at a key: epoch, offset and value.
fn found(engine: &dyn Engine, key: &str) -> Option<(u64, u64, Option<Bytes>)> {
    let found = engine.get(key.as_bytes()).expect("a key can be read")?;
    Some((found.version.epoch.0, found.version.offset.0, found.value))
}

fn check_reads(engine: &mut dyn Engine) {
    assert_eq!(
        engine.applied(),
        Applied::default(),
        "a new engine is empty"
    );
    assert_eq!(found(engine, "a"), None);
    let first = vec![
        entry(1, 1, Operation::EpochStart),
        set(1, 2, "a", "one"),
        set(1, 3, "b", ""),
        set(1, 4, "a", "two"),
    ];
    apply(engine, first, 7);
    let two = Some(Bytes::from("two"));
    assert_eq!(
        found(engine, "a"),
        Some((1, 4, two)),
        "within a batch, the last write counts"
    );
    assert_eq!(
        found(engine, "b"),
        Some((1, 3, Some(Bytes::new()))),
        "an empty value is a value"
    );
    let version = Version::new(Epoch(1), Offset(4));
    assert_eq!(engine.applied(), Applied { version, chain: 7 });

    apply(engine, vec![delete(2, 5, "a"), delete(2, 6, "never")], 8);
    assert_eq!(
        found(engine, "a"),
        Some((2, 5, None)),
        "a delete is remembered"
    );
    assert_eq!(
        found(engine, "never"),
        Some((2, 6, None)),
        "a delete of an absent key too"
    );
    apply(engine, vec![set(3, 7, "a", "three")], 9);
    let three = Some(Bytes::from("three"));
    assert_eq!(found(engine, "a"), Some((3, 7, three)));
    let applied = engine.applied();
    apply(engine, Vec::new(), 1);
    assert_eq!(
        engine.applied(),
        applied,
        "an empty batch changes nothing, the chain included"
    );
    engine.sync().expect("it can be synced");
}

/// A gap or a repetition is refused whole, and poisons.
fn check_order(open: &dyn Fn() -> Box<dyn Engine>) {
    let gap = vec![set(1, 3, "a", "x")];
    let repetition = vec![set(1, 1, "a", "x")];
    let gap_within = vec![set(1, 2, "a", "x"), set(1, 4, "b", "x")];
    for (entries, starts) in [(gap, 3), (repetition, 1), (gap_within, 4)] {
        let mut engine = open();
        apply(engine.as_mut(), vec![set(1, 1, "a", "one")], 1);
        let before = engine.applied();
        let batch = Batch { entries, chain: 2 };
        match engine.apply(&batch) {
            Err(EngineError::Gap { starts: named, .. }) => assert_eq!(named, Offset(starts)),
            other => panic!("a batch that does not follow is refused, not {other:?}"),
        }
        assert_eq!(engine.applied(), before, "nothing of the batch is applied");
        let next = Batch {
            entries: vec![set(1, 2, "a", "two")],
            chain: 2,
        };
        assert!(engine.apply(&next).is_err(), "an error poisons `apply`");
        assert!(engine.get(b"a").is_err(), "an error poisons `get`");
        assert!(engine.sync().is_err(), "an error poisons `sync`");
        assert!(engine.digest().is_err(), "an error poisons `digest`");
        assert!(engine.rewind(before).is_err(), "an error poisons `rewind`");
    }
}

fn check_digest(open: &dyn Fn() -> Box<dyn Engine>) {
    let digest = |batches: Vec<Vec<Entry>>| {
        let mut engine = open();
        for entries in batches {
            apply(engine.as_mut(), entries, 0);
        }
        engine.digest().expect("it has a digest")
    };
    let empty = digest(vec![]);
    let whole = digest(vec![vec![set(1, 1, "a", "x"), set(1, 2, "b", "y")]]);
    let parts = digest(vec![vec![set(1, 1, "a", "x")], vec![set(1, 2, "b", "y")]]);
    assert_eq!(whole, parts, "how the log is cut into batches is no matter");
    let deleted = digest(vec![vec![set(1, 1, "a", "x"), delete(1, 2, "a")]]);
    assert_eq!(deleted, empty, "only live keys count");
    let others = [
        vec![set(1, 1, "a", "x"), set(1, 2, "b", "z")],
        vec![set(1, 1, "a", "x"), set(1, 2, "c", "y")],
        vec![set(1, 1, "a", "x"), set(2, 2, "b", "y")],
        vec![set(1, 1, "a", "xb"), set(1, 2, "b", "y")],
        vec![set(1, 1, "ax", ""), set(1, 2, "b", "y")],
        vec![set(1, 1, "a", "x")],
    ];
    for other in others {
        let described = format!("{other:?}");
        assert_ne!(digest(vec![other]), whole, "{described}");
    }
}

/// Rewinding moves the position only; the log goes on from there.
fn check_rewind(engine: &mut dyn Engine) {
    apply(engine, vec![set(1, 1, "a", "one")], 1);
    let early = engine.applied();
    apply(engine, vec![set(1, 2, "a", "two"), set(1, 3, "b", "x")], 3);
    engine.rewind(early).expect("it can be rewound");
    assert_eq!(engine.applied(), early);
    let two = Some(Bytes::from("two"));
    assert_eq!(found(engine, "a"), Some((1, 2, two)), "nothing is undone");
    apply(engine, vec![set(2, 2, "a", "other")], 5);
    let other = Some(Bytes::from("other"));
    assert_eq!(found(engine, "a"), Some((2, 2, other)));
    assert_eq!(engine.applied().chain, 5);
}
