//! The memory of a store of 10 million small keys: it is bounded by the configured cache and 200 MB, and not by the keys.
//!
//! ```text
//! cargo run --release -p kv --example big_store -- redb 10000000
//! ```
//!
//! The keys go through a log and a store as a driver uses them, then some are read at random. What counts is the most memory that the
//! process ever had (`VmHWM`).
#![allow(clippy::unwrap_used, reason = "what goes wrong here ends it")]

use std::process::ExitCode;
use std::time::Instant;

#[path = "../tests/bounded/load.rs"]
mod load;

use kv::store::Options;
use load::{Plan, overwrite};

/// As in the program: glibc's keeps what was freed on one thread from being used on another, some hundred MB in the end.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What there may be beside the cache.
const BESIDE_BYTES_MAX: u64 = 200_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments
        .next()
        .map_or(Ok(Default::default()), |it| it.parse());
    let keys = arguments.next().map_or(Ok(10_000_000), |it| it.parse());
    let options = Options::default();
    let plan = Plan {
        keys: keys.unwrap(),
        value_bytes: 16,
        overwrites: 0,
        reads: 200_000,
        checkpoint_bytes: options.checkpoint_bytes,
        segment_bytes: kv::wal::Options::default().segment_bytes,
    };
    let kind: kv::engine::EngineKind = kind.unwrap();
    let started = Instant::now();
    overwrite(kind, plan).await;
    let (peak, cache) = (peak_bytes(), options.engine.cache_bytes);
    println!(
        "{kind}: {} keys, {} MB, in {:.0?}; at most {} MB of memory, with a cache of {} MB",
        plan.keys,
        plan.live_bytes() / 1_000_000,
        started.elapsed(),
        peak / 1_000_000,
        cache / 1_000_000
    );
    match peak < cache + BESIDE_BYTES_MAX {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The most memory that this process ever had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
