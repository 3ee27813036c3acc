//! Linearizability: per key, some order of the operations respects real time and explains every answer.
//!
//! Judged are reads of level lease and quorum (and those without a level), and all writes and deletes. Those that ended
//! `info` or were never answered stay open for ever: they may take effect at any time after their invocation, or never.
//! What failed is left out, and so are reads without an answer. A missing key reads as nothing. A history is
//! linearizable exactly if it is so key by key (Horn and Kroening 2015), so each key is judged alone.
//!
//! The verdict is about values and real time only, and exact: versions are a hint for where to look, never a proof. A key
//! goes through these steps until one decides:
//! 1. *Zones* ([`zones`]): values that were written once need no search. Decides every key whose values are unique and
//!    that has no reads of a deleted key, and finds most violations of the others, with the evidence at hand.
//! 2. *Versions* ([`witness`]): if the answers carry versions, their order is tried as the linearization.
//! 3. *Search* ([`search`]): Wing and Gong's, bounded by [`Limits`]. Beyond them the verdict is `unknown`.
//!
//! What a search refutes is shrunk to the few operations that are contradictory by themselves ([`minimise`]).

mod minimise;
mod register;
mod search;
mod witness;
mod zones;

use self::register::{Conflict, Decision, Register};
use crate::{
    history::{History, KeyId, Operation, ValueId},
    limits::Limits,
    verdict::Verdict,
};

/// The most operations that a violation shows.
const WITNESSES_MAX: usize = 5;

/// Judges linearizability.
pub fn judge(history: &History, limits: &Limits) -> Verdict {
    let mut verdict = Verdict::Holds;
    for key in history.key_ids() {
        let register = Register::new(history, key);
        let on_key = match decide(&register, limits) {
            Decision::Linearizable => continue,
            Decision::Unknown { states } => Verdict::unknown(format!(
                "the search on key {} gave up after {states} states; a shorter history, more keys or versions in the \
                 answers make it easier",
                history.key_name(key)
            )),
            Decision::Refuted(Conflict::Search) => {
                let (core, conflict) = minimise::minimise(register, limits);
                tell(history, key, &core, &conflict)
            }
            Decision::Refuted(conflict) => tell(history, key, &register, &conflict),
        };
        verdict = verdict.and(on_key);
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

/// Decides one register by the first step that can.
fn decide(register: &Register, limits: &Limits) -> Decision {
    match zones::decide(register) {
        zones::Zones::Linearizable => return Decision::Linearizable,
        zones::Zones::Refuted(conflict) => return Decision::Refuted(conflict),
        zones::Zones::Open => {}
    }
    if witness::versions_explain(register) {
        return Decision::Linearizable;
    }
    search::decide(register, limits)
}

/// Tells a conflict as a story.
fn tell(history: &History, key: KeyId, register: &Register, conflict: &Conflict) -> Verdict {
    let name = history.key_name(key);
    let operation =
        |index: u32| &history.operations()[register.actions[index as usize].operation as usize];
    let text = |index: u32| history.value_text(operation(index));
    let (why, actions) = match conflict {
        Conflict::NeverWritten { read } => {
            let before = latest_before(register, *read);
            let why = format!(
                "a read of {name} returned {}, which nobody had begun to write",
                text(*read)
            );
            (why, before.into_iter().chain([*read]).collect())
        }
        Conflict::ReadBeforeWrite { read, write } => {
            let why = format!(
                "a read of {name} returned {} before the write of it began",
                text(*read)
            );
            (why, vec![*read, *write])
        }
        Conflict::BothSides {
            around: (before, after),
            between: (begun, ended),
        } => {
            let (outer, inner) = (text(*after), text(*begun));
            let why = if before.is_none() {
                format!(
                    "after {name} = {inner}, {name} was missing as in the beginning, though nothing had deleted it"
                )
            } else {
                format!(
                    "{name} = {outer} came both before and after {name} = {inner}, though {outer} was written only once until then"
                )
            };
            (
                why,
                before
                    .iter()
                    .copied()
                    .chain([*begun, *ended, *after])
                    .collect(),
            )
        }
        Conflict::Search => {
            let count = register.actions.len();
            let shown = if count > WITNESSES_MAX {
                format!(" (shown are the last {WITNESSES_MAX})")
            } else {
                String::new()
            };
            let why = format!(
                "no order of these {count} operations on {name} explains what they returned{shown}"
            );
            (why, (0..count as u32).collect())
        }
    };
    let mut story: Vec<&Operation> = actions.into_iter().map(operation).collect();
    story.sort_by_key(|operation| operation.invoked);
    story.dedup_by_key(|operation| operation.invoked);
    let skipped = story.len().saturating_sub(WITNESSES_MAX);
    let story = story.drain(skipped..);
    Verdict::violated(
        why,
        story.map(|operation| history.witness(operation)).collect(),
    )
}

/// The acknowledged write that ended last before a read began: what it might have returned instead.
fn latest_before(register: &Register, read: u32) -> Option<u32> {
    let begun = register.actions[read as usize].invoked;
    let earlier = (0..register.actions.len() as u32).filter(|&index| {
        let action = &register.actions[index as usize];
        action.is_write && action.completed < begun
    });
    earlier.max_by_key(|&index| register.actions[index as usize].completed)
}

const _: () = assert!(ValueId::ABSENT.0 == 0, "a register begins with value 0");
