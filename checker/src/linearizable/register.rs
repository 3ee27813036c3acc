//! One key as a register: the operations that a linearization must place, and what can be wrong with them.

use crate::history::{
    History, KeyId, Level, NEVER, Operation, Outcome, Position, ValueId, Version,
};

/// A write or a read of a register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action {
    pub(super) is_write: bool,
    /// Interned per register: values are 0 (nothing) up to [`Register::value_count`].
    pub(super) value: u32,
    pub(super) invoked: Position,
    /// [`NEVER`] for a write that may take effect at any time, or never.
    pub(super) completed: Position,
    pub(super) version: Option<Version>,
    pub(super) shard: Option<u32>,
    /// Its index in the history.
    pub(super) operation: u32,
}

impl Action {
    pub(super) fn is_open(&self) -> bool {
        self.completed == NEVER
    }
}

/// All that is to be ordered on one key, by invocation. No open write is in it whose value nobody read: it may never
/// have happened.
#[derive(Clone, Debug)]
pub(super) struct Register {
    pub(super) actions: Vec<Action>,
    pub(super) value_count: usize,
}

/// What a step concluded about a register.
#[derive(Debug)]
pub(super) enum Decision {
    Linearizable,
    Refuted(Conflict),
    Unknown { states: usize },
}

/// Why no order exists; operations by their index in [`Register::actions`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Conflict {
    /// A read of what nobody had begun to write when it ended.
    NeverWritten { read: u32 },
    /// A read that ended before the only write of its value began.
    ReadBeforeWrite { read: u32, write: u32 },
    /// A value that was written once is there before something else begins and again after something else ended.
    /// `before` is missing for the beginning.
    BothSides {
        around: (Option<u32>, u32),
        between: (u32, u32),
    },
    /// All orders were tried.
    Search,
}

impl Register {
    /// Takes what linearizability is about from the operations on a key.
    pub(super) fn new(history: &History, key: KeyId) -> Self {
        let in_scope = |operation: &Operation| match operation.level {
            _ if operation.is_write() => operation.outcome != Outcome::Fail,
            None | Some(Level::Lease | Level::Quorum) => operation.is_ok(),
            Some(Level::Local | Level::Replica) => false,
        };
        let taken: Vec<(u32, &Operation)> = history
            .on_key_indexed(key)
            .filter(|(_, operation)| in_scope(operation))
            .collect();
        let mut values: Vec<ValueId> = taken.iter().map(|(_, operation)| operation.value).collect();
        values.push(ValueId::ABSENT);
        values.sort_unstable();
        values.dedup();
        let actions = taken.into_iter().map(|(index, operation)| Action {
            is_write: operation.is_write(),
            value: values.partition_point(|value| *value < operation.value) as u32,
            invoked: operation.invoked,
            completed: operation.completed,
            version: operation.version,
            shard: operation.shard,
            operation: index,
        });
        let mut register = Self {
            actions: actions.collect(),
            value_count: values.len(),
        };
        register.drop_unread_open_writes();
        register
    }

    /// Removes open writes that no read can have seen. Whatever order explains the rest, they never happened in it.
    pub(super) fn drop_unread_open_writes(&mut self) {
        let mut read_until = vec![0; self.value_count];
        for read in self.actions.iter().filter(|action| !action.is_write) {
            let until: &mut Position = &mut read_until[read.value as usize];
            *until = read.completed.max(*until);
        }
        self.actions.retain(|action| {
            !action.is_open() || action.invoked < read_until[action.value as usize]
        });
    }
}
