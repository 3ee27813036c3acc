//! Counterexamples of the model, played with real nodes.
//!
//! Goal: what breaks in the model breaks in the simulator, by the same messages, crashes and elections in the same order.
//! Method: the file that the model wrote is run, and the checker of histories judges what the clients and the nodes saw.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use checker::Guarantee;
use scenarios::runner::{SeedReport, run_seed};
use scenarios::scenario::Scenario;
use scenarios::world::sim::SimStage;

fn replay(scenario: Scenario) -> SeedReport {
    let seed = scenario.seed.unwrap_or(1);
    let (report, _) = run_seed(&SimStage, &Arc::new(scenario), seed);
    report
}

fn violates(report: &SeedReport, guarantee: Guarantee) -> bool {
    let mut verdicts = report.verdicts.iter();
    verdicts.any(|(judged, verdict)| *judged == guarantee && verdict.is_violated())
}

fn file(name: &str) -> PathBuf {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/model");
    docs.join(name)
}

#[test]
fn the_plain_design_loses_the_write_that_it_loses_in_the_model() {
    let report = replay(Scenario::load(&file("lost-write.toml")).unwrap());
    assert_eq!(report.failures, Vec::new());
    assert!(violates(&report, Guarantee::NoLostWrite), "{report:#?}");
}

#[test]
fn a_directed_run_is_the_same_under_every_seed() {
    for seed in 1..6 {
        let mut scenario = Scenario::load(&file("lost-write.toml")).unwrap();
        scenario.seed = Some(seed);
        let report = replay(scenario);
        assert!(violates(&report, Guarantee::NoLostWrite), "seed {seed}");
    }
}

#[test]
fn the_fenced_protocol_does_not_go_the_way_of_the_plain_one() {
    let text = std::fs::read_to_string(file("lost-write.toml")).unwrap();
    let text = text.replace("fencing = \"none\"", "fencing = \"epoch\"");
    let report = replay(Scenario::parse("fenced", "fenced.toml", &text).unwrap());
    assert!(!violates(&report, Guarantee::NoLostWrite), "{report:#?}");
}
