//! Refuses node events that cannot have happened, so that no verdict rests on a damaged or forged file.
//!
//! What a broken protocol can do is not refused, since finding it is what the checks are for: two writers of an epoch,
//! diverging logs, a quorum that counts strangers. Refused is what no run of any protocol can have recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeEvent, NodeEventKind as Kind};
use crate::error::{Impossible, Problem};

/// Goes through a file of node events, line by line.
#[derive(Default)]
pub(super) struct Scrutiny {
    /// The line of the first event of each life of each node.
    lives: BTreeMap<(u64, u64), usize>,
    voters: BTreeMap<u32, BTreeSet<u64>>,
    /// Who acknowledged something in a shard, with the first line; configurations may be written down later.
    acknowledged: BTreeMap<(u32, u64), usize>,
}

impl Scrutiny {
    /// Looks at the next event.
    pub(super) fn look(&mut self, event: &NodeEvent, line: usize) -> Result<(), Problem> {
        self.look_at_life(event, line)?;
        if let Some((_, name)) = event.kind.entry()
            && name.offset == 0
            && !is_empty_log(&event.kind)
        {
            return Err(Impossible::OffsetZero.into());
        }
        match &event.kind {
            Kind::Shard {
                shard,
                voters,
                write_quorum,
                ..
            } => {
                let distinct: BTreeSet<u64> = voters.iter().copied().collect();
                if !(1..=distinct.len()).contains(&(*write_quorum as usize)) {
                    return Err(Impossible::Quorum {
                        write_quorum: *write_quorum,
                        voter_count: distinct.len(),
                    }
                    .into());
                }
                self.voters.entry(*shard).or_default().extend(distinct);
            }
            Kind::Acknowledged { shard, .. } => {
                if let Some(node) = event.node {
                    self.acknowledged.entry((*shard, node)).or_insert(line);
                }
            }
            Kind::FinalLog {
                runs, committed, ..
            } => look_at_runs(runs, *committed)?,
            Kind::Links { cut, .. } => {
                if let Some(&(node, _)) = cut.iter().find(|(from, to)| from == to) {
                    return Err(Impossible::LinkToItself { node }.into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks at the whole, once all lines are read. A problem comes with its line.
    pub(super) fn finish(&self) -> Result<(), (usize, Problem)> {
        for (&(shard, node), &line) in &self.acknowledged {
            let voters = self.voters.get(&shard);
            if voters.is_some_and(|voters| !voters.contains(&node)) {
                return Err((line, Impossible::Stranger { node, shard }.into()));
            }
        }
        Ok(())
    }

    fn look_at_life(&mut self, event: &NodeEvent, line: usize) -> Result<(), Problem> {
        let needs_node = matches!(
            event.kind,
            Kind::Started {}
                | Kind::Synced { .. }
                | Kind::Committed { .. }
                | Kind::Acknowledged { .. }
                | Kind::Truncated { .. }
                | Kind::FinalState { .. }
        );
        let is_own = needs_node && !matches!(event.kind, Kind::FinalState { .. });
        let Some(node) = event.node else {
            let kind = || event.kind.name().to_owned();
            return match needs_node {
                true => Err(Impossible::NoNode { kind: kind() }.into()),
                false => Ok(()),
            };
        };
        if !is_own {
            return Ok(());
        }
        let incarnation = event.incarnation;
        let since = *self.lives.entry((node, incarnation)).or_insert(line);
        if event.kind == (Kind::Started {}) && since != line {
            return Err(Impossible::StartedLate {
                node,
                incarnation,
                since,
            }
            .into());
        }
        Ok(())
    }
}

/// A node whose log is empty says that it is durable up to no entry at all.
fn is_empty_log(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Synced {
            epoch: 0,
            offset: 0,
            ..
        }
    )
}

fn look_at_runs(runs: &[(u64, u64, u64)], committed: u64) -> Result<(), Problem> {
    let mut previous: Option<(u64, u64, u64)> = None;
    for &run in runs {
        let (epoch, first, last) = run;
        if first == 0 || first > last {
            return Err(Impossible::Run { run }.into());
        }
        if let Some(previous) = previous.filter(|before| before.2 >= first || before.0 > epoch) {
            return Err(Impossible::RunsFall { run, previous }.into());
        }
        previous = Some(run);
    }
    match previous {
        Some((.., end)) if committed > end => {
            Err(Impossible::CommittedBeyond { committed, end }.into())
        }
        _ => Ok(()),
    }
}
