//! Every crash of the log within wider bounds than the test command has time for: millions.
//!
//! ```text
//! cargo run --release -p kv --example wal_crashes -- 40
//! ```
//!
//! The number says how many workloads are tried; each has entries of other sizes. What a crash is, and what must be left after it, stands
//! in `kv/tests/wal_crashes/`, whose code this is.

use std::process::ExitCode;

#[allow(dead_code, reason = "the test leaves things out here, too")]
#[path = "../tests/wal_crashes/disk.rs"]
mod disk;
#[path = "../tests/wal_crashes/enumeration.rs"]
mod enumeration;
#[path = "../tests/wal_crashes/life.rs"]
mod life;

use enumeration::{Bounds, enumerate};

fn main() -> ExitCode {
    let rounds = match std::env::args().nth(1).map(|rounds| rounds.parse()) {
        None => 10,
        Some(Ok(rounds)) => rounds,
        Some(Err(error)) => {
            eprintln!("the number of workloads: {error}");
            return ExitCode::from(2);
        }
    };
    let bounds = Bounds {
        exhaustive: 12,
        exhaustive_in_recovery: 8,
        tear_step: 1,
        rounds,
    };
    match enumerate(bounds, None) {
        Ok(counts) => {
            println!("the log recovers from every one: {counts:#?}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
