//! When clients ask: one operation after the other (closed loop), or at given moments (open loop).
//!
//! In an open loop operation `i` is due at `i / rate` from the beginning, whether the cluster keeps up or not; the next client that is
//! free takes it, and its latency counts from when it was due. A slow answer so shows in all the operations that had to wait for it
//! (no coordinated omission), and what nobody got round to is counted, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// The shortest sleep between two looks at what is due: about what the operating system can do.
const TICK: Duration = Duration::from_micros(50);

/// When the clients of one run ask.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    end: Instant,
    stopped: AtomicBool,
    arrivals: Option<Arrivals>,
}

/// The operations of an open loop.
#[derive(Debug)]
struct Arrivals {
    /// Operations a second.
    rate: f64,
    /// One permit for each operation that is due and that no client has taken.
    due: Semaphore,
    released: AtomicU64,
    taken: AtomicU64,
}

impl Pace {
    /// A run that begins now. With a rate, the loop is open.
    pub(super) fn begin(lasts: Duration, rate: Option<f64>) -> Arc<Self> {
        let start = Instant::now();
        let pace = Arc::new(Self {
            start,
            end: start + lasts,
            stopped: AtomicBool::new(false),
            arrivals: rate.map(|rate| Arrivals {
                rate,
                due: Semaphore::new(0),
                released: AtomicU64::new(0),
                taken: AtomicU64::new(0),
            }),
        });
        if pace.arrivals.is_some() {
            let pace = Arc::clone(&pace);
            // The timer of the runtime is precise to a millisecond, which is longer than an operation.
            std::thread::spawn(move || pace.release());
        }
        pace
    }

    /// Waits for the next operation; the moment that its latency counts from. Nothing once the run is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        match &self.arrivals {
            None => {
                let now = Instant::now();
                (now < self.end && !self.is_stopped()).then_some(now)
            }
            Some(arrivals) => {
                arrivals.due.acquire().await.ok()?.forget();
                let number = arrivals.taken.fetch_add(1, Ordering::Relaxed);
                Some(self.start + arrivals.time_of(number))
            }
        }
    }

    /// When it began.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// When it ends, or ended.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Ends the run early: no client begins another operation.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// How many operations were due and never begun.
    pub(super) fn unsent(&self) -> u64 {
        self.arrivals.as_ref().map_or(0, |arrivals| {
            let released = arrivals.released.load(Ordering::Relaxed);
            released.saturating_sub(arrivals.taken.load(Ordering::Relaxed))
        })
    }

    /// Releases each operation when it is due, until the run is over.
    #[allow(
        clippy::disallowed_methods,
        reason = "a thread of its own, and never in the simulator"
    )]
    fn release(&self) {
        let Some(arrivals) = &self.arrivals else {
            return;
        };
        while !self.is_stopped() {
            let now = Instant::now().min(self.end);
            let due = arrivals.count_at(now - self.start);
            let more = due - arrivals.released.swap(due, Ordering::Relaxed);
            arrivals.due.add_permits(usize::try_from(more).unwrap_or(0));
            if now == self.end {
                break;
            }
            let next = self.start + arrivals.time_of(due);
            let wait = next.saturating_duration_since(Instant::now()).max(TICK);
            std::thread::sleep(wait.min(Duration::from_millis(100)));
        }
        arrivals.due.close();
    }
}

impl Arrivals {
    /// How long after the beginning an operation is due; they count from 0.
    fn time_of(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many operations are due by then.
    fn count_at(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * self.rate).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_loop_counts_from_when_an_operation_was_due() {
        let pace = Pace::begin(Duration::from_millis(50), Some(1000.0));
        let mut due = Vec::new();
        while let Some(at) = pace.next().await {
            assert!(at <= Instant::now(), "nothing begins before it is due");
            due.push(at - pace.start());
        }
        let expected: Vec<_> = (0..due.len() as u64).map(Duration::from_millis).collect();
        assert_eq!(due, expected);
        assert_eq!(due.len() as u64 + pace.unsent(), 50);
    }

    #[tokio::test]
    async fn what_no_client_got_round_to_is_counted() {
        let pace = Pace::begin(Duration::from_millis(20), Some(1000.0));
        let arrivals = pace.arrivals.as_ref().unwrap();
        while !arrivals.due.is_closed() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pace.next().await, None);
        assert_eq!(pace.unsent(), 20);
    }

    #[tokio::test]
    async fn a_run_that_is_stopped_begins_nothing_more() {
        for rate in [None, Some(1000.0)] {
            let pace = Pace::begin(Duration::from_secs(3600), rate);
            assert!(pace.next().await.is_some());
            pace.stop();
            while pace.next().await.is_some() {}
        }
    }
}
