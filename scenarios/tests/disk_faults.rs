//! Disks that fail, in the simulated world.
//!
//! Goal: every fault of a disk really happens where its scenario says, with what shows it in the record; and a disk that
//! nobody can survive is not survived.
//! Method: scenarios of a shard or two, a few seeds each, read by what the nemesis wrote down.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use checker::{Guarantee, NodeEventKind};
use kv_core::Fencing;
use scenarios::play::{Failure, Played};
use scenarios::runner::{SeedReport, run_seed};
use scenarios::scenario::Scenario;
use scenarios::world::sim::SimStage;

fn run(scenario: &Arc<Scenario>, seed: u64) -> (SeedReport, Played) {
    run_seed(&SimStage, scenario, seed)
}

/// A shard of three whose disks fail like that.
fn with_disk(cluster: &str, disk: &str) -> Arc<Scenario> {
    let text = format!(
        "name = \"a disk fails\"\n[cluster]\nshards = 1\n{cluster}\n[workload]\nduration = \"12s\"\nmin_ok = 50\n\
         [[fault]]\nat = \"3s\"\ndisk = {{ {disk} }}\nfor = \"2s\"\n"
    );
    Arc::new(Scenario::parse("x", "x.toml", &text).unwrap())
}

/// What the nemesis wrote down of a phase.
fn noted(played: &Played, phase: &str) -> Vec<(u64, String)> {
    let events = played.events.iter().filter_map(|event| match &event.kind {
        NodeEventKind::Other { kind, fields } if kind == "fault" && fields["phase"] == phase => {
            let what = fields["what"].as_str()?.to_owned();
            Some((fields.get("node")?.as_u64()?, what))
        }
        _ => None,
    });
    events.collect()
}

#[test]
fn each_fault_hits_each_disk_that_it_names_and_nothing_breaks() {
    for (cluster, disk, expected) in [
        ("", "fault = \"failed-fsync\"", "a sync fails"),
        ("", "fault = \"full\"", "a write finds no space"),
        ("", "fault = \"torn-tail\"", "in the middle of a write"),
    ] {
        for (nodes, count) in [
            ("\"writer(0)\"", 1),
            ("[\"replica(0, 0)\", \"replica(0, 1)\"]", 2),
        ] {
            let scenario = with_disk(cluster, &format!("node = {nodes}, {disk}"));
            for seed in 1..=3 {
                let (report, played) = run(&scenario, seed);
                assert_eq!(report.failures, [], "{disk} {seed}");
                for (guarantee, verdict) in &report.verdicts {
                    assert!(verdict.holds(), "{disk} {seed}: {guarantee} {verdict}");
                }
                let hits = noted(&played, "hit");
                assert_eq!(hits.len(), count, "{disk} {seed}: {hits:?}");
                assert!(
                    hits.iter().all(|(_, what)| what.contains(expected)),
                    "{hits:?}"
                );
                // The hit nodes, and no others, begin a second life.
                let starts = played.events.iter().filter(|event| {
                    event.kind == NodeEventKind::Started {} && event.incarnation == 2
                });
                let starts: Vec<u64> = starts.filter_map(|event| event.node).collect();
                assert_eq!(starts.len(), count, "{starts:?}");
                assert!(hits.iter().all(|(node, _)| starts.contains(node)));
            }
        }
    }
}

#[test]
fn a_node_does_not_start_on_a_log_that_was_damaged_in_an_old_file() {
    let disk = "node = \"replica(0, 0)\", fault = \"bit-flip\", where = \"sealed\"";
    let scenario = with_disk("segment_bytes = \"1KiB\"", disk);
    for seed in 1..=5 {
        let (report, played) = run(&scenario, seed);
        assert_eq!(report.failures, [], "{seed}");
        let (hits, refusals) = (noted(&played, "hit"), noted(&played, "refusal"));
        let ([(hit, flip)], [(refused, why)]) = (&hits[..], &refusals[..]) else {
            panic!("{hits:?} {refusals:?}");
        };
        assert_eq!(hit, refused);
        let file = flip
            .split(' ')
            .find(|word| word.starts_with("wal"))
            .unwrap();
        assert!(why.contains(file), "{flip}: {why}");
        assert!(why.contains("damaged at byte"), "{why}");
    }
}

/// What a checkpoint, a snapshot or a flipped bit asks for and never comes fails the run: nothing was shown.
#[test]
fn a_fault_that_finds_nothing_to_break_fails_the_run() {
    let sizes = "segment_bytes = \"1GiB\"\ncheckpoint_bytes = \"1GiB\"";
    for fault in [
        "fault = \"power-loss-in-checkpoint\"",
        "fault = \"power-loss-in-snapshot\"",
        "fault = \"bit-flip\", where = \"sealed\"",
    ] {
        let scenario = with_disk(sizes, &format!("node = \"writer(0)\", {fault}"));
        let (report, played) = run(&scenario, 1);
        let never = |failure: &Failure| matches!(failure, Failure::NeverFired { fault: 1, .. });
        assert!(
            report.failures.iter().any(never),
            "{fault}: {:?}",
            report.failures
        );
        assert_eq!(noted(&played, "hit"), []);
    }
}

#[test]
fn a_disk_that_lies_is_survived_by_nobody() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lying-disk.toml");
    let scenario = Arc::new(Scenario::load(&path).unwrap());
    for fencing in [Fencing::Epoch, Fencing::None] {
        let scenario = Arc::new(scenario.under(fencing));
        for seed in 1..=5 {
            let (report, played) = run(&scenario, seed);
            assert_eq!(noted(&played, "hit").len(), 3, "seed {seed}");
            let mut verdicts = report.verdicts.iter();
            let lost = verdicts.find(|(guarantee, _)| *guarantee == Guarantee::NoLostWrite);
            assert!(lost.unwrap().1.is_violated(), "seed {seed}, {fencing:?}");
        }
    }
}

#[test]
fn engines_with_threads_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    for engine in ["sled", "rocksdb"] {
        std::fs::write(
            &path,
            format!("name = \"x\"\n[cluster]\nengine = \"{engine}\"\n"),
        )
        .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
        let output = command.arg("run").arg(&path).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        let start =
            format!("error: the world \"sim\" cannot run the engine {engine}, which x asks for: ");
        assert!(
            message.starts_with(&start) && message.contains("threads"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
