//! One log: the members of a shard commit the same entries in the same order, and an epoch has one writer.
//!
//! 1. At each (shard, offset), all `committed` events agree on the epoch and on the chained checksum, whoever recorded
//!    them and how often. Since the checksum is chained, the first offset where they differ is where the logs part.
//! 2. For each (shard, epoch), all `promoted` events are of one life (node and incarnation) of one node.
//!
//! These are Raft's State Machine Safety and Election Safety (Ongaro and Ousterhout, *In search of an understandable
//! consensus algorithm*, figure 3). A voter that left no record could have committed anything, so it makes the verdict
//! `unknown`.

use std::collections::BTreeMap;

use super::records::{Committed, Promoted, Records, witness};
use crate::verdict::Verdict;

/// Judges one log.
pub fn judge(records: &Records<'_>) -> Verdict {
    if let Some(violated) = diverged(records).or_else(|| two_writers(records)) {
        return violated;
    }
    if records
        .all_committed()
        .all(|(_, committed)| committed.is_empty())
    {
        return Verdict::unknown("no node recorded what it committed");
    }
    for shard in records.configured() {
        let voters = records.configurations(shard).iter();
        let mut voters = voters.flat_map(|known| known.voters);
        if let Some(silent) = voters.find(|voter| !records.is_present(**voter)) {
            return Verdict::unknown(format!(
                "node {silent}, a voter of shard {shard}, left no record of what it committed"
            ));
        }
    }
    Verdict::Holds
}

/// Two different entries at one offset: the lowest such offset of the first such shard.
fn diverged(records: &Records<'_>) -> Option<Verdict> {
    let mut by_shard: BTreeMap<u32, Vec<Committed<'_>>> = BTreeMap::new();
    for (shard, committed) in records.all_committed() {
        by_shard.entry(shard).or_default().extend(committed);
    }
    for (shard, mut committed) in by_shard {
        committed.sort_by_key(|committed| committed.version.offset);
        let at_offset = committed.chunk_by(|a, b| a.version.offset == b.version.offset);
        let is_other =
            |a: &Committed<'_>, b: &Committed<'_>| (a.version, a.chain) != (b.version, b.chain);
        let parted = at_offset
            .filter_map(|run| Some((run[0], run.iter().find(|found| is_other(&run[0], found))?)))
            .next();
        let Some((one, other)) = parted else { continue };
        let mut pair = [one.event, other.event];
        pair.sort_by_key(|event| event.index);
        let who = match pair.map(|event| event.node.unwrap_or_default()) {
            [one, other] if one == other => format!("node {one} committed two"),
            [one, other] => format!("nodes {one} and {other} committed"),
        };
        let offset = one.version.offset;
        let why = format!("at offset {offset} of shard {shard}, {who} different entries");
        return Some(Verdict::violated(
            why,
            pair.into_iter().map(witness).collect(),
        ));
    }
    None
}

/// Two lives that were promoted to write one epoch.
fn two_writers(records: &Records<'_>) -> Option<Verdict> {
    let mut first: BTreeMap<(u32, u64), Promoted<'_>> = BTreeMap::new();
    for promoted in records.promoted() {
        let first = first
            .entry((promoted.shard, promoted.epoch))
            .or_insert(*promoted);
        let life = |promoted: &Promoted<'_>| (promoted.event.node, promoted.event.incarnation);
        if life(first) != life(promoted) {
            let name = |promoted: &Promoted<'_>| {
                let node = promoted.event.node;
                let node = node.map_or("a node".to_owned(), |node| format!("node {node}"));
                format!("{node} in its life {}", promoted.event.incarnation)
            };
            let why = format!(
                "epoch {} of shard {} has two writers: {} and {}",
                promoted.epoch,
                promoted.shard,
                name(first),
                name(promoted)
            );
            let story = vec![witness(first.event), witness(promoted.event)];
            return Some(Verdict::violated(why, story));
        }
    }
    None
}
