//! The content of one file: what the page cache holds, what the disk holds, and what is on its way.
//!
//! Invariant: the disk's content is changed by nothing but a sync, a power loss and a flipped bit.

use rand::Rng;
use rand::rngs::StdRng;

/// One file's bytes, whatever its name.
#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What a reader sees.
    cached: Vec<u8>,
    /// What a power loss leaves for certain.
    durable: Vec<u8>,
    /// What was done since, in order.
    pending: Vec<Operation>,
    /// How many operations went before the first of `pending`.
    settled: u64,
}

#[derive(Clone, Debug)]
enum Operation {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// What a power loss took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// How many operations.
    pub(super) operations: u64,
    /// Whether a part of the first of them survived.
    pub(super) is_torn: bool,
}

impl Operation {
    fn perform(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes } => write(content, *position, bytes),
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }
}

fn write(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = position + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[position..end].copy_from_slice(bytes);
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.cached.len() as u64
    }

    /// Reads what the page cache holds; returns how many bytes there were.
    pub(super) fn read(&self, position: usize, buffer: &mut [u8]) -> usize {
        let from = position.min(self.cached.len());
        let count = buffer.len().min(self.cached.len() - from);
        buffer[..count].copy_from_slice(&self.cached[from..from + count]);
        count
    }

    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.perform(Operation::Write { position, bytes });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.perform(Operation::SetLen(len));
    }

    fn perform(&mut self, operation: Operation) {
        operation.perform(&mut self.cached);
        self.pending.push(operation);
    }

    /// The number of the last operation: a sync that begins now is about all up to it.
    pub(super) fn operations(&self) -> u64 {
        self.settled + self.pending.len() as u64
    }

    /// A sync that began at that number of operations succeeds. Says whether there was anything to do.
    pub(super) fn settle(&mut self, operations: u64) -> bool {
        let count = self.count_up_to(operations);
        for operation in self.pending.drain(..count) {
            operation.perform(&mut self.durable);
        }
        self.settled += count as u64;
        count > 0
    }

    /// A sync that began at that number of operations fails, and the kernel forgets that the pages are dirty. Lengths
    /// are not pages.
    pub(super) fn drop_pages(&mut self, operations: u64) {
        let count = self.count_up_to(operations);
        let kept = self.pending.split_off(count);
        self.pending
            .retain(|dropped| matches!(dropped, Operation::SetLen(_)));
        self.settled += (count - self.pending.len()) as u64;
        self.pending.extend(kept);
    }

    /// Whether anything up to that number of operations is still not durable.
    pub(super) fn is_dirty(&self, operations: u64) -> bool {
        self.count_up_to(operations) > 0
    }

    fn count_up_to(&self, operations: u64) -> usize {
        let count = operations.saturating_sub(self.settled);
        self.pending.len().min(count as usize)
    }

    /// The power goes: a random prefix of what is pending survives, and the write after it may be torn; nothing, on a strict
    /// disk.
    pub(super) fn lose(&mut self, rng: &mut StdRng, is_strict: bool) -> Lost {
        let mut pending = std::mem::take(&mut self.pending);
        let count = pending.len() as u64;
        if is_strict {
            pending.clear();
        }
        let survive = rng.random_range(0..=pending.len());
        for operation in &pending[..survive] {
            operation.perform(&mut self.durable);
        }
        let mut is_torn = false;
        if let Some(Operation::Write { position, bytes }) = pending.get(survive) {
            let kept = rng.random_range(0..bytes.len().max(1));
            write(&mut self.durable, *position, &bytes[..kept]);
            is_torn = kept > 0;
        }
        self.settled += count;
        self.cached.clone_from(&self.durable);
        Lost {
            operations: count - survive as u64,
            is_torn,
        }
    }

    /// Flips a random durable bit, where readers see it too; returns the byte.
    pub(super) fn flip_bit(&mut self, rng: &mut StdRng) -> Option<u64> {
        if self.durable.is_empty() {
            return None;
        }
        let byte = rng.random_range(0..self.durable.len());
        let bit = 1 << rng.random_range(0..8);
        self.durable[byte] ^= bit;
        if let Some(cached) = self.cached.get_mut(byte) {
            *cached ^= bit;
        }
        Some(byte as u64)
    }
}
