//! The search for a linearization (Wing and Gong 1993, with Lowe's memory of states, 2017).
//!
//! The order is built from the front. An action may come next if nothing that is still to be placed ended before it
//! began. The state of the search is what has been placed and the value of the register; a state that was met before
//! leads nowhere new. What keeps it small, each without losing a linearization:
//! - a read that may come next and matches the register comes next: it changes nothing;
//! - a write of a value that no read is left for is *dead*, and comes just before any other write, which hides it;
//! - of several writes of one value that may come next, the one that ends first comes first, and an acknowledged one
//!   before an open one: exchanging them in an order gives an order;
//! - open writes of one value are counted, not listed, and taken in the order of their invocation. One is placed only
//!   for a read that comes right after it, since otherwise it need not have happened;
//! - a value is not left while reads of it are to come and nobody is left to write it again.
//!
//! A state is written as the first unplaced action, a bit for each one placed beyond that, the register, and the open
//! writes used of values that still matter: its size is the width of the history, not its length.

use std::collections::BTreeSet;

use super::register::{Action, Conflict, Decision, Register};
use crate::{history::Position, limits::Limits};

/// The register after dead writes: some value that no read is left for.
const DEAD: u32 = u32::MAX;

/// What a remembered state takes beside its words, in the set.
const MEMO_OVERHEAD_BYTES: usize = 32;

/// Tries every order, as far as the limits allow.
pub(super) fn decide(register: &Register, limits: &Limits) -> Decision {
    let mut search = Search::new(register);
    let mut memo: BTreeSet<Box<[u32]>> = BTreeSet::new();
    let mut memo_bytes = 0;
    let mut branches: Vec<Branch> = Vec::new();
    loop {
        let choices = match search.settle() {
            Settled::Done => return Decision::Linearizable,
            Settled::DeadEnd => Vec::new(),
            Settled::Choices(choices) => choices,
        };
        if !choices.is_empty() {
            let state = search.state();
            let state_bytes = state.len() * 4 + MEMO_OVERHEAD_BYTES;
            if memo.insert(state) {
                memo_bytes += state_bytes;
                branches.push(Branch {
                    trail_length: search.trail.len(),
                    choices,
                });
            }
        }
        if memo.len() > limits.states_max || memo_bytes > limits.memo_bytes_max {
            return Decision::Unknown { states: memo.len() };
        }
        let choice = loop {
            let Some(branch) = branches.last_mut() else {
                return Decision::Refuted(Conflict::Search);
            };
            search.undo(branch.trail_length);
            match branch.choices.pop() {
                Some(choice) => break choice,
                None => branches.pop(),
            };
        };
        search.choose(choice);
    }
}

/// A state of which not all ways on have been tried.
struct Branch {
    trail_length: usize,
    /// The most promising last.
    choices: Vec<Choice>,
}

/// What may come next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Closed { action: u32 },
    Open { value: u32 },
}

/// One step of the search, as it is taken back.
#[derive(Clone, Copy, Debug)]
enum Step {
    Placed { action: u32 },
    Used { value: u32 },
    Register { before: u32 },
}

enum Settled {
    Done,
    DeadEnd,
    Choices(Vec<Choice>),
}

struct Search {
    /// The actions that have ended, by invocation.
    closed: Vec<Action>,
    is_placed: Vec<bool>,
    /// The first of `closed` that is not placed.
    first: usize,
    /// Of each value, where its open writes began.
    open: Vec<Vec<Position>>,
    used: Vec<u32>,
    register: u32,
    /// Of each value, how many reads are to come.
    reads_left: Vec<u32>,
    /// Of each value, how many writes are to come, at most.
    writes_left: Vec<u32>,
    trail: Vec<Step>,
    /// The actions that may come next.
    window: Vec<u32>,
    /// Behind all that is placed or may come next.
    window_end: usize,
}

impl Search {
    fn new(register: &Register) -> Self {
        let mut search = Self {
            closed: Vec::with_capacity(register.actions.len()),
            is_placed: Vec::new(),
            first: 0,
            open: vec![Vec::new(); register.value_count],
            used: vec![0; register.value_count],
            register: 0,
            reads_left: vec![0; register.value_count],
            writes_left: vec![0; register.value_count],
            trail: Vec::new(),
            window: Vec::new(),
            window_end: 0,
        };
        for action in &register.actions {
            let value = action.value as usize;
            match action.is_write {
                true => search.writes_left[value] += 1,
                false => search.reads_left[value] += 1,
            }
            match action.is_open() {
                true => search.open[value].push(action.invoked),
                false => search.closed.push(*action),
            }
        }
        search.is_placed = vec![false; search.closed.len()];
        search
    }

    /// Places all that need not be chosen, and says what is to be chosen from then.
    fn settle(&mut self) -> Settled {
        loop {
            let bound = self.look();
            if self.first == self.closed.len() {
                return Settled::Done;
            }
            if self
                .place_window(|search, action| !action.is_write && action.value == search.register)
            {
                continue;
            }
            // From here on, the next thing to come is a write.
            if self.is_left_for_good(self.register) {
                return Settled::DeadEnd;
            }
            let is_dead = |search: &Self, action: &Action| {
                action.is_write && search.reads_left[action.value as usize] == 0
            };
            if self.place_window(is_dead) {
                self.set_register(DEAD);
                continue;
            }
            return Settled::Choices(self.choices(bound));
        }
    }

    /// Collects what may come next, and returns the position by which something must.
    fn look(&mut self) -> Position {
        while self.is_placed.get(self.first) == Some(&true) {
            self.first += 1;
        }
        self.window.clear();
        self.window_end = self.closed.len();
        let mut bound = Position::MAX;
        for index in self.first..self.closed.len() {
            let action = &self.closed[index];
            if action.invoked > bound {
                self.window_end = index;
                break;
            }
            if !self.is_placed[index] {
                bound = bound.min(action.completed);
                self.window.push(index as u32);
            }
        }
        bound
    }

    /// Places those of the window that fit. Says whether there were any.
    fn place_window(&mut self, fits: impl Fn(&Self, &Action) -> bool) -> bool {
        let before = self.trail.len();
        for at in 0..self.window.len() {
            let index = self.window[at];
            if fits(self, &self.closed[index as usize]) {
                self.place(index);
            }
        }
        self.trail.len() > before
    }

    fn is_left_for_good(&self, value: u32) -> bool {
        value != DEAD
            && self.reads_left[value as usize] > 0
            && self.writes_left[value as usize] == 0
    }

    /// The writes worth trying next, the one with the nearest deadline last.
    fn choices(&self, bound: Position) -> Vec<Choice> {
        let mut by_value: Vec<(u32, bool, Position, u32)> = Vec::with_capacity(self.window.len());
        for &index in &self.window {
            let action = &self.closed[index as usize];
            if action.is_write {
                by_value.push((action.value, false, action.completed, index));
            } else if let Some(&invoked) =
                self.open[action.value as usize].get(self.used[action.value as usize] as usize)
                && invoked < bound
            {
                by_value.push((action.value, true, action.completed, index));
            }
        }
        by_value.sort_unstable();
        by_value.dedup_by_key(|(value, ..)| *value);
        by_value.sort_unstable_by_key(|&(_, _, deadline, _)| std::cmp::Reverse(deadline));
        let choice = |(value, is_open, _, action)| match is_open {
            true => Choice::Open { value },
            false => Choice::Closed { action },
        };
        by_value.into_iter().map(choice).collect()
    }

    fn choose(&mut self, choice: Choice) {
        let value = match choice {
            Choice::Closed { action } => {
                self.place(action);
                self.closed[action as usize].value
            }
            Choice::Open { value } => {
                self.used[value as usize] += 1;
                self.writes_left[value as usize] -= 1;
                self.trail.push(Step::Used { value });
                value
            }
        };
        self.set_register(value);
    }

    fn place(&mut self, index: u32) {
        let action = &self.closed[index as usize];
        let left = if action.is_write {
            &mut self.writes_left
        } else {
            &mut self.reads_left
        };
        left[action.value as usize] -= 1;
        self.is_placed[index as usize] = true;
        self.trail.push(Step::Placed { action: index });
    }

    fn set_register(&mut self, value: u32) {
        self.trail.push(Step::Register {
            before: self.register,
        });
        self.register = value;
    }

    fn undo(&mut self, trail_length: usize) {
        while self.trail.len() > trail_length {
            match self.trail.pop() {
                Some(Step::Placed { action: index }) => {
                    let action = &self.closed[index as usize];
                    let left = if action.is_write {
                        &mut self.writes_left
                    } else {
                        &mut self.reads_left
                    };
                    left[action.value as usize] += 1;
                    self.is_placed[index as usize] = false;
                    self.first = self.first.min(index as usize);
                }
                Some(Step::Used { value }) => {
                    self.used[value as usize] -= 1;
                    self.writes_left[value as usize] += 1;
                }
                Some(Step::Register { before }) => self.register = before,
                None => return,
            }
        }
    }

    /// The state in words: first unplaced, register, open writes used, and the bits of what is placed beyond the first.
    fn state(&self) -> Box<[u32]> {
        let mut words = vec![self.first as u32, self.window_end as u32, self.register];
        for word in self.is_placed[self.first..self.window_end].chunks(32) {
            words.push(
                word.iter()
                    .rev()
                    .fold(0, |bits, &is_placed| bits << 1 | u32::from(is_placed)),
            );
        }
        for (value, used) in self.used.iter().enumerate() {
            if *used > 0 && self.reads_left[value] > 0 {
                words.extend([value as u32, *used]);
            }
        }
        words.into()
    }
}
