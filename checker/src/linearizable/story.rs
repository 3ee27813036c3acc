//! Tells why a key has no linearization, in one sentence and a few operations.

use super::register::{Conflict, Register};
use crate::{
    history::{History, KeyId, Operation},
    verdict::Verdict,
};

/// The most operations that a violation shows.
const WITNESSES_MAX: usize = 5;

/// Tells a conflict as a story.
pub(super) fn tell(
    history: &History,
    key: KeyId,
    register: &Register,
    conflict: &Conflict,
) -> Verdict {
    let operation =
        |index: u32| &history.operations()[register.actions[index as usize].operation as usize];
    let text = |index: u32| history.value_text(operation(index));
    let why = explain(history.key_name(key), register, conflict, text);
    let mut story: Vec<&Operation> = proof(register, conflict)
        .into_iter()
        .map(operation)
        .collect();
    story.sort_by_key(|operation| operation.invoked);
    story.dedup_by_key(|operation| operation.invoked);
    let skipped = story.len().saturating_sub(WITNESSES_MAX);
    let story = story.drain(skipped..);
    Verdict::violated(
        why,
        story.map(|operation| history.witness(operation)).collect(),
    )
}

/// The conflict as one sentence.
fn explain(
    name: &str,
    register: &Register,
    conflict: &Conflict,
    text: impl Fn(u32) -> String,
) -> String {
    match *conflict {
        Conflict::NeverWritten { read } => {
            format!(
                "a read of {name} returned {}, which nobody had begun to write",
                text(read)
            )
        }
        Conflict::ReadBeforeWrite { read, .. } => {
            format!(
                "a read of {name} returned {} before the write of it began",
                text(read)
            )
        }
        Conflict::Stale {
            source: None, over, ..
        } => {
            let over = text(over);
            format!(
                "a read of {name} returned nothing, although {name} = {over} had been written before it began"
            )
        }
        Conflict::Stale { over, read, .. } => {
            let (read, over) = (text(read), text(over));
            format!(
                "a read of {name} returned {read}, which {name} = {over} had replaced before the read began"
            )
        }
        Conflict::BothSides {
            around: (None, _),
            between: (begun, _),
        } => {
            let begun = text(begun);
            format!("{name} was missing after {name} = {begun}, though nothing had deleted it")
        }
        Conflict::BothSides {
            around: (_, after),
            between: (begun, _),
        } => {
            let (outer, inner) = (text(after), text(begun));
            format!(
                "{name} = {outer} came both before and after {name} = {inner}, though it was written only once"
            )
        }
        Conflict::Search => {
            let count = register.actions.len();
            let shown = match count {
                0..=WITNESSES_MAX => String::new(),
                _ => format!(" (shown are the last {WITNESSES_MAX})"),
            };
            format!(
                "no order of these {count} operations on {name} explains what they returned{shown}"
            )
        }
    }
}

/// The actions that prove it.
fn proof(register: &Register, conflict: &Conflict) -> Vec<u32> {
    match *conflict {
        Conflict::NeverWritten { read } => latest_before(register, read)
            .into_iter()
            .chain([read])
            .collect(),
        Conflict::ReadBeforeWrite { read, write } => vec![read, write],
        Conflict::Stale { source, over, read } => source.into_iter().chain([over, read]).collect(),
        Conflict::BothSides {
            around: (before, after),
            between: (begun, ended),
        } => before.into_iter().chain([begun, ended, after]).collect(),
        Conflict::Search => (0..register.actions.len() as u32).collect(),
    }
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
