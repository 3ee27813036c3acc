//! The storage of a node on the simulated disk: what the disk may do, and what the log makes of it.
//!
//! Nothing here needs a runtime or a clock: the futures are polled by hand, so a crash can fall between any two steps,
//! and a seed means the same everywhere.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sim::disk::SimDisk;

mod data_folder;
mod disk;
mod engines;
mod log;
mod log_faults;

/// A disk whose syncs give way once and take no time.
fn disk(seed: u64) -> SimDisk {
    SimDisk::new(
        "disk",
        StdRng::seed_from_u64(seed),
        Duration::ZERO..=Duration::ZERO,
    )
}

/// Polls at most so many times; nothing if the future is not ready by then, and it is dropped.
fn poll_at_most<F: Future>(steps: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..steps {
        if let Poll::Ready(output) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return Some(output);
        }
    }
    None
}

/// Polls to the end.
fn finish<F: Future>(future: F) -> F::Output {
    poll_at_most(1_000_000, future).expect("nothing here waits for long")
}
