//! No quorum, no ack: no `ok` write lies wholly inside an interval in which fewer than Q members were connected.
//!
//! To acknowledge a write, the writer must ask Q − 1 other voters and hear from each of them, after the write was
//! invoked and before it is `ok`. It need not reach them all at once, nor hear in the moment in which it asks. So for a
//! violation, over the whole time of the write, no voter that may have answered it had Q − 1 others such that
//! 1. it was up at some moment, and so was the other;
//! 2. the link from it to the other was there at some moment, and so was the link back.
//!
//! This is more lenient than to look at each moment alone: a write that gathers its quorum one by one through links
//! that come and go is no violation, and what was sent into a cut link may be sent again by the operating system when
//! it mends, even if the sender is paused by then. A write is a violation if it is `ok` inside of a lasting partition.
//!
//! The voter that may have answered is the node that the answer names, if it is a voter, and any voter otherwise. Voters
//! and Q are those of any configuration that was published before the `ok`, of the epoch of the write's entry or a
//! later one; a violation needs that none of them would do.
//!
//! A `links` event says what is up and linked from that moment on. The moment is only about right: each state counts
//! from `grace_ns` before its event until `grace_ns` after the next. So a write that began or ended so close to a
//! change is judged by the states on both sides of it. Without `links` events, and for a write that began before the
//! first of them, the verdict is `unknown`.
//!
//! The rule is Gifford's, *Weighted voting for replicated data* (SOSP 1979): a write has gathered its write quorum before
//! it is done, so that what cannot be gathered cannot be done.

use std::collections::BTreeMap;

use super::records::{Configuration, Links, Records, witness};
use crate::{
    history::{History, Operation, Version},
    node_events::NodeEvent,
    verdict::{Milliseconds, Verdict, Witness},
};

/// Judges no quorum, no ack.
pub fn judge(history: &History, records: &Records<'_>) -> Verdict {
    if records.links().is_empty() {
        return Verdict::unknown(
            "nothing is known of the links between the nodes: no links event is recorded",
        );
    }
    if !history.is_indexed() {
        return Verdict::unknown(
            "the history carries no index that places it among the node events",
        );
    }
    let mut judge = Judge {
        history,
        records,
        only_shard: records.only_shard(),
        known: BTreeMap::new(),
    };
    let mut verdict = Verdict::Holds;
    for write in history
        .operations()
        .iter()
        .filter(|operation| operation.is_write() && operation.is_ok())
    {
        verdict = verdict.and(judge.write(write).unwrap_or(Verdict::Holds));
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

/// Which states of the links a write may have met, under which configuration, and who may have answered it.
type Case = (usize, usize, u64, Option<u64>);

struct Judge<'a, 'e> {
    history: &'a History,
    records: &'a Records<'e>,
    only_shard: Option<u32>,
    /// Whether a quorum was connected, by case: many writes share one.
    known: BTreeMap<Case, bool>,
}

impl<'e> Judge<'_, 'e> {
    /// Judges one write. `None` stands for what holds.
    fn write(&mut self, write: &Operation) -> Option<Verdict> {
        let key = self.history.key_name(write.key);
        let line = write.invoked + 1;
        let Some(shard) = write.shard.or(self.only_shard) else {
            return Some(Verdict::unknown(format!(
                "the write of {key} in event {line} does not say which shard it is in"
            )));
        };
        let asked = self.history.invoked_index(write)?;
        if asked < self.records.links()[0].event.index {
            return Some(Verdict::unknown(format!(
                "the write of {key} in event {line} began before the first links event"
            )));
        }
        let (first, last) = self.states(write)?;
        let configurations = self.configurations(shard, write);
        let Some(newest) = configurations.last().copied() else {
            return Some(Verdict::unknown(format!(
                "no configuration of shard {shard} is recorded before the write of {key} in event {line} was ok"
            )));
        };
        for configuration in configurations.iter().rev() {
            let by = write
                .node
                .filter(|node| configuration.voters.contains(node));
            let case = (first, last, configuration.event.index, by);
            let states = &self.records.links()[first..=last];
            let is_connected = self
                .known
                .entry(case)
                .or_insert_with(|| has_quorum(states, configuration, by));
            if *is_connected {
                return None;
            }
        }
        Some(self.violated(write, shard, &newest, (first, last)))
    }

    /// The first and the last state of the links that the write may have met.
    fn states(&self, write: &Operation) -> Option<(usize, usize)> {
        let links = self.records.links();
        let index = (
            self.history.invoked_index(write)?,
            self.history.completed_index(write)?,
        );
        let time = (
            self.history.invoked_time(write),
            self.history.completed_time(write)?,
        );
        let begins = |state: &Links<'_>| state.event.time.saturating_sub(state.grace_ns);
        // A state lasts until a little after the next event.
        let ends = |next: &Links<'_>| next.event.time.saturating_add(next.grace_ns);
        // By the order of events, and then as far to both sides as the time allows.
        let upto = |index| links.partition_point(|state| state.event.index < index);
        let mut first = upto(index.0).saturating_sub(1);
        while first > 0 && ends(&links[first]) >= time.0 {
            first -= 1;
        }
        let mut last = upto(index.1).saturating_sub(1);
        while links
            .get(last + 1)
            .is_some_and(|next| begins(next) <= time.1)
        {
            last += 1;
        }
        Some((first, last.max(first)))
    }

    /// The configurations that the writer may have acted under, the oldest epoch first.
    fn configurations(&self, shard: u32, write: &Operation) -> Vec<Configuration<'e>> {
        let epoch_min = write.version.map_or(0, |Version { epoch, .. }| epoch);
        let answered = self.history.completed_index(write);
        let known = self.records.configurations(shard).iter();
        let mut found: Vec<Configuration<'e>> = known
            .filter(|known| known.epoch >= epoch_min && Some(known.event.index) < answered)
            .copied()
            .collect();
        found.sort_by_key(|known| known.epoch);
        found.dedup_by_key(|known| (known.voters, known.write_quorum));
        found
    }

    fn violated(
        &self,
        write: &Operation,
        shard: u32,
        configuration: &Configuration<'e>,
        (first, last): (usize, usize),
    ) -> Verdict {
        let links = self.records.links();
        let voters = configuration.voters;
        let needed = configuration.write_quorum;
        let who = match write.node.filter(|node| voters.contains(node)) {
            Some(node) => {
                let reached = reached(&links[first..=last], voters, node);
                let reached = match reached.as_deref() {
                    None => "being down".to_owned(),
                    Some([]) => "linked both ways with no other voter".to_owned(),
                    Some(reached) => format!("linked both ways with {reached:?} alone"),
                };
                format!("node {node}, {reached}, could not reach {needed} of the voters {voters:?}")
            }
            None => format!("none of the voters {voters:?} could reach {needed} of them"),
        };
        let why = format!(
            "the write {} = {} in shard {shard} was ok between {} and {} ms, though all that time {who}",
            self.history.key_name(write.key),
            self.history.value_text(write),
            Milliseconds(self.history.invoked_time(write)),
            Milliseconds(self.history.completed_time(write).unwrap_or_default()),
        );
        let mut events: Vec<&NodeEvent> = vec![configuration.event, links[first].event];
        if last > first {
            events.push(links[last].event);
        }
        events.sort_by_key(|event| event.index);
        let mut story: Vec<Witness> = events.into_iter().map(witness).collect();
        story.push(self.history.witness(write));
        Verdict::violated(why, story)
    }
}

/// Whether one of those who may have answered could gather a quorum over these states.
fn has_quorum(states: &[Links<'_>], configuration: &Configuration<'_>, by: Option<u64>) -> bool {
    let voters = configuration.voters;
    let gathers = |node: u64| {
        let reached = reached(states, voters, node);
        reached.is_some_and(|reached| reached.len() + 1 >= configuration.write_quorum)
    };
    match by {
        Some(node) => gathers(node),
        None => voters.iter().any(|node| gathers(*node)),
    }
}

/// Which of the other voters a node could exchange messages with over these states; none if it was down all the time.
fn reached(states: &[Links<'_>], voters: &[u64], node: u64) -> Option<Vec<u64>> {
    let is_up = |node: u64| states.iter().any(|state| !state.down.contains(&node));
    let leads = |from: u64, to: u64| states.iter().any(|state| !state.cut.contains(&(from, to)));
    let is_reached =
        |other: &u64| *other != node && is_up(*other) && leads(node, *other) && leads(*other, node);
    is_up(node).then(|| voters.iter().copied().filter(is_reached).collect())
}
