//! Faults: one start, one kind, at most one end, targets that exist, times that do not contradict each other.

use std::time::Duration;

use toml::Spanned;

use super::{Located, Span, exercise};
use crate::scenario::disk::{DiskFault, Spot, Word};
use crate::scenario::fault::{Action, Disturbance, End, Fault, Kind, Start, Turn};
use crate::scenario::{Cluster, Group, Length, NoSuchTarget, Problem, Target, Workload, file};

/// What a fault is held against.
pub(super) struct Rules<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) workload: &'a Workload,
}

const STARTS: &str = "at, when, after";
/// A ring of fewer is whole.
const RING_NODES_MIN: usize = 4;
const PARTITIONS: &str = "isolate (with or without from), split, one_way, bridge, ring";

impl Rules<'_> {
    pub(super) fn fault(&self, written: Spanned<file::Fault>) -> Located<Fault> {
        let span = written.span();
        let mut written = written.into_inner();
        let (action, action_at) = self.action(&mut written, span.clone())?;
        for target in action.groups().iter().flat_map(|group| &group.0) {
            let config = &self.cluster.config;
            let exists = target.check(config.shards, config.replication_factor, self.cluster.nodes);
            exists.map_err(|problem| (action_at.clone(), problem.into()))?;
        }
        let start = self.start(&written, span)?;
        let latest = latest(&written, &start)?;
        let end = self.end(&written, &start, action.kind())?;
        Ok(Fault {
            start,
            latest,
            action,
            end,
        })
    }

    fn start(&self, written: &file::Fault, span: Span) -> Located<Start> {
        match (&written.at, &written.when, &written.after) {
            (Some(at), None, None) if at.get_ref().0 >= self.workload.duration => {
                Err(contradiction(
                    at,
                    "at",
                    format!(
                        "is not before the end of the workload ({}): the fault would never fire",
                        Length(self.workload.duration)
                    ),
                ))
            }
            (Some(at), None, None) => Ok(Start::At(at.get_ref().0)),
            (None, Some(when), None) if when.get_ref().shard >= self.cluster.config.shards => {
                let target = Target::Writer(when.get_ref().shard);
                let shards = self.cluster.config.shards;
                Err((when.span(), NoSuchTarget::Shard { target, shards }.into()))
            }
            (None, Some(when), None)
                if when.get_ref().turn == Turn::ElectionStarted
                    && self.cluster.config.replication_factor < 2 =>
            {
                let target = Target::Elector(when.get_ref().shard);
                Err((when.span(), NoSuchTarget::NoElection { target }.into()))
            }
            (None, Some(when), None) => Ok(Start::When(*when.get_ref())),
            (None, None, Some(after)) => {
                match exercise::never_reached(self.workload, *after.get_ref()) {
                    Some(why) => {
                        let why = format!("never comes to {why}");
                        Err(contradiction(after, "after", why))
                    }
                    None => Ok(Start::After(*after.get_ref())),
                }
            }
            (at, when, after) => {
                let given = [
                    ("at", at.is_some()),
                    ("when", when.is_some()),
                    ("after", after.is_some()),
                ];
                Err((span, exactly_one("a fault", &given, STARTS)))
            }
        }
    }

    fn end(&self, written: &file::Fault, start: &Start, kind: Kind) -> Located<End> {
        if let Some((field, span)) = written
            .until
            .as_ref()
            .map(|until| ("until", until.span()))
            .or(written
                .lasting
                .as_ref()
                .map(|lasting| ("for", lasting.span())))
            && kind.is_of_a_moment()
        {
            let why = format!("makes no sense for {kind}, which is over at once; remove it");
            return Err((span, Problem::Contradiction { field, why }));
        }
        match (&written.until, &written.lasting) {
            (None, None) => Ok(End::WithTheWorkload),
            (None, Some(lasting)) if lasting.get_ref().0.is_zero() => Err(contradiction(
                lasting,
                "for",
                "is no time at all".to_owned(),
            )),
            (None, Some(lasting)) => self.lasting(lasting, start),
            (Some(until), Some(_)) => Err(contradiction(
                until,
                "until",
                "and for cannot both be given; remove one".to_owned(),
            )),
            (Some(until), None) => self.until(until, start),
        }
    }

    fn lasting(&self, lasting: &Spanned<Length>, start: &Start) -> Located<End> {
        let (given, duration) = (*lasting.get_ref(), self.workload.duration);
        let from = match start {
            Start::At(at) => *at,
            Start::When(_) | Start::After(_) => Duration::ZERO,
        };
        if from + given.0 > duration {
            let from = match start {
                Start::At(at) => format!(" from {} on", Length(*at)),
                Start::When(_) | Start::After(_) => String::new(),
            };
            let why = format!(
                "({given}){from} is longer than the workload ({}), with which everything heals; remove it to last until then",
                Length(duration)
            );
            return Err(contradiction(lasting, "for", why));
        }
        Ok(End::For(given.0))
    }

    fn until(&self, until: &Spanned<Length>, start: &Start) -> Located<End> {
        let end = until.get_ref().0;
        match start {
            Start::At(at) if end <= *at => {
                let why = format!("({}) is not after at ({})", until.get_ref(), Length(*at));
                Err(contradiction(until, "until", why))
            }
            Start::At(_) if end > self.workload.duration => {
                let why = format!(
                    "({}) is after the end of the workload ({}), when everything heals",
                    until.get_ref(),
                    Length(self.workload.duration)
                );
                Err(contradiction(until, "until", why))
            }
            Start::At(_) => Ok(End::Until(end)),
            Start::When(_) | Start::After(_) => Err(contradiction(
                until,
                "until",
                "needs at; a fault that fires by an event lasts `for` a time".to_owned(),
            )),
        }
    }

    fn action(&self, written: &mut file::Fault, span: Span) -> Located<(Action, Span)> {
        let mut found: Vec<(Action, Span)> = Vec::new();
        let mut simple = |group: Option<Spanned<Group>>, action: fn(Group) -> Action| {
            if let Some(group) = group {
                let span = group.span();
                found.push((action(group.into_inner()), span));
            }
        };
        simple(written.power_loss.take(), Action::PowerLoss);
        simple(written.kill.take(), Action::Kill);
        simple(written.restart.take(), Action::Restart);
        simple(written.pause.take(), Action::Pause);
        simple(written.session_loss.take(), Action::SessionLoss);
        if let Some(partition) = written.partition.take() {
            let span = partition.span();
            found.push((partition_action(partition)?, span));
        }
        if let Some(network) = written.network.take() {
            let span = network.span();
            found.push((network_action(network)?, span));
        }
        if let Some(clock) = written.clock.take() {
            let span = clock.span();
            found.push((clock_action(clock)?, span));
        }
        if let Some(disk) = written.slow_disk.take() {
            let span = disk.span();
            let file::SlowDisk { node, delay } = disk.into_inner();
            if delay.0.is_zero() {
                let (field, why) = ("slow_disk", "slows nothing; give a delay".to_owned());
                return Err((span, Problem::Contradiction { field, why }));
            }
            found.push((
                Action::SlowDisk {
                    nodes: node,
                    delay: delay.0,
                },
                span,
            ));
        }
        if let Some(disk) = written.disk.take() {
            let span = disk.span();
            found.push((self.disk_action(disk)?, span));
        }
        if found.len() != 1 {
            let given = Kind::ALL.map(|kind| {
                (
                    kind.name(),
                    found.iter().any(|(action, _)| action.kind() == kind),
                )
            });
            let allowed = Kind::ALL.map(Kind::name).join(", ");
            return Err((span, exactly_one("a fault", &given, &allowed)));
        }
        let (action, span) = found.remove(0);
        self.hits_somebody(&action, &span)?;
        if let Some((field, why)) = contradiction_in(&action) {
            return Err((span, Problem::Contradiction { field, why }));
        }
        self.cuts_something(&action, &span)?;
        Ok((action, span))
    }

    fn disk_action(&self, written: Spanned<file::Disk>) -> Located<Action> {
        let span = written.span();
        let file::Disk { node, fault, spot } = written.into_inner();
        let fault = match (fault, spot) {
            (Word::Whole(fault), None) => fault,
            (Word::Whole(fault), Some(spot)) => {
                let why = format!(
                    "is about a bit-flip, and this is {}; remove it",
                    fault.name()
                );
                return Err(contradiction(&spot, "where", why));
            }
            (Word::BitFlip, Some(spot)) => DiskFault::BitFlip(spot.into_inner()),
            (Word::BitFlip, None) => {
                let field = "bit-flip";
                let why = "needs where; allowed: sealed, tail, engine".to_owned();
                return Err((span, Problem::Contradiction { field, why }));
            }
        };
        let storage = &self.cluster.storage;
        let lacks = match fault {
            DiskFault::BitFlip(Spot::Sealed) if storage.segment_bytes.is_none() => Some((
                "segment_bytes",
                "no file of the log is ever full in a run, and none sealed",
            )),
            DiskFault::PowerLossInCheckpoint
            | DiskFault::PowerLossInSnapshot
            | DiskFault::BitFlip(Spot::Engine)
                if storage.checkpoint_bytes.is_none() =>
            {
                Some(("checkpoint_bytes", "no run comes to a checkpoint"))
            }
            _ => None,
        };
        if let Some((size, without)) = lacks {
            let why = format!("needs {size} in [cluster], such as \"8KiB\": without it {without}");
            let field = fault.name();
            return Err((span, Problem::Contradiction { field, why }));
        }
        Ok(Action::Disk { nodes: node, fault })
    }

    /// In a ring of three everybody still reaches everybody.
    fn cuts_something(&self, action: &Action, span: &Span) -> Located<()> {
        let Action::Ring(group) = action else {
            return Ok(());
        };
        let n = self.cluster.config.replication_factor;
        let count = |target: &Target| match target {
            Target::All => usize::from(self.cluster.nodes),
            Target::Shard(_) => n,
            Target::Majority(_) => n / 2 + 1,
            Target::Minority(_) => n - (n / 2 + 1),
            Target::Coordination | Target::Clients => 0,
            _ => 1,
        };
        let nodes: usize = group.0.iter().map(count).sum();
        if nodes >= RING_NODES_MIN {
            return Ok(());
        }
        let why = format!(
            "needs at least {RING_NODES_MIN} nodes, or it cuts nothing; {group} is {nodes} here"
        );
        let field = "ring";
        Err((span.clone(), Problem::Contradiction { field, why }))
    }

    /// No group is empty. Links lead everywhere, processes are those of nodes and of the coordination service, and all
    /// else is of nodes only.
    fn hits_somebody(&self, action: &Action, span: &Span) -> Located<()> {
        let fits = |target: &Target| match action.kind() {
            Kind::Partition if matches!(action, Action::Ring(_)) => target.is_node(),
            Kind::Partition => true,
            Kind::Kill | Kind::Pause => target.is_node() || *target == Target::Coordination,
            _ => target.is_node(),
        };
        for group in action.groups() {
            if group.0.is_empty() {
                return Err((span.clone(), NoSuchTarget::Nobody.into()));
            }
            if let Some(target) = group.0.iter().copied().find(|target| !fits(target)) {
                let problem = match action.kind() {
                    Kind::Kill | Kind::Pause => NoSuchTarget::NotAServer { target },
                    _ => NoSuchTarget::NotANode { target },
                };
                return Err((span.clone(), problem.into()));
            }
        }
        Ok(())
    }
}

/// Why an action harms no link, whoever plays the roles that it names.
fn contradiction_in(action: &Action) -> Option<(&'static str, String)> {
    let is_one = |group: &Group| group.0.iter().all(Target::is_one_place);
    match action {
        Action::Isolate {
            group,
            from: Some(from),
        } if from.0.iter().all(|target| group.0.contains(target)) => {
            let why = format!("cuts {group} off from itself; name somebody else in from");
            Some(("isolate", why))
        }
        Action::OneWay { from, to: Some(to) } if from == to && is_one(from) => {
            let why = format!("cuts {from} off from itself; name somebody else in to");
            Some(("one_way", why))
        }
        Action::Network {
            from: Some(from),
            to: Some(to),
            ..
        } if from == to && is_one(from) => {
            let why = format!("disturbs what {from} sends to itself; name somebody else in to");
            Some(("network", why))
        }
        Action::Split(groups) => {
            let mut seen: Vec<Target> = Vec::new();
            for group in groups {
                if let Some(target) = group.0.iter().find(|target| seen.contains(target)) {
                    let why = format!("has {target} on two sides; leave it on one");
                    return Some(("split", why));
                }
                seen.extend(&group.0);
            }
            None
        }
        _ => None,
    }
}

/// A fault may be late, but not before it starts.
fn latest(written: &file::Fault, start: &Start) -> Located<Option<Duration>> {
    let Some(latest) = &written.latest else {
        return Ok(None);
    };
    match start {
        Start::At(at) if latest.get_ref().0 <= *at => {
            let why = format!("({}) is not after at ({})", latest.get_ref(), Length(*at));
            Err(contradiction(latest, "latest", why))
        }
        _ => Ok(Some(latest.get_ref().0)),
    }
}

fn contradiction<T>(at: &Spanned<T>, field: &'static str, why: String) -> (Span, Problem) {
    (at.span(), Problem::Contradiction { field, why })
}

fn exactly_one(what: &'static str, given: &[(&str, bool)], allowed: &str) -> Problem {
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect();
    Problem::ExactlyOne {
        what,
        given: if given.is_empty() {
            "none".to_owned()
        } else {
            given.join(", ")
        },
        allowed: allowed.to_owned(),
    }
}

fn partition_action(written: Spanned<file::Partition>) -> Located<Action> {
    let span = written.span();
    let file::Partition {
        isolate,
        from,
        split,
        one_way,
        bridge,
        ring,
    } = written.into_inner();
    match (isolate, from, split, one_way, bridge, ring) {
        (Some(group), from, None, None, None, None) => Ok(Action::Isolate { group, from }),
        (None, None, Some(groups), None, None, None) if groups.len() < 2 => {
            let why = "needs at least two groups, such as [[\"writer(0)\"], [\"replica(0, 0)\", \"clients\"]]".to_owned();
            Err((
                span,
                Problem::Contradiction {
                    field: "split",
                    why,
                },
            ))
        }
        (None, None, Some(groups), None, None, None) => Ok(Action::Split(groups)),
        (None, None, None, Some(file::OneWay { from, to }), None, None) => {
            Ok(Action::OneWay { from, to })
        }
        (None, None, None, None, Some(group), None) => Ok(Action::Bridge(group)),
        (None, None, None, None, None, Some(group)) => Ok(Action::Ring(group)),
        (isolate, from, split, one_way, bridge, ring) => {
            let given = [
                ("isolate", isolate.is_some()),
                ("from", from.is_some()),
                ("split", split.is_some()),
                ("one_way", one_way.is_some()),
                ("bridge", bridge.is_some()),
                ("ring", ring.is_some()),
            ];
            Err((span, exactly_one("partition", &given, PARTITIONS)))
        }
    }
}

fn network_action(written: Spanned<file::Network>) -> Located<Action> {
    let span = written.span();
    let file::Network {
        lose,
        duplicate,
        reorder,
        delay,
        from,
        to,
    } = written.into_inner();
    for (field, rate) in [
        ("lose", lose),
        ("duplicate", duplicate),
        ("reorder", reorder),
    ] {
        if !(0.0..=1.0).contains(&rate) {
            let given = format!("{rate:?}");
            let allowed = "probabilities from 0.0 to 1.0".to_owned();
            return Err((
                span,
                Problem::Range {
                    field,
                    given,
                    allowed,
                },
            ));
        }
    }
    let disturbance = Disturbance {
        lose,
        duplicate,
        reorder,
        delay: delay.0,
    };
    if disturbance == Disturbance::default() {
        let why =
            "disturbs nothing; give at least one of lose, duplicate, reorder, delay".to_owned();
        return Err((
            span,
            Problem::Contradiction {
                field: "network",
                why,
            },
        ));
    }
    Ok(Action::Network {
        disturbance,
        from,
        to,
    })
}

fn clock_action(written: Spanned<file::Clock>) -> Located<Action> {
    let span = written.span();
    let file::Clock {
        node,
        offset,
        drift_ppm,
    } = written.into_inner();
    if !(-900_000..=1_000_000).contains(&drift_ppm) {
        let given = drift_ppm.to_string();
        let allowed = "-900000 (a tenth of the speed) to 1000000 (twice the speed)".to_owned();
        return Err((
            span,
            Problem::Range {
                field: "drift_ppm",
                given,
                allowed,
            },
        ));
    }
    if offset.0.is_zero() && drift_ppm == 0 {
        let why = "bends nothing; give at least one of offset, drift_ppm".to_owned();
        return Err((
            span,
            Problem::Contradiction {
                field: "clock",
                why,
            },
        ));
    }
    Ok(Action::Clock {
        nodes: node,
        offset: offset.0,
        drift_ppm,
    })
}
