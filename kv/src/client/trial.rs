//! One operation on its way to an end: its deadline, its waits, and what went wrong so far.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::ClientOptions;
use crate::backoff::Backoff;
use crate::error::Fail;

/// The state of one operation between its attempts.
#[derive(Debug)]
pub(super) struct Trial {
    deadline: Instant,
    /// An attempt that begins with less than this left would most likely end without an answer: a write would end as
    /// `info` that had definitely been refused until then.
    reserve: Duration,
    attempt_timeout: Duration,
    backoff: Backoff,
    waited: bool,
    failed: BTreeSet<String>,
    /// How many `Moved` were answered.
    pub(super) moved_count: u32,
    /// What a node said that let this client in nowhere, if that is why it knows no map.
    pub(super) refused: Option<Fail>,
    /// How the operation ends if there is no further attempt.
    pub(super) last: Fail,
}

impl Trial {
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self {
            deadline: Instant::now() + options.timeout,
            reserve: options.timeout / 10,
            attempt_timeout: options.attempt_timeout,
            backoff: Backoff::new(options.backoff_first, options.backoff_max),
            waited: false,
            failed: BTreeSet::new(),
            moved_count: 0,
            refused: None,
            last: Fail::Unreachable { tried: Vec::new() },
        }
    }

    /// What is left of the deadline.
    pub(super) fn time(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether there is time for another attempt.
    pub(super) fn has_time(&self) -> bool {
        self.time() > self.reserve
    }

    /// How long one attempt may take, if it may be repeated.
    pub(super) fn attempt_time(&self) -> Duration {
        self.time().min(self.attempt_timeout)
    }

    /// The next wait, which is over when there is no time for another attempt any more.
    pub(super) fn next_wait(&mut self, rng: &mut impl Rng) -> Duration {
        let time = self.time().saturating_sub(self.reserve);
        self.backoff.draw(rng).min(time)
    }

    /// Whether the operation has waited before.
    pub(super) fn has_waited(&self) -> bool {
        self.waited
    }

    /// Notes that the operation has waited.
    pub(super) fn mark_waited(&mut self) {
        self.waited = true;
    }

    /// Notes that an address did not serve the operation.
    pub(super) fn failed_at(&mut self, address: &str) {
        self.failed.insert(address.to_owned());
    }

    /// The addresses that did not serve the operation.
    pub(super) fn failed(&self) -> &BTreeSet<String> {
        &self.failed
    }

    /// The reason that names every address that was tried; these, where none was.
    pub(super) fn unreachable(&self, or: Vec<String>) -> Fail {
        let tried = if self.failed.is_empty() {
            or
        } else {
            self.failed.iter().cloned().collect()
        };
        Fail::Unreachable { tried }
    }
}
