//! The order of versions as a linearization, if it is one.
//!
//! Versions say in which order the entries went into the log, so a correct store's history is explained by that order:
//! each write at its version, each read right after the write whose version it saw. Nothing is taken on trust: the order
//! is held against real time and against the values, and if it does not explain everything, that proves nothing.
//!
//! Two gaps are filled. A version that no acknowledged write carries belongs to an open write of the value that was read.
//! A read of nothing without a version comes from the beginning or from a delete that is no longer remembered: it goes to
//! the earliest such place that real time allows.

use std::collections::BTreeMap;

use super::register::{Action, Register};
use crate::history::{Position, Version};

/// A place in the order: 0 is the beginning, and each version has its own after that.
type Slot = u32;

/// Whether the order of the versions explains the register.
pub(super) fn versions_explain(register: &Register) -> bool {
    let actions = &register.actions;
    let shard = actions
        .iter()
        .find(|action| !action.is_open())
        .and_then(|action| action.shard);
    let is_usable = |action: &Action| {
        let says =
            action.is_open() || action.version.is_some() || (!action.is_write && action.value == 0);
        says && (action.is_open() || action.shard == shard)
    };
    if !actions.iter().all(is_usable) {
        return false;
    }
    let Some((values, mut slots)) = versioned_slots(actions) else {
        return false;
    };
    place_unversioned_reads(actions, &values, &mut slots)
        && is_linearization(actions, &values, &slots)
}

/// The value of each slot, and the slot of each action that has a version. None if versions contradict each other.
fn versioned_slots(actions: &[Action]) -> Option<(Vec<u32>, Vec<Option<Slot>>)> {
    let mut writers: BTreeMap<Version, u32> = BTreeMap::new();
    let closed = (0..actions.len() as u32).filter(|&index| !actions[index as usize].is_open());
    let (writes, reads): (Vec<u32>, Vec<u32>) =
        closed.partition(|&index| actions[index as usize].is_write);
    for write in writes {
        if writers
            .insert(actions[write as usize].version?, write)
            .is_some()
        {
            return None;
        }
    }
    let mut open: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for index in (0..actions.len() as u32)
        .rev()
        .filter(|&index| actions[index as usize].is_open())
    {
        open.entry(actions[index as usize].value)
            .or_default()
            .push(index);
    }
    for read in reads {
        let read = &actions[read as usize];
        let Some(version) = read
            .version
            .filter(|version| !writers.contains_key(version))
        else {
            continue;
        };
        writers.insert(version, open.get_mut(&read.value)?.pop()?);
    }
    let mut values = vec![0];
    let mut slots = vec![None; actions.len()];
    let mut by_version: BTreeMap<Version, Slot> = BTreeMap::new();
    for (version, writer) in writers {
        slots[writer as usize] = Some(values.len() as Slot);
        by_version.insert(version, values.len() as Slot);
        values.push(actions[writer as usize].value);
    }
    for (slot, read) in slots
        .iter_mut()
        .zip(actions)
        .filter(|(_, action)| !action.is_write)
    {
        *slot = read
            .version
            .and_then(|version| by_version.get(&version).copied());
    }
    Some((values, slots))
}

/// Sweeps over time, keeping the furthest slot of what has ended, and gives each read of nothing the next fitting one.
fn place_unversioned_reads(actions: &[Action], values: &[u32], slots: &mut [Option<Slot>]) -> bool {
    let is_unplaced = |index: usize| !actions[index].is_write && actions[index].version.is_none();
    if !(0..actions.len()).any(is_unplaced) {
        return true;
    }
    // The next slot, from each slot on, after which nothing is there.
    let mut next: Vec<Option<Slot>> = vec![None; values.len()];
    for slot in (0..values.len()).rev() {
        let later = next.get(slot + 1).copied().flatten();
        next[slot] = if values[slot] == 0 {
            Some(slot as Slot)
        } else {
            later
        };
    }
    let mut moments: Vec<(Position, usize)> = Vec::new();
    for (index, action) in actions
        .iter()
        .enumerate()
        .filter(|(_, action)| !action.is_open())
    {
        moments.push((action.completed, index));
        if is_unplaced(index) {
            moments.push((action.invoked, index));
        }
    }
    moments.sort_unstable();
    let mut reached: Slot = 0;
    for (position, index) in moments {
        if position == actions[index].completed {
            reached = reached.max(slots[index].unwrap_or(0));
        } else if let Some(slot) = next[reached as usize] {
            slots[index] = Some(slot);
        } else {
            return false;
        }
    }
    true
}

/// Whether the order by slots keeps to real time and explains every read.
fn is_linearization(actions: &[Action], values: &[u32], slots: &[Option<Slot>]) -> bool {
    let mut order: Vec<(Slot, bool, Position, usize)> = Vec::with_capacity(actions.len());
    for (index, (action, slot)) in actions.iter().zip(slots).enumerate() {
        match slot {
            Some(slot) => order.push((*slot, !action.is_write, action.invoked, index)),
            // An open write that nobody saw by its version never happened.
            None if action.is_open() => {}
            None => return false,
        }
    }
    order.sort_unstable();
    let mut begun: Position = 0;
    order.iter().all(|&(slot, _, invoked, index)| {
        let in_time = actions[index].completed >= begun;
        begun = begun.max(invoked);
        in_time && values[slot as usize] == actions[index].value
    })
}
