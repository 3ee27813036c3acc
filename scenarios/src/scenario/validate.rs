//! From the file as written to a valid scenario, or to the first thing that is wrong with it and its line.

mod cues;
mod exercise;
mod faults;
mod script;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use checker::Guarantee;
use kv::config::{ClusterConfig, ConfigError};
use kv::engine::EngineKind;
use kv_core::{Fencing, QuorumError};
use toml::Spanned;

use self::faults::Rules;
use super::expect::Expected;
use super::{
    Cluster, Counted, Expectations, Fault, Levels, Mix, Problem, Random, Scenario, Size, Storage,
    Workload, file,
};
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
    let asks = written.cue.iter().map(|cue| cue.get_ref());
    let asks = asks.filter(|cue| cue.write.is_some() || cue.read.is_some());
    let asks = (!written.cue.is_empty()).then_some(asks.count());
    let workload = workload(written.workload, asks)?;
    let has_faults = !written.fault.is_empty();
    let random = written
        .random
        .map(|random| self::random(random, has_faults, &workload));
    let random = random.transpose()?;
    let rules = Rules {
        cluster: &cluster,
        workload: &workload,
    };
    let faults = faults(&rules, written.fault)?;
    cues::check_alone(&written.cue, &cluster, &workload, &faults, random)?;
    let cues = cues::cues(&cluster, written.cue)?;
    let file::Expect {
        unsaid,
        epoch,
        none,
    } = written.expect;
    let expect = Expectations {
        epoch: expected([unsaid, epoch], &workload)?,
        none: expected([none, file::Named::new()], &workload)?,
    };
    Ok(Scenario {
        id: id.to_owned(),
        address: address.to_owned(),
        title: written.name.into_inner(),
        seed: written.seed,
        random,
        faults,
        cues,
        cluster,
        workload,
        expect,
    })
}

/// The faults, none of them twice. Else they may overlap as they like: what two of them want lasts until both are over.
fn faults(rules: &Rules, written: Vec<Spanned<file::Fault>>) -> Located<Vec<Fault>> {
    let mut faults: Vec<Fault> = Vec::new();
    for written in written {
        let span = written.span();
        let fault = rules.fault(written)?;
        if let Some(twin) = faults.iter().position(|other| *other == fault) {
            let why = format!(
                "is the same as fault {}, and adds nothing to it; remove one",
                twin + 1
            );
            let field = "this fault";
            return Err((span, Problem::Contradiction { field, why }));
        }
        faults.push(fault);
    }
    Ok(faults)
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

/// The value of a size, if it is given and lies in the range.
fn size_in_range(
    given: Option<Spanned<Size>>,
    field: &'static str,
    (least, most): (Size, Size),
) -> Located<Option<u64>> {
    let Some(given) = given else { return Ok(None) };
    let size = *given.get_ref();
    if (least..=most).contains(&size) {
        return Ok(Some(size.0));
    }
    let problem = Problem::Range {
        field,
        given: size.to_string(),
        allowed: format!("{least} to {most}"),
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
    let engine = match written.engine {
        Some(name) => {
            let kind = name.get_ref().parse::<EngineKind>();
            kind.map_err(|unknown| (name.span(), unknown.into()))?
        }
        None => EngineKind::Memory,
    };
    let (none, kib, gib) = (Size(0), Size(1 << 10), Size(1 << 30));
    let storage = Storage {
        segment_bytes: size_in_range(written.segment_bytes, "segment_bytes", (kib, gib))?,
        checkpoint_bytes: size_in_range(written.checkpoint_bytes, "checkpoint_bytes", (kib, gib))?,
        log_retain_bytes: size_in_range(written.log_retain_bytes, "log_retain_bytes", (none, gib))?,
    };
    let least = u16::try_from(usize::from(shards) * n).unwrap_or(u16::MAX);
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    Ok(Cluster {
        config,
        engine,
        storage,
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

/// The workload; of a directed run, whose clients are one for each operation that the cues ask for, none other.
fn workload(written: Option<Spanned<file::Workload>>, asks: Option<usize>) -> Located<Workload> {
    let table_at = written.as_ref().map_or(0..0, Spanned::span);
    let written = written.map(Spanned::into_inner).unwrap_or_default();
    script::check_alone(&written)?;
    let default = Workload::default();
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let ms = Duration::from_millis(1);
    let min_ok_default = match (&written.script, asks) {
        (None, None) => default.min_ok,
        _ => 0,
    };
    let clients_default = asks.map_or(default.clients, |asks| {
        u32::try_from(asks).unwrap_or(1).max(1)
    });
    let mut workload = Workload {
        script: Vec::new(),
        clients: in_range(written.clients, "clients", 1..=1000, clients_default)?,
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
        min_ok: written
            .min_ok
            .as_ref()
            .map_or(min_ok_default, |it| *it.get_ref()),
        recovery_within: length_in_range(
            written.recovery_within,
            "recovery_within",
            (second, hour),
            default.recovery_within,
        )?,
    };
    workload.script = script::steps(written.script, &workload)?;
    if asks.is_some_and(|asks| asks > workload.clients as usize) {
        let allowed = "at least one for each operation that the cues ask for";
        let problem = Problem::Range {
            field: "clients",
            given: workload.clients.to_string(),
            allowed: allowed.to_owned(),
        };
        return Err((table_at, problem));
    }
    let (min_ok, most) = (
        workload.min_ok,
        exercise::operations_max(&workload, Counted::Operations),
    );
    if min_ok > most {
        let problem = Problem::Range {
            field: "min_ok",
            given: format!(
                "{min_ok}{}",
                if written.min_ok.is_some() {
                    ""
                } else {
                    " by default"
                }
            ),
            allowed: format!("0 to {most}, which is more than the clients ever do"),
        };
        return Err((written.min_ok.map_or(table_at, |it| it.span()), problem));
    }
    Ok(workload)
}

/// Room for a fault before the quiet time.
const ROOM_FOR_FAULTS: Duration = Duration::from_secs(5);

fn random(
    written: Spanned<file::Random>,
    has_faults: bool,
    workload: &Workload,
) -> Located<Random> {
    let span = written.span();
    let file::Random { faults, quiet } = written.into_inner();
    let refuse = |problem| Err((span, problem));
    if has_faults || !workload.script.is_empty() {
        let why =
            "draws the faults and the operations; remove random, or every [[fault]] and the script";
        return refuse(Problem::Contradiction {
            field: "random",
            why: why.to_owned(),
        });
    }
    if !(1..=100).contains(&faults) {
        return refuse(Problem::Range {
            field: "faults",
            given: faults.to_string(),
            allowed: "1 to 100".to_owned(),
        });
    }
    let most = workload.duration.saturating_sub(ROOM_FOR_FAULTS);
    if quiet.0 > most {
        let (given, most) = (quiet.to_string(), super::Length(most));
        return refuse(Problem::Range {
            field: "quiet",
            given,
            allowed: format!("at most {most}, so that there is time for faults"),
        });
    }
    Ok(Random {
        faults,
        quiet: quiet.0,
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

/// What is expected under one protocol, each guarantee once, and each one that the workload can say something about.
fn expected(
    tables: [file::Named; 2],
    workload: &Workload,
) -> Located<BTreeMap<Guarantee, Expected>> {
    let mut all = BTreeMap::new();
    for (name, word) in tables.into_iter().flatten() {
        let guarantee: Guarantee = name
            .get_ref()
            .parse()
            .map_err(|error| (name.span(), Problem::Guarantee(error)))?;
        let found = Expected::ALL
            .into_iter()
            .find(|(_, allowed)| allowed == word.get_ref());
        let Some((expected, _)) = found else {
            let problem = Problem::Expectation {
                guarantee: guarantee.name().to_owned(),
                given: word.get_ref().clone(),
            };
            return Err((word.span(), problem));
        };
        let refuse = |why: &str| {
            let (field, why) = (guarantee.name(), why.to_owned());
            Err((name.span(), Problem::Contradiction { field, why }))
        };
        if let Some(why) = exercise::says_nothing_about(workload, guarantee)
            && expected != Expected::Any
        {
            return refuse(why);
        }
        if all.insert(guarantee, expected).is_some() {
            return refuse("is named twice; remove one");
        }
    }
    Ok(all)
}
