//! What the protocols keep and what they break, within small bounds; and that the reductions change no verdict.

use kv_core::Fencing;
use model::bounds::Bounds;
use model::diagram;
use model::exploration::{Ending, Findings, Order, Plan, explore};
use model::ledger::Promise;
use model::system::System;
use model::watch::{Goal, Watch};
use stateright::Model;

/// One write, an election.
const TINY: Bounds = Bounds {
    writes: 1,
    epochs: 2,
    crashes: 0,
    rollbacks: 0,
    ..Bounds::QUICK
};

fn findings(bounds: Bounds, goal: Goal, order: Order) -> Findings {
    let plan = Plan {
        bounds,
        judged: Promise::ALL.to_vec(),
        goal,
        order,
        threads: 1,
        timeout: None,
    };
    explore(&plan, &mut |_| {}).expect("the bounds are right")
}

fn everything(bounds: Bounds) -> Findings {
    findings(bounds, Goal::Any(Promise::ALL.to_vec()), Order::DepthFirst)
}

/// Nothing is broken; what was reached.
fn holds(bounds: Bounds) -> Vec<&'static str> {
    let findings = everything(bounds);
    assert_eq!(findings.ending, Ending::Complete, "{bounds:?}");
    let violated: Vec<_> = findings.violated().map(|(promise, _)| promise).collect();
    assert_eq!(violated, [], "{bounds:?}");
    let reached = findings.reached.iter().filter(|(_, count)| *count > 0);
    reached.map(|(mark, _)| mark.name()).collect()
}

fn lost_write(bounds: Bounds) -> Findings {
    let bounds = Bounds {
        fencing: Fencing::None,
        ..bounds
    };
    let goal = Goal::Each(vec![Promise::NoLostWrite]);
    findings(bounds, goal, Order::BreadthFirst)
}

#[test]
fn one_of_all_states_that_differ_in_names_says_as_much_as_all_of_them() {
    for bounds in [
        TINY,
        Bounds {
            epochs: 1,
            crashes: 1,
            ..TINY
        },
    ] {
        let symmetric = everything(bounds);
        let all = everything(Bounds {
            symmetric: false,
            ..bounds
        });
        assert!(symmetric.counts.unique < all.counts.unique);
        let without = Bounds {
            symmetric: false,
            ..bounds
        };
        assert_eq!(holds(bounds), holds(without));
    }
}

#[test]
fn a_violation_is_found_with_symmetry_and_without() {
    let bounds = Bounds {
        bad_clocks: true,
        ..TINY
    };
    for symmetric in [true, false] {
        let findings = everything(Bounds {
            symmetric,
            ..bounds
        });
        let story = findings.counterexample(Promise::Linearizable);
        assert_eq!(story.map(|story| story.steps.len()), Some(9));
    }
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "visits millions of states: `cargo test --release -p model`"
)]
fn what_is_left_out_changes_no_verdict() {
    for quorum in [1, 2] {
        let bounds = Bounds {
            replicas: 2,
            quorum,
            ..TINY
        };
        let everything = Bounds {
            reduces: false,
            symmetric: false,
            ..bounds
        };
        assert_eq!(holds(bounds), holds(everything));
    }
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "visits millions of states: `cargo test --release -p model`"
)]
fn the_quick_preset_loses_an_acknowledged_write_under_the_plain_protocol() {
    let findings = lost_write(Bounds::QUICK);
    let story = findings
        .counterexample(Promise::NoLostWrite)
        .expect("a split brain");
    assert_eq!(story.steps.len(), 9);
    let writers = story.steps[8].after.members.iter();
    let writers = writers.filter(|member| member.replica.writer_of().is_some());
    assert_eq!(
        writers.count(),
        2,
        "two members believe that they are the writer"
    );
}

#[test]
fn only_a_goal_that_is_reached_ends_a_search() {
    let findings = lost_write(TINY);
    let story = findings
        .counterexample(Promise::NoLostWrite)
        .expect("a split brain");
    let halts = |goal: Goal| {
        let system = System::new(TINY).expect("the bounds are right");
        let watch = Watch::new(system, Promise::ALL.to_vec(), goal);
        for property in watch.properties() {
            (property.condition)(&watch, &story.steps[8].after);
        }
        watch.is_halted()
    };
    assert!(halts(Goal::Any(Promise::ALL.to_vec())));
    assert!(halts(Goal::Each(vec![Promise::NoLostWrite])));
    assert!(!halts(Goal::Each(vec![
        Promise::NoLostWrite,
        Promise::NoPhantom
    ])));
    assert!(!halts(Goal::Everything), "the Explorer goes on");
}

#[test]
fn the_drawing_in_the_manual_is_what_the_model_finds() {
    let findings = lost_write(TINY);
    let story = findings
        .counterexample(Promise::NoLostWrite)
        .expect("a split brain");
    let drawn = diagram::draw(story);
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/model/lost-write.svg"
    );
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == drawn,
        "docs/model/lost-write.svg is out of date: BLESS=1 cargo test -p model"
    );
}
