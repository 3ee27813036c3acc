//! Shrinks a register without a linearization to the few operations that contradict each other by themselves.
//!
//! Some parts of a history can be taken away without making a wrong history out of a right one: the end of it (what had
//! not ended by then is open, or unanswered), any read, and any write of a value that no remaining read returned. So what
//! remains is judged anew after each step, and as long as it has no linearization, neither has the whole.

use super::{
    decide,
    register::{Conflict, Decision, Register},
};
use crate::{
    history::{NEVER, Position},
    limits::Limits,
};

/// How many states all attempts together may search; the smallest proof is worth seconds, not minutes.
const STATES_MAX: usize = 2_000_000;

/// How many attempts are made.
const ATTEMPTS_MAX: usize = 4_000;

/// Returns a small part of the register that is refuted by itself, and why it is.
pub(super) fn minimise(register: Register, limits: &Limits) -> (Register, Conflict) {
    let states_max = limits.states_max.min(STATES_MAX / 100);
    let mut shrink = Shrink {
        core: register,
        conflict: Conflict::Search,
        attempts_left: ATTEMPTS_MAX,
        limits: Limits {
            states_max,
            ..*limits
        },
    };
    shrink.cut_end();
    shrink.drop_values();
    shrink.drop_actions();
    (shrink.core, shrink.conflict)
}

struct Shrink {
    core: Register,
    conflict: Conflict,
    attempts_left: usize,
    limits: Limits,
}

impl Shrink {
    /// Takes the smaller register if it is refuted, too.
    fn accept(&mut self, mut smaller: Register) -> bool {
        if self.attempts_left == 0 {
            return false;
        }
        self.attempts_left -= 1;
        smaller.drop_unread_open_writes();
        let Decision::Refuted(conflict) = decide(&smaller, &self.limits) else {
            return false;
        };
        self.core = smaller;
        self.conflict = conflict;
        true
    }

    /// Finds the shortest beginning that is refuted, by halving.
    fn cut_end(&mut self) {
        let mut ends: Vec<Position> = self
            .core
            .actions
            .iter()
            .map(|action| action.completed)
            .filter(|end| *end != NEVER)
            .collect();
        ends.sort_unstable();
        let whole = self.core.clone();
        let (mut low, mut high) = (0, ends.len().saturating_sub(1));
        while low < high {
            let middle = (low + high) / 2;
            if self.accept(until(&whole, ends[middle])) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
    }

    /// Takes away all operations on some values, in ever smaller groups.
    fn drop_values(&mut self) {
        let mut values: Vec<u32> = self
            .core
            .actions
            .iter()
            .map(|action| action.value)
            .collect();
        values.sort_unstable();
        values.dedup();
        let mut size = values.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < values.len() {
                let group = &values[at..values.len().min(at + size)];
                if self.accept(self.without(|_, action| group.binary_search(&action.value).is_ok()))
                {
                    values.drain(at..values.len().min(at + size));
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Takes away single operations until none is left that could go.
    fn drop_actions(&mut self) {
        let mut is_smaller = true;
        while is_smaller && self.conflict == Conflict::Search {
            is_smaller = false;
            let mut at = self.core.actions.len();
            while at > 0 {
                at = (at - 1).min(self.core.actions.len() - 1);
                let action = self.core.actions[at];
                let is_read = |value| {
                    self.core
                        .actions
                        .iter()
                        .any(|other| !other.is_write && other.value == value)
                };
                if action.is_write && is_read(action.value) {
                    continue;
                }
                is_smaller |= self.accept(self.without(|index, _| index == at));
            }
        }
    }

    fn without(&self, goes: impl Fn(usize, &super::register::Action) -> bool) -> Register {
        let kept = self
            .core
            .actions
            .iter()
            .enumerate()
            .filter(|(index, action)| !goes(*index, action));
        Register {
            actions: kept.map(|(_, action)| *action).collect(),
            value_count: self.core.value_count,
        }
    }
}

/// What was known by the line `end`: reads that had not ended are gone, and such writes are open.
fn until(register: &Register, end: Position) -> Register {
    let begun = register
        .actions
        .iter()
        .filter(|action| action.invoked <= end)
        .copied();
    let known = begun.filter_map(|mut action| {
        if action.completed > end {
            action.completed = NEVER;
        }
        (action.is_write || !action.is_open()).then_some(action)
    });
    Register {
        actions: known.collect(),
        value_count: register.value_count,
    }
}
