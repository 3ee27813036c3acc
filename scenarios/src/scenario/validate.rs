//! From the file as written to a valid scenario, or to the first thing that is wrong with it and its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use checker::Guarantee;
use kv::config::{ClusterConfig, ConfigError};
use kv_core::{Fencing, QuorumError};
use toml::Spanned;

use super::expect::Expected;
use super::fault::{Action, Disturbance, End, Fault, Kind, Start};
use super::{Cluster, Engine, Expectations, Levels, Mix, Problem, Scenario, Workload, file};
use crate::error::Error;

type Span = Range<usize>;

/// A problem and the place in the text where it is.
type Located<T> = Result<T, (Span, Problem)>;

pub(super) fn parse(id: &str, file: &str, text: &str) -> Result<Scenario, Error> {
    let parsed = toml::from_str::<file::File>(text).map_err(|error| {
        let message = in_one_line(error.message());
        (error.span().unwrap_or(0..0), Problem::Toml { message })
    });
    let valid = parsed.and_then(|written| scenario(id, file, written));
    valid.map_err(|(span, problem)| Error::Scenario {
        file: file.to_owned(),
        line: line_of(text, span.start),
        problem,
    })
}

fn line_of(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().iter().take(byte);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// The parser's message in our words: one line, and the allowed values named as everywhere else.
fn in_one_line(message: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let message = message.replacen(", expected one of ", "; allowed: ", 1);
        return message.replacen(", expected ", "; allowed: ", 1);
    }
    message
}

fn scenario(id: &str, address: &str, written: file::File) -> Located<Scenario> {
    if written.name.get_ref().trim().is_empty() || written.name.get_ref().contains('\n') {
        let allowed = "one line that says what happens";
        return Err(out_of_range(&written.name, "name", allowed));
    }
    let cluster = cluster(written.cluster)?;
    let workload = workload(written.workload)?;
    let rules = Rules {
        cluster: &cluster,
        duration: workload.duration,
    };
    let faults = written.fault.into_iter().map(|fault| rules.fault(fault));
    Ok(Scenario {
        id: id.to_owned(),
        address: address.to_owned(),
        title: written.name.into_inner(),
        seed: written.seed,
        faults: faults.collect::<Result<_, _>>()?,
        cluster,
        workload,
        expect: Expectations {
            epoch: expected(written.expect.epoch)?,
            none: expected(written.expect.none)?,
        },
    })
}

fn out_of_range<T: std::fmt::Debug>(
    given: &Spanned<T>,
    field: &'static str,
    allowed: impl Into<String>,
) -> (Span, Problem) {
    let problem = Problem::Range {
        field,
        given: format!("{:?}", given.get_ref()),
        allowed: allowed.into(),
    };
    (given.span(), problem)
}

/// The value of an optional field, if it lies in the range; else the default.
fn in_range<T>(
    given: Option<Spanned<T>>,
    field: &'static str,
    range: std::ops::RangeInclusive<T>,
    default: T,
) -> Located<T>
where
    T: std::fmt::Debug + PartialOrd + Copy,
{
    match given {
        Some(given) if !range.contains(given.get_ref()) => {
            let allowed = format!("{:?} to {:?}", range.start(), range.end());
            Err(out_of_range(&given, field, allowed))
        }
        Some(given) => Ok(given.into_inner()),
        None => Ok(default),
    }
}

fn length_in_range(
    given: Option<Spanned<super::Length>>,
    field: &'static str,
    (least, most): (Duration, Duration),
    default: Duration,
) -> Located<Duration> {
    let Some(given) = given else {
        return Ok(default);
    };
    let length = *given.get_ref();
    if (least..=most).contains(&length.0) {
        return Ok(length.0);
    }
    let problem = Problem::Range {
        field,
        given: length.to_string(),
        allowed: format!("{} to {}", super::Length(least), super::Length(most)),
    };
    Err((given.span(), problem))
}

fn cluster(written: Option<Spanned<file::Cluster>>) -> Located<Cluster> {
    let table_at = written.as_ref().map_or(0..0, Spanned::span);
    let written = written.map(Spanned::into_inner).unwrap_or_default();
    let span_of = |span: Option<Span>| span.unwrap_or(table_at.clone());
    let shards = written
        .shards
        .as_ref()
        .map_or(2, |shards| *shards.get_ref());
    let n = written
        .replication_factor
        .as_ref()
        .map_or(3, |n| *n.get_ref());
    let q = written
        .write_quorum
        .as_ref()
        .map_or(ClusterConfig::majority(n), |q| *q.get_ref());
    let e = written.election_quorum.as_ref().map(|e| *e.get_ref());
    let fencing = written.fencing.map_or(Fencing::Epoch, Fencing::from);
    let config = ClusterConfig::new(shards, n, q, e, fencing).map_err(|error| {
        let span = match error {
            ConfigError::Shards(_) => written.shards.as_ref().map(Spanned::span),
            ConfigError::Quorum(QuorumError::ReplicationFactor(_)) => {
                written.replication_factor.as_ref().map(Spanned::span)
            }
            ConfigError::Quorum(QuorumError::WriteQuorum { .. }) => {
                written.write_quorum.as_ref().map(Spanned::span)
            }
            ConfigError::Quorum(QuorumError::ElectionQuorum { .. }) => {
                written.election_quorum.as_ref().map(Spanned::span)
            }
        };
        (span_of(span), Problem::Cluster(error))
    })?;
    if let Some(engine) = written.engine.filter(|engine| engine.get_ref() != "memory") {
        let problem = Problem::Engine {
            engine: engine.get_ref().clone(),
        };
        return Err((engine.span(), problem));
    }
    let least = u16::try_from(usize::from(shards) * n).unwrap_or(u16::MAX);
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    Ok(Cluster {
        config,
        engine: Engine::Memory,
        nodes: in_range(written.nodes, "nodes", least..=least.max(1000), least)?,
        session_timeout: length_in_range(
            written.session_timeout,
            "session_timeout",
            (second, minute),
            4 * second,
        )?,
    })
}

impl From<file::Fencing> for Fencing {
    fn from(fencing: file::Fencing) -> Self {
        match fencing {
            file::Fencing::Epoch => Self::Epoch,
            file::Fencing::None => Self::None,
        }
    }
}

fn workload(written: Option<Spanned<file::Workload>>) -> Located<Workload> {
    let written = written.map(Spanned::into_inner).unwrap_or_default();
    let default = Workload::default();
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let ms = Duration::from_millis(1);
    Ok(Workload {
        clients: in_range(written.clients, "clients", 1..=1000, default.clients)?,
        keys: in_range(written.keys, "keys", 1..=10_000, default.keys)?,
        mix: mix(written.mix, default.mix)?,
        levels: levels(written.levels, default.levels)?,
        duration: length_in_range(
            written.duration,
            "duration",
            (second, hour),
            default.duration,
        )?,
        ops_per_second: in_range(
            written.ops_per_second,
            "ops_per_second",
            0.01..=10_000.0,
            default.ops_per_second,
        )?,
        deadline: length_in_range(
            written.deadline,
            "deadline",
            (ms, 60 * second),
            default.deadline,
        )?,
        min_ok: written.min_ok.unwrap_or(default.min_ok),
        recovery_within: length_in_range(
            written.recovery_within,
            "recovery_within",
            (second, hour),
            default.recovery_within,
        )?,
    })
}

fn mix(written: Option<Spanned<file::Mix>>, default: Mix) -> Located<Mix> {
    let Some(written) = written else {
        return Ok(default);
    };
    let file::Mix { get, set, delete } = *written.get_ref();
    if get == 0 || set == 0 || get.max(set).max(delete) > 1000 {
        let problem = Problem::Range {
            field: "mix",
            given: format!("get {get}, set {set}, delete {delete}"),
            allowed: "get and set of 1 to 1000, delete of 0 to 1000 (a run without reads or writes shows nothing)".to_owned(),
        };
        return Err((written.span(), problem));
    }
    Ok(Mix { get, set, delete })
}

fn levels(written: Option<Spanned<file::Levels>>, default: Levels) -> Located<Levels> {
    let Some(written) = written else {
        return Ok(default);
    };
    let file::Levels {
        lease,
        quorum,
        local,
        replica,
    } = *written.get_ref();
    let most = lease.max(quorum).max(local).max(replica);
    if most == 0 || most > 1000 {
        let problem = Problem::Range {
            field: "levels",
            given: format!("lease {lease}, quorum {quorum}, local {local}, replica {replica}"),
            allowed: "shares of 0 to 1000, not all 0".to_owned(),
        };
        return Err((written.span(), problem));
    }
    Ok(Levels {
        lease,
        quorum,
        local,
        replica,
    })
}

fn expected(named: file::Named) -> Located<BTreeMap<Guarantee, Expected>> {
    let one = |(name, word): (Spanned<String>, Spanned<String>)| {
        let guarantee: Guarantee = name
            .get_ref()
            .parse()
            .map_err(|error| (name.span(), Problem::Guarantee(error)))?;
        let found = Expected::ALL
            .into_iter()
            .find(|(_, allowed)| allowed == word.get_ref());
        let (expected, _) = found.ok_or_else(|| {
            let problem = Problem::Expectation {
                guarantee: guarantee.name().to_owned(),
                given: word.get_ref().clone(),
            };
            (word.span(), problem)
        })?;
        Ok((guarantee, expected))
    };
    named.into_iter().map(one).collect()
}

/// What a fault is held against.
struct Rules<'a> {
    cluster: &'a Cluster,
    duration: Duration,
}

const STARTS: &str = "at, when, after";
const PARTITIONS: &str = "isolate (with or without from), split, one_way, bridge";

impl Rules<'_> {
    fn fault(&self, written: Spanned<file::Fault>) -> Located<Fault> {
        let span = written.span();
        let mut written = written.into_inner();
        let (action, action_at) = self.action(&mut written, span.clone())?;
        for target in action.groups().iter().flat_map(|group| &group.0) {
            let config = &self.cluster.config;
            let exists = target.check(config.shards, config.replication_factor, self.cluster.nodes);
            exists.map_err(|problem| (action_at.clone(), problem.into()))?;
        }
        let start = self.start(&written, span)?;
        let end = self.end(&written, &start, action.kind())?;
        Ok(Fault { start, action, end })
    }

    fn start(&self, written: &file::Fault, span: Span) -> Located<Start> {
        match (&written.at, &written.when, &written.after) {
            (Some(at), None, None) if at.get_ref().0 >= self.duration => Err(contradiction(
                at,
                "at",
                format!(
                    "is not before the end of the workload ({}): the fault would never fire",
                    super::Length(self.duration)
                ),
            )),
            (Some(at), None, None) => Ok(Start::At(at.get_ref().0)),
            (None, Some(when), None) if when.get_ref().shard >= self.cluster.config.shards => {
                let target = super::Target::Writer(when.get_ref().shard);
                let shards = self.cluster.config.shards;
                Err((
                    when.span(),
                    super::NoSuchTarget::Shard { target, shards }.into(),
                ))
            }
            (None, Some(when), None) => Ok(Start::When(*when.get_ref())),
            (None, None, Some(after)) => Ok(Start::After(*after.get_ref())),
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
            (None, Some(lasting)) => Ok(End::For(lasting.get_ref().0)),
            (Some(until), Some(_)) => Err(contradiction(
                until,
                "until",
                "and for cannot both be given; remove one".to_owned(),
            )),
            (Some(until), None) => self.until(until, start),
        }
    }

    fn until(&self, until: &Spanned<super::Length>, start: &Start) -> Located<End> {
        let end = until.get_ref().0;
        match start {
            Start::At(at) if end <= *at => {
                let why = format!(
                    "({}) is not after at ({})",
                    until.get_ref(),
                    super::Length(*at)
                );
                Err(contradiction(until, "until", why))
            }
            Start::At(_) if end > self.duration => {
                let why = format!(
                    "({}) is after the end of the workload ({}), when everything heals",
                    until.get_ref(),
                    super::Length(self.duration)
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
        let mut simple = |group: Option<Spanned<super::Group>>,
                          action: fn(super::Group) -> Action| {
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
            found.push((
                Action::SlowDisk {
                    nodes: node,
                    delay: delay.0,
                },
                span,
            ));
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
        Ok((action, span))
    }

    /// No group is empty, and only links lead to other places than nodes.
    fn hits_somebody(&self, action: &Action, span: &Span) -> Located<()> {
        let links = action.kind() == Kind::Partition;
        for group in action.groups() {
            if group.0.is_empty() {
                return Err((span.clone(), super::NoSuchTarget::Nobody.into()));
            }
            if let Some(target) = group
                .0
                .iter()
                .copied()
                .find(|target| !links && !target.is_node())
            {
                return Err((
                    span.clone(),
                    super::NoSuchTarget::NotANode { target }.into(),
                ));
            }
        }
        Ok(())
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
    } = written.into_inner();
    match (isolate, from, split, one_way, bridge) {
        (Some(group), from, None, None, None) => Ok(Action::Isolate { group, from }),
        (None, None, Some(groups), None, None) if groups.len() < 2 => {
            let why = "needs at least two groups, such as [[\"writer(0)\"], [\"replica(0, 0)\", \"clients\"]]".to_owned();
            Err((
                span,
                Problem::Contradiction {
                    field: "split",
                    why,
                },
            ))
        }
        (None, None, Some(groups), None, None) => Ok(Action::Split(groups)),
        (None, None, None, Some(file::OneWay { from, to }), None) => {
            Ok(Action::OneWay { from, to })
        }
        (None, None, None, None, Some(group)) => Ok(Action::Bridge(group)),
        (isolate, from, split, one_way, bridge) => {
            let given = [
                ("isolate", isolate.is_some()),
                ("from", from.is_some()),
                ("split", split.is_some()),
                ("one_way", one_way.is_some()),
                ("bridge", bridge.is_some()),
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
