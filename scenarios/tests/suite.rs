//! The suite in the simulated world.
//!
//! Goal: every scenario comes out as its file says, and a seed gives the same bytes whatever else runs.
//! Method: a few seeds of each scenario under both protocols through the program itself; for the bytes, in two processes
//! with another number of threads each, every file of every run compared.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use scenarios::play::{Failure, Played};
use scenarios::runner::run_seed;
use scenarios::scenario::{Kind, Scenario};
use scenarios::suite::SUITE;
use scenarios::world::sim::SimStage;
use scenarios::world::{Script, Stage};

fn sim(arguments: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command
        .args(arguments)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn the_suite_comes_out_as_its_files_say() {
    let out = tempfile::tempdir().unwrap();
    let output = sim(&["--seeds", "1..6", "--json"], out.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for batch in summary["batches"].as_array().unwrap() {
        // Which includes those with fewer acknowledged operations than the file asks for.
        assert_eq!(batch["failed"].as_array().unwrap().len(), 0, "{batch}");
    }
}

#[test]
fn the_plain_design_loses_a_write_or_reads_a_stale_value() {
    let out = tempfile::tempdir().unwrap();
    for scenario in ["pause-past-lease", "writer-isolated"] {
        let output = sim(
            &[
                "run",
                scenario,
                "--fencing",
                "none",
                "--seeds",
                "1..20",
                "--json",
            ],
            out.path(),
        );
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let guarantees = summary["batches"][0]["guarantees"].as_array().unwrap();
        let violated = |name: &str| {
            let tally = guarantees.iter().find(|tally| tally["guarantee"] == name);
            tally.unwrap()["violated"].as_u64().unwrap()
        };
        assert!(
            violated("no_lost_write") + violated("linearizable") > 0,
            "{summary:#}"
        );
        assert_eq!(violated("read_your_writes_stable"), 0, "{summary:#}");
    }
}

#[test]
fn two_processes_write_the_same_bytes() {
    let run = |jobs: &str| {
        let out = tempfile::tempdir().unwrap();
        let output = sim(
            &["--seeds", "3..4", "--keep-all", "--jobs", jobs],
            out.path(),
        );
        (text(&output), files(out.path()))
    };
    let ((text, files), (text_again, files_again)) = (run("1"), run("3"));
    assert_eq!(text, text_again);
    assert_eq!(
        files.len(),
        SUITE.len() * 2 * 2 * 4 + 1,
        "scenarios, protocols, seeds, files, and the matrix"
    );
    assert!(files.keys().eq(files_again.keys()));
    for (name, bytes) in &files {
        assert!(
            *bytes == files_again[name],
            "{name} differs from process to process"
        );
    }
}

#[test]
fn a_replay_tells_the_run_that_was_kept() {
    let out = tempfile::tempdir().unwrap();
    let scenario = "writer-cut-from-coordination";
    sim(
        &["run", scenario, "--fencing", "none", "--seed", "1"],
        out.path(),
    );
    let folder = out.path().join(scenario).join("none/1");
    let kept = folder.join("scenario.toml").display().to_string();
    let by_name = Command::new(env!("CARGO_BIN_EXE_scenarios"))
        .args(["replay", scenario, "--seed", "1", "--fencing", "none"])
        .output()
        .unwrap();
    let by_file = Command::new(env!("CARGO_BIN_EXE_scenarios"))
        .args(["replay", &kept])
        .output()
        .unwrap();
    assert_eq!(by_name.status.code(), Some(1), "{}", text(&by_name));
    let story = |output: &Output| {
        let text = text(output);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[1..lines.len() - 1].to_vec() // The first and the last line name the scenario.
    };
    assert_eq!(story(&by_name), story(&by_file));
    let text = text(&by_name);
    for word in ["#### FAULT 1", "BECOMES THE WRITER", "VIOLATED", ">>"] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn every_kind_of_fault_fires_and_nothing_breaks_under_epoch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/every-kind.toml");
    let scenario = Arc::new(Scenario::load(&path).unwrap());
    for seed in 1..=5 {
        let (report, played) = run_seed(&SimStage, &scenario, seed);
        assert_eq!(report.failures, [], "seed {seed}");
        for (guarantee, verdict) in &report.verdicts {
            assert!(verdict.holds(), "seed {seed}: {guarantee} {verdict}");
        }
        let events = played.events.iter().map(|event| event.kind.to_string());
        let fired: Vec<String> = events.filter(|event| event.starts_with("fault")).collect();
        for kind in Kind::ALL {
            let fired = fired.iter().any(|event| event.contains(kind.name()));
            assert!(fired, "seed {seed}: no {kind}");
        }
    }
}

/// The simulated world, with a script in which a machine's task panics.
struct Panicking;

impl Stage for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn lacks(&self, _kind: Kind) -> Option<String> {
        None
    }

    fn enact(&self, scenario: &Scenario, seed: u64, _script: Script) -> Played {
        let script: Script = Box::new(|world| {
            Box::pin(async move {
                let work = Box::pin(async { panic!("a broken invariant") });
                drop(world.spawn(0, work).await);
                tokio::time::sleep(Duration::from_secs(1)).await;
                Played::default()
            })
        });
        SimStage.enact(scenario, seed, script)
    }
}

#[test]
fn a_panic_inside_the_simulator_fails_its_run_and_no_other() {
    let scenario = Arc::new(Scenario::parse("x", "x.toml", "name = \"x\"\n").unwrap());
    let (report, _) = run_seed(&Panicking, &scenario, 1);
    let [Failure::Panicked { message }] = &report.failures[..] else {
        panic!("{:?}", report.failures);
    };
    assert!(
        message.contains("a broken invariant (") && message.contains("suite.rs"),
        "{message}"
    );
    let (report, _) = run_seed(&SimStage, &scenario, 1);
    assert_eq!(report.failures, []);
}
