//! Goal: no run of messages, syncs, timers, crashes and coordination answers breaks what the fenced protocol promises, and
//! every cluster recovers once it is healed; the plain protocol loses writes, which shows that these eyes can see.
//! Method: thousands of seeded random runs over the in-memory harness, each checked as it happens. A failure prints the
//! seed and the transcript of the run; `SEED=n` replays one, `SEEDS=n` runs so many from `SEED` on.

#![allow(
    clippy::unwrap_used,
    reason = "a harness is a test; what it unwraps must be there"
)]

#[path = "harness/chance.rs"]
mod chance;
#[path = "harness/explorer.rs"]
mod explorer;
#[allow(dead_code, reason = "each test binary uses a part of the harness")]
#[path = "harness/cluster.rs"]
mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind};

use explorer::{Run, Tally};
use kv_core::Fencing;

const RUN_COUNT: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; a panic inside a replica is trouble like any other.
fn explore(seed: u64, fencing: Fencing) -> Result<Tally, String> {
    let ended = catch_unwind(|| Run::new(seed, fencing, false).finish());
    ended.unwrap_or_else(|_| Err("a replica panicked".to_owned()))
}

/// The same run once more, written down.
fn transcript(seed: u64, fencing: Fencing) -> String {
    let mut run = Run::new(seed, fencing, true);
    let _ended = catch_unwind(AssertUnwindSafe(|| run.finish()));
    run.cluster.transcript.unwrap_or_default().join("\n")
}

#[test]
fn the_fenced_protocol_keeps_its_promises_in_random_runs() {
    let first = number("SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(if number("SEED").is_some() {
        1
    } else {
        RUN_COUNT
    });
    let mut total = Tally::default();
    for seed in first..first + count {
        match explore(seed, Fencing::Epoch) {
            Ok(tally) => {
                total.acknowledged_count += tally.acknowledged_count;
                total.rolled_back_count += tally.rolled_back_count;
                total.quorum_read_count += tally.quorum_read_count;
                total.crash_count += tally.crash_count;
                total.install_count += tally.install_count;
                total.rot_count += tally.rot_count;
                total.hand_over_count += tally.hand_over_count;
                total.epoch += tally.epoch;
            }
            Err(trouble) => panic!(
                "{}\nseed {seed}: {trouble}\nreplay: SEED={seed} cargo test -p kv-core --test random",
                transcript(seed, Fencing::Epoch)
            ),
        }
    }
    println!("{count} runs: {total:?}");
    if count >= RUN_COUNT {
        assert!(
            total.acknowledged_count > count,
            "vacuous: hardly a write was acknowledged"
        );
        assert!(
            total.rolled_back_count > 0,
            "vacuous: no write was rolled back"
        );
        assert!(
            total.install_count > count / 20,
            "vacuous: hardly a snapshot was taken over"
        );
        assert!(
            total.rot_count > count / 20,
            "vacuous: hardly a disk lost anything"
        );
        assert!(
            total.hand_over_count > count / 20,
            "vacuous: hardly a writer was asked to go"
        );
        assert!(
            total.quorum_read_count > count / 10,
            "vacuous: hardly a read was served"
        );
        assert!(total.crash_count > count / 10, "vacuous: hardly a crash");
        assert!(total.epoch > 2 * count, "vacuous: hardly an election");
    }
}

#[test]
fn the_plain_protocol_loses_an_acknowledged_write_and_it_is_seen() {
    let mut losing_count = 0;
    for seed in 0..RUN_COUNT / 3 {
        match explore(seed, Fencing::None) {
            Ok(tally) => losing_count += u64::from(tally.lost_count > 0),
            Err(trouble) => panic!(
                "{}\nseed {seed}: {trouble}",
                transcript(seed, Fencing::None)
            ),
        }
    }
    println!(
        "{losing_count} runs of {} lose an acknowledged write",
        RUN_COUNT / 3
    );
    assert!(
        losing_count > 0,
        "the explorer is blind: it finds no lost write"
    );
}

#[test]
fn a_disk_that_loses_synced_entries_unnoticed_loses_an_acknowledged_write_and_it_is_seen() {
    let mut seen_count = 0;
    for seed in 0..RUN_COUNT {
        let ended = catch_unwind(|| {
            Run::new(seed, Fencing::Epoch, false)
                .with_blind_eye()
                .finish()
        });
        seen_count += u64::from(!matches!(ended, Ok(Ok(_))));
    }
    println!("{seen_count} runs of {RUN_COUNT} are in trouble");
    assert!(seen_count > 0, "the explorer is blind to lost disks");
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..20 {
        assert_eq!(
            transcript(seed, Fencing::Epoch),
            transcript(seed, Fencing::Epoch)
        );
    }
}
