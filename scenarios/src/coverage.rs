//! How much of the model's space the runs have visited: the situations of [`model::projection`] that they went through, against
//! those that there are at the quick bounds (`model::known`).
//!
//! It depends on the seeds alone: what is visited is a set, and where something was visited first is the least scenario and seed.

mod report;
mod trail;

use std::collections::BTreeMap;

use checker::NodeEvent;
use kv_core::Fencing;
use model::projection::Projection;
use serde::Serialize;

use crate::scenario::Scenario;

pub use report::Report;
pub use trail::Trail;

/// A run in which something was visited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Visit {
    /// Its scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
}

/// What runs have visited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How many shards' trails it is of.
    trails: usize,
    /// The situations, each with a run that has it.
    states: BTreeMap<Projection, Visit>,
    /// The steps from one to another.
    transitions: BTreeMap<(Projection, Projection), Visit>,
}

impl Coverage {
    /// What one run visited. Of the plain protocol, nothing: the known situations are those of the fenced one.
    #[must_use]
    pub fn of_run(scenario: &Scenario, seed: u64, events: &[NodeEvent]) -> Self {
        let mut coverage = Self::default();
        if scenario.fencing() != Fencing::Epoch {
            return coverage;
        }
        let visit = Visit {
            scenario: scenario.id.clone(),
            seed,
        };
        for trail in Trail::all(events) {
            coverage.add(&trail, &visit);
        }
        coverage
    }

    /// Adds a trail.
    pub fn add(&mut self, trail: &Trail, visit: &Visit) {
        self.trails += 1;
        for state in &trail.situations {
            note(&mut self.states, state.clone(), visit);
        }
        for transition in trail.transitions() {
            note(&mut self.transitions, transition, visit);
        }
    }

    /// Adds what other runs visited.
    pub fn merge(&mut self, other: Self) {
        self.trails += other.trails;
        for (state, visit) in other.states {
            note(&mut self.states, state, &visit);
        }
        for (transition, visit) in other.transitions {
            note(&mut self.transitions, transition, &visit);
        }
    }
}

fn note<T: Ord>(visited: &mut BTreeMap<T, Visit>, what: T, visit: &Visit) {
    let first = visited.entry(what).or_insert_with(|| visit.clone());
    if visit < first {
        *first = visit.clone();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::known::Known;

    use super::trail::tests::{at, committed, first_commit, synced};
    use super::*;

    fn visit(seed: u64) -> Visit {
        let scenario = "made-up".to_owned();
        Visit { scenario, seed }
    }

    fn of(events: &[NodeEvent], seed: u64) -> Coverage {
        let mut coverage = Coverage::default();
        for trail in Trail::all(events) {
            coverage.add(&trail, &visit(seed));
        }
        coverage
    }

    #[test]
    fn what_is_possible_is_known_and_what_is_impossible_is_not() {
        let known = Known::quick();
        let mut events = first_commit();
        let report = of(&events, 1).against(&known).expect("there is a shard");
        assert_eq!((report.states.seen, report.states.beyond), (4, 0));
        assert_eq!((report.transitions.seen, report.transitions.beyond), (4, 0));
        events.push(at(2, 1, committed(1, 2))); // Nobody has it on disk.
        events.push(at(2, 1, synced(1, 1)));
        let report = of(&events, 1).against(&known).expect("there is a shard");
        assert_eq!((report.states.seen, report.states.beyond), (4, 1));
        assert_eq!(report.transitions.beyond, 1);
        let text = report.text(Path::new("coverage.json"));
        assert!(text.contains("1 state beyond the quick bounds"), "{text}");
        assert!(
            text.contains("-0.0 -1.1 w1.1 c2    made-up, seed 1"),
            "{text}"
        );
    }

    #[test]
    fn the_order_in_which_runs_end_does_not_show() {
        let (one, other) = (first_commit(), first_commit()[..11].to_vec());
        let merged = |seeds: [u64; 2]| {
            let mut coverage = Coverage::default();
            for seed in seeds {
                coverage.merge(of(if seed == 1 { &one } else { &other }, seed));
            }
            coverage
        };
        assert_eq!(merged([1, 2]), merged([2, 1]));
        assert_eq!(Coverage::default().against(&Known::quick()), None);
    }
}
