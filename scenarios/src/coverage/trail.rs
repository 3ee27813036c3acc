//! What the nodes of a shard recorded, as the situations that it went through.
//!
//! The model takes a step of a member and the sync that it asks for as one; in a run they are apart, and others do something in
//! between. So events are told here as the model would tell them:
//! - what one node records at one instant is one step; a sync or a new shard record begins another;
//! - a **writer** has on its disk at once what it appends: the `EpochStart` when it is promoted, and any other entry just before the
//!   first member syncs it. A promotion of which no entry ever came is only a promise;
//! - a **truncation** counts when it is synced, with what is appended in its place;
//! - a **crash** is the moment at which the nemesis takes the node down, if the next that it records is that it starts again. What it
//!   recovers was there before;
//! - a **promise** counts at once. One that a power loss takes before it is synced is taken for kept, as the model has it that such a
//!   loss comes a moment later.

use std::collections::{BTreeMap, BTreeSet};

use checker::{NodeEvent, NodeEventKind};
use kv_core::{Epoch, Offset, Version};
use model::projection::{Projection, View};
use serde_json::Value;

/// The voters and the write quorum of the shards that the known situations are of.
const VOTERS: usize = 3;
const WRITE_QUORUM: u32 = 2;

/// What a shard went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Its situations, each another than the one before, from the first writer on.
    pub situations: Vec<Projection>,
    /// Two steps that the model takes as one as well: a member promises and appends.
    pub joined: Vec<(Projection, Projection)>,
}

impl Trail {
    /// The trail of every shard of three voters, two of whom must have a write.
    #[must_use]
    pub fn all(events: &[NodeEvent]) -> Vec<Self> {
        let shards: BTreeSet<u32> = events
            .iter()
            .filter_map(|event| event.kind.shard())
            .collect();
        let trail = |shard| Some(Walk::new(shard, voters(shard, events)?, events).go(events));
        shards.into_iter().filter_map(trail).collect()
    }

    /// The steps from one situation to another.
    pub fn transitions(&self) -> impl Iterator<Item = (Projection, Projection)> + '_ {
        let steps = self.situations.windows(2);
        let steps = steps.map(|two| (two[0].clone(), two[1].clone()));
        steps.chain(self.joined.iter().cloned())
    }
}

/// The voters of a shard, if they fit and stay the same.
fn voters(shard: u32, events: &[NodeEvent]) -> Option<BTreeSet<u64>> {
    let mut found = None;
    for event in events {
        let NodeEventKind::Shard {
            shard: of,
            voters,
            write_quorum,
            ..
        } = &event.kind
        else {
            continue;
        };
        if *of != shard {
            continue;
        }
        let voters: BTreeSet<u64> = voters.iter().copied().collect();
        let fits = voters.len() == VOTERS && *write_quorum == WRITE_QUORUM;
        if !fits || found.as_ref().is_some_and(|found| *found != voters) {
            return None;
        }
        found = Some(voters);
    }
    found
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    view: View,
    /// Which life of the node.
    incarnation: u64,
    /// Whether a truncation waits for its sync.
    cuts: bool,
    is_down: bool,
}

/// A member that has just raised its promise.
#[derive(Clone, Debug)]
struct Raised {
    node: u64,
    epoch: u64,
    /// The situation before.
    before: Projection,
}

/// The way through the events.
struct Walk {
    shard: u32,
    members: BTreeMap<u64, Member>,
    committed: Version,
    /// By epoch: its first entry that anybody ever had.
    opened: BTreeMap<u64, Version>,
    /// By node and life: the end of the log that it began with.
    recovered: BTreeMap<(u64, u64), Version>,
    /// By node: the places of its events, and in which life.
    lives: BTreeMap<u64, BTreeMap<usize, u64>>,
    down: BTreeSet<u64>,
    /// The instant that the latest event belongs to: whose, in which life, when.
    instant: Option<(Option<u64>, u64, u64)>,
    /// A promise in the present step, and in the step before.
    promising: Option<Raised>,
    promised: Option<Raised>,
    trail: Trail,
}

impl Walk {
    fn new(shard: u32, voters: BTreeSet<u64>, events: &[NodeEvent]) -> Self {
        let mut walk = Self {
            shard,
            members: voters
                .into_iter()
                .map(|node| (node, Member::default()))
                .collect(),
            committed: Version::ZERO,
            opened: BTreeMap::new(),
            recovered: BTreeMap::new(),
            lives: BTreeMap::new(),
            down: BTreeSet::new(),
            instant: None,
            promising: None,
            promised: None,
            trail: Trail::default(),
        };
        for (place, event) in events.iter().enumerate() {
            walk.look_ahead(place, event);
        }
        walk
    }

    fn look_ahead(&mut self, place: usize, event: &NodeEvent) {
        let Some(node) = event.node.filter(|node| self.members.contains_key(node)) else {
            return;
        };
        let life = event.incarnation;
        if life > 0 {
            self.lives.entry(node).or_default().insert(place, life);
        }
        let Some((shard, entry)) = event.kind.entry() else {
            return;
        };
        if shard != self.shard {
            return;
        }
        let entry = version(entry.epoch, entry.offset);
        if matches!(event.kind, NodeEventKind::Synced { .. }) {
            self.recovered.entry((node, life)).or_insert(entry);
        }
        let first = self.opened.entry(entry.epoch.0).or_insert(entry);
        *first = entry.min(*first);
    }

    fn go(mut self, events: &[NodeEvent]) -> Trail {
        for (place, event) in events.iter().enumerate() {
            let instant = (event.node, event.incarnation, event.time);
            let begins = matches!(
                event.kind,
                NodeEventKind::Synced { .. } | NodeEventKind::Shard { .. }
            );
            if self.instant != Some(instant) || begins {
                self.arrive();
            }
            self.instant = Some(instant);
            self.take(place, event);
        }
        self.arrive();
        self.trail
    }

    fn take(&mut self, place: usize, event: &NodeEvent) {
        if let NodeEventKind::Links { down, .. } = &event.kind {
            let down: BTreeSet<u64> = down.iter().copied().collect();
            for node in &down - &self.down {
                self.go_down(node, place);
            }
            self.down = down;
        }
        let Some(node) = event.node.filter(|node| self.members.contains_key(node)) else {
            return;
        };
        let life = event.incarnation;
        if life > self.members[&node].incarnation {
            self.crash(node, life);
            let member = self.member(node);
            member.incarnation = life;
            member.is_down = false;
        }
        if event.kind.shard() != Some(self.shard) {
            return;
        }
        match &event.kind {
            NodeEventKind::Synced { epoch, offset, .. } => {
                self.on_synced(node, version(*epoch, *offset));
            }
            NodeEventKind::Committed { epoch, offset, .. } => {
                self.committed = self.committed.max(version(*epoch, *offset));
            }
            NodeEventKind::Truncated { .. } => self.member(node).cuts = true,
            NodeEventKind::Other { kind, fields } => {
                let epoch = fields.get("epoch").and_then(Value::as_u64);
                match (kind.as_str(), epoch) {
                    ("promoted" | "rolled_back", Some(epoch)) => self.on_promoted(node, epoch),
                    ("promised", Some(epoch)) => self.on_promised(node, epoch),
                    ("demoted", _) => self.member(node).view.writes = false,
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, node: u64) -> &mut Member {
        self.members
            .get_mut(&node)
            .expect("only events of members are looked at")
    }

    fn on_promoted(&mut self, node: u64, epoch: u64) {
        let Some(end) = self.opened.get(&epoch).copied() else {
            return; // It came to nothing.
        };
        let view = &mut self.member(node).view;
        view.writes = true;
        view.promised = epoch;
        view.end = view.end.max(end);
    }

    fn on_promised(&mut self, node: u64, epoch: u64) {
        if let Some(before) = self.trail.situations.last() {
            let before = before.clone();
            self.promising = Some(Raised {
                node,
                epoch,
                before,
            });
        }
        let view = &mut self.member(node).view;
        view.promised = view.promised.max(epoch);
    }

    fn on_synced(&mut self, node: u64, end: Version) {
        self.written(node, end);
        let member = self.member(node);
        let view = &mut member.view;
        if view.writes {
            if end.epoch.0 == view.promised {
                view.end = view.end.max(end);
            }
            // What was synced of an earlier epoch is given up, or below the start of its own.
            return self.arrive(); // It was appended before what the sync makes committed.
        }
        view.end = match std::mem::take(&mut member.cuts) {
            true => end,
            false => view.end.max(end),
        };
        let promised = self.promised.take();
        if let Some(promised) = promised
            && (promised.node, promised.epoch) == (node, end.epoch.0)
        {
            self.arrive();
            if let Some(now) = self.trail.situations.last().cloned()
                && now != promised.before
            {
                self.trail.joined.push((promised.before, now));
            }
        }
    }

    /// The writer of the epoch had the entry before any other member.
    fn written(&mut self, node: u64, end: Version) {
        let is_of = |member: &Member| member.view.writes && member.view.promised == end.epoch.0;
        let mut others = self.members.iter_mut().filter(|(other, _)| **other != node);
        if let Some((_, writer)) = others.find(|(_, member)| is_of(member))
            && writer.view.end < end
        {
            writer.view.end = end;
            self.arrive();
        }
    }

    /// A node goes down, or stands still: it is down if it starts anew.
    fn go_down(&mut self, node: u64, place: usize) {
        let Some(member) = self.members.get(&node) else {
            return;
        };
        let later = self.lives.get(&node).into_iter();
        let next = later
            .flat_map(|lives| lives.range(place..))
            .map(|(_, life)| *life)
            .next();
        if let Some(next) = next
            && next > member.incarnation
        {
            self.crash(node, next);
        }
    }

    /// The node loses its role, and what is not on its disk, until its next life.
    fn crash(&mut self, node: u64, next: u64) {
        self.arrive();
        let member = self.member(node);
        if std::mem::replace(&mut member.is_down, true) {
            return;
        }
        let end = member.view.end;
        let recovered = self.recovered.get(&(node, next)).copied().unwrap_or(end);
        if recovered > end {
            self.written(node, recovered);
            self.member(node).view.end = recovered;
            self.arrive();
        }
        let member = self.member(node);
        member.view.writes = false;
        member.view.end = recovered;
        member.cuts = false;
        self.arrive();
    }

    /// The present situation is one of the trail, if it is another than the last. The trail begins with the first writer.
    fn arrive(&mut self) {
        let promising = self.promising.take();
        let views: Vec<View> = self.members.values().map(|member| member.view).collect();
        let begins = self.trail.situations.is_empty();
        if begins && !views.iter().any(|view| view.writes) {
            return;
        }
        let situation = Projection::of(&views, self.committed);
        if self.trail.situations.last() != Some(&situation) {
            self.trail.situations.push(situation);
            self.promised = promising;
        }
    }
}

fn version(epoch: u64, offset: u64) -> Version {
    Version::new(Epoch(epoch), Offset(offset))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Something that a node records; what it records next belongs to the same instant.
    pub(crate) fn at(node: u64, life: u64, kind: NodeEventKind) -> NodeEvent {
        NodeEvent {
            index: 0,
            time: 0,
            node: Some(node),
            incarnation: life,
            sequence: 0,
            kind,
        }
    }

    pub(crate) fn synced(epoch: u64, offset: u64) -> NodeEventKind {
        NodeEventKind::Synced {
            shard: 0,
            epoch,
            offset,
        }
    }

    pub(crate) fn committed(epoch: u64, offset: u64) -> NodeEventKind {
        NodeEventKind::Committed {
            shard: 0,
            epoch,
            offset,
            chain: 0,
        }
    }

    fn in_epoch(kind: &str, epoch: u64) -> NodeEventKind {
        NodeEventKind::other(kind, [("shard", 0.into()), ("epoch", epoch.into())])
    }

    fn down(nodes: &[u64]) -> NodeEvent {
        let links = NodeEventKind::Links {
            down: nodes.to_vec(),
            cut: Vec::new(),
            grace_ns: 0,
        };
        NodeEvent {
            node: None,
            ..at(0, 0, links)
        }
    }

    fn record(voters: &[u64]) -> NodeEventKind {
        NodeEventKind::Shard {
            shard: 0,
            epoch: 1,
            voters: voters.to_vec(),
            write_quorum: 2,
            writer: Some(1),
        }
    }

    /// Node 1 is the writer of epoch 1; node 2 has its first entry, and it is committed.
    pub(crate) fn first_commit() -> Vec<NodeEvent> {
        vec![
            at(1, 1, NodeEventKind::Started {}),
            at(2, 1, NodeEventKind::Started {}),
            at(3, 1, NodeEventKind::Started {}),
            at(3, 1, synced(0, 0)), // What it recovered: every life begins with that.
            at(2, 1, synced(0, 0)),
            at(2, 1, record(&[1, 2, 3])),
            at(1, 1, synced(0, 0)),
            at(1, 1, record(&[1, 2, 3])),
            at(1, 1, in_epoch("promoted", 1)),
            at(1, 1, in_epoch("promised", 1)),
            at(2, 1, in_epoch("promised", 1)),
            at(2, 1, synced(1, 1)),
            at(1, 1, synced(1, 1)),
            at(1, 1, committed(1, 1)),
            at(2, 1, committed(1, 1)),
        ]
    }

    /// The trail of the only shard.
    fn trail(events: Vec<NodeEvent>) -> Trail {
        let [trail] = Trail::all(&events).try_into().expect("there is one shard");
        trail
    }

    fn situations(trail: &Trail) -> Vec<String> {
        trail.situations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_shard_goes_from_its_first_writer_to_its_first_commit() {
        let trail = trail(first_commit());
        assert_eq!(
            situations(&trail),
            [
                "-0.0 -0.0 w1.1 c0",
                "-0.0 -1.0 w1.1 c0",
                "-0.0 -1.1 w1.1 c0",
                "-0.0 -1.1 w1.1 c1"
            ]
        );
        let (from, to) = &trail.joined[0];
        let joined = (from.to_string(), to.to_string());
        assert_eq!(
            joined,
            ("-0.0 -0.0 w1.1 c0".into(), "-0.0 -1.1 w1.1 c0".into())
        );
    }

    #[test]
    fn a_writer_has_what_another_syncs_before_itself() {
        let mut events = first_commit();
        events.push(at(2, 1, synced(1, 2)));
        let trail = situations(&trail(events));
        assert_eq!(trail[4..], ["-0.0 -1.1 w1.2 c1", "-0.0 -1.2 w1.2 c1"]);
    }

    #[test]
    fn a_writer_that_goes_down_writes_no_longer_and_one_that_stands_still_does() {
        let mut events = first_commit();
        events.push(down(&[1]));
        events.push(at(2, 1, in_epoch("promised", 2)));
        let still = situations(&trail(events.clone()));
        assert_eq!(still[4..], ["-0.0 -2.1 w1.1 c1"]);
        events.push(at(1, 2, NodeEventKind::Started {}));
        events.push(at(1, 2, synced(1, 1)));
        let dead = situations(&trail(events));
        assert_eq!(dead[4..], ["-0.0 -1.1 -1.1 c1", "-0.0 -1.1 -2.1 c1"]);
    }

    #[test]
    fn what_a_power_loss_takes_is_gone_and_what_it_leaves_was_there() {
        let restarted = |end| {
            let mut events = first_commit();
            events.push(at(2, 2, NodeEventKind::Started {}));
            events.push(at(2, 2, end));
            situations(&trail(events))[4..].to_vec()
        };
        assert_eq!(restarted(synced(0, 0)), ["-0.0 -1.0 w1.1 c1"]);
        assert_eq!(
            restarted(synced(1, 2)),
            ["-0.0 -1.1 w1.2 c1", "-0.0 -1.2 w1.2 c1"]
        );
    }

    #[test]
    fn a_truncation_counts_when_it_is_synced() {
        let mut events = first_commit();
        events.push(at(1, 1, synced(1, 2)));
        events.push(at(1, 1, in_epoch("demoted", 1)));
        events.push(at(1, 1, in_epoch("promised", 2)));
        events.push(at(1, 1, NodeEventKind::Truncated { shard: 0, after: 1 }));
        events.push(at(2, 1, in_epoch("promised", 2)));
        events.push(at(1, 1, synced(1, 1)));
        let trail = situations(&trail(events));
        assert_eq!(
            trail[4..],
            [
                "-0.0 -1.1 w1.2 c1",
                "-0.0 -1.1 -2.2 c1",
                "-0.0 -2.1 -2.2 c1",
                "-0.0 -2.1 -2.1 c1"
            ]
        );
    }

    #[test]
    fn a_promotion_that_came_to_nothing_is_only_a_promise() {
        let mut events = first_commit();
        events.push(at(2, 1, in_epoch("promoted", 2)));
        events.push(at(2, 1, in_epoch("promised", 2)));
        assert_eq!(situations(&trail(events))[4..], ["-0.0 -2.1 w1.1 c1"]);
    }

    #[test]
    fn a_shard_of_other_quorums_has_no_trail() {
        let mut events = first_commit();
        events.push(at(2, 1, record(&[1, 2, 3, 4, 5])));
        assert_eq!(Trail::all(&events), []);
        assert_eq!(Trail::all(&[]), []);
    }
}
