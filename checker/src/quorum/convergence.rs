//! Convergence: when nothing has been written for T, live members have one applied position and one digest.
//!
//! At the end of a run, after a silence of T, a `final_state` of each member is written down. All voters of a shard's
//! newest configuration that are live must agree on the last entry that they have applied (its offset, and its epoch
//! where both tell it) and on the digest of what they hold. Without configurations, all that are recorded must agree.
//!
//! The silence is checked: a write to the shard (or to one that nobody knows) that was asked or answered within
//! `quiet_ns` before the first of these events, or between them, makes the verdict `unknown`. So do a voter of which
//! nothing is recorded, and fewer than two live members of a shard that has more.
//!
//! This is the eventual consistency of Terry et al. (*Managing update conflicts in Bayou*, SOSP 1995), with a bound.

use std::collections::BTreeSet;

use super::records::{Configuration, FinalState, Records, witness};
use crate::{
    history::{History, Operation, Outcome},
    verdict::{Milliseconds, Verdict},
};

/// Judges convergence.
pub fn judge(history: &History, records: &Records<'_>) -> Verdict {
    let mut shards: BTreeSet<u32> = records.finished().collect();
    if shards.is_empty() {
        return Verdict::unknown(
            "no final_state is recorded, which tells what each member holds at the end",
        );
    }
    if !history.is_indexed() {
        return Verdict::unknown(
            "the history carries no index that places it among the node events",
        );
    }
    shards.extend(records.configured());
    let mut verdict = Verdict::Holds;
    for shard in shards {
        verdict = verdict.and(judge_shard(history, records, shard));
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

fn judge_shard(history: &History, records: &Records<'_>, shard: u32) -> Verdict {
    let configuration = records.newest(shard);
    let states: Vec<FinalState<'_>> = match &configuration {
        Some(configuration) => records
            .final_states(shard)
            .filter(|state| configuration.voters.contains(&state.node))
            .collect(),
        None => records.final_states(shard).collect(),
    };
    let voters = configuration.map_or(&[][..], |configuration| configuration.voters);
    let is_missing = |voter: &&u64| !states.iter().any(|state| state.node == **voter);
    if let Some(missing) = voters.iter().find(is_missing) {
        return Verdict::unknown(format!(
            "no final_state of node {missing} is recorded, a voter of shard {shard}"
        ));
    }
    if let Some(verdict) = disturbed(history, &states, shard) {
        return verdict;
    }
    let mut live: Vec<FinalState<'_>> = states.into_iter().filter(|state| state.live).collect();
    if live.is_empty() || (live.len() == 1 && voters.len() != 1) {
        return Verdict::unknown(format!(
            "{} of shard {shard} is live at the end, so there is nothing to compare",
            live.first().map_or("no member".to_owned(), |state| format!(
                "only node {}",
                state.node
            ))
        ));
    }
    // The writer tells the story best.
    let writer = configuration.and_then(|configuration| configuration.writer);
    live.sort_by_key(|state| (Some(state.node) != writer, state.node));
    match live.iter().find(|state| differ(&live[0], state)) {
        Some(other) => violated(shard, configuration, &live[0], other),
        None => Verdict::Holds,
    }
}

fn differ(one: &FinalState<'_>, other: &FinalState<'_>) -> bool {
    let both_tell_the_epoch = one.name.epoch != 0 && other.name.epoch != 0;
    one.name.offset != other.name.offset
        || one.digest != other.digest
        || (both_tell_the_epoch && one.name.epoch != other.name.epoch)
}

/// Whether something may have been written to a shard too shortly before its members said what they hold.
fn disturbed(history: &History, states: &[FinalState<'_>], shard: u32) -> Option<Verdict> {
    let first = states.iter().min_by_key(|state| state.event.index)?;
    let last = states.iter().map(|state| state.event.index).max()?;
    let quiet_since = first.event.time.saturating_sub(first.quiet_ns);
    let disturbs = |write: &&Operation| {
        let may_be_here = write.shard.is_none_or(|of| of == shard);
        let begun = history.invoked_index(write) < Some(last);
        let ended = history
            .completed_time(write)
            .unwrap_or(history.invoked_time(write));
        let ended_late = history.completed_index(write) > Some(first.event.index);
        write.is_write()
            && write.outcome != Outcome::Fail
            && may_be_here
            && begun
            && (ended > quiet_since || ended_late)
    };
    let write = history.operations().iter().rfind(disturbs)?;
    Some(Verdict::unknown(format!(
        "{} was written to in event {}, less than {} ms before the final_state of shard {shard}",
        history.key_name(write.key),
        write.invoked + 1,
        Milliseconds(first.quiet_ns)
    )))
}

fn violated(
    shard: u32,
    configuration: Option<Configuration<'_>>,
    one: &FinalState<'_>,
    other: &FinalState<'_>,
) -> Verdict {
    let what = if one.name == other.name {
        "are equally far and hold different things".to_owned()
    } else {
        format!("are at {} and at {}", one.name, other.name)
    };
    let why = format!(
        "nodes {} and {} of shard {shard} {what}, though nothing had been written for {} ms",
        one.node,
        other.node,
        Milliseconds(one.quiet_ns)
    );
    let mut events = vec![one.event, other.event];
    events.extend(configuration.map(|configuration| configuration.event));
    events.sort_by_key(|event| event.index);
    Verdict::violated(why, events.into_iter().map(witness).collect())
}
