//! Shrinking and soaking in the fake world, in the normal build.
//!
//! Goal: what comes out is small, readable, and fails again by its file alone; whatever kind of failure it was.
//! Method: worlds with one flaw each, and scenarios with more in them than the flaw needs.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use checker::Guarantee;
use scenarios::error::Error;
use scenarios::play::Failure;
use scenarios::runner::run_seed;
use scenarios::scenario::{End, Length, Scenario, Start};
use scenarios::shrink::{Options, Progress, Shrunk, Symptom, shrink};
use scenarios::soak::{self, Finding, Keep, Plan, Tally};

use super::fake::{FakeStage, Flaw};
use super::scenario;

/// A failover, and much else that has nothing to do with it. The event fires at no round time.
const CROWDED: &str = r#"
    [[fault]]
    at = "3s"
    session_loss = "replica(1, 0)"
    [[fault]]
    after = "350 ok operations"
    pause = "writer(0)"
    for = "6s"
    [[fault]]
    at = "6s"
    kill = "writer(1)"
    until = "8s"
"#;

fn shrunk(flaw: Flaw, scenario: &Scenario, symptom: Option<Symptom>) -> Result<Shrunk, Error> {
    let options = Options {
        symptom,
        runs_max: 1000,
    };
    let go_on = |_: Progress| ControlFlow::Continue(());
    shrink(&FakeStage(flaw), scenario, 7, options, &go_on)
}

/// Every time in a scenario that shrinking may have changed.
fn times(scenario: &Scenario) -> Vec<Duration> {
    let mut times: Vec<Duration> = scenario.workload.script.iter().map(|it| it.at).collect();
    times.push(scenario.workload.duration);
    for fault in &scenario.faults {
        if let Start::At(at) = fault.start {
            times.push(at);
        }
        if let End::Until(time) | End::For(time) = fault.end {
            times.push(time);
        }
    }
    times
}

/// The file, read back and run: what a person who has nothing else would see.
fn again(flaw: Flaw, shrunk: &Shrunk) -> Option<String> {
    let file = shrunk.file("small.toml");
    let scenario = Scenario::parse("small", "small.toml", &file).unwrap();
    assert_eq!(scenario.seed, Some(shrunk.seed), "{file}");
    let (report, _) = run_seed(&FakeStage(flaw), &Arc::new(scenario), shrunk.seed);
    shrunk.symptom.why(&report)
}

#[test]
fn a_violation_shrinks_to_the_fault_and_the_operation_that_it_needs() {
    let flaw = Flaw::ForgetsAtFailover;
    let small = shrunk(flaw, &scenario(CROWDED), None).unwrap();
    assert_eq!(small.symptom, Symptom::Violated(Guarantee::Linearizable));
    assert!(small.is_finished);
    let after = small.after;
    assert_eq!((after.faults, after.clients, after.keys), (1, 1, 1));
    assert!(after.operations <= 2 && after.operations < small.before.operations);
    assert_eq!(again(flaw, &small), Some(small.why.clone()));
}

/// Shrunk files used to say `at = "22499999.95us"`: the time at which something had happened in the run, to the nanosecond.
#[test]
fn the_times_of_a_shrunk_file_are_whole_milliseconds_and_those_that_were_run() {
    for flaw in [Flaw::ForgetsAtFailover, Flaw::LosesWrites] {
        let small = shrunk(flaw, &scenario(CROWDED), None).unwrap();
        for time in times(&small.scenario) {
            let ns_beyond = time.subsec_nanos() % 1_000_000;
            assert_eq!(ns_beyond, 0, "{}", Length(time));
        }
        let file = small.file("small.toml");
        assert!(!file.contains("us\""), "{file}");
        assert_eq!(again(flaw, &small), Some(small.why.clone()), "{file}");
    }
}

#[test]
fn a_panic_a_stopped_node_and_what_is_unknown_shrink_as_well() {
    let stopped = Failure::NodeStopped {
        node: 2,
        why: "the disk is full".to_owned(),
    };
    for (flaw, symptom) in [
        (Flaw::Panics, None),
        (Flaw::NodeStops, Some(Symptom::Failed(stopped))),
        (
            Flaw::RecordsNothing,
            Some(Symptom::Unknown(Guarantee::OneLog)),
        ),
    ] {
        let small = shrunk(flaw, &scenario(CROWDED), symptom).unwrap();
        assert!(small.after.faults == 0, "{flaw:?}: {}", small.after);
        assert!(small.after.clients < 8, "{flaw:?}: {}", small.after);
        assert_eq!(again(flaw, &small), Some(small.why.clone()), "{flaw:?}");
    }
}

#[test]
fn what_shows_nothing_is_not_made_smaller() {
    let vacuous = scenario("[workload]\nmin_ok = 900\n");
    let refused = shrunk(Flaw::Nothing, &vacuous, None).unwrap_err();
    assert!(refused.to_string().starts_with("nothing to shrink: "));
}

#[test]
fn to_stop_in_the_middle_leaves_what_is_smallest_by_then() {
    let options = Options {
        symptom: None,
        runs_max: 1000,
    };
    let few = |progress: Progress| match progress.runs < 5 {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    let flaw = Flaw::ForgetsAtFailover;
    let small = shrink(&FakeStage(flaw), &scenario(CROWDED), 7, options, &few).unwrap();
    assert!(!small.is_finished);
    assert_eq!(small.runs, 5);
    assert_eq!(again(flaw, &small), Some(small.why.clone()));
}

fn plan(faults: &str, out: &Path, keep: Keep, runs_max: u64) -> Plan {
    Plan {
        scenarios: vec![scenario(faults)],
        start: 100,
        shard: (1, 2),
        runs_max: Some(runs_max),
        jobs: 2,
        keep,
        out: out.to_owned(),
        commit: "abc".to_owned(),
    }
}

fn soaked(flaw: Flaw, plan: &Plan) -> Tally {
    soak::soak(&FakeStage(flaw), plan, &|| false, &|_| {}).unwrap()
}

#[test]
fn every_kind_of_failure_is_kept_and_tallied() {
    let panic = "panic at scenarios/tests/runner/fake.rs";
    for (flaw, workload, what, has_form) in [
        (Flaw::LosesWrites, "", "linearizable", true),
        (Flaw::RecordsNothing, "", "quorum_durability unknown", true),
        (Flaw::Panics, "", panic, true),
        (Flaw::NeverReady, "", "never ready", true),
        (
            Flaw::Nothing,
            "[workload]\nmin_ok = 900",
            "too few ok",
            false,
        ),
    ] {
        let out = tempfile::tempdir().unwrap();
        let tally = soaked(flaw, &plan(workload, out.path(), Keep::Unexpected, 2));
        assert_eq!((tally.runs, tally.found), (2, 2));
        assert_eq!(tally.seeds, Some((101, 103)), "every second seed");
        let kinds: Vec<&String> = tally.kinds.keys().map(|(_, what)| what).collect();
        assert!(kinds.iter().all(|kind| kind.starts_with(what)), "{kinds:?}");
        let folder = out.path().join("found/test-epoch-101-abc");
        let finding = std::fs::read(folder.join("finding.json")).unwrap();
        let finding: Finding = serde_json::from_slice(&finding).unwrap();
        assert!(!finding.why.is_empty() && finding.what.starts_with(what));
        assert_eq!(finding.form.is_some(), has_form, "{flaw:?}");
        assert_eq!(folder.join("shrunk.toml").exists(), has_form, "{flaw:?}");
    }
}

#[test]
fn what_a_scenario_expects_is_kept_only_if_it_is_asked_for() {
    let expected = "[expect]\nread_your_writes = \"any\"\nmonotonic_reads = \"any\"\nno_lost_write = \"any\"\n\
                    linearizable = \"any\"\nread_your_writes_stable = \"any\"\n";
    for (keep, found) in [(Keep::Unexpected, 0), (Keep::Violated, 2)] {
        let out = tempfile::tempdir().unwrap();
        let tally = soaked(Flaw::LosesWrites, &plan(expected, out.path(), keep, 2));
        assert_eq!((tally.found, tally.runs), (found, 2), "{:?}", tally.kinds);
    }
}

#[test]
fn a_soak_that_is_stopped_ends_in_the_middle_of_shrinking_and_keeps_what_it_has() {
    let out = tempfile::tempdir().unwrap();
    let mut plan = plan(CROWDED, out.path(), Keep::Unexpected, 1_000_000);
    plan.jobs = 1;
    // The stop is asked for before the first run, before its shrinking, and after each run of that.
    let (asked, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let stop = || {
        if asked.fetch_add(1, Ordering::Relaxed) > 6 {
            stopped.store(true, Ordering::Relaxed);
        }
        stopped.load(Ordering::Relaxed)
    };
    let stage = FakeStage(Flaw::LosesWrites);
    let tally = soak::soak(&stage, &plan, &stop, &|_| {}).unwrap();
    assert_eq!((tally.runs, tally.found), (1, 1));
    let folder = out.path().join("found/test-epoch-101-abc");
    assert!(Scenario::load(&folder.join("shrunk.toml")).is_ok());
    let found = std::fs::read_dir(out.path().join("found")).unwrap();
    assert_eq!(found.count(), 1, "nothing unfinished stays behind");
    // Nobody compares forms of failures that are not as small as they get.
    assert_eq!(
        soak::merge(&[out.path().to_owned()]).unwrap()[0]
            .example
            .form,
        None
    );
}
