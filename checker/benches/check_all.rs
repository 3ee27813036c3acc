//! How long it takes to judge a run: every guarantee by itself, and all of them. `cargo bench -p checker`.
//!
//! The run holds every promise, since that is the common case and the expensive one: nothing stops early.

#[path = "../tests/whole_run/run.rs"]
mod run;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use checker::{Guarantee, History, Limits, Verdict, check_all};
use run::Run;

const OPERATIONS: usize = 1_000;
const ROUNDS: usize = 300;

fn main() {
    let run = Run::play(7, OPERATIONS);
    let history = History::from_events(run.history.clone()).expect("a possible history");
    println!(
        "{} operations, {} node events",
        history.operations().len(),
        run.events.len()
    );
    let measure = |name: &str, guarantees: &[Guarantee]| {
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                let judged = check_all(&history, &run.events, guarantees, &Limits::default());
                let elapsed = start.elapsed();
                let all_hold = judged.iter().all(|(_, verdict)| *verdict == Verdict::Holds);
                assert!(black_box(all_hold), "the run keeps every promise");
                elapsed
            })
            .collect();
        times.sort_unstable();
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        let (best, median) = (micros(times[0]), micros(times[times.len() / 2]));
        println!("{name:<24} best {best:>7.0} us  median {median:>7.0} us");
    };
    measure("arranging the events", &[]);
    for guarantee in Guarantee::ALL {
        measure(guarantee.name(), &[guarantee]);
    }
    measure("all", &Guarantee::ALL);
}
