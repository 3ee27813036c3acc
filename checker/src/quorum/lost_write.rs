//! No lost write: after healing, every acknowledged write is still there, or was overwritten in good order.
//!
//! **With the logs.** Where the run ended with a `final_log` of a shard, every `ok` write in that shard has its
//! (epoch, offset) in one of the log's runs, at or below its `committed`. A name is not yet the entry: two sides of a
//! split brain can give the same name to different entries. So where both the node that answered and the holder of
//! the final log recorded `committed` for that name, the chained checksums must agree. If they differ there and agree
//! just before, the entry itself is another one: the write is lost. If they differ before too, this write cannot be
//! told from its predecessors, and the verdict is `unknown` unless another write proves the loss.
//!
//! **Without.** Per written key, the final read is the last `ok` read to begin (of level lease, quorum or none: a
//! local or replica read may merely be stale). Let W be the writes that may have put there what it shows (for
//! nothing: the deletes, and the beginning). An `ok` write `w` that ended before the read began is lost if every one
//! of W is `ok` and had ended before `w` began. An `ok` write that had not ended before that read is only known to be
//! kept if the read shows it, or something that may have come after it; otherwise the verdict is `unknown`, as it is
//! for a key without a final read.

use super::{
    one_name_for_two_writes,
    records::{FinalLog, Records, witness},
};
use crate::{
    history::{History, KeyId, Level, Operation, Outcome, ValueId, Version},
    verdict::Verdict,
    versions::Claims,
};

/// Judges no lost write.
pub(crate) fn judge(history: &History, claims: &Claims<'_>, records: &Records<'_>) -> Verdict {
    if records.has_final_logs()
        && let Some(violated) = one_name_for_two_writes(history, claims)
    {
        return violated;
    }
    let only_shard = records.only_shard();
    let mut verdict = Verdict::Holds;
    for key in history.key_ids() {
        let mut by_value = false;
        for write in history
            .on_key(key)
            .filter(|operation| operation.is_write() && operation.is_ok())
        {
            let shard = write.shard.or(only_shard);
            let log = shard.and_then(|shard| Some((shard, records.final_log(shard)?)));
            match (log, write.version) {
                (Some((shard, log)), Some(name)) => {
                    let entry = Entry {
                        history,
                        records,
                        write,
                        shard,
                        name,
                    };
                    verdict = verdict.and(entry.judge(&log).unwrap_or(Verdict::Holds));
                }
                _ => by_value = true,
            }
        }
        if by_value {
            verdict = verdict.and(judge_by_final_read(history, key));
        }
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

/// An acknowledged write, as the entry that it is said to have become.
struct Entry<'a, 'e> {
    history: &'a History,
    records: &'a Records<'e>,
    write: &'a Operation,
    shard: u32,
    name: Version,
}

impl Entry<'_, '_> {
    /// `None` stands for what holds.
    fn judge(&self, log: &FinalLog<'_>) -> Option<Verdict> {
        let Version { epoch, offset } = self.name;
        let (key, value) = (
            self.history.key_name(self.write.key),
            self.history.value_text(self.write),
        );
        let held = log
            .runs
            .iter()
            .find(|(_, first, last)| (*first..=*last).contains(&offset));
        let missing = match held {
            Some(&(held, ..)) if held != epoch => {
                format!("holds an entry of epoch {held} at that offset")
            }
            None => "does not hold that offset".to_owned(),
            Some(_) if offset > log.committed => {
                format!("is committed only up to offset {}", log.committed)
            }
            Some(_) => return self.judge_content(log),
        };
        let why = format!(
            "the write {key} = {value} was ok as entry {}, but the final log of shard {} {missing}",
            self.name, self.shard
        );
        Some(Verdict::violated(
            why,
            vec![self.history.witness(self.write), witness(log.event)],
        ))
    }

    /// Whether the entry under the right name is the right one, as far as checksums tell.
    fn judge_content(&self, log: &FinalLog<'_>) -> Option<Verdict> {
        let answered = self.history.completed_index(self.write)?;
        let (writer, holder) = (self.write.node?, log.event.node?);
        let at = |node, name, before| self.records.committed(self.shard, node, name, before);
        let then = at(writer, self.name, answered)?;
        let now = at(holder, self.name, log.event.index)?;
        if then.chain == now.chain {
            return None;
        }
        let before = |node, until| {
            self.records
                .chain_below(self.shard, node, self.name.offset, until)
        };
        let (below_then, below_now) = (before(writer, answered), before(holder, log.event.index));
        if self.name.offset > 1 && (below_then.is_none() || below_then != below_now) {
            let reason = format!(
                "nodes {writer} and {holder} committed different logs up to {} of shard {}, and nothing tells where they part",
                self.name, self.shard
            );
            return Some(Verdict::unknown(reason));
        }
        let why = format!(
            "the write {} = {} was ok as entry {}, but another entry bears that name in the final log of shard {}",
            self.history.key_name(self.write.key),
            self.history.value_text(self.write),
            self.name,
            self.shard
        );
        let story = vec![
            witness(then.event),
            self.history.witness(self.write),
            witness(now.event),
            witness(log.event),
        ];
        Some(Verdict::violated(why, story))
    }
}

/// Judges a key by what its last read shows.
fn judge_by_final_read(history: &History, key: KeyId) -> Verdict {
    let name = history.key_name(key);
    let can_be_final = |operation: &&Operation| {
        let strong = matches!(operation.level, None | Some(Level::Lease | Level::Quorum));
        !operation.is_write() && operation.is_ok() && strong
    };
    let Some(last) = history.on_key(key).rfind(can_be_final) else {
        return Verdict::unknown(format!(
            "{name} was written, and neither a final log nor a final read tells the end"
        ));
    };
    let shows_it = |write: &&Operation| {
        write.is_write()
            && write.outcome != Outcome::Fail
            && write.value == last.value
            && write.invoked < last.completed
    };
    let shown: Vec<&Operation> = history.on_key(key).filter(shows_it).collect();
    if shown.is_empty() && last.value != ValueId::ABSENT {
        let value = history.value_text(last);
        return Verdict::unknown(format!(
            "the final read of {name} shows {value}, which nobody wrote"
        ));
    }
    let mut verdict = Verdict::Holds;
    for write in history
        .on_key(key)
        .filter(|operation| operation.is_write() && operation.is_ok())
    {
        if !shown.iter().all(|shown| shown.precedes(write)) {
            continue;
        }
        if !write.precedes(last) {
            let reason = format!(
                "{name} was written after its last read had begun, and no final log tells the end"
            );
            verdict = verdict.and(Verdict::unknown(reason));
            continue;
        }
        let (wrote, shows) = (history.value_text(write), history.value_text(last));
        let why = format!(
            "the write {name} = {wrote} was ok, but the final read shows {name} = {shows}, and nothing since then explains it"
        );
        let story = shown.last().copied().into_iter().chain([write, last]);
        return Verdict::violated(
            why,
            story.map(|operation| history.witness(operation)).collect(),
        );
    }
    verdict
}
