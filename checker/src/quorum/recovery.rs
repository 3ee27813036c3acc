//! Recovery: after the last fault heals, each shard takes writes again within T.
//!
//! Once the last fault has healed (`healed`, with coordination up), a session writes a key of each shard until that is
//! `ok`, as the event `probe` says. A shard has recovered in time if one of these writes, invoked after `healed`, was
//! `ok` no later than `within_ns` after it. If none was, that is a violation as long as at least max(Q, E) voters of
//! the newest configuration were live, E = N − Q + 1: fewer can neither write nor elect.
//!
//! Who was live stands in the `final_state` of each member, or, without one in that shard, in the last `links` event.
//! The verdict is `unknown` without `healed`, for a shard without a probe, if the session did not even try in time, and
//! if too few were live, or if nobody knows how many.
//!
//! This is a liveness promise with a bound, Alpern and Schneider's *Defining liveness* (1985) made checkable: the
//! partition is over, so an available service answers (Gilbert and Lynch 2002).

use super::records::{Configuration, Probe, Records, witness};
use crate::{
    history::{History, Operation, Session},
    node_events::NodeEvent,
    verdict::{Milliseconds, Verdict, Witness},
};

/// Judges recovery.
pub fn judge(history: &History, records: &Records<'_>) -> Verdict {
    let Some(healed) = records.healed() else {
        return Verdict::unknown("no healed event is recorded, from which recovery counts");
    };
    if !history.is_indexed() {
        return Verdict::unknown(
            "the history carries no index that places it among the node events",
        );
    }
    if records.probes().is_empty() {
        return Verdict::unknown(
            "no probe is recorded, which says how recovery is shown and within what time",
        );
    }
    let mut verdict = Verdict::Holds;
    for (&shard, probe) in records.probes() {
        let attempts = Attempts {
            history,
            records,
            shard,
            healed,
            probe,
        };
        verdict = verdict.and(attempts.judge());
        if verdict.is_violated() {
            return verdict;
        }
    }
    let unproven = |shard: &u32| !records.probes().contains_key(shard);
    match records.configured().find(unproven) {
        Some(shard) => verdict.and(Verdict::unknown(format!(
            "no probe of shard {shard} is recorded"
        ))),
        None => verdict,
    }
}

/// The writes of one probe.
struct Attempts<'a, 'e> {
    history: &'a History,
    records: &'a Records<'e>,
    shard: u32,
    healed: &'e NodeEvent,
    probe: &'a Probe<'e>,
}

impl Attempts<'_, '_> {
    fn judge(&self) -> Verdict {
        let deadline = self.healed.time.saturating_add(self.probe.within_ns);
        let attempts: Vec<&Operation> = self
            .history
            .operations()
            .iter()
            .filter(|operation| self.is_attempt(operation))
            .collect();
        let ok = attempts
            .iter()
            .copied()
            .filter(|attempt| attempt.is_ok())
            .min_by_key(|attempt| attempt.completed);
        let answered = ok.and_then(|ok| self.history.completed_time(ok));
        if answered.is_some_and(|answered| answered <= deadline) {
            return Verdict::Holds;
        }
        let Probe { session, key, .. } = self.probe;
        let tried = attempts
            .iter()
            .any(|attempt| self.history.invoked_time(attempt) <= deadline);
        if !tried {
            return Verdict::unknown(format!(
                "session {session} did not try to write {key} of shard {} in time, so nothing shows whether it recovered",
                self.shard
            ));
        }
        if let Err(reason) = self.enough_live() {
            return Verdict::unknown(format!(
                "shard {} took no write in time, but {reason}",
                self.shard
            ));
        }
        self.violated(&attempts, ok)
    }

    fn is_attempt(&self, operation: &Operation) -> bool {
        let (Session::Named(session) | Session::Process(session)) = operation.session;
        operation.is_write()
            && session == self.probe.session
            && self.history.key_name(operation.key) == self.probe.key
            && operation.shard.is_none_or(|shard| shard == self.shard)
            && self.history.invoked_index(operation) > Some(self.healed.index)
    }

    /// Whether so many members were live that the shard owes an answer; otherwise why not.
    fn enough_live(&self) -> Result<(), String> {
        let Some(configuration) = self.records.newest(self.shard) else {
            return Err("no configuration of it is recorded".to_owned());
        };
        let Configuration {
            voters,
            write_quorum,
            ..
        } = configuration;
        let needed = write_quorum.max((voters.len() + 1).saturating_sub(write_quorum));
        let mut states = self.records.final_states(self.shard).peekable();
        let live = if states.peek().is_some() {
            states
                .filter(|state| state.live && voters.contains(&state.node))
                .count()
        } else {
            let links = self.records.links().last();
            let links = links.ok_or("nothing tells which of its members were live")?;
            let is_up = |voter: &&u64| !links.down.contains(voter);
            voters.iter().filter(is_up).count()
        };
        if live >= needed {
            return Ok(());
        }
        Err(format!(
            "only {live} of the {needed} voters that it needs were live"
        ))
    }

    fn violated(&self, attempts: &[&Operation], ok: Option<&Operation>) -> Verdict {
        let end = match ok.and_then(|ok| self.history.completed_time(ok)) {
            Some(at) => {
                let late = Milliseconds(at.saturating_sub(self.healed.time));
                format!("the first ok came after {late} ms")
            }
            None => format!("none was ever ok, of {} tried", attempts.len()),
        };
        let why = format!(
            "shard {} was to take a write of {} within {} ms after the last fault had healed, but {end}",
            self.shard,
            self.probe.key,
            Milliseconds(self.probe.within_ns)
        );
        let mut events = [self.healed, self.probe.event];
        events.sort_by_key(|event| event.index);
        let mut story: Vec<Witness> = events.into_iter().map(witness).collect();
        let (first, last) = (attempts.first().copied(), attempts.last().copied());
        let mut shown: Vec<&Operation> = first.into_iter().chain(ok.or(last)).collect();
        shown.dedup_by_key(|attempt| attempt.invoked);
        story.extend(
            shown
                .into_iter()
                .map(|attempt| self.history.witness(attempt)),
        );
        Verdict::violated(why, story)
    }
}
