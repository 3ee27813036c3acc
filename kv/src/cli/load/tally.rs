//! What is counted: how operations ended, and how long they took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::plan::Kind;

/// Significant digits of a latency: values within a thousandth count as one.
const DIGITS: u8 = 3;

/// How an operation ended, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Ok,
    /// It did not happen, for a reason of this name.
    Fail(&'static str),
    /// Nobody knows, for a reason of this name.
    Info(&'static str),
}

/// What came of the operations of one kind.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Those that were answered `ok`.
    pub(super) ok: u64,
    /// Those of them that were answered before the run was over: what the rate is made of.
    pub(super) ok_in_time: u64,
    pub(super) fail: BTreeMap<&'static str, u64>,
    pub(super) info: BTreeMap<&'static str, u64>,
    /// Of those that were answered `ok`, in microseconds.
    pub(super) latencies: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let latencies = Histogram::new(DIGITS);
        Self {
            ok: 0,
            ok_in_time: 0,
            fail: BTreeMap::new(),
            info: BTreeMap::new(),
            latencies: latencies.unwrap_or_else(|_| unreachable!("so many digits are possible")),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.ok_in_time += other.ok_in_time;
        for (mine, others) in [(&mut self.fail, &other.fail), (&mut self.info, &other.info)] {
            for (reason, count) in others {
                *mine.entry(reason).or_default() += count;
            }
        }
        // It grows by itself, so it has room for whatever the other one holds.
        let _ = self.latencies.add(&other.latencies);
    }
}

/// What came of all operations of a client, or of a run.
#[derive(Clone, Debug)]
pub(super) struct Tallies {
    /// By the order of [`Kind::ALL`].
    by_kind: [Tally; 3],
    /// What begins earlier is warming up.
    from: Instant,
    /// What ends later adds nothing to the rate.
    until: Instant,
}

impl Tallies {
    pub(super) fn new(from: Instant, until: Instant) -> Self {
        Self {
            by_kind: [Tally::new(), Tally::new(), Tally::new()],
            from,
            until,
        }
    }

    /// Counts an operation.
    pub(super) fn note(&mut self, kind: Kind, begun: Instant, over: Instant, ended: Ended) {
        if begun < self.from {
            return;
        }
        let tally = &mut self.by_kind[kind as usize];
        match ended {
            Ended::Ok => {
                tally.ok += 1;
                tally.ok_in_time += u64::from(over <= self.until);
                let latency = micros(over.saturating_duration_since(begun));
                let _ = tally.latencies.record(latency); // It grows by itself.
            }
            Ended::Fail(reason) => *tally.fail.entry(reason).or_default() += 1,
            Ended::Info(reason) => *tally.info.entry(reason).or_default() += 1,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, others) in self.by_kind.iter_mut().zip(&other.by_kind) {
            mine.add(others);
        }
    }

    /// What came of the operations of a kind.
    pub(super) fn of(&self, kind: Kind) -> &Tally {
        &self.by_kind[kind as usize]
    }

    /// What came of all operations.
    pub(super) fn total(&self) -> Tally {
        let mut total = Tally::new();
        self.by_kind.iter().for_each(|tally| total.add(tally));
        total
    }
}

/// What is known while a run goes on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) ok: AtomicU64,
    pub(super) fail: AtomicU64,
    pub(super) info: AtomicU64,
}

impl Progress {
    pub(super) fn note(&self, ended: Ended) {
        let count = match ended {
            Ended::Ok => &self.ok,
            Ended::Fail(_) => &self.fail,
            Ended::Info(_) => &self.info,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whole microseconds, at least one: a histogram of latencies has no zero.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warming_up_does_not_count_and_a_late_answer_adds_nothing_to_the_rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tallies = Tallies::new(at(100), at(200));
        tallies.note(Kind::Get, at(99), at(150), Ended::Ok);
        tallies.note(Kind::Get, at(100), at(150), Ended::Ok);
        tallies.note(Kind::Get, at(190), at(5190), Ended::Ok);
        tallies.note(Kind::Set, at(150), at(160), Ended::Info("unanswered"));
        let get = tallies.of(Kind::Get);
        assert_eq!((get.ok, get.ok_in_time), (2, 1));
        assert!(
            get.latencies.max() >= 5_000_000,
            "a late answer is a latency"
        );
        let mut twice = tallies.clone();
        twice.add(&tallies);
        let total = twice.total();
        assert_eq!((total.ok, total.info["unanswered"]), (4, 2));
        assert_eq!(total.latencies.len(), 4);
    }
}
