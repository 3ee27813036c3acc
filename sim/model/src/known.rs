//! The situations that there are within bounds, and which leads to which: what the coverage of simulated runs is measured by.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stateright::Model;

use crate::bounds::Bounds;
use crate::error::Error;
use crate::projection::Projection;
use crate::shared::hash_of;
use crate::symmetry::representative;
use crate::system::System;

/// All situations, and all steps from one to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The situations.
    pub states: BTreeSet<Projection>,
    /// From one to another.
    pub transitions: BTreeSet<(Projection, Projection)>,
}

/// As a file: transitions by the places of the situations in their list.
#[derive(Deserialize, Serialize)]
struct File {
    states: Vec<String>,
    transitions: Vec<(usize, usize)>,
}

/// What `cargo model known` wrote.
const QUICK: &str = include_str!("../known.json");

impl Known {
    /// What there is at the quick bounds, as it was written down.
    ///
    /// # Panics
    /// If the file beside the crate's manifest is of another format: `cargo model known --out sim/model/known.json` writes it anew.
    #[must_use]
    pub fn quick() -> Self {
        Self::from_json(QUICK).expect("known.json is what `cargo model known` writes")
    }

    /// Visits every state within the bounds.
    ///
    /// # Errors
    /// When the bounds do not go together.
    pub fn explore(bounds: Bounds) -> Result<Self, Error> {
        let system = System::new(bounds)?;
        let mut known = Self::default();
        let mut visited = ahash::HashSet::default();
        let mut left = system.init_states();
        for state in &left {
            visited.insert(hash_of(&representative(state)));
            known.states.insert(Projection::of_state(state));
        }
        let mut actions = Vec::new();
        while let Some(state) = left.pop() {
            let from = Projection::of_state(&state);
            system.actions(&state, &mut actions);
            for action in actions.drain(..) {
                let Some(next) = system.next_state(&state, action) else {
                    continue;
                };
                let to = Projection::of_state(&next);
                if from != to {
                    known.transitions.insert((from.clone(), to.clone()));
                    known.states.insert(to);
                }
                if visited.insert(hash_of(&representative(&next))) {
                    left.push(next);
                }
            }
        }
        Ok(known)
    }

    /// As the text of a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let places = self.states.iter().enumerate();
        let places: BTreeMap<_, _> = places.map(|(place, state)| (state, place)).collect();
        let place = |state: &Projection| places.get(state).copied().unwrap_or_default();
        let transitions = self.transitions.iter();
        let file = File {
            states: self.states.iter().map(ToString::to_string).collect(),
            transitions: transitions
                .map(|(from, to)| (place(from), place(to)))
                .collect(),
        };
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// From the text of a file; nothing, if it is none.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let file: File = serde_json::from_str(text).ok()?;
        let states: Vec<Projection> = file
            .states
            .iter()
            .map(|state| state.parse().ok())
            .collect::<Option<_>>()?;
        let transition = |(from, to): &(usize, usize)| {
            Some((states.get(*from)?.clone(), states.get(*to)?.clone()))
        };
        Some(Self {
            transitions: file
                .transitions
                .iter()
                .map(transition)
                .collect::<Option<_>>()?,
            states: states.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_survives_being_written_and_read() {
        let bounds = Bounds {
            writes: 1,
            epochs: 1,
            crashes: 0,
            lost_sessions: 0,
            rollbacks: 0,
            ..Bounds::QUICK
        };
        let known = Known::explore(bounds).unwrap();
        assert!(known.states.len() > 3, "{known:?}");
        assert_eq!(Known::from_json(&known.to_json()), Some(known));
        assert_eq!(Known::from_json("[]"), None);
    }
}
