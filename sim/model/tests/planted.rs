//! Goal: the model finds every planted bug, so that a promise that holds says something.
//!
//! Method: plant each in the protocol core, one after the other, and look for the shortest path to the promise that it breaks, within
//! the bounds of `model::planted`. Without the bug every promise holds there: it is the bug that is found, and nothing else.

#![cfg(planted)]

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kv_core::planted::{Bug, plant};
use model::bounds::Bounds;
use model::exploration::{Ending, Findings, Order, Plan, explore};
use model::ledger::Promise;
use model::planted::{Hunt, hunt};
use model::watch::Goal;

/// So long may it take to find a bug.
const FIND_MAX: Duration = Duration::from_secs(60);

/// A bug is planted for the whole process: one at a time.
static PLANTED: Mutex<()> = Mutex::new(());

/// Explores with a bug, or without any. The search has a thread of its own: steps are remembered by thread.
fn explored(bug: Option<Bug>, bounds: Bounds, goal: Goal, order: Order) -> Findings {
    let alone = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    plant(bug);
    let plan = Plan {
        bounds,
        judged: Promise::ALL.to_vec(),
        goal,
        order,
        threads: 1,
        timeout: None,
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {})); // An assertion of the core that fails is a finding.
    let search = std::thread::spawn(move || explore(&plan, &mut |_| {}));
    let findings = search.join();
    std::panic::set_hook(hook);
    plant(None);
    drop(alone);
    let findings = findings.expect("the model does not panic");
    findings.expect("the bounds are right")
}

/// How long a search took: the processor's time, which does not depend on what else the machine does.
fn time(findings: &Findings) -> Duration {
    findings.counts.processor.unwrap_or(findings.counts.elapsed)
}

#[test]
fn every_planted_bug_is_found() {
    let mut table = String::from(
        "| bug | rule | promise broken | steps | states | seconds |\n|---|---|---|---|---|---|\n",
    );
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let Hunt { bounds, breaks } = hunt(bug);
        let findings = explored(
            Some(bug),
            bounds,
            Goal::Each(vec![breaks]),
            Order::BreadthFirst,
        );
        let seconds = time(&findings).as_secs_f64();
        let Some(story) = findings.counterexample(breaks) else {
            missed.push(bug.name());
            continue;
        };
        assert!(time(&findings) < FIND_MAX, "{}", bug.name());
        let (name, rule) = (bug.name(), bug.rule());
        let (breaks, steps, states) = (breaks.name(), story.steps.len(), findings.counts.states);
        let _ = writeln!(
            table,
            "| {name} | {rule} | {breaks} | {steps} | {states} | {seconds:.1} |"
        );
    }
    println!("{table}");
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Raft, figure 8. (Without the bug all promises hold there, too, but to visit all of it takes a minute.)
#[test]
fn entries_of_older_epochs_are_not_counted_because_four_epochs_and_three_lost_sessions_would_lose_them()
 {
    let bounds = Bounds {
        lost_sessions: 3,
        releases: 0,
        ..hunt(Bug::OldEntriesCounted).bounds
    };
    let goal = Goal::Each(vec![Promise::CommittedStays]);
    let findings = explored(
        Some(Bug::OldEntriesCounted),
        bounds,
        goal,
        Order::BreadthFirst,
    );
    let story = findings.counterexample(Promise::CommittedStays);
    assert_eq!(story.map(|story| story.steps.len()), Some(11));
    assert!(time(&findings) < FIND_MAX);
}

#[test]
fn without_the_bug_every_promise_holds_within_the_same_bounds() {
    let mut seen: Vec<Bounds> = Vec::new();
    for bug in Bug::ALL {
        let bounds = Bounds {
            symmetric: true,
            ..hunt(bug).bounds
        };
        if seen.contains(&bounds) {
            continue;
        }
        seen.push(bounds);
        let any = Goal::Any(Promise::ALL.to_vec());
        let findings = explored(None, bounds, any, Order::DepthFirst);
        assert_eq!(findings.ending, Ending::Complete, "{bounds:?}");
        let broken: Vec<_> = findings.violated().map(|(promise, _)| promise).collect();
        assert_eq!(broken, [], "{bounds:?}");
    }
}
