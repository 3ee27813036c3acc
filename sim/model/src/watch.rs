//! The model as it is explored: a [`System`] with the promises that are judged, and with the wish to stop.
//!
//! Stateright remembers for each property the last state that breaks it. Here only the first one counts as breaking it: in a
//! breadth-first search by one thread its path is the shortest there is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use stateright::{Model, Path, Property};

use crate::action::Action;
use crate::draft::Draft;
use crate::ledger::Promise;
use crate::marks::{Mark, Marks};
use crate::shared::hash_of;
use crate::state::State;
use crate::story::{Step, Story};
use crate::system::System;

/// When an exploration has seen enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Any of these is broken.
    Any(Vec<Promise>),
    /// Each of these is broken.
    Each(Vec<Promise>),
    /// Never: everything is to be seen.
    Everything,
}

/// A system under watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// What is explored.
    pub system: System,
    judged: Vec<Promise>,
    goal: Goal,
    /// Whether examples of what must be reached are looked for, too.
    finds_examples: bool,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The first state that breaks each promise.
    first: [OnceLock<u64>; Promise::ALL.len()],
    /// The states in which a step that reaches something ended.
    examples: [Mutex<BTreeSet<u64>>; Mark::ALL.len()],
    halted: AtomicBool,
}

impl Watch {
    /// Watches for promises that break.
    #[must_use]
    pub fn new(system: System, judged: Vec<Promise>, goal: Goal) -> Self {
        Self {
            system,
            judged,
            goal,
            finds_examples: false,
            seen: Arc::default(),
        }
    }

    /// Watches for examples of what must be reached as well. That takes twice the time.
    #[must_use]
    pub fn with_examples(self) -> Self {
        Self {
            finds_examples: true,
            ..self
        }
    }

    /// Nothing new is looked at from now on.
    pub fn halt(&self) {
        self.seen.halted.store(true, Ordering::Relaxed);
    }

    /// Paths can be followed again.
    pub fn resume(&self) {
        self.seen.halted.store(false, Ordering::Relaxed);
    }

    /// Whether it was halted, from outside or because the goal is reached.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.seen.halted.load(Ordering::Relaxed)
    }

    fn is_broken(&self, promise: Promise) -> bool {
        self.seen.first[promise as usize].get().is_some()
    }

    fn has_reached_goal(&self) -> bool {
        match &self.goal {
            Goal::Any(promises) => promises.iter().any(|promise| self.is_broken(*promise)),
            Goal::Each(promises) => promises.iter().all(|promise| self.is_broken(*promise)),
            Goal::Everything => false,
        }
    }

    fn keeps(&self, promise: Promise, state: &State) -> bool {
        if !state.broken.has(promise) {
            return true;
        }
        let hash = hash_of(state);
        let first = self.seen.first[promise as usize].get_or_init(|| hash);
        if self.has_reached_goal() {
            self.halt();
        }
        *first != hash
    }

    fn shows(&self, mark: Mark, state: &State) -> bool {
        let examples = &self.seen.examples[mark as usize];
        let examples = examples.lock().unwrap_or_else(PoisonError::into_inner);
        examples.contains(&hash_of(state))
    }

    /// Notes the state after a step as an example of everything that this step reaches.
    fn note_examples(&self, before: &State, action: &Action, after: &State) {
        let marks = Arc::new(Marks::default());
        let mut scratch = self.system.clone();
        scratch.marks = Arc::clone(&marks);
        let happens = scratch
            .turn(&Draft::of(before), action)
            .is_some_and(|turn| turn.finish().is_some());
        for mark in Mark::ALL {
            if happens && marks.count(mark) > 0 {
                let examples = &self.seen.examples[mark as usize];
                let mut examples = examples.lock().unwrap_or_else(PoisonError::into_inner);
                if examples.len() < EXAMPLES_MAX {
                    examples.insert(hash_of(after));
                }
            }
        }
    }
}

/// So many examples are kept of each: some of them are states that were seen before.
const EXAMPLES_MAX: usize = 64;

type Condition = fn(&Watch, &State) -> bool;

fn keeps<const PROMISE: usize>(watch: &Watch, state: &State) -> bool {
    watch.keeps(Promise::ALL[PROMISE], state)
}

fn shows<const MARK: usize>(watch: &Watch, state: &State) -> bool {
    watch.shows(Mark::ALL[MARK], state)
}

/// One for each promise, in order.
const KEEPS: [Condition; Promise::ALL.len()] = [
    keeps::<0>, keeps::<1>, keeps::<2>, keeps::<3>, keeps::<4>, keeps::<5>, keeps::<6>, keeps::<7>,
    keeps::<8>, keeps::<9>,
];

/// One for each mark, in order.
const SHOWS: [Condition; Mark::ALL.len()] = [
    shows::<0>, shows::<1>, shows::<2>, shows::<3>, shows::<4>, shows::<5>, shows::<6>, shows::<7>,
];

impl Model for Watch {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.system.init_states()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.is_halted() {
            self.system.actions(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        if !self.finds_examples {
            return self.system.next_state(state, action);
        }
        let after = self.system.next_state(state, action.clone())?;
        self.note_examples(state, &action, &after);
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let promises = self.judged.iter();
        let always =
            promises.map(|promise| Property::always(promise.name(), KEEPS[*promise as usize]));
        let marks = Mark::ALL.iter().filter(|_| self.finds_examples);
        let sometimes = marks.map(|mark| Property::sometimes(mark.name(), SHOWS[*mark as usize]));
        always.chain(sometimes).collect()
    }

    fn format_action(&self, action: &Action) -> String {
        action.to_string()
    }

    fn format_step(&self, before: &State, action: Action) -> Option<String> {
        let step = Step::new(&self.system, before, &action)?;
        Some(format!("{}\n{}", step.text(), step.after))
    }

    fn as_svg(&self, path: Path<State, Action>) -> Option<String> {
        let story = Story::new(&self.system, &path.into_vec())?;
        Some(crate::diagram::draw(&story))
    }
}
