//! What every [`Engine`] must do, as one test that each kind is put to.
//!
//! What a crash leaves is checked only where a crash can be made: on the simulated disk, and with processes that are killed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Change, Engine, EngineKind, Options, Pair, open, remove};
use crate::fs::FileSystem;

const NAME: &str = "conformance";
/// Behind every key that is used here.
const END: &[u8] = &[0xFF; 40];

/// Checks an engine, in a folder where it has nothing yet.
///
/// # Panics
/// When the engine breaks the contract of [`Engine`].
pub fn check(kind: EngineKind, file_system: &Arc<dyn FileSystem>) {
    let reopen = || open(kind, Options::default(), file_system, NAME).expect("it can be opened");
    let clear = || remove(kind, file_system.as_ref(), NAME).expect("it can be removed");
    clear();
    check_batches(reopen().as_ref());
    clear();
    check_sizes(&reopen);
    clear();
    check_scans(reopen().as_ref());
    clear();
    check_against_a_map(&reopen);
    assert!(
        !contents(reopen().as_ref()).is_empty(),
        "what was written is there for whoever opens it"
    );
    clear();
    assert_eq!(contents(reopen().as_ref()), [], "a removed engine is empty");
    clear();
    clear();
}

/// Checks that readers on other threads see a batch whole or not at all.
///
/// # Panics
/// When the engine breaks the contract of [`Engine`].
pub fn check_readers(kind: EngineKind, file_system: &Arc<dyn FileSystem>) {
    let engine = open(kind, Options::default(), file_system, NAME).expect("it can be opened");
    let round = |round: u32| {
        let changes = (0_u8..50).map(|key| set(&[key], &round.to_be_bytes()));
        changes.collect::<Vec<_>>()
    };
    engine.write(round(0)).expect("it can be written");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = Bytes::new();
                while !is_over.load(Ordering::Acquire) {
                    let pairs = contents(engine.as_ref());
                    assert_eq!(pairs.len(), 50, "no pair comes and goes");
                    let first = &pairs[0].1;
                    assert!(
                        pairs.iter().all(|(_, value)| value == first),
                        "a batch is seen whole"
                    );
                    assert!(*first >= seen, "what was seen stays");
                    seen = first.clone();
                    let one = engine.get(&[7]).expect("it can be read");
                    assert!(one >= Some(seen.clone()), "by all kinds of reads");
                }
            });
        }
        for number in 1..=60 {
            engine.write(round(number)).expect("it can be written");
            let value = engine.get(&[49]).expect("it can be read");
            assert_eq!(value.as_deref(), Some(&number.to_be_bytes()[..]));
        }
        is_over.store(true, Ordering::Release);
    });
    drop(engine);
    remove(kind, file_system.as_ref(), NAME).expect("it can be removed");
}

/// All pairs of an engine that has no key from forty bytes of `0xFF` on.
///
/// # Panics
/// When the engine fails.
pub fn contents(engine: &dyn Engine) -> Vec<Pair> {
    let pairs = engine.scan(b""..END, usize::MAX);
    pairs.expect("it can be scanned")
}

fn bytes<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<Pair> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
        .collect()
}

fn set(key: &[u8], value: &[u8]) -> Change {
    Change {
        key: Bytes::copy_from_slice(key),
        value: Some(Bytes::copy_from_slice(value)),
    }
}

fn unset(key: &[u8]) -> Change {
    Change {
        key: Bytes::copy_from_slice(key),
        value: None,
    }
}

fn check_batches(engine: &dyn Engine) {
    let get = |key: &[u8]| engine.get(key).expect("it can be read");
    let write = |changes| engine.write(changes).expect("it can be written");
    assert_eq!(contents(engine), [], "it is empty at first");
    assert_eq!(get(b"a"), None);
    write(Vec::new());
    write(vec![unset(b"a")]);
    assert_eq!(contents(engine), [], "nothing changes nothing");

    write(vec![set(b"a", b"1"), set(b"b", b"1"), set(b"c", b"")]);
    assert_eq!(get(b"a").as_deref(), Some(&b"1"[..]));
    assert_eq!(
        get(b"c").as_deref(),
        Some(&b""[..]),
        "an empty value is one"
    );
    assert_eq!(get(b""), None);
    assert_eq!(get(b"aa"), None);

    write(vec![
        set(b"a", b"2"),
        set(b"a", b"3"),
        set(b"b", b"2"),
        unset(b"b"),
        unset(b"c"),
        set(b"c", b"4"),
    ]);
    let expected = bytes([(&b"a"[..], &b"3"[..]), (b"c", b"4")]);
    assert_eq!(contents(engine), expected, "the last change counts");
    assert!(engine.bytes_on_disk().expect("it has a size") > 0);
}

fn check_sizes(reopen: &dyn Fn() -> Arc<dyn Engine>) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut value_of = |bytes: usize| {
        let mut value = vec![0; bytes];
        rng.fill(&mut value[..]);
        value
    };
    let sizes = [0, 1, 4095, 4096, 4097, 65_536, 1024 * 1024 - 1, 1024 * 1024];
    let values: Vec<Vec<u8>> = sizes.into_iter().map(&mut value_of).collect();
    let keys: Vec<Vec<u8>> = (1_usize..=8)
        .map(|number| vec![number as u8; number * 4])
        .collect();
    let pairs = || keys.iter().zip(&values);
    let engine = reopen();
    let changes = pairs().map(|(key, value)| set(key, value)).collect();
    engine.write(changes).expect("it can be written");
    let assert_holds = |engine: Arc<dyn Engine>| {
        for (key, value) in pairs() {
            let read = engine.get(key).expect("it can be read");
            assert_eq!(read.as_ref(), Some(&Bytes::copy_from_slice(value)));
        }
    };
    assert_holds(engine);
    assert_holds(reopen());
}

fn check_scans(engine: &dyn Engine) {
    let keys: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"a", b"a\0", b"b", b"\xFF"];
    let values: [&[u8]; 7] = [b"0", b"11", b"", b"3333", b"4", b"55", b"6"];
    let pairs = bytes(keys.into_iter().zip(values));
    // In another order than theirs.
    let changes = [3, 0, 6, 2, 5, 1, 4].map(|index: usize| set(keys[index], values[index]));
    engine.write(changes.to_vec()).expect("it can be written");
    let scan = |keys: Range<&[u8]>, bytes_max: usize| {
        let pairs = engine.scan(keys, bytes_max);
        pairs.expect("it can be scanned")
    };
    assert_eq!(
        scan(b""..END, usize::MAX),
        pairs,
        "in the order of the keys"
    );
    assert_eq!(
        scan(b"\0"..b"b", usize::MAX),
        pairs[1..5],
        "from the first, to before the last"
    );
    assert_eq!(scan(b"a\x01"..b"az", usize::MAX), [], "nothing is there");
    assert_eq!(scan(b"a"..b"a", usize::MAX), [], "nor in an empty range");
    assert_eq!(scan(b"b"..b"a", usize::MAX), [], "nor in one upside down");

    assert_eq!(scan(b"a"..END, 0), pairs[3..4], "at least one");
    assert_eq!(scan(b"a"..END, 6), pairs[3..4], "and not too many");
    assert_eq!(scan(b"a"..END, 8), pairs[3..5], "but all that fit");
    for bytes_max in 0..20 {
        let (mut from, mut walked) = (Vec::new(), Vec::new());
        loop {
            let page = scan(&from[..]..END, bytes_max);
            let Some((last, _)) = page.last() else {
                break;
            };
            from = [last, &b"\0"[..]].concat();
            let bytes: usize = page
                .iter()
                .map(|(key, value)| key.len() + value.len())
                .sum();
            assert!(page.len() == 1 || bytes <= bytes_max, "a page is bounded");
            walked.extend(page);
        }
        assert_eq!(walked, pairs, "page by page it is the same");
    }
}

fn holds(engine: &dyn Engine, map: &BTreeMap<Bytes, Bytes>) -> bool {
    let pairs = contents(engine);
    pairs.iter().map(|(key, value)| (key, value)).eq(map)
}

fn check_against_a_map(reopen: &dyn Fn() -> Arc<dyn Engine>) {
    let mut rng = StdRng::seed_from_u64(2);
    let mut map = BTreeMap::new();
    for _ in 0..6 {
        let engine = reopen();
        assert!(holds(engine.as_ref(), &map), "it holds what it held");
        for _ in 0..12 {
            let mut changes = Vec::new();
            for _ in 0..rng.random_range(1..200) {
                let key = rng.random_range(0_u32..600).to_be_bytes();
                let value = vec![rng.random::<u8>(); rng.random_range(0..300)];
                let change = match rng.random_bool(0.3) {
                    true => unset(&key),
                    false => set(&key, &value),
                };
                match &change.value {
                    Some(value) => map.insert(change.key.clone(), value.clone()),
                    None => map.remove(&change.key),
                };
                changes.push(change);
            }
            engine.write(changes).expect("it can be written");
        }
        assert!(holds(engine.as_ref(), &map), "it holds what was written");
        for key in 0_u32..600 {
            let key = key.to_be_bytes();
            let value = engine.get(&key).expect("it can be read");
            assert_eq!(value.as_ref(), map.get(&key[..]));
        }
    }
}
