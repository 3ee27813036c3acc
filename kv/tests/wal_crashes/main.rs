//! Goal: whatever was reported as synced is recovered after any crash, in order, and nothing that was never there.
//! Method: a fixed workload over a file system that writes down each operation, and then every crash of it, within the
//! bounds that `enumeration.rs` states; each recovery is crashed everywhere, too.
//!
//! These are the quick bounds; `cargo run --release -p kv --example wal_crashes -- 40` tries millions.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

mod disk;
mod enumeration;
mod life;

use disk::LeftOut;
use enumeration::{Bounds, enumerate};

/// A few seconds.
const QUICK: Bounds = Bounds {
    exhaustive: 6,
    exhaustive_in_recovery: 3,
    tear_step: 3,
    rounds: 1,
};

#[test]
fn the_log_recovers_from_every_crash() {
    let counts = enumerate(QUICK, None).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{counts:?}");
    assert!(counts.crashes > 50_000, "vacuous: {counts:?}");
    assert!(counts.folders > 1_000, "vacuous: {counts:?}");
    assert!(counts.cuts > 1_000, "vacuous: {counts:?}");
    assert!(counts.shortened > 1_000, "vacuous: {counts:?}");
    assert!(counts.suspects >= 15, "vacuous: {counts:?}");
}

/// The enumeration has teeth: each of these leaves out one thing that the log does, and is found.
#[test]
fn whatever_the_log_leaves_out_is_found() {
    let bugs = [
        LeftOut::Sync,
        LeftOut::SyncOfNewNames,
        LeftOut::SyncOfRemovals,
        LeftOut::Rewrite,
        LeftOut::Cut,
    ];
    for bug in bugs {
        let failure = enumerate(QUICK, Some(bug));
        let failure = failure
            .err()
            .unwrap_or_else(|| panic!("{bug:?} is not found"));
        println!("{bug:?}: {failure}");
    }
}
