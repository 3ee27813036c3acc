//! What each member of each shard recorded, arranged for looking entries up by name.
//!
//! A member's log is known by three kinds of events: up to which entry it is durable (`synced`), which entries it
//! committed (`committed`), and where it was cut (`truncated`, `lost`). Epochs never fall along a log, so a log that
//! is durable up to (e2, o2) holds the entry (e, o) durable if o ≤ o2 and e ≤ e2, as long as it is not cut below o:
//! the member's own `committed` says that the entry at o is of epoch e and not of another.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    history::Version,
    node_events::{NodeEvent, NodeEventKind as Kind},
    verdict::Witness,
};

/// All node events of a run, by shard and member.
pub struct Records<'e> {
    present: BTreeSet<u64>,
    members: BTreeMap<(u32, u64), MemberLog<'e>>,
    configurations: BTreeMap<u32, Vec<Configuration<'e>>>,
    acknowledged: BTreeMap<(u32, Version), Vec<Acknowledged<'e>>>,
    final_logs: BTreeMap<u32, FinalLog<'e>>,
    links: Vec<Links<'e>>,
    promoted: Vec<Promoted<'e>>,
    final_states: BTreeMap<(u32, u64), FinalState<'e>>,
    healed: Option<&'e NodeEvent>,
    probes: BTreeMap<u32, Probe<'e>>,
    last: Option<u64>,
}

/// The configuration of an epoch.
#[derive(Clone, Copy)]
pub(crate) struct Configuration<'e> {
    pub(crate) epoch: u64,
    pub(crate) voters: &'e [u64],
    pub(crate) write_quorum: usize,
    pub(crate) writer: Option<u64>,
    pub(crate) event: &'e NodeEvent,
}

/// A writer's answer `ok`, with whom it counted.
#[derive(Clone, Copy)]
pub(crate) struct Acknowledged<'e> {
    pub(crate) members: &'e [u64],
    pub(crate) node: Option<u64>,
    pub(crate) event: &'e NodeEvent,
}

/// What a shard's log holds at the end.
#[derive(Clone, Copy)]
pub(crate) struct FinalLog<'e> {
    pub(crate) runs: &'e [(u64, u64, u64)],
    pub(crate) committed: u64,
    pub(crate) event: &'e NodeEvent,
}

/// The links between nodes from a moment on.
#[derive(Clone, Copy)]
pub(crate) struct Links<'e> {
    pub(crate) down: &'e [u64],
    pub(crate) cut: &'e [(u64, u64)],
    pub(crate) grace_ns: u64,
    pub(crate) event: &'e NodeEvent,
}

/// A node that became the writer of an epoch.
#[derive(Clone, Copy)]
pub(crate) struct Promoted<'e> {
    pub(crate) shard: u32,
    pub(crate) epoch: u64,
    pub(crate) event: &'e NodeEvent,
}

/// What a member holds at the end.
#[derive(Clone, Copy)]
pub(crate) struct FinalState<'e> {
    pub(crate) node: u64,
    pub(crate) name: Version,
    pub(crate) digest: u64,
    pub(crate) live: bool,
    pub(crate) quiet_ns: u64,
    pub(crate) event: &'e NodeEvent,
}

/// Who shows that a shard works again.
#[derive(Clone, Copy)]
pub(crate) struct Probe<'e> {
    pub(crate) session: u64,
    pub(crate) key: &'e str,
    pub(crate) within_ns: u64,
    pub(crate) event: &'e NodeEvent,
}

/// An entry that a member committed.
#[derive(Clone, Copy)]
pub(crate) struct Committed<'e> {
    pub(crate) version: Version,
    pub(crate) chain: u32,
    pub(crate) event: &'e NodeEvent,
}

/// One member's log, as far as its events tell.
#[derive(Default)]
pub(crate) struct MemberLog<'e> {
    synced: Vec<(Version, &'e NodeEvent)>,
    committed: Vec<Committed<'e>>,
    cuts: Vec<(u64, &'e NodeEvent)>,
    /// The snapshots that it took over: all up to such an entry was durable and committed here from then on.
    installed: Vec<Committed<'e>>,
}

/// What a member's events say about one entry before a moment.
pub(crate) enum Proof<'e> {
    /// It had synced and committed it.
    Shown(Committed<'e>),
    /// It had taken over a snapshot that covers the entry, up to this one.
    TakenOver(Committed<'e>),
    /// There are no events of that node at all.
    NoLog,
    /// Its events are there, and they do not show it.
    Lacking {
        why: &'static str,
        event: Option<&'e NodeEvent>,
    },
}

impl<'e> Records<'e> {
    /// Arranges the events, in whatever order they are given.
    pub fn new(events: &'e [NodeEvent]) -> Self {
        let mut ordered: Vec<&NodeEvent> = events.iter().collect();
        ordered.sort_by_key(|event| event.index);
        let mut records = Self {
            present: BTreeSet::new(),
            members: BTreeMap::new(),
            configurations: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            final_logs: BTreeMap::new(),
            links: Vec::new(),
            promoted: Vec::new(),
            final_states: BTreeMap::new(),
            healed: None,
            probes: BTreeMap::new(),
            last: ordered.last().map(|event| event.index),
        };
        for event in ordered {
            records.add(event);
        }
        for log in records.members.values_mut() {
            log.committed
                .sort_by_key(|committed| (committed.version, committed.event.index));
        }
        records
    }

    fn add(&mut self, event: &'e NodeEvent) {
        if let Some((shard, name)) = event.kind.entry() {
            self.add_entry(shard, name, event);
        }
        match &event.kind {
            Kind::Shard {
                shard,
                epoch,
                voters,
                write_quorum,
                writer,
            } => {
                self.configurations
                    .entry(*shard)
                    .or_default()
                    .push(Configuration {
                        epoch: *epoch,
                        voters,
                        write_quorum: *write_quorum as usize,
                        writer: *writer,
                        event,
                    });
            }
            Kind::FinalLog {
                shard,
                runs,
                committed,
            } => {
                let committed = *committed;
                self.final_logs.insert(
                    *shard,
                    FinalLog {
                        runs,
                        committed,
                        event,
                    },
                );
            }
            Kind::Truncated { shard, after } | Kind::Lost { shard, after } => {
                if let Some(node) = event.node {
                    self.member(*shard, node).cuts.push((*after, event));
                }
            }
            Kind::Links {
                down,
                cut,
                grace_ns,
            } => self.links.push(Links {
                down,
                cut,
                grace_ns: *grace_ns,
                event,
            }),
            Kind::Probe {
                shard,
                session,
                key,
                within_ns,
            } => {
                let probe = Probe {
                    session: *session,
                    key,
                    within_ns: *within_ns,
                    event,
                };
                self.probes.insert(*shard, probe);
            }
            Kind::FinalState { .. } => self.add_final_state(event),
            Kind::Other { kind, fields } => self.add_other(kind, fields, event),
            _ => {}
        }
        if is_by_the_node(&event.kind) {
            self.present.extend(event.node);
        }
    }

    fn add_entry(&mut self, shard: u32, name: Version, event: &'e NodeEvent) {
        match (&event.kind, event.node) {
            (Kind::Acknowledged { members, .. }, node) => {
                let acknowledged = Acknowledged {
                    members,
                    node,
                    event,
                };
                self.acknowledged
                    .entry((shard, name))
                    .or_default()
                    .push(acknowledged);
            }
            (Kind::Committed { chain, .. }, Some(node)) => {
                let committed = Committed {
                    version: name,
                    chain: *chain,
                    event,
                };
                self.member(shard, node).committed.push(committed);
            }
            (_, Some(node)) => self.member(shard, node).synced.push((name, event)),
            (_, None) => {}
        }
    }

    fn add_final_state(&mut self, event: &'e NodeEvent) {
        if let (
            Kind::FinalState {
                shard,
                epoch,
                committed,
                digest,
                live,
                quiet_ns,
            },
            Some(node),
        ) = (&event.kind, event.node)
        {
            let name = Version {
                epoch: *epoch,
                offset: *committed,
            };
            let state = FinalState {
                node,
                name,
                digest: *digest,
                live: *live,
                quiet_ns: *quiet_ns,
                event,
            };
            self.final_states.insert((*shard, node), state);
        }
    }

    fn add_other(&mut self, kind: &str, fields: &Map<String, Value>, event: &'e NodeEvent) {
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        let epoch = || number("epoch");
        match kind {
            "healed" => self.healed = Some(event),
            "installed" => {
                if let (Some(shard), Some(node), Some(epoch), Some(offset), Some(chain)) = (
                    event.kind.shard(),
                    event.node,
                    epoch(),
                    number("offset"),
                    number("chain").and_then(|chain| u32::try_from(chain).ok()),
                ) {
                    let version = Version { epoch, offset };
                    self.member(shard, node).installed.push(Committed {
                        version,
                        chain,
                        event,
                    });
                }
            }
            "promoted" => {
                if let (Some(shard), Some(epoch)) = (event.kind.shard(), epoch()) {
                    self.promoted.push(Promoted {
                        shard,
                        epoch,
                        event,
                    });
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, shard: u32, node: u64) -> &mut MemberLog<'e> {
        self.members.entry((shard, node)).or_default()
    }

    /// Whether there is any event that this node recorded itself.
    pub(crate) fn is_present(&self, node: u64) -> bool {
        self.present.contains(&node)
    }

    /// Whether there are no events at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The only shard that the events are about, if it is one.
    pub(crate) fn only_shard(&self) -> Option<u32> {
        let mut shards: BTreeSet<u32> = self.members.keys().map(|(shard, _)| *shard).collect();
        shards.extend(self.configurations.keys().chain(self.final_logs.keys()));
        shards.extend(self.acknowledged.keys().map(|(shard, _)| shard));
        shards.first().copied().filter(|_| shards.len() == 1)
    }

    pub(crate) fn configurations(&self, shard: u32) -> &[Configuration<'e>] {
        self.configurations.get(&shard).map_or(&[], Vec::as_slice)
    }

    /// The shards of which a configuration is known.
    pub(crate) fn configured(&self) -> impl Iterator<Item = u32> {
        self.configurations.keys().copied()
    }

    /// The configuration of the highest epoch; of several, the one that was written down last.
    pub(crate) fn newest(&self, shard: u32) -> Option<Configuration<'e>> {
        let known = self.configurations(shard).iter();
        known
            .max_by_key(|known| (known.epoch, known.event.index))
            .copied()
    }

    /// What was written down about links, in order.
    pub(crate) fn links(&self) -> &[Links<'e>] {
        &self.links
    }

    /// Who became a writer, in order.
    pub(crate) fn promoted(&self) -> &[Promoted<'e>] {
        &self.promoted
    }

    /// All that was committed, by shard and member.
    pub(crate) fn all_committed(&self) -> impl Iterator<Item = (u32, &[Committed<'e>])> {
        self.members
            .iter()
            .map(|((shard, _), log)| (*shard, log.committed.as_slice()))
    }

    /// The shards with a final state of some member.
    pub(crate) fn finished(&self) -> impl Iterator<Item = u32> {
        self.final_states.keys().map(|(shard, _)| *shard)
    }

    /// What each member of a shard holds at the end.
    pub(crate) fn final_states(&self, shard: u32) -> impl Iterator<Item = FinalState<'e>> + Clone {
        let of_shard = self.final_states.range((shard, 0)..=(shard, u64::MAX));
        of_shard.map(|(_, state)| *state)
    }

    /// The moment in which the last fault had healed.
    pub(crate) fn healed(&self) -> Option<&'e NodeEvent> {
        self.healed
    }

    /// The probe of each shard.
    pub(crate) fn probes(&self) -> &BTreeMap<u32, Probe<'e>> {
        &self.probes
    }

    pub(crate) fn acknowledged(&self, shard: u32, name: Version) -> &[Acknowledged<'e>] {
        self.acknowledged
            .get(&(shard, name))
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn final_log(&self, shard: u32) -> Option<FinalLog<'e>> {
        self.final_logs.get(&shard).copied()
    }

    /// Whether any `final_log` was recorded.
    pub(crate) fn has_final_logs(&self) -> bool {
        !self.final_logs.is_empty()
    }

    /// The last time that a member committed this entry before the global index `before`.
    pub(crate) fn committed(
        &self,
        shard: u32,
        node: u64,
        name: Version,
        before: u64,
    ) -> Option<Committed<'e>> {
        self.members
            .get(&(shard, node))?
            .committed_before(name, before)
            .last()
            .copied()
    }

    /// The checksum of a member's log just below an offset, as it last committed it before the global index `before`.
    pub(crate) fn chain_below(
        &self,
        shard: u32,
        node: u64,
        offset: u64,
        before: u64,
    ) -> Option<u32> {
        let committed = &self.members.get(&(shard, node))?.committed;
        let below = committed.iter().filter(|found| {
            Some(found.version.offset) == offset.checked_sub(1) && found.event.index < before
        });
        below
            .max_by_key(|found| found.event.index)
            .map(|found| found.chain)
    }

    /// Whether nobody has committed that entry after another history.
    pub(crate) fn agree_on(&self, shard: u32, taken: &Committed<'_>) -> bool {
        let all = self.all_committed().filter(|(of, _)| *of == shard);
        let mut of_name = all
            .flat_map(|(_, committed)| committed.iter().filter(|it| it.version == taken.version));
        of_name.all(|committed| committed.chain == taken.chain)
    }

    /// Whether a member had synced and committed an entry before the global index `before`, and still held it then.
    pub(crate) fn proof(&self, shard: u32, node: u64, name: Version, before: u64) -> Proof<'e> {
        if !self.is_present(node) {
            return Proof::NoLog;
        }
        match self.members.get(&(shard, node)) {
            Some(log) => log.proof(name, before),
            None => Proof::Lacking {
                why: "recorded nothing about that shard",
                event: None,
            },
        }
    }
}

impl<'e> MemberLog<'e> {
    fn committed_before(&self, name: Version, before: u64) -> &[Committed<'e>] {
        let start = self
            .committed
            .partition_point(|committed| committed.version < name);
        let of_name = &self.committed[start..];
        let end =
            of_name.partition_point(|found| found.version == name && found.event.index < before);
        &of_name[..end]
    }

    fn proof(&self, name: Version, before: u64) -> Proof<'e> {
        let cut = self
            .cuts
            .iter()
            .rfind(|(after, event)| event.index < before && *after < name.offset);
        let durable_since = cut.map_or(0, |(_, event)| event.index);
        let committed = self.committed_before(name, before);
        let covers =
            |version: Version| version.offset >= name.offset && version.epoch >= name.epoch;
        let shown = committed.iter().find(|found| {
            let end = self
                .synced
                .partition_point(|(_, event)| event.index < found.event.index);
            let earlier = self.synced[..end].iter().rev();
            let mut since = earlier.take_while(|(_, event)| event.index >= durable_since);
            since.any(|(version, _)| covers(*version))
        });
        if let Some(shown) = shown {
            return Proof::Shown(*shown);
        }
        let taken = self.installed.iter().find(|taken| {
            let when = taken.event.index;
            covers(taken.version) && when < before && when >= durable_since
        });
        if let Some(taken) = taken {
            return Proof::TakenOver(*taken);
        }
        match (committed.last(), cut) {
            (Some(_), Some((_, cut))) => Proof::Lacking {
                why: "had removed it from its log, and did not sync and commit it again before",
                event: Some(cut),
            },
            (Some(found), None) => Proof::Lacking {
                why: "had committed it without having synced it first",
                event: Some(found.event),
            },
            (None, _) => {
                let late = self.committed.iter().find(|found| found.version == name);
                let other = self
                    .committed
                    .iter()
                    .find(|found| found.version.offset == name.offset);
                let event = late.or(other).map(|found| found.event);
                Proof::Lacking {
                    why: "had not committed it by then",
                    event,
                }
            }
        }
    }
}

/// Whether an event shows that the node's own record is there: a configuration is published by the coordination
/// service, what is at the end is written down by whoever ran the test, and a fault is done to a node.
fn is_by_the_node(kind: &Kind) -> bool {
    match kind {
        Kind::Shard { .. }
        | Kind::FinalLog { .. }
        | Kind::FinalState { .. }
        | Kind::Links { .. }
        | Kind::Probe { .. } => false,
        Kind::Other { kind, .. } => kind != "fault",
        _ => true,
    }
}

/// A node event as a witness.
pub(crate) fn witness(event: &NodeEvent) -> Witness {
    Witness::Node(Box::new(event.clone()))
}
