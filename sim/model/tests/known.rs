//! The situations that are written down are those that there are: `known.json` beside the crate's manifest.
//!
//! Visiting the quick bounds takes minutes, so smaller ones stand in: whatever they reach is known, or the file is out of date
//! (`cargo model known --out sim/model/known.json`).
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use model::bounds::Bounds;
use model::known::Known;

const SMALL: Bounds = Bounds {
    writes: 1,
    epochs: 2,
    crashes: 0,
    lost_sessions: 1,
    rollbacks: 0,
    ..Bounds::QUICK
};

#[test]
fn whatever_smaller_bounds_reach_is_known() {
    let known = Known::quick();
    let one_crash = Bounds {
        epochs: 1,
        crashes: 1,
        lost_sessions: 0,
        ..SMALL
    };
    for bounds in [SMALL, one_crash] {
        let reached = Known::explore(bounds).unwrap();
        assert!(reached.transitions.len() > 10, "vacuous: {bounds:?}");
        let missing = reached.states.difference(&known.states);
        let missing: Vec<String> = missing.map(ToString::to_string).collect();
        assert_eq!(missing, Vec::<String>::new(), "{bounds:?}");
        let missing = reached.transitions.difference(&known.transitions);
        assert_eq!(missing.count(), 0, "transitions, {bounds:?}");
    }
}

/// What runs visit and the quick bounds lack, they lack for want of a third write.
#[test]
fn longer_logs_reach_what_is_not_known() {
    let bounds = Bounds {
        writes: 3,
        epochs: 1,
        lost_sessions: 0,
        ..SMALL
    };
    let far_behind = "-0.0 -0.2 w0.3 c1".parse().unwrap();
    assert!(!Known::quick().states.contains(&far_behind));
    assert!(Known::explore(bounds).unwrap().states.contains(&far_behind));
}
