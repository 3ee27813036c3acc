//! What `kv/tests/bounded.rs` asserts, for 10 million overwrites of 100,000 keys.
//!
//! ```text
//! cargo run --release -p kv --example bounded -- redb 10000000 400
//! ```
//!
//! The engine, how many overwrites, how many bytes a value has, and after how many KiB of log a checkpoint is due (4096). The smaller
//! the values, the more weighs what an engine keeps beside them: after half a million overwrites redb took at most 5.4 times the live data with values of 100 bytes, 3.6 with 400
//! and 2.5 with 1000; sled 8.1, 4.8 and 4.1; memory 3.1, 2.3 and 2.1. So for small values only `memory` exits with 0.
#![allow(clippy::unwrap_used, reason = "what goes wrong here ends it")]

use std::process::ExitCode;
use std::time::Instant;

#[path = "../tests/bounded/load.rs"]
mod load;

use load::{Plan, overwrite};

const TIMES_MAX: f64 = 4.0;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |index: usize, default: &str| {
        let given = arguments.get(index).map(String::as_str);
        given.unwrap_or(default).to_owned()
    };
    let kind = argument(1, "redb").parse().unwrap();
    let plan = Plan {
        keys: 100_000,
        value_bytes: argument(3, "400").parse().unwrap(),
        overwrites: argument(2, "10000000").parse().unwrap(),
        reads: 0,
        checkpoint_bytes: argument(4, "4096").parse::<u64>().unwrap() * 1024,
        segment_bytes: 1024 * 1024,
    };
    let started = Instant::now();
    let measured = overwrite(kind, plan).await;
    let live = plan.live_bytes();
    #[allow(clippy::cast_precision_loss, reason = "it is for people")]
    let times = measured.disk_bytes_max as f64 / live as f64;
    println!("{kind}: {live} bytes are live; at most {times:.2} times that on disk; {measured:#?}");
    println!("{:.0?}", started.elapsed());
    match times < TIMES_MAX {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
