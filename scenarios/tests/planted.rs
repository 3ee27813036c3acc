//! Planted bugs, found by the model and played with real nodes.
//!
//! Goal: what the model finds is true of the product. The counterexample of each planted bug breaks the same promise in the
//! simulator; without the bug nothing breaks there.
//! Method: plant each bug, look for the shortest path to the promise that it breaks, write that down as a scenario file, and run
//! the file twice: with the bug and without.

#![cfg(all(madsim, planted))]

use std::fmt::Write;
use std::sync::Arc;

use checker::Guarantee;
use kv_core::planted::{Bug, plant};
use model::exploration::{Order, Plan, explore};
use model::ledger::Promise;
use model::planted::{Hunt, hunt};
use model::travel;
use model::watch::Goal;
use scenarios::play::Failure;
use scenarios::runner::{SeedReport, run_seed};
use scenarios::scenario::Scenario;
use scenarios::world::sim::SimStage;

/// Does something while a bug is planted, in the whole process, or none; on a fresh thread, since the model remembers steps by
/// thread.
fn with<T: Send>(bug: Option<Bug>, act: impl FnOnce() -> T + Send) -> T {
    plant(bug);
    let done = std::thread::scope(|scope| scope.spawn(act).join());
    plant(None);
    done.expect("what panics is caught")
}

/// The scenario file of the shortest way to what the planted bug breaks.
fn counterexample(Hunt { bounds, breaks }: Hunt) -> String {
    let plan = Plan {
        bounds,
        judged: Promise::ALL.to_vec(),
        goal: Goal::Each(vec![breaks]),
        order: Order::BreadthFirst,
        threads: 1,
        timeout: None,
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {})); // An assertion of the core that fails is a finding.
    let findings = explore(&plan, &mut |_| {});
    std::panic::set_hook(hook);
    let findings = findings.expect("the bounds are right");
    let story = findings.counterexample(breaks);
    travel::scenario(&bounds, story.expect("the bug is found"), breaks)
}

fn replay(file: &str) -> SeedReport {
    let scenario = Scenario::parse("planted", "planted.toml", file);
    let scenario = scenario.unwrap_or_else(|error| panic!("{error}\n{file}"));
    let seed = scenario.seed.unwrap_or(1);
    let (report, _) = run_seed(&SimStage, &Arc::new(scenario), seed);
    report
}

/// What broke in a run: the guarantees that are not kept, and the invariants and assertions of the core.
fn broken(report: &SeedReport) -> Vec<String> {
    let aside = [Guarantee::Convergence, Guarantee::Recovery]; // A directed run may leave anything unfinished.
    let verdicts = report.verdicts.iter();
    let violated =
        verdicts.filter(|(guarantee, verdict)| !aside.contains(guarantee) && verdict.is_violated());
    let violated = violated.map(|(guarantee, _)| guarantee.name().to_owned());
    let failures = report.failures.iter();
    let failures = failures.filter(|failure| !failure.is_vacuous());
    violated.chain(failures.map(ToString::to_string)).collect()
}

/// Whether a run shows what a promise of the model is called here.
fn shows(report: &SeedReport, promise: Promise) -> bool {
    let guarantee = travel::guarantee(promise);
    let is_violated = |name: &str| {
        let mut verdicts = report.verdicts.iter();
        verdicts.any(|(judged, verdict)| judged.name() == name && verdict.is_violated())
    };
    let is_of_core = |failure: &Failure| match failure {
        Failure::Invariant { .. } => promise != Promise::Assertions,
        Failure::Panicked { .. } => true,
        _ => false,
    };
    match guarantee {
        Some(name) => is_violated(name),
        None => report.failures.iter().any(is_of_core),
    }
}

fn missed(report: &SeedReport) -> Option<String> {
    let mut failures = report.failures.iter();
    let missed = failures.find(|failure| matches!(failure, Failure::CueMissed { .. }));
    missed.map(ToString::to_string)
}

#[test]
fn what_a_planted_bug_breaks_in_the_model_it_breaks_in_the_simulator() {
    let mut table = String::from(
        "| bug | promise broken in the model | in the simulator | without the bug |\n|---|---|---|---|\n",
    );
    let mut wrong = Vec::new();
    for bug in Bug::ALL {
        let hunt = hunt(bug);
        let file = with(Some(bug), || counterexample(hunt));
        let planted = with(Some(bug), || replay(&file));
        let sound = with(None, || replay(&file));
        let (name, breaks) = (bug.name(), hunt.breaks.name());
        let without = match missed(&sound) {
            Some(_) => "goes another way",
            None => "nothing breaks",
        };
        let said = broken(&planted).join("; ");
        let _ = writeln!(table, "| {name} | {breaks} | {said} | {without} |");
        if let Some(missed) = missed(&planted) {
            wrong.push(format!("{name}: {missed}"));
        } else if !shows(&planted, hunt.breaks) {
            wrong.push(format!("{name}: the simulator does not show it"));
        }
        if !broken(&sound).is_empty() {
            let said = broken(&sound).join("; ");
            wrong.push(format!("{name}: without it, {said}"));
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
