//! Smaller scenarios from a scenario: each function proposes, and nothing here runs anything.
//!
//! What is proposed need not be valid; whoever tries it reads it back from its text first. Times that come from a run are
//! rounded from the start: a person is to read them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use checker::{EventKind, NodeEvent, NodeEventKind, Verdict, Witness};
use serde_json::Value;

use crate::play::Played;
use crate::scenario::{Action, End, Fault, Group, Scenario, Start, Step, Target, Workload};

/// What stays before the first thing that happens, and after the last.
const MARGIN: Duration = Duration::from_millis(500);

/// The nearest multiple of a unit.
fn nearest(time: Duration, unit: Duration) -> Duration {
    let unit = unit.as_nanos().max(1);
    let units = (time.as_nanos() + unit / 2) / unit;
    Duration::from_nanos(u64::try_from(units * unit).unwrap_or(u64::MAX))
}

/// The operations of a run as a script, at times that are multiples of a unit.
pub(super) fn scripted(scenario: &Scenario, played: &Played, unit: Duration) -> Scenario {
    let clients = u64::from(scenario.workload.clients);
    let asked = played.history.iter().filter_map(|event| {
        let session = event.session.filter(|session| *session < clients)?;
        (event.kind == EventKind::Invoke).then_some(Step {
            at: nearest(Duration::from_nanos(event.time), unit),
            client: u32::try_from(session).ok()?,
            function: event.f,
            key: event.key.clone()?,
            level: event.level,
        })
    });
    let default = Workload::default();
    let workload = Workload {
        script: asked.collect(),
        mix: default.mix,
        levels: default.levels,
        ops_per_second: default.ops_per_second,
        min_ok: 0,
        ..scenario.workload.clone()
    };
    Scenario {
        workload,
        ..scenario.clone()
    }
}

/// Every fault at the time at which it fired in a run, whatever it had waited for.
pub(super) fn pinned(scenario: &Scenario, played: &Played, unit: Duration) -> Scenario {
    let mut smaller = scenario.clone();
    for event in &played.events {
        if let Some(fault) = begun(event).and_then(|index| smaller.faults.get_mut(index)) {
            fault.start = Start::At(nearest(Duration::from_nanos(event.time), unit));
            fault.latest = None;
        }
    }
    end_in_time(&mut smaller);
    smaller
}

/// What would last for longer than the workload ends with it.
fn end_in_time(scenario: &mut Scenario) {
    let duration = scenario.workload.duration;
    for fault in &mut scenario.faults {
        let is_late = match (&fault.start, fault.end) {
            (_, End::Until(until)) => until >= duration,
            (Start::At(at), End::For(lasting)) => *at + lasting >= duration,
            (_, End::For(lasting)) => lasting >= duration,
            (_, End::WithTheWorkload) => false,
        };
        if is_late {
            fault.end = End::WithTheWorkload;
        }
    }
}

/// Which fault begins with that event.
fn begun(event: &NodeEvent) -> Option<usize> {
    let NodeEventKind::Other { kind, fields } = &event.kind else {
        return None;
    };
    let is_begin = kind == "fault" && fields.get("phase").and_then(Value::as_str) == Some("begin");
    let number = fields.get("fault").and_then(Value::as_u64)?;
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    is_begin.then_some(index)
}

/// Only the operations with keys that the verdict names.
pub(super) fn about_the_evidence(scenario: &Scenario, verdict: &Verdict) -> Option<Scenario> {
    let Verdict::Violated(evidence) = verdict else {
        return None;
    };
    let keys = evidence.events.iter().filter_map(|witness| match witness {
        Witness::Operation { invoke, .. } => invoke.key.clone(),
        Witness::Node(_) => None,
    });
    let keys: BTreeSet<String> = keys.collect();
    let mut smaller = scenario.clone();
    let script = &mut smaller.workload.script;
    script.retain(|step| keys.contains(&step.key));
    (!script.is_empty()).then_some(smaller)
}

/// One shard instead of several: that one, with the faults that hit it.
pub(super) fn only_shard(scenario: &Scenario, shard: u16) -> Scenario {
    let mut smaller = scenario.clone();
    let config = &mut smaller.cluster.config;
    config.shards = 1;
    smaller.cluster.nodes = u16::try_from(config.replication_factor).unwrap_or(u16::MAX);
    let owner = |step: &Step| scenario.shard_of(&step.key).0 == u64::from(shard);
    smaller.workload.script.retain(owner);
    smaller.faults.retain_mut(|fault| {
        if let Start::When(trigger) = &mut fault.start {
            if trigger.shard != shard {
                return false;
            }
            trigger.shard = 0;
        }
        groups(&mut fault.action)
            .into_iter()
            .flat_map(|group| &mut group.0)
            .all(|target| renumber(target, shard))
    });
    smaller
}

fn renumber(target: &mut Target, kept: u16) -> bool {
    match target {
        Target::Writer(shard)
        | Target::Replica(shard, _)
        | Target::Elector(shard)
        | Target::Shard(shard)
        | Target::Majority(shard)
        | Target::Minority(shard)
        | Target::AnyOf(shard) => {
            let is_kept = *shard == kept;
            *shard = 0;
            is_kept
        }
        Target::Any | Target::Node(_) | Target::All | Target::Coordination | Target::Clients => {
            true
        }
    }
}

/// Every group of an action whose targets may name a shard.
fn groups(action: &mut Action) -> Vec<&mut Group> {
    match action {
        Action::Isolate { group, from } => std::iter::once(group).chain(from).collect(),
        Action::Split(groups) => groups.iter_mut().collect(),
        Action::OneWay { from, to } => std::iter::once(from).chain(to).collect(),
        Action::Network { from, to, .. } => from.iter_mut().chain(to).collect(),
        Action::Bridge(group)
        | Action::Ring(group)
        | Action::PowerLoss(group)
        | Action::Kill(group)
        | Action::Restart(group)
        | Action::Pause(group)
        | Action::SessionLoss(group)
        | Action::Clock { nodes: group, .. }
        | Action::SlowDisk { nodes: group, .. }
        | Action::Disk { nodes: group, .. } => vec![group],
    }
}

/// No idle nodes.
pub(super) fn without_idle(scenario: &Scenario) -> Scenario {
    let config = &scenario.cluster.config;
    let needed = usize::from(config.shards) * config.replication_factor;
    let mut smaller = scenario.clone();
    smaller.cluster.nodes = u16::try_from(needed).unwrap_or(u16::MAX);
    smaller
}

/// Only the clients that do something, numbered anew; and no more keys than are used, numbered anew if so wished.
pub(super) fn renumbered(scenario: &Scenario, keys_too: bool) -> Scenario {
    let mut smaller = scenario.clone();
    let script = &mut smaller.workload.script;
    let clients: BTreeSet<u32> = script.iter().map(|step| step.client).collect();
    let clients: BTreeMap<u32, u32> = clients.into_iter().zip(0..).collect();
    let mut names: Vec<String> = Vec::new();
    for step in script.iter() {
        if !names.contains(&step.key) {
            names.push(step.key.clone());
        }
    }
    let place = |key: &str| names.iter().position(|name| name == key).unwrap_or(0);
    for step in script.iter_mut() {
        step.client = clients.get(&step.client).copied().unwrap_or(0);
        if keys_too {
            step.key = format!("k{}", place(&step.key));
        }
    }
    let number = |step: &Step| step.key[1..].parse::<u32>().unwrap_or(0);
    let keys = script.iter().map(number).max().unwrap_or(0) + 1;
    smaller.workload.clients = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    smaller.workload.keys = keys;
    smaller
}

/// Everything earlier, so that little happens before the first fault or operation.
pub(super) fn earlier(scenario: &Scenario) -> Scenario {
    let mut smaller = scenario.clone();
    let by = starts(scenario).min().unwrap_or(Duration::ZERO);
    let by = by.saturating_sub(MARGIN);
    for step in &mut smaller.workload.script {
        step.at -= by;
    }
    for fault in &mut smaller.faults {
        if let Start::At(at) = &mut fault.start {
            *at -= by;
        }
        if let End::Until(until) = &mut fault.end {
            *until = until.saturating_sub(by);
        }
    }
    smaller.workload.duration -= by;
    smaller
}

fn starts(scenario: &Scenario) -> impl Iterator<Item = Duration> {
    let faults = scenario.faults.iter().map(|fault| match fault.start {
        Start::At(at) => at,
        Start::When(_) | Start::After(_) => Duration::ZERO,
    });
    let steps = scenario.workload.script.iter().map(|step| step.at);
    faults.chain(steps)
}

/// A workload of that length; what would go on for longer ends with it.
pub(super) fn lasting(scenario: &Scenario, duration: Duration) -> Scenario {
    let mut smaller = scenario.clone();
    smaller.workload.duration = duration;
    end_in_time(&mut smaller);
    smaller
}

/// Shorter durations, the boldest first.
pub(super) fn durations(scenario: &Scenario) -> Vec<Duration> {
    let now = scenario.workload.duration;
    let last = starts(scenario).max().unwrap_or(Duration::ZERO);
    let second = Duration::from_secs(1);
    let whole = |time: Duration| Duration::from_secs(time.as_secs() + 1).max(second);
    let mut shorter = vec![whole(last), whole(last + second), whole(last + 3 * second)];
    shorter.push(whole(last + now.saturating_sub(last) / 2));
    if scenario.workload.script.is_empty() {
        shorter.extend([whole(now / 4), whole(now / 2), whole(now * 3 / 4)]);
    }
    shorter.retain(|duration| *duration < now);
    shorter
}

/// One fault that is shorter by half.
pub(super) fn shorter_fault(scenario: &Scenario, index: usize) -> Option<Scenario> {
    let mut smaller = scenario.clone();
    let fault: &mut Fault = smaller.faults.get_mut(index)?;
    let round = |time: Duration| {
        let hundredths = u64::try_from(time.as_millis() / 100).unwrap_or(u64::MAX);
        Duration::from_millis(hundredths * 100)
    };
    fault.end = match (&fault.start, fault.end) {
        (Start::At(at), End::Until(until)) => {
            let window = until.checked_sub(*at)?;
            let until = round(*at + window / 2);
            (until > *at).then_some(End::Until(until))?
        }
        (_, End::For(lasting)) => {
            let lasting = round(lasting / 2);
            (!lasting.is_zero()).then_some(End::For(lasting))?
        }
        _ => return None,
    };
    Some(smaller)
}

/// All times as multiples of a unit, so that a person can read them.
pub(super) fn rounded(scenario: &Scenario, unit: Duration) -> Scenario {
    let round = |time: &mut Duration| *time = nearest(*time, unit);
    let mut smaller = scenario.clone();
    for step in &mut smaller.workload.script {
        round(&mut step.at);
    }
    for fault in &mut smaller.faults {
        if let Start::At(at) = &mut fault.start {
            round(at);
        }
        if let End::Until(until) | End::For(until) = &mut fault.end {
            round(until);
        }
    }
    end_in_time(&mut smaller);
    smaller
}
