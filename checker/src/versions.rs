//! The claim behind every version: one version is one write, and later writes of a key have higher versions.
//!
//! A version that an answer carries is only what a node says. Before a check leans on versions, it asks here whether
//! they contradict each other:
//! 1. two `ok` writes of a shard never carry the same version;
//! 2. all that carry one version are about one key and one value;
//! 3. `w1 < w2` on a key implies `version(w1) < version(w2)`.
//!
//! A contradiction is not by itself a broken promise to a client: a split brain can give two entries one name, while
//! every session still reads its own writes. So each check says what it makes of it. [`crate::sessions`] falls back
//! to values, and answers `unknown` where those do not decide; [`crate::quorum`] needs rule 1, since one entry cannot
//! be two writes, and reports its breach as a violation; [`crate::linearizable`] takes versions for a hint that it
//! verifies, and needs none of the rules.
//!
//! Versions of different shards are not comparable. Without the field `shard`, only operations on the same key are
//! taken to be of the same shard.

use std::{cell::OnceCell, collections::BTreeMap};

use crate::history::{History, KeyId, Operation, Version};

/// Two operations whose versions cannot both be true.
pub(crate) struct Contradiction<'h> {
    pub(crate) why: String,
    pub(crate) operations: [&'h Operation; 2],
}

/// What the answers of a history claim, found out once for all checks, as soon as one asks.
pub(crate) struct Claims<'h> {
    history: &'h History,
    twins: OnceCell<Option<Contradiction<'h>>>,
    shared: OnceCell<BTreeMap<KeyId, Contradiction<'h>>>,
    keys: Vec<OnKey<'h>>,
}

#[derive(Default)]
struct OnKey<'h> {
    contradiction: OnceCell<Option<Contradiction<'h>>>,
    writers: OnceCell<Vec<&'h Operation>>,
}

impl<'h> Claims<'h> {
    pub(crate) fn new(history: &'h History) -> Self {
        Self {
            history,
            twins: OnceCell::new(),
            shared: OnceCell::new(),
            keys: history.key_ids().map(|_| OnKey::default()).collect(),
        }
    }

    /// Two acknowledged writes under one name, anywhere.
    pub(crate) fn twins(&self) -> Option<&Contradiction<'h>> {
        self.twins.get_or_init(|| twins(self.history)).as_ref()
    }

    /// Why the versions on a key cannot be trusted, if they cannot.
    pub(crate) fn contradiction(&self, key: KeyId) -> Option<&Contradiction<'h>> {
        let within = self.keys[key.0 as usize].contradiction.get_or_init(|| {
            let operations: Vec<&Operation> = self.history.on_key(key).collect();
            contradiction(self.history, &operations)
        });
        let shared = self.shared.get_or_init(|| shared(self.history));
        within.as_ref().or(shared.get(&key))
    }

    /// The writes of a key by value, and then in the order of their invocations.
    pub(crate) fn writers(&self, key: KeyId) -> &[&'h Operation] {
        self.keys[key.0 as usize].writers.get_or_init(|| {
            let mut writers: Vec<&Operation> = self
                .history
                .on_key(key)
                .filter(|operation| operation.is_write())
                .collect();
            writers.sort_by_key(|write| (write.value, write.invoked));
            writers
        })
    }
}

/// Finds two `ok` writes of one shard with one version (rule 1), anywhere in the history.
fn twins(history: &History) -> Option<Contradiction<'_>> {
    let mut writes: Vec<(Option<u32>, Version, u32, &Operation)> = history
        .operations()
        .iter()
        .filter(|operation| operation.is_write() && operation.is_ok())
        .filter_map(|write| {
            let key = if write.shard.is_some() {
                0
            } else {
                write.key.0
            };
            Some((write.shard, write.version?, key, write))
        })
        .collect();
    writes.sort_by_key(|&(shard, version, key, write)| (shard, key, version, write.invoked));
    let same = |pair: &&[(Option<u32>, Version, u32, &Operation)]| {
        (pair[0].0, pair[0].1, pair[0].2) == (pair[1].0, pair[1].1, pair[1].2)
    };
    let pair = writes.windows(2).find(same)?;
    let why = format!(
        "two acknowledged writes are said to be the same log entry, version {}: {} = {} and {} = {}",
        pair[0].1,
        history.key_name(pair[0].3.key),
        history.value_text(pair[0].3),
        history.key_name(pair[1].3.key),
        history.value_text(pair[1].3),
    );
    Some(Contradiction {
        why,
        operations: [pair[0].3, pair[1].3],
    })
}

/// Finds the keys that share a version with another key of their shard (rule 2 across keys), each with the proof.
fn shared(history: &History) -> BTreeMap<KeyId, Contradiction<'_>> {
    let mut versioned: Vec<(u32, Version, &Operation)> = history
        .operations()
        .iter()
        .filter(|operation| operation.is_ok())
        .filter_map(|operation| Some((operation.shard?, operation.version?, operation)))
        .collect();
    versioned.sort_by_key(|&(shard, version, operation)| (shard, version, operation.invoked));
    let mut found = BTreeMap::new();
    for pair in versioned.windows(2) {
        let [(.., first), (.., second)] = [pair[0], pair[1]];
        if (pair[0].0, pair[0].1) != (pair[1].0, pair[1].1) || first.key == second.key {
            continue;
        }
        for key in [first.key, second.key] {
            let names = [first.key, second.key].map(|key| history.key_name(key));
            let why = format!(
                "version {} is claimed for {} and for {}",
                pair[0].1, names[0], names[1]
            );
            found.entry(key).or_insert(Contradiction {
                why,
                operations: [first, second],
            });
        }
    }
    found
}

/// Finds a contradiction among operations on one key.
pub(crate) fn contradiction<'h>(
    history: &History,
    operations: &[&'h Operation],
) -> Option<Contradiction<'h>> {
    let mut versioned: Vec<&Operation> = operations
        .iter()
        .copied()
        .filter(|operation| operation.is_ok() && operation.version.is_some())
        .collect();
    versioned.sort_by_key(|operation| (operation.shard, operation.version, operation.invoked));
    two_meanings(history, &versioned).or_else(|| wrong_order(history, &mut versioned))
}

/// Rules 1 and 2 within a key.
fn two_meanings<'h>(history: &History, versioned: &[&'h Operation]) -> Option<Contradiction<'h>> {
    for run in versioned.chunk_by(|a, b| (a.shard, a.version) == (b.shard, b.version)) {
        let writes = run.iter().filter(|operation| operation.is_write()).count();
        let other = if writes > 1 {
            run.iter().filter(|operation| operation.is_write()).nth(1)
        } else {
            run.iter().find(|operation| operation.value != run[0].value)
        };
        let Some(&other) = other else { continue };
        let first = run
            .iter()
            .find(|operation| operation.is_write() && operation.invoked != other.invoked);
        let first = first.copied().unwrap_or(run[0]);
        let why = format!(
            "version {} of {} is claimed for {} and for {}",
            first.version?,
            history.key_name(first.key),
            history.value_text(first),
            history.value_text(other),
        );
        return Some(Contradiction {
            why,
            operations: [first, other],
        });
    }
    None
}

/// Rule 3: sweeps over the writes in the order of their invocations, with the highest version that has ended before.
fn wrong_order<'h>(
    history: &History,
    versioned: &mut Vec<&'h Operation>,
) -> Option<Contradiction<'h>> {
    versioned.retain(|operation| operation.is_write());
    for shard in versioned.chunk_by_mut(|a, b| a.shard == b.shard) {
        shard.sort_by_key(|write| write.invoked);
        let mut ended = shard.to_vec();
        ended.sort_by_key(|write| write.completed);
        let mut ended = ended.into_iter().peekable();
        let mut highest: Option<&Operation> = None;
        for &write in shard.iter() {
            while let Some(before) = ended.next_if(|before| before.precedes(write)) {
                highest = highest
                    .filter(|highest| highest.version > before.version)
                    .or(Some(before));
            }
            let Some(before) = highest.filter(|before| before.version >= write.version) else {
                continue;
            };
            let why = format!(
                "a write of {} with version {} had ended before the one with version {} began",
                history.key_name(write.key),
                before.version?,
                write.version?,
            );
            return Some(Contradiction {
                why,
                operations: [before, write],
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, EventKind, Function};

    struct Answered(Vec<Event>);

    impl Answered {
        /// One `ok` operation after the other.
        fn then(
            mut self,
            f: Function,
            key: &str,
            value: i64,
            shard: Option<u32>,
            version: (u64, u64),
        ) -> Self {
            let mut event =
                Event::new(self.0.len() as u64, EventKind::Invoke, f, key, value.into());
            self.0.push(event.clone());
            event.kind = EventKind::Ok;
            event.shard = shard;
            event.version = Some(version.into());
            self.0.push(event);
            self
        }

        fn history(self) -> History {
            History::from_events(self.0).unwrap()
        }
    }

    fn why(history: &History) -> Option<String> {
        let operations: Vec<&Operation> = history.on_key(KeyId(0)).collect();
        contradiction(history, &operations).map(|found| found.why)
    }

    use Function::{Read, Write};

    #[test]
    fn one_version_for_two_writes_is_found_within_a_shard_only() {
        let twin = Answered(vec![]).then(Write, "a", 1, Some(0), (1, 1)).then(
            Write,
            "b",
            2,
            Some(0),
            (1, 1),
        );
        assert!(twins(&twin.history()).is_some());
        let apart = Answered(vec![]).then(Write, "a", 1, Some(0), (1, 1)).then(
            Write,
            "b",
            2,
            Some(1),
            (1, 1),
        );
        assert!(twins(&apart.history()).is_none());
        let unsaid =
            Answered(vec![])
                .then(Write, "a", 1, None, (1, 1))
                .then(Write, "b", 2, None, (1, 1));
        assert!(twins(&unsaid.history()).is_none());
    }

    #[test]
    fn one_version_for_two_keys_is_found_on_both() {
        let history = Answered(vec![])
            .then(Write, "a", 1, Some(0), (1, 1))
            .then(Read, "b", 1, Some(0), (1, 1))
            .history();
        assert_eq!(
            shared(&history).into_keys().collect::<Vec<_>>(),
            [KeyId(0), KeyId(1)]
        );
        let apart = Answered(vec![]).then(Write, "a", 1, Some(0), (1, 1)).then(
            Read,
            "b",
            1,
            Some(1),
            (1, 1),
        );
        assert!(shared(&apart.history()).is_empty());
    }

    #[test]
    fn one_version_for_two_values_is_found() {
        let history =
            Answered(vec![])
                .then(Write, "a", 1, None, (1, 1))
                .then(Read, "a", 2, None, (1, 1));
        assert!(
            why(&history.history())
                .unwrap()
                .contains("claimed for 1 and for 2")
        );
        let history =
            Answered(vec![])
                .then(Write, "a", 1, None, (1, 1))
                .then(Write, "a", 1, None, (1, 1));
        assert!(why(&history.history()).is_some());
        let history =
            Answered(vec![])
                .then(Write, "a", 1, None, (1, 1))
                .then(Read, "a", 1, None, (1, 1));
        assert_eq!(why(&history.history()), None);
    }

    #[test]
    fn a_later_write_with_a_lower_version_is_found() {
        let history = Answered(vec![])
            .then(Write, "a", 1, None, (1, 5))
            .then(Write, "a", 2, None, (2, 1))
            .then(Write, "a", 3, None, (1, 6));
        assert!(
            why(&history.history())
                .unwrap()
                .contains("version (2, 1) had ended before")
        );
    }
}
