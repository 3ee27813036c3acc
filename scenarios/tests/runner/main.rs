//! The runner, the workload and the nemesis, tried on a fake world that is right, or wrong in one chosen way.
//!
//! Goal: a run finds what is wrong, never calls a run good that shows nothing, and gives the same for the same seed.
#![cfg(not(madsim))]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

mod fake;
mod nemesis;
mod shrinking;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use checker::{EventKind, Guarantee, NodeEvent, NodeEventKind};
use fake::{FakeStage, Flaw};
use kv_core::Fencing;
use scenarios::folder::Again;
use scenarios::play::{Failure, Played};
use scenarios::runner::{Batch, Options, SeedReport, check_supported, run_all, run_seed};
use scenarios::scenario::Scenario;
use scenarios::suite;
use scenarios::summary::{Outcome, Summary};

fn scenario(faults: &str) -> Arc<Scenario> {
    let text = format!("name = \"a test\"\n{faults}");
    Arc::new(Scenario::parse("test", "test.toml", &text).unwrap())
}

fn run(flaw: Flaw, faults: &str) -> (SeedReport, Played) {
    run_seed(&FakeStage(flaw), &scenario(faults), 7)
}

fn summary(flaw: Flaw, scenario: &Arc<Scenario>, seeds: u64) -> Summary {
    let batch = Batch {
        scenario: scenario.clone(),
        seeds: (1..=seeds).collect(),
    };
    let options = Options {
        jobs: 2,
        out: None,
        keep_all: false,
        again: Again::Replayed,
    };
    let batches = [batch];
    let reports = run_all(&FakeStage(flaw), &batches, &options, &|_, _, _| {}).unwrap();
    Summary::new(&batches, &reports, &Again::Replayed)
}

fn faults(played: &Played) -> Vec<(String, String, f64)> {
    let text = |event: &NodeEvent, name: &str| match &event.kind {
        NodeEventKind::Other { kind, fields } if kind == "fault" => Some(fields[name].to_string()),
        _ => None,
    };
    let fault = |event: &NodeEvent| {
        let seconds = event.time as f64 / 1e9;
        Some((text(event, "phase")?, text(event, "roles")?, seconds))
    };
    played.events.iter().filter_map(fault).collect()
}

#[test]
fn a_right_world_passes_the_first_six_scenarios() {
    // The later ones lean on elections, links between nodes and rollbacks, which the fake world does not have.
    for scenario in suite::all().unwrap().into_iter().take(6) {
        let (report, played) = run_seed(&FakeStage(Flaw::Nothing), &Arc::new(scenario.clone()), 3);
        assert_eq!(report.failures, [], "{}", scenario.id);
        assert_eq!(report.verdicts.len(), Guarantee::ALL.len());
        for (guarantee, verdict) in &report.verdicts {
            assert!(verdict.holds(), "{}: {guarantee} {verdict}", scenario.id);
        }
        assert!(report.ok() >= 300, "{} has {} ok", scenario.id, report.ok());
        assert!(!report.is_worth_keeping());
        assert_eq!(faults(&played).len(), 2 * scenario.faults.len());
    }
}

#[test]
fn a_world_that_loses_writes_is_found_out() {
    let (report, _) = run(Flaw::LosesWrites, "");
    let violated: Vec<Guarantee> = report
        .verdicts
        .iter()
        .filter(|(_, verdict)| verdict.is_violated())
        .map(|(guarantee, _)| *guarantee)
        .collect();
    assert!(violated.contains(&Guarantee::Linearizable), "{violated:?}");
    let summary = summary(Flaw::LosesWrites, &scenario(""), 4);
    assert_eq!(summary.outcome, Outcome::NotAsExpected);
    let text = summary.text();
    assert!(
        text.contains("linearizable              violated in 4 of 4 (expected: holds)"),
        "{text}"
    );
    assert!(
        text.contains("replay: cargo sim replay test.toml --seed 1 --fencing epoch"),
        "{text}"
    );
}

#[test]
fn a_run_that_shows_nothing_fails() {
    let (report, _) = run(Flaw::AnswersNothing, "[workload]\nrecovery_within = \"5s\"");
    assert!(
        report
            .failures
            .contains(&Failure::TooFewOk { ok: 0, min_ok: 300 })
    );
    assert!(
        report.failures.contains(&Failure::NoOkRead)
            && report.failures.contains(&Failure::NoOkWrite)
    );
    assert!(
        report
            .failures
            .contains(&Failure::NotRecovered { shard: 0 })
    );
    let (report, _) = run(Flaw::NeverReady, "");
    assert!(
        matches!(report.failures[..], [Failure::NotReady { .. }]),
        "{:?}",
        report.failures
    );
    let (report, _) = run(Flaw::Nothing, "[workload]\nmin_ok = 1000");
    assert!(
        matches!(
            report.failures[..],
            [Failure::TooFewOk { min_ok: 1000, .. }]
        ),
        "{:?}",
        report.failures
    );
}

#[test]
fn a_fault_that_never_fires_fails_the_run() {
    let (report, _) = run(
        Flaw::Nothing,
        "[[fault]]\nwhen = \"writer(0) released\"\npause = \"writer(0)\"\n",
    );
    let never = Failure::NeverFired {
        fault: 1,
        what: "writer(0) stands still".to_owned(),
    };
    assert_eq!(report.failures, [never]);
    assert!(report.is_worth_keeping());
}

#[test]
fn what_could_not_be_judged_is_not_as_expected() {
    let summary = summary(Flaw::RecordsNothing, &scenario(""), 2);
    assert_eq!(summary.outcome, Outcome::Unknown);
    assert_eq!(summary.outcome.exit_code(), 3);
    assert!(
        summary.text().contains("unknown in 2"),
        "{}",
        summary.text()
    );
}

#[test]
fn a_panic_and_a_node_that_stops_are_reported_and_do_not_end_the_others() {
    let (report, _) = run(Flaw::Panics, "");
    let [Failure::Panicked { message }] = &report.failures[..] else {
        panic!("{:?}", report.failures);
    };
    assert!(
        message.contains("the hundredth operation") && message.contains("fake.rs"),
        "{message}"
    );
    let (report, _) = run(Flaw::NodeStops, "");
    let stopped = Failure::NodeStopped {
        node: 2,
        why: "the disk is full".to_owned(),
    };
    assert_eq!(report.failures, [stopped]);
    let summary = summary(Flaw::Panics, &scenario(""), 5);
    assert_eq!(summary.batches[0].failed.len(), 5);
    assert!(
        summary.text().contains("and 2 more seeds failed"),
        "{}",
        summary.text()
    );
}

#[test]
fn faults_fire_by_time_by_event_and_by_count_and_stay_with_their_node() {
    let (_, played) = run(
        Flaw::Nothing,
        r#"
        [[fault]]
        at = "5s"
        kill = "writer(0)"
        until = "12s"
        [[fault]]
        when = "writer(0) elected"
        pause = "writer(0)"
        for = "1s"
        [[fault]]
        after = "50 ok writes"
        restart = "replica(1, 0)"
        "#,
    );
    let faults = faults(&played);
    let roles: Vec<(&str, &str)> = faults
        .iter()
        .map(|(phase, roles, _)| (&**phase, &**roles))
        .collect();
    let mut expected = vec![
        ("\"begin\"", "{\"writer(0)\":[1]}"),
        ("\"begin\"", "{\"replica(1, 0)\":[5]}"),
        ("\"begin\"", "{\"writer(0)\":[2]}"),
        ("\"end\"", "{\"writer(0)\":[2]}"),
        ("\"end\"", "{\"writer(0)\":[1]}"),
    ];
    expected.sort_unstable();
    let mut sorted = roles.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    let at =
        |wanted: (&str, &str)| faults[roles.iter().position(|found| *found == wanted).unwrap()].2;
    assert_eq!(
        (at(("\"begin\"", "{\"writer(0)\":[1]}")) * 100.0).round(),
        500.0
    );
    assert!((9.0..9.1).contains(&at(("\"begin\"", "{\"writer(0)\":[2]}"))));
    assert_eq!(
        (at(("\"end\"", "{\"writer(0)\":[1]}")) * 100.0).round(),
        1200.0
    );
}

#[test]
fn everything_heals_when_the_workload_is_over() {
    let (report, played) = run(
        Flaw::Nothing,
        "[[fault]]\nat = \"29s\"\npower_loss = \"writer(0)\"\n",
    );
    assert_eq!(report.failures, []);
    let ends: Vec<f64> = faults(&played)
        .iter()
        .filter(|fault| fault.0 == "\"end\"")
        .map(|fault| fault.2)
        .collect();
    assert_eq!(
        ends.iter().map(|end| end.round()).collect::<Vec<_>>(),
        [30.0]
    );
    let last = played.history.last().unwrap();
    assert_eq!((last.session, last.kind), (Some(8), EventKind::Ok));
}

#[test]
fn after_an_unknown_outcome_a_session_goes_on_as_another_process() {
    let (_, played) = run(
        Flaw::Nothing,
        "[[fault]]\nat = \"5s\"\npause = \"writer(0)\"\nuntil = \"12s\"\n",
    );
    let infos = played
        .history
        .iter()
        .filter(|event| event.kind == EventKind::Info);
    let infos: Vec<_> = infos.map(|event| (event.session, event.process)).collect();
    assert!(!infos.is_empty());
    for (session, process) in infos {
        let mut of_process = played
            .history
            .iter()
            .filter(|event| event.process == process)
            .rev();
        assert_eq!(
            of_process.next().map(|event| event.kind),
            Some(EventKind::Info)
        );
        assert_eq!(process % 9, session.unwrap());
    }
}

#[test]
fn a_fault_that_the_world_lacks_is_refused_before_the_start() {
    let bent = scenario("[[fault]]\nat = \"1s\"\nclock = { node = \"any\", offset = \"1s\" }\n");
    let batch = Batch {
        scenario: bent,
        seeds: vec![1],
    };
    let refused = check_supported(&FakeStage(Flaw::Nothing), &[batch]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the world \"fake\" cannot do the fault clock, which test asks for: it has no clocks"
    );
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(
                files(&path)
                    .into_iter()
                    .map(|(below, bytes)| (format!("{name}/{below}"), bytes)),
            );
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn the_same_seeds_give_the_same_bytes_however_many_run_at_once() {
    let outcome = |jobs| {
        let out = tempfile::tempdir().unwrap();
        let lossy = scenario("[[fault]]\nat = \"5s\"\npause = \"writer(0)\"\nuntil = \"12s\"\n");
        let batches = [
            Batch {
                scenario: Arc::new(lossy.under(Fencing::None)),
                seeds: (1..=6).collect(),
            },
            Batch {
                scenario: lossy,
                seeds: (4..=9).collect(),
            },
        ];
        let options = Options {
            jobs,
            out: Some(out.path().to_owned()),
            keep_all: false,
            again: Again::Replayed,
        };
        let reports = run_all(
            &FakeStage(Flaw::LosesWrites),
            &batches,
            &options,
            &|_, _, _| {},
        )
        .unwrap();
        (
            Summary::new(&batches, &reports, &Again::Replayed).text(),
            files(out.path()),
        )
    };
    let (text, files) = outcome(1);
    assert_eq!((text, files.clone()), outcome(4));
    let of_one: Vec<&String> = files
        .keys()
        .filter(|name| name.starts_with("test/none/3/"))
        .collect();
    assert_eq!(
        of_one,
        [
            "test/none/3/events.jsonl",
            "test/none/3/history.jsonl",
            "test/none/3/scenario.toml",
            "test/none/3/verdict.json"
        ]
    );
    assert!(
        files.keys().all(|name| !name.contains("/.")),
        "nothing unfinished stays behind"
    );
}

#[test]
fn the_folder_of_a_run_runs_again_by_itself() {
    let out = tempfile::tempdir().unwrap();
    let batches = [Batch {
        scenario: Arc::new(scenario("").under(Fencing::None)),
        seeds: vec![5],
    }];
    let options = Options {
        jobs: 1,
        out: Some(out.path().to_owned()),
        keep_all: false,
        again: Again::Replayed,
    };
    let reports = run_all(
        &FakeStage(Flaw::LosesWrites),
        &batches,
        &options,
        &|_, _, _| {},
    )
    .unwrap();
    let folder = out.path().join("test/none/5");
    let again = Scenario::load(&folder.join("scenario.toml")).unwrap();
    assert_eq!((again.seed, again.fencing()), (Some(5), Fencing::None));
    let (report, played) = run_seed(&FakeStage(Flaw::LosesWrites), &Arc::new(again), 5);
    assert_eq!(report, reports[0][0]);
    let history = checker::History::read(&folder.join("history.jsonl")).unwrap();
    assert_eq!(history.events(), played.history);
    let events = NodeEvent::read_all(&folder.join("events.jsonl")).unwrap();
    assert_eq!(events.len(), played.events.len());
    // What the folder tells is no longer so: a right world has nothing to keep of that seed.
    run_all(&FakeStage(Flaw::Nothing), &batches, &options, &|_, _, _| {}).unwrap();
    assert!(!folder.exists());
}
