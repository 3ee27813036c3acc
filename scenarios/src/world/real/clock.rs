//! The one order of everything that happens in a run: the nanoseconds of the machine's monotonic clock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kv::events::clock::monotonic;

/// A run's clock.
#[derive(Debug)]
pub struct RunClock {
    start: u64,
    last: Mutex<u64>,
}

impl RunClock {
    /// A clock of a run that begins now.
    #[must_use]
    pub fn start() -> Self {
        let start = monotonic();
        Self {
            start,
            last: Mutex::new(start),
        }
    }

    /// The time since the run began.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.since_start(monotonic()))
    }

    /// A place in the order that nothing else of this process has.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = monotonic().max(*last + 1);
        *last
    }

    /// A moment of the machine's clock as nanoseconds since the run began.
    #[must_use]
    pub fn since_start(&self, moment: u64) -> u64 {
        moment.saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_stamps_are_the_same_and_they_rise() {
        let clock = RunClock::start();
        let stamps: Vec<u64> = (0..10_000).map(|_| clock.stamp()).collect();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
