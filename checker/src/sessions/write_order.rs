//! Monotonic writes and writes-follow-reads: a session's write comes after what the session wrote or had read before.
//!
//! - **Monotonic writes.** For two `ok` writes `w1 < w2` of one session and key, version(w1) < version(w2).
//! - **Writes follow reads.** For a read `r` in scope and an `ok` write `w` with `r < w`, of one session and key,
//!   version(r) < version(w). A read of nothing without a version binds nothing: no write is known that it saw.
//!
//! Both are about the order in which writes take effect, which no client sees: only versions tell it. So an answer
//! without one makes the verdict `unknown`, as soon as there is a pair to judge, and so does a pair from two shards,
//! whose versions do not compare. A version that does not rise breaks the promise whatever else is claimed; but where
//! the versions on a key contradict each other, a rising one proves nothing, and the verdict is `unknown`.

use std::collections::BTreeMap;

use super::{Highest, in_scope, sources, tell};
use crate::{
    history::{History, KeyId, Operation, Session, ValueId},
    verdict::Verdict,
    versions::Claims,
};

/// Judges monotonic writes.
pub(crate) fn monotonic_writes(history: &History, claims: &Claims<'_>) -> Verdict {
    judge(history, claims, Operation::is_write)
}

/// Judges writes-follow-reads.
pub(crate) fn writes_follow_reads(history: &History, claims: &Claims<'_>) -> Verdict {
    judge(history, claims, |operation| {
        let saw_something = operation.version.is_some() || operation.value != ValueId::ABSENT;
        !operation.is_write() && in_scope(operation) && saw_something
    })
}

/// What a session's later writes must come after.
#[derive(Default)]
struct Bound<'h> {
    highest: Highest<'h>,
    without_version: Option<&'h Operation>,
}

fn judge(history: &History, claims: &Claims<'_>, binds: impl Fn(&Operation) -> bool) -> Verdict {
    let mut verdict = Verdict::Holds;
    for key in history.key_ids() {
        verdict = verdict.and(judge_key(history, claims, key, &binds));
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

fn judge_key<'h>(
    history: &'h History,
    claims: &Claims<'_>,
    key: KeyId,
    binds: &impl Fn(&Operation) -> bool,
) -> Verdict {
    let answered: Vec<&Operation> = history
        .on_key(key)
        .filter(|operation| operation.is_ok())
        .collect();
    let mut by_end: Vec<&Operation> = answered
        .iter()
        .copied()
        .filter(|operation| binds(operation))
        .collect();
    by_end.sort_by_key(|operation| operation.completed);
    let mut by_end = by_end.into_iter().peekable();
    let mut sessions: BTreeMap<Session, Bound<'h>> = BTreeMap::new();
    let mut verdict = Verdict::Holds;
    let mut has_pairs = false;
    for write in answered.iter().copied().filter(|write| write.is_write()) {
        while let Some(before) = by_end.next_if(|before| before.precedes(write)) {
            let bound = sessions.entry(before.session).or_default();
            bound.highest.add(before);
            if before.version.is_none() {
                bound.without_version = bound.without_version.or(Some(before));
            }
        }
        let Some(bound) = sessions.get(&write.session) else {
            continue;
        };
        has_pairs = true;
        if let Some(before) = bound.highest.of(write.shard)
            && write.version.is_some()
            && write.version <= before.version
        {
            return violated(history, claims, before, write);
        }
        if verdict.holds() {
            verdict = comparable(history, bound, write);
        }
    }
    if !has_pairs || !verdict.holds() {
        return verdict;
    }
    match claims.contradiction(key) {
        Some(broken) => Verdict::unknown(format!("the versions cannot be trusted: {}", broken.why)),
        None => Verdict::Holds,
    }
}

/// Whether a write's version compares to all that binds it.
fn comparable(history: &History, bound: &Bound<'_>, write: &Operation) -> Verdict {
    let without = bound
        .without_version
        .or(Some(write).filter(|write| write.version.is_none()));
    if let Some(without) = without {
        return Verdict::unknown(format!(
            "the ok of the {} of {} in event {} carries no version, which alone tells the order of writes",
            without.function,
            history.key_name(without.key),
            without.invoked + 1
        ));
    }
    match bound
        .highest
        .0
        .iter()
        .find(|before| before.shard != write.shard)
    {
        Some(before) => Verdict::unknown(format!(
            "events {} and {} are about {} in different shards, whose versions do not compare",
            before.invoked + 1,
            write.invoked + 1,
            history.key_name(write.key)
        )),
        None => Verdict::Holds,
    }
}

fn violated(
    history: &History,
    claims: &Claims<'_>,
    before: &Operation,
    write: &Operation,
) -> Verdict {
    let key = history.key_name(write.key);
    let did = if before.is_write() { "wrote" } else { "read" };
    let (first, then) = (history.value_text(before), history.value_text(write));
    let versions = match (before.version, write.version) {
        (Some(before), Some(write)) => format!("its version {write} does not come after {before}"),
        _ => "its version does not come after the other".to_owned(),
    };
    let why = format!(
        "{} {did} {key} = {first}, and then wrote {key} = {then}: {versions}",
        write.session
    );
    let mut story = vec![before, write];
    if !before.is_write() {
        let source = sources(claims.writers(write.key), before.value, before).find(|source| {
            source.invoked != write.invoked
                && source
                    .version
                    .is_none_or(|_| source.version == before.version)
        });
        story.extend(source);
    }
    tell(history, why, story)
}
