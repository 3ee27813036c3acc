//! What random runs have found: small scenarios that failed once.
//!
//! Goal: none of them fails again. Method: each file of this folder that is named here, with a few seeds, under `epoch`;
//! its head tells its story.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::path::Path;
use std::sync::Arc;

use scenarios::runner::run_seed;
use scenarios::scenario::Scenario;
use scenarios::world::sim::SimStage;

fn holds(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(file);
    let scenario = Arc::new(Scenario::load(&path).unwrap());
    for seed in 1..=5 {
        let (report, _) = run_seed(&SimStage, &scenario, seed);
        assert_eq!(report.failures, [], "seed {seed}");
        for (guarantee, verdict) in &report.verdicts {
            assert!(verdict.holds(), "seed {seed}: {guarantee} {verdict}");
        }
    }
}

#[test]
fn a_node_that_starts_before_an_outage_keeps_its_id() {
    holds("restart-before-an-outage.toml");
}
