//! What must be reached somewhere, or a check that holds says nothing: counted while the exploration runs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::bounds::Bounds;

/// Something interesting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A new writer committed an entry of an older epoch that nobody had committed.
    RolledForward,
    /// A member removed a suffix.
    Truncated,
    /// A member refused a message of an epoch below its promise.
    RefusedStale,
    /// A write ended as `fail`, by a rollback that was committed.
    RolledBack,
    /// A write was acknowledged in a later epoch than the first.
    AcknowledgedLater,
    /// A restarted member took part again.
    Restarted,
    /// A member did not hold `prev`.
    RefusedPrepare,
    /// A conditional set came too late.
    Conflict,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RolledForward,
        Self::Truncated,
        Self::RefusedStale,
        Self::RolledBack,
        Self::AcknowledgedLater,
        Self::Restarted,
        Self::RefusedPrepare,
        Self::Conflict,
    ];

    /// Whether it can be reached within bounds of three epochs and a lost session.
    #[must_use]
    pub fn is_within(self, bounds: &Bounds) -> bool {
        match self {
            Self::RolledBack => bounds.rollbacks > 0,
            // Between an election and a rollback, or between elections.
            Self::Conflict => bounds.rollbacks > 0 || bounds.lost_sessions > 1,
            Self::Restarted => bounds.crashes > 0,
            _ => true,
        }
    }

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RolledForward => "an election rolls a prepared entry forward",
            Self::Truncated => "a suffix is truncated",
            Self::RefusedStale => "a stale writer is refused",
            Self::RolledBack => "a rollback succeeds",
            Self::AcknowledgedLater => "a later writer acknowledges",
            Self::Restarted => "a restarted member prepares",
            Self::RefusedPrepare => "a Prepare is refused",
            Self::Conflict => "a conditional set is refused",
        }
    }
}

/// How often each was reached: by each thread for itself, so that they do not wait for each other.
#[derive(Debug, Default)]
pub struct Marks([Counts; THREADS]);

/// In memory of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts([AtomicU64; Mark::ALL.len()]);

/// With more threads some share their counts.
const THREADS: usize = 16;

/// The number of this thread.
fn thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS;
    }
    OWN.with(|own| *own)
}

impl Marks {
    /// It was reached.
    pub fn hit(&self, mark: Mark) {
        self.0[thread()].0[mark as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was.
    pub fn count(&self, mark: Mark) -> u64 {
        let counts = self.0.iter();
        counts
            .map(|counts| counts.0[mark as usize].load(Ordering::Relaxed))
            .sum()
    }
}
