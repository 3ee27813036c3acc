//! Bytes that claim to be records, or files of a log.

use std::sync::Arc;

use futures::executor::block_on;
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::wal::inspection::inspect;
use kv::wal::record::{ALIGN_BYTES, HEAD_BYTES, Record};
use kv::wal::{Options, noise, open};
use kv_core::{Log as Shape, Offset};

const OPTIONS: Options = Options {
    segment_bytes: 300,
    preallocate_bytes: 0,
};

/// Whatever decodes is what those bytes are the encoding of.
pub(crate) fn record(bytes: &[u8]) {
    let (position, bytes) = split_number(bytes);
    let position = position & !(ALIGN_BYTES as u64 - 1);
    if let Ok((record, taken)) = Record::decode(position, bytes) {
        let mut again = Vec::new();
        record.encode(position, &mut again);
        assert_eq!(again, bytes[..taken], "a record has one encoding");
        if let Some(entry) = record.to_entry() {
            assert_eq!(Record::of(&entry), record);
        }
    }
}

/// Whatever files can be opened can be opened again, with the same in them; what cannot be opened is left as it is. The first byte says how
/// much of the files is as it should be, so that what comes behind is reached, too.
pub(crate) fn files(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else {
        return;
    };
    let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
    match kind % 4 {
        0 => put(&folder, 1, bytes),
        1 => put(&folder, 1, &after_header(bytes.to_vec())),
        2 => put(&folder, 1, &after_header(with_checksums(bytes))),
        _ => {
            // A whole file, and then one that says anything of it.
            put(&folder, 1, &after_header(Vec::new()));
            put(&folder, 2 + u64::from(kind >> 7), bytes);
        }
    }
    let before = content(&folder);
    let looked = inspect(folder.as_ref(), &mut |_, _, _| {});
    assert_eq!(content(&folder), before, "looking changes nothing");
    let opened = block_on(open(&folder, OPTIONS, &Shape::default()));
    assert_eq!(
        looked.is_ok(),
        opened.is_ok() || before.is_empty(),
        "both judge alike"
    );
    let Ok((log, _, recovered)) = opened else {
        assert_eq!(content(&folder), before, "what is damaged is left as it is");
        return;
    };
    let entries = log.read(recovered.first, Offset(u64::MAX), usize::MAX);
    let opened = block_on(open(&folder, OPTIONS, &Shape::default()));
    let (log, _, again) = opened.expect("what was recovered is whole");
    assert_eq!(
        (&again.log, again.promised),
        (&recovered.log, recovered.promised)
    );
    assert_eq!((&again.suspect, again.cut), (&recovered.suspect, None));
    let entries_again = log.read(again.first, Offset(u64::MAX), usize::MAX);
    assert_eq!(
        entries_again.expect("they are there"),
        entries.expect("they are there")
    );
}

fn split_number(bytes: &[u8]) -> (u64, &[u8]) {
    match bytes.split_first_chunk() {
        Some((number, rest)) => (u64::from_le_bytes(*number), rest),
        None => (0, bytes),
    }
}

fn put(folder: &Arc<dyn FileSystem>, sequence: u64, bytes: &[u8]) {
    let file = folder.open(&format!("wal/{sequence:010}"));
    let file = file.expect("a folder in memory never fails");
    file.write_at(0, bytes).expect("nor do its files");
}

/// All files, and what is in them.
fn content(folder: &Arc<dyn FileSystem>) -> Vec<(String, Vec<u8>)> {
    let names = folder.list("wal").expect("a folder in memory never fails");
    let read = |name: String| {
        let file = folder.open(&format!("wal/{name}")).expect("it is there");
        let mut bytes = vec![0; file.len().expect("it has a length") as usize];
        file.read_at(0, &mut bytes).expect("it can be read");
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// A first file with these bytes behind its header, under noise.
fn after_header(mut bytes: Vec<u8>) -> Vec<u8> {
    let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
    drop(block_on(open(&folder, OPTIONS, &Shape::default())).expect("a new log opens"));
    let mut file = content(&folder).remove(0).1;
    noise::apply(file.len() as u64, &mut bytes);
    file.append(&mut bytes);
    file
}

/// The bytes in pieces, each as the body of a record whose checksums are right. A piece's first byte says how long it is.
fn with_checksums(mut bytes: &[u8]) -> Vec<u8> {
    let header = after_header(Vec::new()).len();
    let mut out = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(length)));
        bytes = rest;
        let start = out.len();
        let length = (body.len() as u32).to_le_bytes();
        out.extend(length);
        out.extend(crc32fast::hash(&length).to_le_bytes());
        out.extend([0; 4]);
        out.extend(body);
        out.resize((out.len() + 1).next_multiple_of(ALIGN_BYTES) - 1, 0);
        out.push(0x5A);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&((header + start) as u64).to_le_bytes());
        hasher.update(&out[start + HEAD_BYTES..]);
        out[start + 8..start + HEAD_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    out
}
