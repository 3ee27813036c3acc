//! The file under redb, in blocks that are checked whenever they are read.
//!
//! ```text
//!  physical   0      1      2            1024    1025   1026          block numbers, of 4096 bytes
//!             | sums | data | data | ... | data | sums | data | ...
//!  logical           0      1            1023          1024           as redb sees them
//! ```
//!
//! A block of *sums* has a checksum for each of the 1024 blocks of data behind it: a `u32`, zero for a block that was never written
//! and is all zeros. redb writes a page where nothing is, and reads it only once its commit is durable, and the sums are synced with
//! the pages: so what a crash tears is not read.
//!
//! Block 0 is the exception. It holds redb's header, which redb writes in place and checks itself, by two slots and a byte that says
//! which of them counts. That byte is the only one that nothing checks.
//!
//! After a failed call nothing more is done to the file: the kernel may have dropped the pages.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use redb::StorageBackend;

use crate::fs::File;

const BLOCK_BYTES: u64 = 4096;
const SUM_BYTES: u64 = 4;
/// The blocks of data behind one block of sums.
const GROUP: u64 = BLOCK_BYTES / SUM_BYTES;

/// A block does not have its checksum.
#[derive(Debug, thiserror::Error)]
#[error("the block at byte {byte} is not what was written")]
pub(super) struct DamagedBlock {
    /// Where it is in the file.
    pub(super) byte: u64,
}

/// The file as redb sees it.
pub(super) struct Blocks {
    file: Arc<dyn File>,
    failure: Arc<OnceLock<String>>,
    sums: Mutex<Sums>,
}

/// The checksums of all blocks: a thousandth of the file.
#[derive(Default)]
struct Sums {
    of_blocks: Vec<u32>,
    /// Groups whose sums differ from the file's.
    changed: Vec<bool>,
}

/// Where a logical byte is in the file.
fn physical(logical: u64) -> u64 {
    logical + (logical / BLOCK_BYTES / GROUP + 1) * BLOCK_BYTES
}

/// How long the file is for redb to see so many bytes.
fn physical_len(logical_len: u64) -> u64 {
    match logical_len {
        0 => 0,
        len => physical(len - 1) + 1,
    }
}

/// How many bytes redb sees in a file of that length.
fn logical_len(physical_len: u64) -> u64 {
    let group_bytes = (GROUP + 1) * BLOCK_BYTES;
    let (groups, rest) = (physical_len / group_bytes, physical_len % group_bytes);
    groups * GROUP * BLOCK_BYTES + rest.saturating_sub(BLOCK_BYTES)
}

/// A block's checksum; never zero.
fn sum_of(block: &[u8]) -> u32 {
    crc32fast::hash(block).max(1)
}

/// The parts of a range of logical bytes that lie together in the file.
fn parts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut from = range.start;
    std::iter::from_fn(move || {
        let group_end = (from / BLOCK_BYTES / GROUP + 1) * GROUP * BLOCK_BYTES;
        let part = from..group_end.min(range.end);
        from = part.end;
        (!part.is_empty()).then_some(part)
    })
}

impl Blocks {
    /// Reads the sums of what is there.
    pub(super) fn open(file: Arc<dyn File>) -> io::Result<Self> {
        let blocks = logical_len(file.len()?).div_ceil(BLOCK_BYTES);
        let mut sums = Sums::default();
        sums.resize(blocks);
        let mut bytes = vec![0; BLOCK_BYTES as usize];
        for (group, of_blocks) in sums.of_blocks.chunks_mut(GROUP as usize).enumerate() {
            let bytes = &mut bytes[..of_blocks.len() * SUM_BYTES as usize];
            let position = Sums::position(group);
            let count = file.read_at(position, bytes)?;
            if count < bytes.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (sum, bytes) in of_blocks.iter_mut().zip(bytes.chunks_exact(4)) {
                *sum = bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
            }
        }
        Ok(Self {
            file,
            failure: Arc::default(),
            sums: Mutex::new(sums),
        })
    }

    /// A poisoned lock is taken all the same: nothing panics while one is held.
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What failed first. redb tells that to one caller, and all others only that something did.
    pub(super) fn failure(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.failure)
    }

    /// Works with the file, unless an earlier call failed.
    fn attempt(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if let Some(first) = self.failure.get() {
            return Err(io::Error::other(format!("an earlier call failed: {first}")));
        }
        work().inspect_err(|error| {
            let _ = self.failure.set(error.to_string());
        })
    }

    /// Checks whole blocks, the first of which begins at that byte.
    fn check(&self, logical: u64, blocks: &[u8]) -> io::Result<()> {
        let first = logical / BLOCK_BYTES;
        let sums = self.sums();
        for (index, block) in blocks.chunks(BLOCK_BYTES as usize).enumerate() {
            let number = first + index as u64;
            let is_good = match sums.of_blocks.get(number as usize) {
                _ if number == 0 => true,
                Some(0) | None => block.iter().all(|byte| *byte == 0),
                Some(sum) => *sum == sum_of(block),
            };
            if !is_good {
                let byte = physical(number * BLOCK_BYTES);
                let damaged = DamagedBlock { byte };
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
            }
        }
        Ok(())
    }
}

impl Sums {
    /// Where the sums of a group stand.
    fn position(group: usize) -> u64 {
        group as u64 * (GROUP + 1) * BLOCK_BYTES
    }

    /// Goes on with so many blocks. What is cut off, and comes back later, is zeros then.
    fn resize(&mut self, blocks: u64) {
        let blocks = blocks as usize;
        if blocks < self.of_blocks.len() {
            let group = blocks / GROUP as usize;
            self.changed
                .iter_mut()
                .skip(group)
                .for_each(|changed| *changed = true);
        }
        self.of_blocks.resize(blocks, 0);
        self.changed.resize(blocks.div_ceil(GROUP as usize), false);
    }

    fn set(&mut self, logical: u64, blocks: &[u8]) {
        let first = (logical / BLOCK_BYTES) as usize;
        for (index, block) in blocks.chunks(BLOCK_BYTES as usize).enumerate() {
            let number = first + index;
            if number >= self.of_blocks.len() {
                self.resize(number as u64 + 1);
            }
            self.of_blocks[number] = sum_of(block);
            self.changed[number / GROUP as usize] = true;
        }
    }

    /// Writes the sums that have changed.
    fn write(&mut self, file: &dyn File) -> io::Result<()> {
        let groups = self.of_blocks.chunks(GROUP as usize).enumerate();
        for ((group, of_blocks), changed) in groups.zip(&mut self.changed) {
            if !*changed {
                continue;
            }
            let mut bytes: Vec<u8> = of_blocks.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            // Sums of blocks that were cut off must not stay.
            bytes.resize(BLOCK_BYTES as usize, 0);
            file.write_at(Self::position(group), &bytes)?;
            *changed = false;
        }
        Ok(())
    }
}

impl StorageBackend for Blocks {
    fn len(&self) -> io::Result<u64> {
        Ok(logical_len(self.file.len()?))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        let is_whole = offset.is_multiple_of(BLOCK_BYTES) && end.is_multiple_of(BLOCK_BYTES);
        // Of block 0 alone redb reads less than the whole.
        assert!(is_whole || end <= BLOCK_BYTES, "redb reads whole pages");
        self.attempt(|| {
            for part in parts(offset..end) {
                let buffer = &mut out[(part.start - offset) as usize..(part.end - offset) as usize];
                let count = self.file.read_at(physical(part.start), buffer)?;
                if count < buffer.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.check(part.start, buffer)?;
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.attempt(|| {
            self.file.set_len(physical_len(len))?;
            self.sums().resize(len.div_ceil(BLOCK_BYTES));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.attempt(|| {
            self.sums().write(self.file.as_ref())?;
            self.file.sync_now()
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let is_whole = offset.is_multiple_of(BLOCK_BYTES) && end.is_multiple_of(BLOCK_BYTES);
        assert!(is_whole || end <= BLOCK_BYTES, "redb writes whole pages");
        self.attempt(|| {
            for part in parts(offset..end) {
                let bytes = &data[(part.start - offset) as usize..(part.end - offset) as usize];
                self.file.write_at(physical(part.start), bytes)?;
                self.sums().set(part.start, bytes);
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Blocks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FileSystem;
    use crate::fs::memory::MemoryFileSystem;

    fn file() -> Arc<dyn File> {
        MemoryFileSystem::default().open("file").unwrap()
    }

    #[test]
    fn every_length_has_its_place() {
        for blocks in [0, 1, 2, 1023, 1024, 1025, 2048, 2049, 5000] {
            for bytes in [0, 1, 4095] {
                let len = blocks * BLOCK_BYTES + bytes;
                assert_eq!(logical_len(physical_len(len)), len);
            }
        }
        assert_eq!(physical_len(GROUP * BLOCK_BYTES), (GROUP + 1) * BLOCK_BYTES);
        assert_eq!(physical(GROUP * BLOCK_BYTES), (GROUP + 2) * BLOCK_BYTES);
    }

    #[test]
    fn blocks_come_back_as_they_were_across_groups() {
        let file = file();
        let blocks = Blocks::open(Arc::clone(&file)).unwrap();
        blocks.set_len(2100 * BLOCK_BYTES).unwrap();
        let content: Vec<u8> = (0..8 * BLOCK_BYTES)
            .map(|byte| (byte % 251) as u8)
            .collect();
        let position = 1020 * BLOCK_BYTES;
        blocks.write(position, &content).unwrap();
        blocks.sync_data().unwrap();
        let again = Blocks::open(file).unwrap();
        for blocks in [blocks, again] {
            let mut read = vec![1; content.len()];
            blocks.read(position, &mut read).unwrap();
            assert_eq!(read, content);
            blocks.read(2000 * BLOCK_BYTES, &mut read).unwrap();
            assert!(read.iter().all(|byte| *byte == 0), "never written");
        }
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros() {
        let file = file();
        let blocks = Blocks::open(Arc::clone(&file)).unwrap();
        blocks.write(0, &[7; 3 * BLOCK_BYTES as usize]).unwrap();
        blocks.sync_data().unwrap();
        blocks.set_len(BLOCK_BYTES).unwrap();
        blocks.set_len(3 * BLOCK_BYTES).unwrap();
        blocks.sync_data().unwrap();
        for blocks in [blocks, Blocks::open(file).unwrap()] {
            let mut read = vec![1; 2 * BLOCK_BYTES as usize];
            blocks.read(BLOCK_BYTES, &mut read).unwrap();
            assert!(read.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_flipped_bit_names_its_block() {
        let file = file();
        let blocks = Blocks::open(Arc::clone(&file)).unwrap();
        blocks.write(0, &[7; 3 * BLOCK_BYTES as usize]).unwrap();
        blocks.sync_data().unwrap();
        let at = physical(2 * BLOCK_BYTES);
        file.write_at(at + 100, &[6]).unwrap();
        let mut block = vec![0; BLOCK_BYTES as usize];
        blocks.read(BLOCK_BYTES, &mut block).unwrap();
        let error = blocks.read(2 * BLOCK_BYTES, &mut block).unwrap_err();
        let damaged = error.get_ref().unwrap().downcast_ref::<DamagedBlock>();
        assert_eq!(damaged.unwrap().byte, at);
    }
}
