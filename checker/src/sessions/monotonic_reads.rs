//! Monotonic reads: from read to read, a session never goes back.
//!
//! For two reads `r1 < r2` in scope, of one session and key, version(r2) ≥ version(r1). Both rules are applied wherever
//! they can be:
//! - *By value*: r1 returned x and r2 returned y, and every write of y that began before r2 ended had ended, `ok`,
//!   before any write of x began. (What failed or is unknown could have taken effect late, so it explains; a value
//!   that nobody wrote is not this guarantee's trouble.) Where y is nothing, the deletes may explain it; what came
//!   before all writes may not, since x had been seen. Where x is nothing, it may be what came before all writes, which
//!   nothing is older than. This needs nothing but the order of the lines, so it is always sound.
//! - *By version*: r2 carries a version below that of r1, in the same shard.
//!
//! As for read-your-writes, versions that contradict each other on a key are not used; what the values alone do not
//! decide is `unknown` then.

use std::collections::BTreeMap;

use super::{Highest, in_scope, sources, tell};
use crate::{
    history::{History, KeyId, Operation, Position, Session, ValueId},
    verdict::Verdict,
    versions::Claims,
};

/// Judges monotonic reads.
pub(crate) fn judge<'h>(history: &'h History, claims: &Claims<'h>) -> Verdict {
    let mut verdict = Verdict::Holds;
    for key in history.key_ids() {
        let on_key = OnKey {
            history,
            claims,
            writers: claims.writers(key),
            key,
        };
        let reads = history
            .on_key(key)
            .filter(|operation| operation.is_ok() && !operation.is_write() && in_scope(operation));
        verdict = verdict.and(on_key.judge(reads.collect()));
        if verdict.is_violated() {
            break;
        }
    }
    verdict
}

struct OnKey<'a, 'h> {
    history: &'h History,
    claims: &'a Claims<'h>,
    /// The writes of the key, by value.
    writers: &'a [&'h Operation],
    key: KeyId,
}

/// What a session has read of a key so far.
#[derive(Default)]
struct Seen<'h> {
    /// The reads that have ended, in that order.
    ended: Vec<&'h Operation>,
    highest: Highest<'h>,
    /// The read of what was written last, with the earliest beginning of a write that it may have seen.
    newest: Option<(Position, &'h Operation)>,
}

impl<'h> OnKey<'_, 'h> {
    fn judge(&self, reads: Vec<&'h Operation>) -> Verdict {
        let mut by_end = reads.clone();
        by_end.sort_by_key(|read| read.completed);
        let mut by_end = by_end.into_iter().peekable();
        let mut sessions: BTreeMap<Session, Seen<'h>> = BTreeMap::new();
        let mut verdict = Verdict::Holds;
        for read in reads {
            while let Some(before) = by_end.next_if(|before| before.precedes(read)) {
                self.add(sessions.entry(before.session).or_default(), before);
            }
            let Some(seen) = sessions.get(&read.session) else {
                continue;
            };
            if let Some((begun, before)) = seen.newest
                && self.is_older_than(begun, read)
            {
                return self.violated(before, read);
            }
            if let Some(broken) = self.claims.contradiction(self.key) {
                if verdict.holds() && !self.certainly_in_order(seen, read) {
                    let reason = format!(
                        "the versions cannot be trusted: {}; values alone do not decide",
                        broken.why
                    );
                    verdict = Verdict::unknown(reason);
                }
                continue;
            }
            let highest = seen.highest.of(read.shard);
            if let Some(before) =
                highest.filter(|before| read.version.is_some() && read.version < before.version)
            {
                return self.violated(before, read);
            }
        }
        verdict
    }

    fn add(&self, seen: &mut Seen<'h>, read: &'h Operation) {
        seen.ended.push(read);
        seen.highest.add(read);
        if read.value == ValueId::ABSENT {
            return;
        }
        let begun = sources(self.writers, read.value, read).map(|write| write.invoked);
        let newest = seen.newest.map(|(begun, _)| begun);
        if let Some(begun) = begun.min().filter(|begun| newest < Some(*begun)) {
            seen.newest = Some((begun, read));
        }
    }

    /// Whether all that may explain a read had ended before something that was seen already began.
    fn is_older_than(&self, begun: Position, read: &Operation) -> bool {
        let mut sources = sources(self.writers, read.value, read).peekable();
        if read.value != ValueId::ABSENT && sources.peek().is_none() {
            return false;
        }
        sources.all(|write| write.is_ok() && write.completed < begun)
    }

    /// Whether the values alone show that a read is not older than those before it. It is enough to look at those that
    /// no other read lies between: the order of what they saw carries over.
    fn certainly_in_order(&self, seen: &Seen<'h>, read: &Operation) -> bool {
        let begun = seen.ended.iter().map(|before| before.invoked).max();
        let mut last = seen
            .ended
            .iter()
            .rev()
            .take_while(|before| Some(before.completed) >= begun);
        last.all(|before| self.is_newer_than(before, read))
    }

    fn is_newer_than(&self, before: &Operation, read: &Operation) -> bool {
        let mut later = sources(self.writers, read.value, read).peekable();
        if later.peek().is_none() {
            // Nothing could be read but what came before all writes, and that is what was read before, too.
            let mut earlier = sources(self.writers, before.value, before);
            return read.value == before.value
                && read.value == ValueId::ABSENT
                && earlier.next().is_none();
        }
        later.all(|later| {
            sources(self.writers, before.value, before)
                .all(|earlier| earlier.invoked == later.invoked || earlier.precedes(later))
        })
    }

    fn violated(&self, before: &'h Operation, read: &'h Operation) -> Verdict {
        let key = self.history.key_name(read.key);
        let (first, then) = (
            self.history.value_text(before),
            self.history.value_text(read),
        );
        let because = match (before.version, read.version) {
            (Some(before), Some(read)) if read < before => {
                format!("version {read} is older than {before}")
            }
            _ if read.value == ValueId::ABSENT => "no delete since then can explain it".to_owned(),
            _ => format!("every write of {then} had ended before one of {first} began"),
        };
        let why = format!(
            "{} read {key} = {first}, and then {key} = {then}: {because}",
            read.session
        );
        let source = |of: &'h Operation| sources(self.writers, of.value, of).next();
        let story = [source(before), source(read), Some(before), Some(read)];
        tell(self.history, why, story.into_iter().flatten().collect())
    }
}
