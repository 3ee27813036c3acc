//! The content of one file: what the page cache holds, what the disk holds, and what is on its way.
//!
//! Invariant: the disk's content is changed by nothing but a sync, a power loss and a flipped bit.
//!
//! A power loss decides two things that are not synced by themselves, and a third that spoils one of them:
//!
//! ```text
//!   operations since the last sync:   write a   write b   cut c   write d
//!                                                      │
//!   length, and which cuts count:     ────── up to here┘            one point for the file
//!   content of page 0:                ── up to here                 a point for each page:
//!   content of page 1:                ───────────────────── all     it was written back then, and not since
//!   torn:                             of the write after a page's point, a part of its bytes is there, too
//! ```
//!
//! So a page may be newer than the length, which then hides it, or the length newer than a page, which then is zeros.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

/// What the page cache writes back at once. Pages of one file survive a power loss independently of each other.
pub const PAGE_BYTES: usize = 4096;

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
    /// A sync lied about what went before that number of operations.
    promised: u64,
}

#[derive(Clone, Debug)]
enum Operation {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// What a power loss leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// Some of the pages, each as it was at some moment, and a length of its own.
    SomePages,
    /// What was done up to some moment, and a part of the write after it.
    SomePrefix,
    /// All but the last write, of which there is a part.
    TornWrite,
    /// Nothing.
    Nothing,
}

/// What a power loss took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Of how many operations something is gone.
    pub(super) operations: u64,
    /// How many operations a sync had promised to keep.
    pub(super) promised: u64,
    /// Of how many writes there is a part.
    pub(super) torn: u64,
    /// Whether a page survived that is newer than one that did not.
    pub(super) is_out_of_order: bool,
    /// How many bytes the file has to which no write came.
    pub(super) hollow_bytes: u64,
}

impl Operation {
    fn perform(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes } => write(content, *position, bytes),
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }

    /// The pages that it writes to.
    fn pages(&self) -> std::ops::Range<usize> {
        match self {
            Self::Write { position, bytes } if !bytes.is_empty() => {
                position / PAGE_BYTES..(position + bytes.len()).div_ceil(PAGE_BYTES)
            }
            Self::Write { .. } | Self::SetLen(_) => 0..0,
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

/// How many bytes come before the zeros at the end.
pub(super) fn meaning(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.cached.len() as u64
    }

    /// What a power loss leaves for certain.
    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
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

    /// A sync that began at that number of operations lies. Says whether there was anything to do.
    pub(super) fn promise(&mut self, operations: u64) -> bool {
        self.promised = self.promised.max(operations);
        self.count_up_to(operations) > 0
    }

    fn count_up_to(&self, operations: u64) -> usize {
        let count = operations.saturating_sub(self.settled);
        self.pending.len().min(count as usize)
    }

    /// The power goes.
    pub(super) fn lose(&mut self, rng: &mut StdRng, leaves: Leaves) -> Lost {
        let promised = self.count_up_to(self.promised);
        let pending = std::mem::take(&mut self.pending);
        self.settled += pending.len() as u64;
        let survival = Survival::draw(&pending, rng, leaves);
        let lost = survival.apply(&pending, promised, &mut self.durable);
        self.cached.clone_from(&self.durable);
        lost
    }

    /// Flips a random bit of those durable bytes, where readers see it too; returns the byte.
    pub(super) fn flip_bit(
        &mut self,
        rng: &mut StdRng,
        among: std::ops::Range<usize>,
    ) -> Option<u64> {
        let among = among.start..among.end.min(self.durable.len());
        if among.is_empty() {
            return None;
        }
        let byte = rng.random_range(among);
        let bit = 1 << rng.random_range(0..8);
        self.durable[byte] ^= bit;
        if let Some(cached) = self.cached.get_mut(byte) {
            *cached ^= bit;
        }
        Some(byte as u64)
    }
}

/// What of some operations survives a power loss.
#[derive(Debug, Default)]
struct Survival {
    /// How many of them changed the length for good.
    lengths: usize,
    /// Where the file ends after a part of the next one.
    end_of_part: Option<usize>,
    /// For each page, how many of those that touch it, and how many bytes of the one after them.
    pages: BTreeMap<usize, (usize, usize)>,
}

impl Survival {
    fn draw(pending: &[Operation], rng: &mut StdRng, leaves: Leaves) -> Self {
        match leaves {
            Leaves::Nothing => Self::default(),
            Leaves::TornWrite => {
                let last = pending.len().saturating_sub(1);
                // Zeros at the end are written ahead: whether they are there tears nothing.
                let torn = |bytes: &[u8]| rng.random_range(1..meaning(bytes).max(2));
                Self::prefix(pending, last, torn)
            }
            Leaves::SomePrefix => {
                let survive = rng.random_range(0..=pending.len());
                let torn = |bytes: &[u8]| rng.random_range(0..bytes.len().max(1));
                Self::prefix(pending, survive, torn)
            }
            Leaves::SomePages => {
                let mut survival = Self {
                    lengths: rng.random_range(0..=pending.len()),
                    ..Self::default()
                };
                let mut touched: BTreeMap<usize, usize> = BTreeMap::new();
                for page in pending.iter().flat_map(Operation::pages) {
                    *touched.entry(page).or_default() += 1;
                }
                for (page, times) in touched {
                    let whole = rng.random_range(0..=times);
                    let torn = match rng.random_bool(0.5) {
                        true => rng.random_range(0..PAGE_BYTES),
                        false => 0,
                    };
                    survival.pages.insert(page, (whole, torn));
                }
                survival
            }
        }
    }

    /// So many operations, and of the next one, if it is a write, as many bytes as `torn` says.
    fn prefix(pending: &[Operation], survive: usize, torn: impl FnOnce(&[u8]) -> usize) -> Self {
        let mut survival = Self {
            lengths: survive,
            ..Self::default()
        };
        for page in pending[..survive].iter().flat_map(Operation::pages) {
            survival.pages.entry(page).or_default().0 += 1;
        }
        if let Some(Operation::Write { position, bytes }) = pending.get(survive) {
            let kept = torn(bytes).min(bytes.len());
            let end = position + kept;
            for page in Operation::pages(&pending[survive]) {
                let from = (page * PAGE_BYTES).max(*position);
                let there = end.saturating_sub(from).min(PAGE_BYTES);
                survival.pages.entry(page).or_default().1 = there;
            }
            survival.end_of_part = (kept > 0).then_some(end);
        }
        survival
    }

    /// Makes of durable bytes what the power loss leaves. A lying sync has promised the first of the operations.
    fn apply(self, pending: &[Operation], promised: usize, durable: &mut Vec<u8>) -> Lost {
        let mut lost = Lost::default();
        let mut length = durable.len();
        let mut written = durable.len();
        let mut touched: BTreeMap<usize, usize> = BTreeMap::new();
        let mut is_lost_before = false;
        for (index, operation) in pending.iter().enumerate() {
            let counts = index < self.lengths;
            let lost_before = lost.operations;
            match operation {
                Operation::SetLen(len) => {
                    if counts {
                        length = *len;
                        written = written.min(*len);
                        durable.truncate(*len);
                    }
                    lost.operations += u64::from(!counts);
                }
                Operation::Write { position, bytes } => {
                    let end = position + bytes.len();
                    if counts {
                        length = length.max(end);
                    } else if index == self.lengths {
                        length = length.max(self.end_of_part.unwrap_or(0));
                    }
                    let (mut kept, mut is_kept_somewhere) = (0, false);
                    for page in operation.pages() {
                        let (whole, torn) = self.pages.get(&page).copied().unwrap_or_default();
                        let times = touched.entry(page).or_default();
                        let from = (page * PAGE_BYTES).max(*position);
                        let upto = ((page + 1) * PAGE_BYTES).min(end);
                        let there = match (*times).cmp(&whole) {
                            std::cmp::Ordering::Less => upto - from,
                            std::cmp::Ordering::Equal => torn.min(upto - from),
                            std::cmp::Ordering::Greater => 0,
                        };
                        *times += 1;
                        let slice = &bytes[from - position..from - position + there];
                        self::write(durable, from, slice);
                        if there > 0 {
                            written = written.max(from + there);
                            is_kept_somewhere = true;
                            lost.is_out_of_order |= is_lost_before;
                        }
                        is_lost_before |= there < upto - from;
                        kept += there;
                    }
                    lost.torn += u64::from(is_kept_somewhere && kept < bytes.len());
                    lost.operations += u64::from(kept < bytes.len() || (end > length && !counts));
                }
            }
            if index < promised {
                lost.promised += lost.operations - lost_before;
            }
        }
        lost.hollow_bytes = length.saturating_sub(written.min(length)) as u64;
        durable.resize(length, 0);
        lost
    }
}
