//! Which lines of a story matter for one thing in it: the verdict, a key, a moment, or one event.
//!
//! What stays: that thing, the operations with its keys shortly before and after it, the turns of its shards, every fault,
//! and whatever proves a violation.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::str::FromStr;

use checker::{NodeEvent, NodeEventKind};

use crate::play::Played;
use crate::scenario::{Length, Scenario};

/// How long before and after it operations are told.
const WINDOW_NS: u64 = 2_000_000_000;
/// How long before and after it everything of its shards is told.
const CLOSE_NS: u64 = 20_000_000;

/// What to tell about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Around {
    /// What proves the violations.
    Verdict,
    /// The event of that index, as `history.jsonl` and `events.jsonl` number them.
    Index(u64),
    /// Whatever is nearest to that time.
    Time(Length),
    /// Everything about that key.
    Key(String),
}

impl FromStr for Around {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let index = text.parse().map(Self::Index).ok();
        let time = || text.parse().map(Self::Time).ok();
        let other = || match text {
            "verdict" => Self::Verdict,
            key => Self::Key(key.to_owned()),
        };
        Ok(index.or_else(time).unwrap_or_else(other))
    }
}

impl std::fmt::Display for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verdict => f.write_str("verdict"),
            Self::Index(index) => write!(f, "{index}"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Key(key) => f.write_str(key),
        }
    }
}

/// The indexes of the events to tell; none, if nothing of that kind is in the run.
pub(super) fn cut(
    around: &Around,
    scenario: &Scenario,
    played: &Played,
    evidence: &BTreeSet<u64>,
) -> Option<BTreeSet<u64>> {
    let focus = focus(around, played, evidence);
    let told = |index: Option<u64>| index.is_some_and(|index| focus.contains(&index));
    let asked = played.history.iter().filter(|event| told(event.index));
    let of_nodes = played.events.iter().filter(|event| told(Some(event.index)));
    let times = asked.clone().map(|event| event.time);
    let times: BTreeSet<u64> = times
        .chain(of_nodes.clone().map(|event| event.time))
        .collect();
    let (first, last) = (*times.first()?, *times.last()?);
    let keys: BTreeSet<&String> = asked.filter_map(|event| event.key.as_ref()).collect();
    let shards = keys.iter().map(|key| scenario.shard_of(key).0);
    let shards: BTreeSet<u64> = shards
        .chain(of_nodes.filter_map(|event| event.kind.shard().map(u64::from)))
        .collect();
    let window = first.saturating_sub(WINDOW_NS)..=last.saturating_add(WINDOW_NS);
    let operations = played.history.iter().filter(|event| {
        let is_ours = event.key.as_ref().is_some_and(|key| keys.contains(key));
        is_ours && window.contains(&event.time)
    });
    let is_close = |time: u64| {
        let close = time.saturating_sub(CLOSE_NS)..=time.saturating_add(CLOSE_NS);
        times.range(close).next().is_some()
    };
    let turns = played.events.iter().filter(|event| {
        let shard = event.kind.shard().map(u64::from);
        let is_ours = shard.is_none_or(|shard| shards.is_empty() || shards.contains(&shard));
        is_ours && (is_turn(event) || is_close(event.time))
    });
    let mut kept: BTreeSet<u64> = operations.filter_map(|event| event.index).collect();
    kept.extend(turns.map(|event| event.index));
    kept.extend(focus);
    kept.extend(evidence);
    Some(kept)
}

fn focus(around: &Around, played: &Played, evidence: &BTreeSet<u64>) -> BTreeSet<u64> {
    let asked = played.history.iter();
    let placed = asked
        .clone()
        .filter_map(|event| Some((event.time, event.index?)));
    let placed = placed.chain(played.events.iter().map(|event| (event.time, event.index)));
    match around {
        Around::Verdict => evidence.clone(),
        Around::Index(index) => placed
            .map(|(_, known)| known)
            .filter(|known| known == index)
            .collect(),
        Around::Time(Length(time)) => {
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let nearest = placed.min_by_key(|(at, _)| at.abs_diff(time));
            nearest.map(|(_, index)| index).into_iter().collect()
        }
        Around::Key(key) => asked
            .filter(|event| event.key.as_ref() == Some(key))
            .filter_map(|event| event.index)
            .collect(),
    }
}

/// Whether an event changes who plays which role, or is a fault.
fn is_turn(event: &NodeEvent) -> bool {
    match &event.kind {
        NodeEventKind::Shard { .. }
        | NodeEventKind::Started {}
        | NodeEventKind::Truncated { .. }
        | NodeEventKind::Lost { .. }
        | NodeEventKind::FinalLog { .. } => true,
        NodeEventKind::Other { kind, .. } => kind != "refused_stale",
        _ => false,
    }
}
