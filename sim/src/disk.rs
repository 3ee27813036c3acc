//! The disk of one simulated node. What it can do wrong:
//!
//! - **power loss**: what was not synced is lost in any order that a page cache allows. Each page of 4 KiB that was written
//!   since the last sync of its file is there as it was at one of the moments since, independently of every other page; or
//!   as it was with a part of the next write, torn at any byte. The length of the file is as it was at a moment of its
//!   own, so that there may be zeros where no data came, and data that a shorter length hides; a cut counts as soon as the
//!   length that it left does. Half of the time pages and length are of the same moment: the usual prefix with a torn end.
//!   Names that were given, changed or taken away without a sync of the names come back as they were, from a random point
//!   on: journals keep their order. A sync that had not returned counts as none;
//! - **power loss at a chosen moment**: after so many operations from now on, of all files or of some, or in the middle
//!   of a write (`disk/power.rs`);
//! - **kill**: the process dies and the page cache lives, so nothing is lost, and nothing becomes durable either;
//! - **slow**: a sync takes as long as it is told to, in virtual time. `sync_now` takes none: whoever blocks stops the clock;
//! - **a failed sync**, once; the kernel may forget that the pages are dirty, so that they still read well and are gone
//!   after the next power loss (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020);
//! - **full**: a write that grows a file beyond the space is cut short and fails; a length beyond it is refused;
//! - **lying**: syncs return `Ok` and make nothing durable. No store survives that; it is here as a planted bug;
//! - **a flipped bit** in bytes that were durable, of a part that can be chosen (`disk/part.rs`).
//!
//! What it does not do: a page is torn at one place, not in several; a name never survives one that was given before it;
//! a good read never returns wrong data.
//!
//! The disk outlives the node. Each life of a node mounts it anew, and what an earlier life still holds is dead: the
//! simulator drops a crashed node's tasks after the crash, and nothing that they do in dying may reach the disk. All
//! chance comes from the generator that was handed in. Counters tell a fault that fired from one that found nothing to break.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::fs::FileSystem;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;

mod inode;
mod mount;
mod names;
mod part;
mod power;

pub use inode::PAGE_BYTES;
pub use part::{ENGINE, LOG, Part, SNAPSHOT};

use inode::{Inode, Leaves};
use mount::Mount;
use names::Names;
use power::Cut;

/// A disk, as the nemesis sees it. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// What happened to a disk so far, to tell a fault that fired from one that found nothing to break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Syncs of files that returned `Ok`, lies included.
    pub syncs: u64,
    /// Syncs that failed on purpose.
    pub syncs_failed: u64,
    /// Syncs that returned `Ok` and made nothing durable though there was something.
    pub syncs_lied: u64,
    /// Operations that lying syncs had promised and a power loss undid.
    pub promised_lost: u64,
    /// Writes refused for want of space.
    pub writes_refused: u64,
    /// Operations on files that a power loss undid, torn ones included.
    pub operations_lost: u64,
    /// Writes of which a power loss kept a part: some of the bytes, or some of the pages.
    pub writes_torn: u64,
    /// Files of which a power loss kept a page that is newer than one that it took.
    pub files_out_of_order: u64,
    /// Bytes at the ends of files that a power loss left without their data.
    pub hollow_bytes: u64,
    /// Changes of names that a power loss undid.
    pub names_undone: u64,
    /// Bits flipped.
    pub bits_flipped: u64,
    /// How often the power went at a chosen moment.
    pub power_cuts: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Kills.
    pub kills: u64,
}

/// What a failed sync does to the pages that it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyPages {
    /// They stay dirty; a later sync would write them.
    Kept,
    /// They are taken for clean: they read well until the power goes.
    Dropped,
}

/// Which operations are counted: changes of files and names, and syncs. Reading changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All.
    Everything,
    /// Those on files whose names begin like that.
    OfFiles(String),
    /// Those on the engine's files, and whatever takes a file away: in a checkpoint, the old part of the log.
    OfCheckpoints,
}

/// Where a bit was flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The file.
    pub file: String,
    /// The byte.
    pub byte: u64,
}

#[derive(Debug)]
struct State {
    name: String,
    rng: StdRng,
    /// Which life of the node may use the disk.
    life: u64,
    inodes: Vec<Inode>,
    names: Names,
    locked_by: Option<u64>,
    locks_given: u64,
    sync_latency: RangeInclusive<Duration>,
    /// Every sync waits until this is over.
    holds_syncs: bool,
    /// A power loss undoes all that was not synced, and leaves nothing of it to chance.
    is_strict: bool,
    /// A power loss keeps the order in which pages were written.
    keeps_order: bool,
    /// When the power is to go.
    cut: Option<Cut>,
    /// It has gone, and the machine does not know yet.
    is_off: bool,
    /// The file whose last write the next power loss tears.
    torn: Option<usize>,
    next_sync_fails: Option<DirtyPages>,
    syncs_lie: bool,
    capacity_bytes: Option<u64>,
    counters: DiskCounters,
    news: watch::Sender<DiskCounters>,
}

impl SimDisk {
    /// An empty disk. A sync takes a random time from the range; without any, it still gives way once, so that a crash
    /// may fall into it.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        rng: StdRng,
        sync_latency: RangeInclusive<Duration>,
    ) -> Self {
        let state = State {
            name: name.into(),
            rng,
            life: 0,
            inodes: Vec::new(),
            names: Names::default(),
            locked_by: None,
            locks_given: 0,
            sync_latency,
            holds_syncs: false,
            is_strict: false,
            keeps_order: false,
            cut: None,
            is_off: false,
            torn: None,
            next_sync_fails: None,
            syncs_lie: false,
            capacity_bytes: None,
            counters: DiskCounters::default(),
            news: watch::Sender::default(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The file system for the present life of the node; dead after the next [`kill`](Self::kill) or
    /// [`power_loss`](Self::power_loss).
    #[must_use]
    pub fn mount(&self) -> Arc<dyn FileSystem> {
        let life = self.state().life;
        Arc::new(Mount::new(self.clone(), life))
    }

    /// The process dies; the page cache lives, unless the power is off already.
    pub fn kill(&self) {
        if self.is_off() {
            return self.power_loss();
        }
        let mut state = self.state();
        state.counters.kills += 1;
        state.end_life();
    }

    /// The power goes: what was not synced is lost, but for a random part.
    pub fn power_loss(&self) {
        let is_strict = self.state().is_strict;
        self.lose_power(is_strict);
    }

    /// The power goes, and all that was not synced is lost.
    pub fn strict_power_loss(&self) {
        self.lose_power(true);
    }

    fn lose_power(&self, is_strict: bool) {
        let mut state = self.state();
        state.counters.power_losses += 1;
        state.end_life();
        state.lose_what_is_not_synced(is_strict);
        state.is_off = false;
        state.torn = None;
    }

    /// Makes syncs slow, or quick again.
    pub fn set_sync_latency(&self, range: RangeInclusive<Duration>) {
        self.state().sync_latency = range;
    }

    /// From now on every sync waits, or no longer.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().holds_syncs = hold;
    }

    /// From now on, or no longer, a power loss undoes exactly what was not synced.
    pub fn be_strict(&self, strict: bool) {
        self.state().is_strict = strict;
    }

    /// From now on, or no longer, a power loss keeps the order in which the pages of a file were written: a prefix of the
    /// writes survives, and the one after it may be torn.
    pub fn keep_order(&self, keep: bool) {
        self.state().keeps_order = keep;
    }

    /// Lets the next sync of a file fail.
    pub fn fail_next_sync(&self, pages: DirtyPages) {
        self.state().next_sync_fails = Some(pages);
    }

    /// No sync fails, if none has yet.
    pub fn fail_no_sync(&self) {
        self.state().next_sync_fails = None;
    }

    /// From now on, or no longer, syncs make nothing durable and say that they did.
    pub fn lose_syncs(&self, lie: bool) {
        self.state().syncs_lie = lie;
    }

    /// Leaves so many bytes of space.
    pub fn fill_up(&self, bytes_left: u64) {
        let mut state = self.state();
        state.capacity_bytes = Some(state.used_bytes() + bytes_left);
    }

    /// Gives back all the space that is wanted.
    pub fn free_space(&self) {
        self.state().capacity_bytes = None;
    }

    /// Flips a random bit among the durable bytes of the last file whose name begins like that; nothing if there is no
    /// such file, or it is empty.
    pub fn flip_bit(&self, name_begins: &str) -> Option<Flip> {
        let mut state = self.state();
        let mut files = state.names.list().into_iter().rev();
        let (file, inode) = files.find(|(name, _)| name.starts_with(name_begins))?;
        let durable = state.inodes[inode].durable().len();
        state.flip(file, inode, 0..durable)
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> DiskCounters {
        self.state().counters
    }

    /// What happens from now on, as soon as a fault that was asked for has fired.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<DiskCounters> {
        self.state().news.subscribe()
    }

    /// How many bytes the files have.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// A poisoned lock is taken all the same: the panic that poisoned it has failed the run already.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_life(&mut self) {
        self.life += 1;
        self.locked_by = None;
    }

    fn lose_what_is_not_synced(&mut self, is_strict: bool) {
        let rng = &mut self.rng;
        self.counters.names_undone += self.names.lose(rng, is_strict);
        let is_in_order = self.keeps_order || rng.random_bool(0.5);
        let usual = match (is_strict, is_in_order) {
            (true, _) => Leaves::Nothing,
            (false, true) => Leaves::SomePrefix,
            (false, false) => Leaves::SomePages,
        };
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            if !self.names.has(number) {
                *inode = Inode::default(); // Nothing leads there any more.
                continue;
            }
            let leaves = match self.torn {
                Some(torn) if torn == number && !is_strict => Leaves::TornWrite,
                _ => usual,
            };
            let lost = inode.lose(rng, leaves);
            self.counters.operations_lost += lost.operations;
            self.counters.promised_lost += lost.promised;
            self.counters.writes_torn += lost.torn;
            self.counters.files_out_of_order += u64::from(lost.is_out_of_order);
            self.counters.hollow_bytes += lost.hollow_bytes;
        }
    }

    /// Lets those who watch know what has happened.
    fn tell(&self) {
        self.news.send_replace(self.counters);
    }

    fn used_bytes(&self) -> u64 {
        let files = self.names.list();
        files
            .iter()
            .map(|(_, inode)| self.inodes[*inode].len())
            .sum()
    }

    fn draw_latency(&mut self) -> Duration {
        self.rng.random_range(self.sync_latency.clone())
    }
}
