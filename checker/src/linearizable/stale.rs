//! Reads of what had been overwritten: the commonest violation, and the easiest to tell.
//!
//! If all that may have written the value of a read had ended before some other write began, and that write had ended
//! before the read began, then the read is stale whatever else happened. This needs no value to be unique, so it
//! finds the stale reads of deleted keys and of repeated values that zones leave to the search.

use super::register::{Conflict, Register};
use crate::history::Position;

/// Finds a stale read.
pub(super) fn find(register: &Register) -> Option<Conflict> {
    let actions = &register.actions;
    let mut by_value: Vec<u32> = (0..actions.len() as u32).collect();
    by_value.sort_by_key(|&index| {
        (
            actions[index as usize].value,
            actions[index as usize].invoked,
        )
    });
    let overwrites = Overwrites::new(register);
    let groups = by_value.chunk_by(|&a, &b| actions[a as usize].value == actions[b as usize].value);
    groups
        .filter_map(|group| in_group(register, &overwrites, group))
        .min_by_key(|conflict| match conflict {
            Conflict::Stale { read, .. } => actions[*read as usize].invoked,
            _ => Position::MAX,
        })
}

/// All closed writes by invocation, and of each suffix of them the one that ends first.
struct Overwrites {
    invoked: Vec<Position>,
    first_to_end: Vec<u32>,
}

impl Overwrites {
    fn new(register: &Register) -> Self {
        let closed = |&index: &u32| {
            let action = &register.actions[index as usize];
            action.is_write && !action.is_open()
        };
        let mut first_to_end: Vec<u32> =
            (0..register.actions.len() as u32).filter(closed).collect();
        let invoked = first_to_end
            .iter()
            .map(|&index| register.actions[index as usize].invoked)
            .collect();
        let completed = |index: u32| register.actions[index as usize].completed;
        for at in (1..first_to_end.len()).rev() {
            if completed(first_to_end[at]) < completed(first_to_end[at - 1]) {
                first_to_end[at - 1] = first_to_end[at];
            }
        }
        Self {
            invoked,
            first_to_end,
        }
    }

    /// Of the writes that began after `begun`, the one that ended first.
    fn after(&self, begun: Option<Position>) -> Option<u32> {
        let start = begun.map_or(0, |begun| {
            self.invoked.partition_point(|&invoked| invoked <= begun)
        });
        self.first_to_end.get(start).copied()
    }
}

/// The first stale read of one value, whose operations are given by invocation.
fn in_group(register: &Register, overwrites: &Overwrites, group: &[u32]) -> Option<Conflict> {
    let action = |index: u32| &register.actions[index as usize];
    let mut writes = group
        .iter()
        .copied()
        .filter(|&index| action(index).is_write)
        .peekable();
    let mut reads: Vec<u32> = group
        .iter()
        .copied()
        .filter(|&index| !action(index).is_write)
        .collect();
    reads.sort_by_key(|&read| action(read).completed);
    // Of the writes that began before the read ended, the one that ended last.
    let mut source: Option<u32> = None;
    for read in reads {
        while let Some(write) =
            writes.next_if(|&write| action(write).invoked < action(read).completed)
        {
            source = source
                .filter(|&source| action(source).completed >= action(write).completed)
                .or(Some(write));
        }
        if source.is_none() && action(read).value != 0 {
            continue;
        }
        let over = overwrites.after(source.map(|source| action(source).completed));
        if let Some(over) = over.filter(|&over| action(over).completed < action(read).invoked) {
            return Some(Conflict::Stale { source, over, read });
        }
    }
    None
}
