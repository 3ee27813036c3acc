//! Read-your-writes: a session reads nothing older than what it wrote itself.
//!
//! **read-your-writes.** After a session's `ok` write `w` of a key (a delete is a write), its reads in scope return a
//! version ≥ version(w). Without versions: never the value of a write `w'` with `w' < w`, and nothing only if a
//! delete can explain it. Its own `info` writes bind nothing.
//!
//! Both rules are applied wherever they can be:
//! - *By value*: the read returned x, and every write of x that began before the read ended had ended, `ok`, before
//!   `w` began. (A write that failed or is unknown could have taken effect late, so it explains. A value that nobody
//!   wrote is not this guarantee's trouble.) This needs nothing but the order of the lines, so it is always sound.
//! - *By version*: the read carries a version below that of `w`, in the same shard. A read of nothing without a
//!   version is left to the rule by value: a delete that is not remembered may explain it.
//!
//! The rule by version is only as good as the versions (`versions`). Where those contradict each other on a key,
//! it is not applied, and what the values alone do not decide becomes `unknown`: a read is certainly in order if it
//! returned what `w` wrote, or what was only written by writes that began after `w` had ended.
//!
//! **read-your-writes on a stable writer.** The same, but only over a write and a read that one node answered, with
//! no `promoted`, `demoted` or `started` of any member of that shard from the write's invocation to the read's
//! completion. This is what a single writer without fencing promises. Here versions need to make sense only within
//! one such stretch at one node.

use std::{cell::OnceCell, collections::BTreeMap};

use super::{Highest, in_scope, sources, tell};
use crate::{
    history::{History, Level, Operation, Session, ValueId},
    node_events::{NodeEvent, NodeEventKind},
    verdict::Verdict,
    versions::{Claims, Contradiction, contradiction},
};

/// Judges read-your-writes.
pub(crate) fn read_your_writes(history: &History, claims: &Claims<'_>) -> Verdict {
    judge(history, claims, Trust::OnKey, |operation| {
        Some(Stretch {
            in_scope: in_scope(operation),
            ..Stretch::default()
        })
    })
}

/// Judges read-your-writes on a stable writer.
pub(crate) fn read_your_writes_stable(
    history: &History,
    claims: &Claims<'_>,
    events: &[NodeEvent],
) -> Verdict {
    if events.is_empty() {
        return Verdict::unknown("there are no node events that tell how long a writer was stable");
    }
    if !history.is_indexed() {
        return Verdict::unknown(
            "the history carries no index that places it among the node events",
        );
    }
    let nameless = |operation: &&Operation| operation.is_ok() && operation.node.is_none();
    if let Some(operation) = history.operations().iter().find(nameless) {
        let line = operation.invoked + 1;
        return Verdict::unknown(format!(
            "the answer to event {line} does not say which node gave it"
        ));
    }
    let changes = Changes::new(events);
    judge(history, claims, Trust::InStretch, |operation| {
        changes.stretch(history, operation)
    })
}

/// Operations are compared within one stretch only.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Stretch {
    node: u64,
    changes_before: usize,
    in_scope: bool,
}

impl Stretch {
    fn place(&self) -> (u64, usize) {
        (self.node, self.changes_before)
    }
}

/// Where in the global order the writer of a shard may have changed.
struct Changes {
    by_shard: BTreeMap<u32, Vec<u64>>,
    anywhere: Vec<u64>,
}

impl Changes {
    fn new(events: &[NodeEvent]) -> Self {
        let mut homes: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut by_shard: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for event in events {
            if let NodeEventKind::Shard { shard, voters, .. } = &event.kind {
                by_shard.entry(*shard).or_default();
                for voter in voters {
                    homes.entry(*voter).or_default().push(*shard);
                }
            }
        }
        let mut anywhere = Vec::new();
        for event in events {
            let is_role = match &event.kind {
                NodeEventKind::Started {} => false,
                NodeEventKind::Other { kind, .. } if kind == "promoted" || kind == "demoted" => {
                    true
                }
                _ => continue,
            };
            anywhere.push(event.index);
            let home = event.node.and_then(|node| homes.get(&node));
            match (event.kind.shard(), home) {
                (Some(shard), _) if is_role => by_shard.entry(shard).or_default().push(event.index),
                (_, Some(home)) => home
                    .iter()
                    .for_each(|shard| by_shard.entry(*shard).or_default().push(event.index)),
                // Nobody knows which shard it was, so it may have been any.
                (_, None) => by_shard
                    .values_mut()
                    .for_each(|changes| changes.push(event.index)),
            }
        }
        for changes in by_shard.values_mut().chain([&mut anywhere]) {
            changes.sort_unstable();
            changes.dedup();
        }
        Self { by_shard, anywhere }
    }

    /// The stretch that an operation lies in; none if the writer changed while it ran, or if it was not answered.
    fn stretch(&self, history: &History, operation: &Operation) -> Option<Stretch> {
        let by_shard = operation.shard.and_then(|shard| self.by_shard.get(&shard));
        let changes = by_shard.unwrap_or(&self.anywhere);
        let before = |index: u64| changes.partition_point(|&change| change < index);
        let changes_before = before(history.invoked_index(operation)?);
        let unchanged = before(history.completed_index(operation)?) == changes_before;
        let in_scope = operation.level != Some(Level::Replica);
        unchanged.then_some(Stretch {
            node: operation.node?,
            changes_before,
            in_scope,
        })
    }
}

/// The state of a session on one key while its reads are gone through.
#[derive(Default)]
struct Own<'h> {
    /// The write that began last, of those that have ended.
    latest: Option<&'h Operation>,
    highest: Highest<'h>,
}

impl<'h> Own<'h> {
    fn add(&mut self, write: &'h Operation) {
        if self
            .latest
            .is_none_or(|latest| latest.invoked < write.invoked)
        {
            self.latest = Some(write);
        }
        self.highest.add(write);
    }
}

/// Where versions need to make sense to be trusted.
#[derive(Clone, Copy)]
enum Trust {
    OnKey,
    InStretch,
}

fn judge(
    history: &History,
    claims: &Claims<'_>,
    trust: Trust,
    stretch: impl Fn(&Operation) -> Option<Stretch>,
) -> Verdict {
    let mut verdict = Verdict::Holds;
    for key in history.key_ids() {
        let mut answered: Vec<(Stretch, &Operation)> = history
            .on_key(key)
            .filter(|operation| operation.is_ok())
            .filter_map(|operation| Some((stretch(operation)?, operation)))
            .collect();
        answered.sort_by_key(|(stretch, operation)| (stretch.place(), operation.invoked));
        for stretch in answered.chunk_by(|a, b| a.0.place() == b.0.place()) {
            let on_key = claims.writers(key);
            verdict = verdict.and(match trust {
                Trust::OnKey => {
                    let broken = || claims.contradiction(key);
                    judge_stretch(history, on_key, broken, stretch)
                }
                Trust::InStretch => {
                    let within = OnceCell::new();
                    let broken = || {
                        let find = || contradiction(history, &operations(stretch));
                        within.get_or_init(find).as_ref()
                    };
                    judge_stretch(history, on_key, broken, stretch)
                }
            });
            if verdict.is_violated() {
                return verdict;
            }
        }
    }
    verdict
}

fn operations<'h>(stretch: &[(Stretch, &'h Operation)]) -> Vec<&'h Operation> {
    stretch.iter().map(|(_, operation)| *operation).collect()
}

fn judge_stretch<'c, 'h: 'c>(
    history: &History,
    writers: &[&Operation],
    broken: impl Fn() -> Option<&'c Contradiction<'h>>,
    stretch: &[(Stretch, &Operation)],
) -> Verdict {
    let operations = operations(stretch);
    let mut writes: Vec<&Operation> = operations
        .iter()
        .copied()
        .filter(|operation| operation.is_write())
        .collect();
    writes.sort_by_key(|write| write.completed);
    let mut writes = writes.into_iter().peekable();
    let mut sessions: BTreeMap<Session, Own<'_>> = BTreeMap::new();
    let mut verdict = Verdict::Holds;
    for (_, read) in stretch
        .iter()
        .filter(|(stretch, operation)| stretch.in_scope && !operation.is_write())
    {
        while let Some(write) = writes.next_if(|write| write.precedes(read)) {
            sessions.entry(write.session).or_default().add(write);
        }
        let Some(own) = sessions.get(&read.session) else {
            continue;
        };
        let Some(latest) = own.latest else { continue };
        if older_by_value(writers, latest, read) {
            return violated(history, writers, latest, read);
        }
        if let Some(broken) = broken() {
            if verdict.holds() && !certainly_newer(writers, latest, read) {
                let reason = format!(
                    "the versions cannot be trusted: {}; values alone do not decide",
                    broken.why
                );
                verdict = Verdict::unknown(reason);
            }
            continue;
        }
        let highest = own.highest.of(read.shard);
        if let Some(write) =
            highest.filter(|write| read.version.is_some() && read.version < write.version)
        {
            return violated(history, writers, write, read);
        }
    }
    verdict
}

fn older_by_value(writers: &[&Operation], own: &Operation, read: &Operation) -> bool {
    let mut sources = sources(writers, read.value, read).peekable();
    if read.value != ValueId::ABSENT && sources.peek().is_none() {
        return false;
    }
    sources.all(|write| write.is_ok() && write.precedes(own))
}

fn certainly_newer(writers: &[&Operation], own: &Operation, read: &Operation) -> bool {
    let mut sources = sources(writers, read.value, read).peekable();
    sources.peek().is_some()
        && sources.all(|write| write.invoked == own.invoked || own.precedes(write))
}

fn violated(
    history: &History,
    writers: &[&Operation],
    own: &Operation,
    read: &Operation,
) -> Verdict {
    let key = history.key_name(read.key);
    let (wrote, saw) = (history.value_text(own), history.value_text(read));
    let session = read.session;
    let because = match (own.version, read.version) {
        (Some(own), Some(read)) if read < own => format!("version {read} is older than {own}"),
        _ if read.value == ValueId::ABSENT => "no delete since then can explain it".to_owned(),
        _ => format!("every write of {saw} had ended before"),
    };
    let why = format!("{session} wrote {key} = {wrote}, and then read {key} = {saw}: {because}");
    let mut story = vec![own, read];
    if let Some(source) =
        sources(writers, read.value, read).find(|source| source.invoked != own.invoked)
    {
        story.push(source);
    }
    tell(history, why, story)
}
