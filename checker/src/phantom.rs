//! No phantom: nothing that ended `fail` is ever read or committed.
//!
//! `fail` says that an operation never happened and never will. It is broken if an `ok` read of any level, at any time,
//! returned the value of a failed write and no other write explains it: no write of that value that began before the
//! read ended is `ok`, unknown or unanswered. A failed delete is seen only by a read of nothing that carries a version,
//! which is that of a delete: it is broken if every delete that began before the read ended has failed. A read of
//! nothing without a version may be lost data as well, which other guarantees judge.
//!
//! That a failed write is committed shows in reads alone, since the nodes' own events tell no values. So a key on which
//! a write failed and that no `ok` read has seen since the write began leaves the verdict `unknown`.
//!
//! That a `fail` is known not to have happened is Jepsen's rule; what is forbidden is the aborted read, G1a, of Adya,
//! Liskov and O'Neil, *Generalized isolation level definitions* (ICDE 2000).

use crate::{
    history::{Function, History, KeyId, Operation, Outcome, ValueId},
    verdict::Verdict,
};

/// Judges no phantom.
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict::Holds;
    for key in history.key_ids() {
        verdict = verdict.and(judge_key(history, key));
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

fn judge_key(history: &History, key: KeyId) -> Verdict {
    let mut failed: Vec<&Operation> = Vec::new();
    let mut others: Vec<&Operation> = Vec::new();
    for write in history.on_key(key).filter(|operation| operation.is_write()) {
        match write.outcome {
            Outcome::Fail => failed.push(write),
            Outcome::Ok | Outcome::Info => others.push(write),
        }
    }
    let Some(last_failed) = failed.last().copied() else {
        return Verdict::Holds;
    };
    failed.sort_by_key(|write| (write.value, write.invoked));
    others.sort_by_key(|write| (write.value, write.invoked));
    let mut seen_until = None;
    for read in history
        .on_key(key)
        .filter(|operation| operation.function == Function::Read && operation.is_ok())
    {
        seen_until = seen_until.max(Some(read.completed));
        if read.value == ValueId::ABSENT && read.version.is_none() {
            continue;
        }
        let Some(phantom) = first_of(&failed, read) else {
            continue;
        };
        if first_of(&others, read).is_none() {
            return violated(history, phantom, read);
        }
    }
    if seen_until > Some(last_failed.invoked) {
        return Verdict::Holds;
    }
    Verdict::unknown(format!(
        "the {} of {} in event {} failed, and no read of the key since then tells whether that is so",
        last_failed.function,
        history.key_name(key),
        last_failed.invoked + 1
    ))
}

/// The first of these writes, sorted by value, that may explain what a read returned.
fn first_of<'h>(writes: &[&'h Operation], read: &Operation) -> Option<&'h Operation> {
    let start = writes.partition_point(|write| write.value < read.value);
    let first = writes.get(start).copied()?;
    (first.value == read.value && first.invoked < read.completed).then_some(first)
}

fn violated(history: &History, phantom: &Operation, read: &Operation) -> Verdict {
    let key = history.key_name(read.key);
    let saw = history.value_text(read);
    let what = match phantom.function {
        Function::Delete => format!("every delete of {key} until then had failed"),
        _ => format!("every write of {saw} until then had failed"),
    };
    let why = format!("a read of {key} returned {saw}, but {what}: what fails never happens");
    let mut story = [phantom, read];
    story.sort_by_key(|operation| operation.invoked);
    let witnesses = story.iter().map(|operation| history.witness(operation));
    Verdict::violated(why, witnesses.collect())
}
