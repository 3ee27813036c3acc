//! What became of the end of a log that cannot be read: was it never written whole, or has it rotted?
//!
//! Where the first record is not accepted, at byte *P*, a crash may have torn a write that was never synced, or bytes are gone
//! that others count on. The first is everyday life, and the tail is cut. The second must not be overlooked: by
//! forgetting what it promised or acknowledged, a node would break the promise of a quorum (Alagappan et al.,
//! "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018). Checksums alone cannot tell them apart.
//!
//! **It had been synced** for certain if a sync mark behind *P* says so: a mark says how far the file was durable when it was written.
//!
//! **Nothing was written** if zeros stand from *P* to the end of the file: small batches write some ahead.
//!
//! **It was never written whole** if some of the record at *P* is missing. All of a batch goes behind the end of the file, or where nothing but
//! zeros stood; so what a crash kept from the disk, in whatever order the disk writes sectors, leaves
//! either a file that ends early, or zeros. And written bytes are no zeros, since they are under noise (`noise.rs`):
//!
//! ```text
//!              sector              sector              sector
//!  ┊ ▓▓▓▓▓▓▓▓ P───record at P──── 000000000000000000000 ──── END ▓▓▓▓▓▓ ┊      a hole: never written
//!  ┊ ▓▓▓▓▓▓▓▓ P───record at P───── ✗ ────────────────── END ▓▓▓▓▓▓▓▓▓▓▓ ┊      all is written: rotten
//!  ┊ ▓▓▓▓▓▓▓▓ P───record at P───────────── 0000000000000000000000000000 ┊      the tail was never written
//! ```
//!
//! So the record at *P* has a **hole** if zeros that begin in it reach the end of a sector, and are 16 bytes at least, or reach the end of
//! the file. Then its sync never returned, nobody was told of it, and it is **torn**, with all that follows.
//!
//! How sure is that? A record begins and ends at a multiple of 16, so where a sector of it is lost there are 16 bytes of zeros at
//! least. 16 bytes that *were* written are all zero on the disk with a chance of 2^-80 at most, which is the case
//! where each of them has the three bits set that noise always sets. Zeros at the end of the record contain its
//! last byte, which is written with three bits set: fewer than three flipped bits do not make a zero of it. Where the head cannot be
//! read the record is taken for the shortest possible one, so that zeros which belong to a later record prove nothing about it.
//!
//! **Anything else may have been synced**: all of the record was written, and some of it has changed. A bit that flips in the
//! last batch looks the same before and after its sync.
//!
//! **What cannot be told.** (1) A disk that loses whole sectors, or the end of the file, after it said that they were durable
//! leaves what a torn write leaves; they are cut. (2) A disk that tears a sector less than 16 bytes before its end, and writes the
//! next one, leaves a hole that is too small to be sure of: it is taken for rot. Sectors are written whole or not at all by all disks
//! that we know of. (3) Who knows the position at which a value will be written can choose it so that it is zero on the disk; if its
//! record then rots in the last batch, it is cut. In the same way a value could look like a sync mark, which turns suspicion into
//! certainty.

use std::io;

use super::noise;
use super::record::{
    ALIGN_BYTES, HEAD_BYTES, RECORD_BYTES_MIN, Record, SYNC_MARK_BYTES, length_of,
};
use crate::fs::File;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;
/// How much is searched at once.
const CHUNK_BYTES: usize = 1024 * 1024;

const _: () = assert!(SECTOR_BYTES.is_multiple_of(ALIGN_BYTES as u64));
const _: () = assert!(CHUNK_BYTES > SYNC_MARK_BYTES);

/// What became of the bytes from the first record on that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// There are none but zeros: the log ends there.
    Unwritten,
    /// They were never written whole, so never synced.
    Torn,
    /// They had been synced.
    Synced,
    /// They may have been synced.
    MaybeSynced,
}

/// Judges the bytes of a file from `from` on, where no record was accepted.
pub(super) fn judge(file: &dyn File, from: u64) -> io::Result<Judgement> {
    if is_zero_from(file, from)? {
        return Ok(Judgement::Unwritten);
    }
    if sync_mark_beyond(file, from)? {
        return Ok(Judgement::Synced);
    }
    let mut head = [0; HEAD_BYTES];
    let count = file.read_at(from, &mut head)?;
    noise::apply(from, &mut head);
    let record_bytes = length_of(&head[..count]).unwrap_or(RECORD_BYTES_MIN);
    let record_end = from + record_bytes as u64;
    let file_end = file.len()?;
    // As far as zeros that begin in the record's last bytes must go to be a hole.
    let search_end = record_end + ALIGN_BYTES as u64;
    let search_end = search_end.next_multiple_of(SECTOR_BYTES).min(file_end);
    let mut bytes = vec![0; search_end.saturating_sub(from) as usize];
    let count = file.read_at(from, &mut bytes)?;
    bytes.truncate(count);
    if file_end < record_end || has_hole(&bytes, from, record_bytes, search_end == file_end) {
        return Ok(Judgement::Torn);
    }
    Ok(Judgement::MaybeSynced)
}

/// Whether a file has none but zeros from there on.
fn is_zero_from(file: &dyn File, from: u64) -> io::Result<bool> {
    let file_end = file.len()?;
    let mut buffer = vec![0; CHUNK_BYTES.min(file_end.saturating_sub(from) as usize)];
    let mut position = from;
    while position < file_end {
        let count = file.read_at(position, &mut buffer)?;
        if count == 0 || buffer[..count].iter().any(|byte| *byte != 0) {
            return Ok(count == 0);
        }
        position += count as u64;
    }
    Ok(true)
}

/// Whether a record that begins at `from` has a hole; `bytes` are what stands there and a little behind it.
fn has_hole(bytes: &[u8], from: u64, record_bytes: usize, is_file_end: bool) -> bool {
    let mut zeros_from = None;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != 0 {
            zeros_from = None;
            continue;
        }
        let start = *zeros_from.get_or_insert(at);
        let is_sector_end = (from + at as u64 + 1).is_multiple_of(SECTOR_BYTES);
        if start < record_bytes && is_sector_end && at + 1 - start >= ALIGN_BYTES {
            return true;
        }
    }
    is_file_end && zeros_from.is_some_and(|start| start < record_bytes)
}

/// Whether a mark behind `from` says that the file had been synced beyond `from`. The records in between may be
/// unreadable, so a mark may begin wherever a record may. What looks like one by chance fails two checksums.
fn sync_mark_beyond(file: &dyn File, from: u64) -> io::Result<bool> {
    let file_end = file.len()?;
    let mut window = Vec::new();
    let mut start = from.next_multiple_of(ALIGN_BYTES as u64);
    loop {
        let present = window.len();
        let read_from = start + present as u64;
        let left = usize::try_from(file_end.saturating_sub(read_from)).unwrap_or(usize::MAX);
        window.resize(present + CHUNK_BYTES.min(left), 0);
        let count = file.read_at(read_from, &mut window[present..])?;
        window.truncate(present + count);
        noise::apply(read_from, &mut window[present..]);
        if window.len() < SYNC_MARK_BYTES {
            return Ok(false);
        }
        let candidates = (window.len() - SYNC_MARK_BYTES) / ALIGN_BYTES + 1;
        for at in (0..candidates).map(|number| number * ALIGN_BYTES) {
            let here = start + at as u64;
            let record = Record::decode(here, &window[at..at + SYNC_MARK_BYTES]);
            if let Ok((Record::SyncMark(synced), _)) = record
                && (from + 1..=here).contains(&synced)
            {
                return Ok(true);
            }
        }
        window.drain(..candidates * ALIGN_BYTES);
        start += (candidates * ALIGN_BYTES) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FileSystem;
    use crate::fs::memory::MemoryFileSystem;

    /// A file whose first record of so many bytes begins at byte `from`, with two sectors of other records behind it.
    fn written(from: u64, record_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; from as usize];
        let value = vec![0x85; record_bytes - RECORD_BYTES_MIN - 1];
        let version = kv_core::Version::new(kv_core::Epoch(1), kv_core::Offset(1));
        let set = Record::Set {
            version,
            key: b"k",
            value: &value,
        };
        set.encode(from, &mut bytes);
        assert_eq!(bytes.len(), from as usize + record_bytes);
        while bytes.len() < from as usize + record_bytes + 1024 {
            Record::Promise(kv_core::Epoch(7)).encode(bytes.len() as u64, &mut bytes);
        }
        noise::apply(0, &mut bytes);
        bytes
    }

    fn judged(bytes: &[u8], from: u64) -> Judgement {
        let folder = MemoryFileSystem::default();
        let file = folder.open("file").unwrap();
        file.write_at(0, bytes).unwrap();
        judge(file.as_ref(), from).unwrap()
    }

    #[test]
    fn any_sectors_that_were_not_written_are_a_hole() {
        for (from, record_bytes) in [(80, 1600), (496, 64), (512, 48), (512, 1024), (1008, 48)] {
            let whole = written(from, record_bytes);
            let record_end = from as usize + record_bytes;
            assert_eq!(judged(&whole, from), Judgement::MaybeSynced);
            let first = from as usize / 512;
            let last = (record_end - 1) / 512;
            for lost in first..=last {
                let mut bytes = whole.clone();
                bytes[(lost * 512).max(from as usize)..(lost + 1) * 512].fill(0);
                assert_eq!(judged(&bytes, from), Judgement::Torn, "{from} {lost}");
            }
            // What is lost behind the record says nothing about it.
            let mut bytes = whole.clone();
            bytes[(last + 1) * 512..].fill(0);
            assert_eq!(judged(&bytes, from), Judgement::MaybeSynced, "{from}");
            // The file ends early, or in zeros, anywhere in the record.
            for kept in from as usize..record_end {
                let expected = match kept == from as usize {
                    true => Judgement::Unwritten,
                    false => Judgement::Torn,
                };
                let mut bytes = whole[..kept].to_vec();
                assert_eq!(judged(&bytes, from), expected, "{from} {kept}");
                bytes.resize(record_end + 100, 0);
                assert_eq!(judged(&bytes, from), expected, "{from} {kept}");
            }
        }
    }

    #[test]
    fn up_to_two_flipped_bits_in_a_byte_are_no_hole() {
        let (from, record_bytes) = (480, 96);
        let whole = written(from, record_bytes);
        for byte in from as usize..from as usize + record_bytes {
            for (one, two) in (0..8).flat_map(|one| (0..8).map(move |two| (one, two))) {
                let mut bytes = whole[..from as usize + record_bytes].to_vec();
                bytes[byte] ^= 1 << one;
                bytes[byte] ^= if one == two { 0 } else { 1 << two };
                assert_eq!(judged(&bytes, from), Judgement::MaybeSynced, "{byte}");
            }
        }
    }

    #[test]
    fn zeros_inside_a_sector_are_no_hole() {
        let (from, record_bytes) = (80, 800);
        let whole = written(from, record_bytes);
        for (start, count) in [(100, 100), (300, 200), (512, 500), (511, 1), (500, 12)] {
            let mut bytes = whole.clone();
            bytes[start..start + count].fill(0);
            assert_eq!(judged(&bytes, from), Judgement::MaybeSynced, "{start}");
        }
    }
}
