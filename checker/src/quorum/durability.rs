//! Quorum durability: before each `ok` write, at least Q voters had synced and committed its entry.
//!
//! For each `ok` write with version (epoch, offset):
//! 1. the node that answered recorded `acknowledged` for that entry, between the write's invocation and its `ok`;
//! 2. it counted at least Q voters of the epoch in which it acknowledged. That is an epoch, not older than the entry,
//!    that was published with it as the writer; a writer that goes on through a change of members may still act under
//!    the configuration before it, so any such epoch will do;
//! 3. at least Q of these voters recorded, before the acknowledgement, first `synced` covering the entry and then
//!    `committed` of it, and had not removed it from their logs in between; or `installed` a snapshot that covers it; and
//! 4. they mean the same entry by that name: their chained checksums agree with the writer's, and that of a snapshot with whoever
//!    committed its last entry.
//!
//! What happens after the acknowledgement does not matter: a later power loss breaks other promises. The order of
//! events is their global index, never a clock. A member without any record makes the verdict `unknown`, as long as
//! it could have made up the quorum; a member whose record is there and does not show it makes it `violated`.

use super::{
    one_name_for_two_writes,
    records::{Acknowledged, Committed, Configuration, Proof, Records, witness},
};
use crate::{
    history::{History, Operation, Version},
    node_events::NodeEvent,
    verdict::{Verdict, Witness},
    versions::Claims,
};

/// Judges quorum durability.
pub(crate) fn judge(history: &History, claims: &Claims<'_>, records: &Records<'_>) -> Verdict {
    if records.is_empty() {
        return Verdict::unknown(
            "there are no node events, which alone tell what members had synced and committed",
        );
    }
    if !history.is_indexed() {
        return Verdict::unknown(
            "the history carries no index that places it among the node events",
        );
    }
    if let Some(violated) = one_name_for_two_writes(history, claims) {
        return violated;
    }
    let only_shard = records.only_shard();
    let mut verdict = Verdict::Holds;
    for write in history
        .operations()
        .iter()
        .filter(|operation| operation.is_write() && operation.is_ok())
    {
        let judged = judge_write(history, records, write, only_shard);
        verdict = verdict.and(judged.unwrap_or(Verdict::Holds));
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

/// A write, as the entry that it is said to have become.
struct Claim<'a, 'e> {
    history: &'a History,
    records: &'a Records<'e>,
    write: &'a Operation,
    shard: u32,
    name: Version,
}

/// Judges one write. `None` stands for what holds.
fn judge_write(
    history: &History,
    records: &Records<'_>,
    write: &Operation,
    only_shard: Option<u32>,
) -> Option<Verdict> {
    let key = history.key_name(write.key);
    let line = write.invoked + 1;
    let Some(name) = write.version else {
        return Some(Verdict::unknown(format!(
            "the ok of the write of {key} in event {line} carries no version"
        )));
    };
    let Some(shard) = write.shard.or(only_shard) else {
        return Some(Verdict::unknown(format!(
            "the write of {key} in event {line} does not say which shard it is in"
        )));
    };
    let claim = Claim {
        history,
        records,
        write,
        shard,
        name,
    };
    let acknowledged = match claim.acknowledged() {
        Ok(acknowledged) => acknowledged,
        Err(verdict) => return Some(verdict),
    };
    let configurations = claim.configurations(&acknowledged);
    if configurations.is_empty() {
        let reason = format!(
            "no configuration of shard {shard} is recorded for the acknowledgement of {name}"
        );
        return Some(Verdict::unknown(reason));
    }
    let mut worst: Option<Verdict> = None;
    for configuration in configurations {
        let verdict = claim.quorum(&acknowledged, &configuration)?;
        // The newest configuration tells the story best; an older one that leaves it open still leaves it open.
        worst = Some(match worst {
            Some(worst) if !verdict.is_unknown() => worst,
            _ => verdict,
        });
    }
    worst
}

impl<'e> Claim<'_, 'e> {
    /// The acknowledgement that the client was answered with (point 1).
    fn acknowledged(&self) -> Result<Acknowledged<'e>, Verdict> {
        let (Some(asked), Some(answered)) = (
            self.history.invoked_index(self.write),
            self.history.completed_index(self.write),
        ) else {
            return Err(Verdict::unknown("the history carries no index"));
        };
        let of_name = self.records.acknowledged(self.shard, self.name);
        let is_this = |found: &&Acknowledged<'_>| {
            let by_it = self.write.node.is_none() || found.node == self.write.node;
            by_it && (asked..answered).contains(&found.event.index)
        };
        if let Some(found) = of_name.iter().find(is_this) {
            return Ok(*found);
        }
        let name = self.name;
        if let Some(node) = self
            .write
            .node
            .filter(|node| !self.records.is_present(*node))
        {
            let reason = format!("node {node}, which acknowledged {name}, left no record");
            return Err(Verdict::unknown(reason));
        }
        let shard = self.records.configurations(self.shard);
        if shard.is_empty() && of_name.is_empty() {
            let reason = format!(
                "there are no events of shard {}, in which {name} was acknowledged",
                self.shard
            );
            return Err(Verdict::unknown(reason));
        }
        let who = self
            .write
            .node
            .map_or("no node".to_owned(), |node| format!("node {node}"));
        let has = if self.write.node.is_some() {
            "has not recorded"
        } else {
            "has recorded"
        };
        let why = format!(
            "{} is ok as entry {name}, but {who} {has} acknowledging it in that time",
            self.text()
        );
        let elsewhere = of_name.iter().map(|found| found.event).take(2);
        let published = shard
            .iter()
            .rfind(|shard| shard.event.index < answered)
            .map(|shard| shard.event);
        Err(self.violated(why, published.into_iter().chain(elsewhere)))
    }

    /// The configurations under which the writer may have acted, the newest first (point 2).
    fn configurations(&self, acknowledged: &Acknowledged<'e>) -> Vec<Configuration<'e>> {
        let known = self.records.configurations(self.shard).iter().rev();
        let earlier = known.filter(|known| known.event.index < acknowledged.event.index);
        let as_writer = |known: &&Configuration<'e>| {
            known.epoch >= self.name.epoch
                && known.writer.is_some()
                && known.writer == acknowledged.node
        };
        let mut found: Vec<Configuration<'e>> =
            earlier.clone().filter(as_writer).copied().collect();
        if found.is_empty() {
            found = earlier
                .filter(|known| known.epoch == self.name.epoch)
                .copied()
                .collect();
        }
        found.dedup_by_key(|known| (known.voters, known.write_quorum));
        found
    }

    /// Whether a quorum of this configuration is shown (points 2 to 4). `None` stands for what holds.
    fn quorum(
        &self,
        acknowledged: &Acknowledged<'e>,
        configuration: &Configuration<'e>,
    ) -> Option<Verdict> {
        let mut counted: Vec<u64> = acknowledged.members.to_vec();
        counted.retain(|member| configuration.voters.contains(member));
        counted.sort_unstable();
        counted.dedup();
        let needed = configuration.write_quorum;
        let (name, epoch) = (self.name, configuration.epoch);
        let events = [configuration.event, acknowledged.event];
        if counted.len() < needed {
            let why = format!(
                "{} is ok as entry {name}, counting {} voters of epoch {epoch} where {needed} are needed",
                self.text(),
                counted.len(),
            );
            return Some(self.violated(why, events));
        }
        let mut shown: Vec<(u64, Committed<'_>)> = Vec::new();
        let mut taken_over = 0;
        let mut silent: Vec<u64> = Vec::new();
        let mut lacking: Option<(u64, &str, Option<&NodeEvent>)> = None;
        for &member in &counted {
            match self
                .records
                .proof(self.shard, member, name, acknowledged.event.index)
            {
                Proof::Shown(committed) => shown.push((member, committed)),
                Proof::TakenOver(taken) if self.records.agree_on(self.shard, &taken) => {
                    taken_over += 1;
                }
                Proof::TakenOver(taken) => {
                    let why = "had taken over a snapshot of another log";
                    lacking = lacking.or(Some((member, why, Some(taken.event))));
                }
                Proof::NoLog => silent.push(member),
                Proof::Lacking { why, event } => lacking = lacking.or(Some((member, why, event))),
            }
        }
        let stranger = keep_same_entry(&mut shown, acknowledged.node);
        let have = shown.len() + taken_over;
        if have >= needed {
            return None;
        }
        if have + silent.len() >= needed {
            let reason = format!(
                "node {} was counted for entry {name} of shard {} and left no record",
                silent[0], self.shard
            );
            return Some(Verdict::unknown(reason));
        }
        let (member, reason, event) = match (lacking, stranger) {
            (Some(lacking), _) => lacking,
            (None, Some((member, found))) => (
                member,
                "had committed another entry of that name",
                Some(found.event),
            ),
            (None, None) => (silent[0], "left no record", None),
        };
        let why = format!(
            "{} is ok as entry {name}, but only {} of the {needed} voters needed had it durable and committed: \
             node {member} was counted and {reason}",
            self.text(),
            have,
        );
        Some(self.violated(why, events.into_iter().chain(event)))
    }

    fn text(&self) -> String {
        let (key, value) = (
            self.history.key_name(self.write.key),
            self.history.value_text(self.write),
        );
        format!("the write {key} = {value}")
    }

    fn violated(&self, why: String, events: impl IntoIterator<Item = &'e NodeEvent>) -> Verdict {
        let mut events: Vec<&NodeEvent> = events.into_iter().collect();
        events.sort_by_key(|event| event.index);
        let mut story: Vec<Witness> = events.into_iter().map(witness).collect();
        story.push(self.history.witness(self.write));
        Verdict::violated(why, story)
    }
}

/// Keeps those whose entry is the writer's (or, without the writer, the most common), and returns one that is not.
fn keep_same_entry<'e>(
    shown: &mut Vec<(u64, Committed<'e>)>,
    writer: Option<u64>,
) -> Option<(u64, Committed<'e>)> {
    let of_writer = shown.iter().find(|(member, _)| Some(*member) == writer);
    let count = |chain: u32| {
        shown
            .iter()
            .filter(|(_, found)| found.chain == chain)
            .count()
    };
    let (_, reference) =
        of_writer.or_else(|| shown.iter().max_by_key(|(_, found)| count(found.chain)))?;
    let chain = reference.chain;
    let stranger = shown
        .iter()
        .find(|(_, found)| found.chain != chain)
        .copied();
    shown.retain(|(_, found)| found.chain == chain);
    stranger
}
