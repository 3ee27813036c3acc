//! The simulated clocks. What they can do wrong: each node's clock starts anywhere and runs fast or slow by its own drift.
//!
//! Only what a node reads from its clock is wrong; its timers run in true time. The lease is the one promise that hangs on
//! a clock (R16).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kv::environment::Clock;
use tokio::time::Instant;

/// One node's clock.
#[derive(Debug, Clone)]
pub struct SimClock(Arc<Mutex<Reading>>);

/// A clock that shows `shows` at `at` and runs `1 + drift_ppm / 1,000,000` times as fast as time.
#[derive(Debug)]
struct Reading {
    at: Instant,
    shows: Duration,
    drift_ppm: i32,
}

impl SimClock {
    /// A clock that shows `offset` now.
    #[must_use]
    pub fn new(offset: Duration, drift_ppm: i32) -> Self {
        Self(Arc::new(Mutex::new(Reading {
            at: Instant::now(),
            shows: offset,
            drift_ppm,
        })))
    }

    /// From now on the clock runs at another speed. It does not jump.
    pub fn set_drift(&self, drift_ppm: i32) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.shows = reading.show();
        reading.at = Instant::now();
        reading.drift_ppm = drift_ppm;
    }

    /// The clock jumps forward.
    pub fn jump(&self, by: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shows += by;
    }
}

impl Reading {
    fn show(&self) -> Duration {
        let passed = self.at.elapsed();
        let drift = passed.mul_f64(f64::from(self.drift_ppm.unsigned_abs()) / 1e6);
        match self.drift_ppm < 0 {
            true => (self.shows + passed).saturating_sub(drift),
            false => self.shows + passed + drift,
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).show()
    }
}
