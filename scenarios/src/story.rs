//! One run, told event by event, so that a reader can follow who did what to whom.
//!
//! Left out is what would only be noise: each entry's way onto each disk. What proves a violation is marked where it
//! happens, whatever it is.

mod around;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use checker::{
    Event, EventKind, Function, Level, NodeEvent, NodeEventKind, Verdict, Version, Witness,
};
use serde_json::Value;

use crate::folder::replay_command;
use crate::play::Played;
use crate::runner::SeedReport;
use crate::scenario::{Length, Scenario};

pub use around::Around;

/// Tells a run.
#[must_use]
pub fn tell(scenario: &Scenario, report: &SeedReport, played: &Played) -> String {
    told(scenario, report, played, None)
}

/// Tells of a run what matters for one thing in it; nothing, if there is no such thing.
#[must_use]
pub fn tell_around(
    around: &Around,
    scenario: &Scenario,
    report: &SeedReport,
    played: &Played,
) -> Option<String> {
    let kept = around::cut(around, scenario, played, &evidence(report))?;
    Some(told(scenario, report, played, Some(kept)))
}

fn told(
    scenario: &Scenario,
    report: &SeedReport,
    played: &Played,
    kept: Option<BTreeSet<u64>>,
) -> String {
    let mut teller = Teller {
        text: String::new(),
        evidence: evidence(report),
        kept,
        left_out: 0,
        writers: BTreeMap::new(),
        homes: BTreeMap::new(),
        published: BTreeMap::new(),
        stale: BTreeSet::new(),
    };
    teller
        .head(scenario, report)
        .expect("a string takes everything");
    teller.body(played).expect("a string takes everything");
    teller
        .verdict(scenario, report)
        .expect("a string takes everything");
    teller.text
}

/// The places in the global order of everything that proves a violation.
fn evidence(report: &SeedReport) -> BTreeSet<u64> {
    let mut places = BTreeSet::new();
    for (_, verdict) in &report.verdicts {
        let Verdict::Violated(evidence) = verdict else {
            continue;
        };
        for witness in &evidence.events {
            match witness {
                Witness::Operation { invoke, completion } => {
                    places.extend(invoke.index);
                    places.extend(completion.as_ref().and_then(|completion| completion.index));
                }
                Witness::Node(event) => drop(places.insert(event.index)),
            }
        }
    }
    places
}

struct Teller {
    text: String,
    evidence: BTreeSet<u64>,
    /// The places of what is told; everything, if nothing is said.
    kept: Option<BTreeSet<u64>>,
    /// How many lines were left out since the last one told.
    left_out: usize,
    /// Who believes to be the writer of which shard, in which epoch.
    writers: BTreeMap<u64, (u32, u64)>,
    /// Which shard a node is a member of.
    homes: BTreeMap<u64, u32>,
    /// The newest record of each shard that was told.
    published: BTreeMap<u32, (u64, Option<u64>)>,
    /// Which refusals were told: they repeat with every message of the deposed.
    stale: BTreeSet<(u64, String)>,
}

impl Teller {
    fn head(&mut self, scenario: &Scenario, report: &SeedReport) -> std::fmt::Result {
        let (config, workload) = (&scenario.cluster.config, &scenario.workload);
        let text = &mut self.text;
        writeln!(text, "{}: {}", scenario.id, scenario.title)?;
        writeln!(
            text,
            "seed {}, fencing {}. {} shards of {} nodes; a write is acknowledged when {} have it. {} clients, {} keys, {}.",
            report.seed,
            scenario.fencing().name(),
            config.shards,
            config.replication_factor,
            config.write_quorum,
            workload.clients,
            workload.keys,
            Length(workload.duration),
        )?;
        writeln!(
            text,
            "Entries of a shard's log are named EPOCH.OFFSET. Lines marked >> prove a violation.\n"
        )
    }

    fn body(&mut self, played: &Played) -> std::fmt::Result {
        let mut history = played.history.iter().peekable();
        let mut events = played.events.iter().peekable();
        loop {
            let asked = history
                .peek()
                .map_or(u64::MAX, |event| event.index.unwrap_or(0));
            match events.peek() {
                Some(event) if event.index < asked => {
                    let event = events.next().expect("it was peeked at");
                    self.node(event)?;
                }
                _ => match history.next() {
                    Some(event) => self.client(event)?,
                    None => return self.gap(),
                },
            }
        }
    }

    /// Says how many lines were left out.
    fn gap(&mut self) -> std::fmt::Result {
        match std::mem::take(&mut self.left_out) {
            0 => Ok(()),
            1 => writeln!(self.text, "            ... one line left out"),
            lines => writeln!(self.text, "            ... {lines} lines left out"),
        }
    }

    fn line(&mut self, time: u64, index: u64, who: &str, what: &str) -> std::fmt::Result {
        if self
            .kept
            .as_ref()
            .is_some_and(|kept| !kept.contains(&index))
        {
            self.left_out += 1;
            return Ok(());
        }
        self.gap()?;
        let mark = if self.evidence.contains(&index) {
            ">>"
        } else {
            "  "
        };
        let seconds = time as f64 / 1e9;
        writeln!(self.text, "{mark} {seconds:>8.3}s  {who:<24} {what}")
    }

    fn client(&mut self, event: &Event) -> std::fmt::Result {
        let key = event.key.as_deref().unwrap_or("the register");
        let session = event.session.unwrap_or(event.process);
        let operation = match event.f {
            Function::Read => format!("get {key}{}", event.level.map_or("", level)),
            Function::Write => format!("set {key} = {}", event.value),
            Function::Delete => format!("delete {key}"),
        };
        let what = match event.kind {
            EventKind::Invoke => format!("asks: {operation}"),
            EventKind::Ok => {
                let result = match (event.f, &event.value) {
                    (Function::Read, Value::Null) => format!("{operation} -> nothing"),
                    (Function::Read, value) => format!("{operation} -> {value}"),
                    _ => operation,
                };
                let entry = event.version.map_or(String::new(), |version| {
                    format!(", entry {}", name(version))
                });
                let node = event
                    .node
                    .map_or(String::new(), |node| format!(", by {}", self.role(node)));
                format!("ok: {result}{entry}{node}")
            }
            EventKind::Fail => format!("FAIL: {operation} did not happen{}", because(event)),
            EventKind::Info => format!(
                "INFO: {operation}, nobody knows whether it happened{}",
                because(event)
            ),
        };
        self.line(
            event.time,
            event.index.unwrap_or(0),
            &format!("client {session}"),
            &what,
        )
    }

    /// A node with the role that it believes to have.
    fn role(&self, node: u64) -> String {
        match (self.writers.get(&node), self.homes.get(&node)) {
            (Some((shard, _)), _) => format!("n{node} (writer of {shard})"),
            (None, Some(shard)) => format!("n{node} (replica of {shard})"),
            (None, None) => format!("n{node}"),
        }
    }

    fn node(&mut self, event: &NodeEvent) -> std::fmt::Result {
        let is_evidence = self.evidence.contains(&event.index);
        let Some(what) = self.what(event, is_evidence) else {
            return Ok(());
        };
        let who = match (&event.kind, event.node) {
            (NodeEventKind::Shard { .. }, _) => "coordination".to_owned(),
            (_, Some(node)) => self.role(node),
            (_, None) => "nemesis".to_owned(),
        };
        self.line(event.time, event.index, &who, &what)
    }

    /// What an event means, with what it changes about the roles; nothing, where it is not worth telling.
    fn what(&mut self, event: &NodeEvent, is_evidence: bool) -> Option<String> {
        match &event.kind {
            NodeEventKind::Shard {
                shard,
                epoch,
                voters,
                writer,
                ..
            } => {
                self.homes
                    .extend(voters.iter().map(|voter| (*voter, *shard)));
                let record = (*epoch, *writer);
                if self
                    .published
                    .get(shard)
                    .is_some_and(|newest| *newest >= record)
                {
                    return None; // Every member sees it, and each says so.
                }
                self.published.insert(*shard, record);
                Some(words::record(*shard, *epoch, *writer))
            }
            NodeEventKind::Started {} => {
                self.writers.remove(&event.node?);
                Some("starts".to_owned())
            }
            NodeEventKind::Other { kind, fields } => {
                let what = words::other(&event.kind, kind, fields);
                match kind.as_str() {
                    "promoted" => {
                        let (shard, epoch) = (event.kind.shard()?, words::number(fields, "epoch"));
                        self.writers.insert(event.node?, (shard, epoch));
                    }
                    "demoted" => drop(self.writers.remove(&event.node?)),
                    "refused_stale" if !self.stale.insert((event.node?, what.clone())) => {
                        return None;
                    }
                    _ => {}
                }
                Some(what)
            }
            known => words::known(known, is_evidence),
        }
    }

    fn verdict(&mut self, scenario: &Scenario, report: &SeedReport) -> std::fmt::Result {
        let text = &mut self.text;
        let (reads, writes) = (report.ok_reads, report.ok_writes);
        writeln!(
            text,
            "\n{reads} reads and {writes} writes were answered ok during the workload."
        )?;
        for failure in &report.failures {
            writeln!(text, "THE RUN FAILED: {failure}")?;
        }
        for (guarantee, verdict) in &report.verdicts {
            let expected = scenario.expect.of(scenario.fencing(), *guarantee);
            match verdict {
                Verdict::Holds => writeln!(text, "{guarantee:<25} holds")?,
                Verdict::Unknown(reason) => writeln!(text, "{guarantee:<25} UNKNOWN: {reason}")?,
                Verdict::Violated(evidence) => {
                    writeln!(
                        text,
                        "{guarantee:<25} VIOLATED (expected: {expected}): {}",
                        evidence.why
                    )?;
                    for witness in &evidence.events {
                        writeln!(text, "    >> {witness}")?;
                    }
                }
            }
        }
        writeln!(text, "Again: {}", replay_command(scenario, report.seed))
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Local => " (local)",
        Level::Lease => " (lease)",
        Level::Quorum => " (quorum)",
        Level::Replica => " (replica)",
    }
}

fn name(version: Version) -> String {
    format!("{}.{}", version.epoch, version.offset)
}

fn because(event: &Event) -> String {
    event
        .error
        .as_ref()
        .map_or(String::new(), |error| format!(" ({error})"))
}
