//! Engines over files that somebody has damaged: an error that names the file, and neither a panic nor a wrong answer.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

use std::sync::Arc;

use bytes::Bytes;
use kv::engine::conformance::contents;
use kv::engine::{Change, EngineError, EngineKind, Options, Pair, files, open};
use kv::fs::memory::MemoryFileSystem;
use kv::fs::{File, FileSystem};

fn batch(number: u8) -> Vec<Change> {
    let change = |key: u8| Change {
        key: Bytes::from(vec![key; 10]),
        value: Some(Bytes::from(vec![number; 40])),
    };
    (0..40).map(change).collect()
}

fn bytes_of(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// An engine's file.
struct Case {
    kind: EngineKind,
    folder: Arc<dyn FileSystem>,
    file: Arc<dyn File>,
    good: Vec<u8>,
    pairs: Vec<Pair>,
}

impl Case {
    /// An engine of three batches that was closed.
    fn new(kind: EngineKind) -> Self {
        let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
        let engine = open(kind, Options::default(), &folder, "data").unwrap();
        for number in 1..=3 {
            engine.write(batch(number)).unwrap();
        }
        let pairs = contents(engine.as_ref());
        drop(engine);
        let [name, _] = files(kind, "data");
        let file = folder.open(&name).unwrap();
        Self {
            kind,
            folder,
            good: bytes_of(file.as_ref()),
            file,
            pairs,
        }
    }

    fn read(&self) -> Result<Vec<Pair>, EngineError> {
        let engine = open(self.kind, Options::default(), &self.folder, "data")?;
        engine.scan(b""..b"\xFF", usize::MAX)
    }

    /// Puts other bytes in the place of the file's, and looks what the engine makes of it.
    fn judge(&self, bytes: &[u8]) -> Verdict {
        self.file.set_len(0).unwrap();
        self.file.write_at(0, bytes).unwrap();
        match self.read() {
            Ok(pairs) if pairs == self.pairs => Verdict::Harmless,
            Ok(_) => Verdict::Wrong,
            Err(error) => Verdict::Refused(error.to_string()),
        }
    }

    fn flip(&self, byte: usize, bit: usize) -> Verdict {
        let mut bytes = self.good.clone();
        bytes[byte] ^= 1 << bit;
        self.judge(&bytes)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Harmless,
    Wrong,
    Refused(String),
}

/// The verdicts on a file in which one bit is flipped, for all of these bits; panics if there is a wrong answer among them.
fn count_refusals(case: &Case, bits: impl Iterator<Item = usize>) -> usize {
    let mut refusals = 0;
    for bit in bits {
        match case.flip(bit / 8, bit % 8) {
            Verdict::Harmless => {}
            Verdict::Wrong => panic!("{}: bit {bit} yields a wrong answer", case.kind),
            Verdict::Refused(said) => {
                assert!(said.contains(&files(case.kind, "data")[0]), "{said}");
                refusals += 1;
            }
        }
    }
    refusals
}

#[test]
fn every_bit_of_memorys_file_counts() {
    let case = Case::new(EngineKind::Memory);
    // Of the two notes of what is durable, one may be damaged: then the other one counts.
    let notes = 16 * 8..40 * 8;
    assert_eq!(count_refusals(&case, notes), 0);
    let others = (0..16 * 8).chain((40 * 8..case.good.len() * 8).step_by(5));
    assert_eq!(count_refusals(&case, others.clone()), others.count());
}

#[test]
fn no_bit_of_redbs_file_yields_a_wrong_answer() {
    let case = Case::new(EngineKind::Redb);
    let header = 4096 * 8..(4096 + 64) * 8;
    let slots = header.end..(4096 + 320) * 8;
    assert!(count_refusals(&case, header) > 100);
    assert!(count_refusals(&case, slots.step_by(13)) > 10);
    let rest = (4096 + 320) * 8..case.good.len() * 8;
    assert!(count_refusals(&case, rest.step_by(1777)) > 20);
}

#[test]
fn a_file_that_was_cut_is_refused() {
    for (kind, step) in [(EngineKind::Memory, 7), (EngineKind::Redb, 4099)] {
        let case = Case::new(kind);
        for len in (0..case.good.len()).step_by(step) {
            let verdict = case.judge(&case.good[..len]);
            assert!(
                matches!(verdict, Verdict::Refused(_)),
                "{kind}: {len} bytes: {verdict:?}"
            );
        }
    }
}

#[test]
fn a_file_of_something_else_is_refused() {
    for kind in [EngineKind::Memory, EngineKind::Redb] {
        let case = Case::new(kind);
        for bytes in [vec![b'x'; 10], vec![0; 50_000], vec![b'x'; 50_000]] {
            let verdict = case.judge(&bytes);
            let Verdict::Refused(said) = verdict else {
                panic!("{kind}: {verdict:?}");
            };
            assert!(said.contains("is damaged"), "{said}");
        }
    }
}

#[test]
fn a_newer_file_is_refused_as_such() {
    let case = Case::new(EngineKind::Memory);
    let mut bytes = case.good.clone();
    bytes[8] = 2;
    let verdict = case.judge(&bytes);
    let said = "the engine's file data.memory has format 2, and this program knows formats up to 1";
    assert_eq!(verdict, Verdict::Refused(said.to_owned()));
}

/// The file as a process leaves it that is killed: it is not trusted, but repaired, and redb may panic over what it finds.
#[test]
fn no_bit_of_a_redb_file_that_was_not_closed_yields_a_wrong_answer() {
    let mut case = Case::new(EngineKind::Redb);
    let engine = open(case.kind, Options::default(), &case.folder, "data").unwrap();
    engine.write(batch(4)).unwrap();
    engine.write(batch(5)).unwrap();
    case.pairs = contents(engine.as_ref());
    case.good = bytes_of(case.file.as_ref());
    let header = 4096 * 8..(4096 + 64) * 8;
    let slots = header.end..(4096 + 320) * 8;
    // The byte that says which of two slots counts is the one that nothing checks.
    let state = (4096 + 9) * 8..(4096 + 10) * 8;
    let header = header.filter(|bit| !state.contains(bit));
    assert!(count_refusals(&case, header) > 100);
    assert!(count_refusals(&case, slots.step_by(13)) > 10);
}
