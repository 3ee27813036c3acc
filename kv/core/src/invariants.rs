//! What must hold across a whole cluster, whoever watches it: the simulator, the model checker, a test.
//!
//! One small pure type is told what happens, in any order that causality allows, and says at once when two things cannot
//! both be:
//!
//! | invariant | told by | rules |
//! |---|---|---|
//! | one writer an epoch: no two processes write in the same epoch | `promoted` | R1, R11, R12 |
//! | one log: at each offset all members commit the same entry after the same history | `committed` | R4, R6 |
//! | committed is for ever: no member removes it, no later writer lacks it | `truncated`, `promoted` | R5, R13 to R15 |
//! | promises never go back, and one that was told to others survives a crash | `promised`, `sealed` | R3 |
//! | an answer to a writer or to an elector names what is synced | [`told`] | R3, R4, R13 |
//!
//! They hold under `Fencing::Epoch` only. The plain protocol breaks each of them, which is what the course shows.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Body, Entry, Epoch, Log, Message, NodeId, Offset, Operation, ShardId, Version};

/// One life of a node: a restarted node is another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The node.
    pub node: NodeId,
    /// How many times it has been started before.
    pub incarnation: u64,
}

/// Two observations that cannot both be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two processes were the writer of one epoch.
    TwoWriters {
        /// The epoch.
        epoch: Epoch,
        /// The one that was seen first.
        first: Process,
        /// The other one.
        second: Process,
    },
    /// At this offset, two members committed different entries, or the same one after different histories.
    TwoLogs {
        /// What was committed first.
        first: Version,
        /// What was committed now.
        second: Version,
    },
    /// A new writer's log lacks an entry that is committed.
    WriterLacks {
        /// The writer.
        writer: Process,
        /// The committed entry.
        committed: Version,
    },
    /// A process removed an entry that it had committed.
    Removed {
        /// The process.
        process: Process,
        /// What it had committed.
        committed: Offset,
        /// The last entry that stayed.
        after: Offset,
    },
    /// A process promised less than it had promised, or than an earlier life of its node had told others.
    PromiseTakenBack {
        /// The process.
        process: Process,
        /// The earlier promise.
        before: Epoch,
        /// The present one.
        now: Epoch,
    },
    /// An answer names what a crash of its sender can undo.
    NotSynced {
        /// Who answers.
        process: Process,
        /// The epoch of the answer.
        epoch: Epoch,
        /// The last entry that it names.
        upto: Offset,
        /// The last one on the disk.
        synced: Offset,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoWriters {
                epoch,
                first,
                second,
            } => write!(f, "{epoch} has two writers: {first} and {second}"),
            Self::TwoLogs { first, second } => {
                write!(f, "{first} is committed, and so is {second}, elsewhere")
            }
            Self::WriterLacks { writer, committed } => {
                write!(
                    f,
                    "{writer} became the writer without {committed}, which is committed"
                )
            }
            Self::Removed {
                process,
                committed,
                after,
            } => write!(
                f,
                "{process} had committed up to {committed} and removed all above {after}"
            ),
            Self::PromiseTakenBack {
                process,
                before,
                now,
            } => write!(f, "{process} promises {now} after {before}"),
            Self::NotSynced {
                process,
                epoch,
                upto,
                synced,
            } => write!(
                f,
                "{process} answers up to {upto} in {epoch}, and its disk has no more than {synced}, or no such promise"
            ),
        }
    }
}

impl std::error::Error for Violation {}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation)
    }
}

/// What has been observed so far, of all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Invariants {
    shards: BTreeMap<ShardId, Seen>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    writers: BTreeMap<Epoch, Process>,
    /// The committed log: the name at each offset and the hash of everything up to it.
    committed: BTreeMap<Offset, (Version, u64)>,
    /// What each process has committed.
    reached: BTreeMap<Process, Offset>,
    promised: BTreeMap<Process, Epoch>,
    /// The promises that others may count on.
    told: BTreeMap<NodeId, Epoch>,
}

impl Invariants {
    /// A process takes the writer's role of an epoch with this log, by an election or by a rollback. Who watches from outside may
    /// not know the log.
    ///
    /// # Errors
    /// When the epoch has another writer, or when the log lacks what is committed. A process that learns late of an old role
    /// may lack what newer epochs have committed: it is fenced.
    pub fn promoted(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        process: Process,
        log: Option<&Log>,
    ) -> Result<(), Violation> {
        let seen = self.shards.entry(shard).or_default();
        let first = *seen.writers.entry(epoch).or_insert(process);
        if first != process {
            return Err(Violation::TwoWriters {
                epoch,
                first,
                second: process,
            });
        }
        if seen.writers.keys().next_back() != Some(&epoch) {
            return Ok(());
        }
        let lacks = |&&(version, _): &&(Version, u64)| log.is_some_and(|log| !log.holds(version));
        match seen.committed.values().find(lacks) {
            Some(&(committed, _)) => Err(Violation::WriterLacks {
                writer: process,
                committed,
            }),
            None => Ok(()),
        }
    }

    /// A process has committed an entry; `chain` is the [`chain`] of the log up to it.
    ///
    /// # Errors
    /// When another entry, or another history, is committed at that offset.
    pub fn committed(
        &mut self,
        shard: ShardId,
        process: Process,
        version: Version,
        chain: u64,
    ) -> Result<(), Violation> {
        let seen = self.shards.entry(shard).or_default();
        let reached = seen.reached.entry(process).or_default();
        *reached = version.offset.max(*reached);
        let known = seen.committed.entry(version.offset);
        let first = *known.or_insert((version, chain));
        match first == (version, chain) {
            true => Ok(()),
            false => Err(Violation::TwoLogs {
                first: first.0,
                second: version,
            }),
        }
    }

    /// A process removes everything above `after` from its log.
    ///
    /// # Errors
    /// When it had committed more.
    pub fn truncated(
        &mut self,
        shard: ShardId,
        process: Process,
        after: Offset,
    ) -> Result<(), Violation> {
        let seen = self.shards.entry(shard).or_default();
        let committed = seen.reached.get(&process).copied().unwrap_or_default();
        match after >= committed {
            true => Ok(()),
            false => Err(Violation::Removed {
                process,
                committed,
                after,
            }),
        }
    }

    /// A process promises an epoch; told also of the promise that a restarted process finds on its disk.
    ///
    /// # Errors
    /// When it, or a promise of this node that others were told of, was higher.
    pub fn promised(
        &mut self,
        shard: ShardId,
        process: Process,
        epoch: Epoch,
    ) -> Result<(), Violation> {
        let seen = self.shards.entry(shard).or_default();
        let told = seen.told.get(&process.node).copied().unwrap_or_default();
        let own = seen.promised.entry(process).or_default();
        let before = told.max(*own);
        *own = epoch.max(*own);
        match epoch >= before {
            true => Ok(()),
            false => Err(Violation::PromiseTakenBack {
                process,
                before,
                now: epoch,
            }),
        }
    }

    /// A process is gone: what only it could break is forgotten.
    pub fn ended(&mut self, shard: ShardId, process: Process) {
        let seen = self.shards.entry(shard).or_default();
        seen.reached.remove(&process);
        seen.promised.remove(&process);
    }

    /// A node answers a message of an epoch: from now on others count on its promise.
    pub fn sealed(&mut self, shard: ShardId, node: NodeId, epoch: Epoch) {
        let told = self.shards.entry(shard).or_default();
        let told = told.told.entry(node).or_default();
        *told = epoch.max(*told);
    }

    /// What was observed, of nodes under other names.
    #[must_use]
    pub fn renamed(&self, node: &dyn Fn(NodeId) -> NodeId) -> Self {
        let process = |process: &Process| Process {
            node: node(process.node),
            ..*process
        };
        let seen = |seen: &Seen| Seen {
            writers: seen
                .writers
                .iter()
                .map(|(epoch, it)| (*epoch, process(it)))
                .collect(),
            committed: seen.committed.clone(),
            reached: seen
                .reached
                .iter()
                .map(|(it, offset)| (process(it), *offset))
                .collect(),
            promised: seen
                .promised
                .iter()
                .map(|(it, epoch)| (process(it), *epoch))
                .collect(),
            told: seen
                .told
                .iter()
                .map(|(id, epoch)| (node(*id), *epoch))
                .collect(),
        };
        let shards = self.shards.iter().map(|(shard, it)| (*shard, seen(it)));
        Self {
            shards: shards.collect(),
        }
    }

    /// The newest epoch that has a writer, and who that is.
    #[must_use]
    pub fn newest_writer(&self, shard: ShardId) -> Option<(Epoch, Process)> {
        let writers = &self.shards.get(&shard)?.writers;
        let newest = writers.last_key_value();
        newest.map(|(epoch, process)| (*epoch, *process))
    }

    /// The entries that are committed anywhere in the shard, by offset.
    pub fn committed_log(&self, shard: ShardId) -> impl Iterator<Item = Version> + '_ {
        let seen = self.shards.get(&shard).into_iter();
        seen.flat_map(|seen| seen.committed.values().map(|(version, _)| *version))
    }
}

/// A process says something. `promised` is the promise on its disk, where that is known, and `synced` the last entry there.
///
/// # Errors
/// When it is an answer that names more: whoever asked counts on what a crash can undo.
pub fn told(
    process: Process,
    message: &Message,
    promised: Option<Epoch>,
    synced: Offset,
) -> Result<(), Violation> {
    let upto = match message.body {
        Body::Prepared { upto, .. } => upto,
        Body::Sealed { end, .. } => end.offset,
        Body::Refused { .. } | Body::Committed { .. } => Offset::ZERO,
        _ => return Ok(()),
    };
    let is_promised = promised.is_none_or(|promised| promised >= message.epoch);
    match is_promised && upto <= synced {
        true => Ok(()),
        false => Err(Violation::NotSynced {
            process,
            epoch: message.epoch,
            upto,
            synced,
        }),
    }
}

/// The hash of a log up to an entry, from the hash up to the one before it (zero before the first). FNV-1a, 64 bits: it
/// tells honest logs apart, and is the same on every machine.
#[must_use]
pub fn chain(previous: u64, entry: &Entry) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let (kind, key, value): (u64, &[u8], &[u8]) = match &entry.operation {
        Operation::EpochStart => (0, &[], &[]),
        Operation::Set { key, value } => (1, key, value),
        Operation::Delete { key } => (2, key, &[]),
    };
    let key_bytes = u64::try_from(key.len()).expect("a length fits into 64 bits");
    let Version { epoch, offset } = entry.version;
    let numbers = [previous, epoch.0, offset.0, kind, key_bytes].map(u64::to_le_bytes);
    let bytes = numbers.iter().flatten().chain(key).chain(value);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const SHARD: ShardId = ShardId(1);

    fn process(node: u64, incarnation: u64) -> Process {
        let node = NodeId(node);
        Process { node, incarnation }
    }

    fn version(epoch: u64, offset: u64) -> Version {
        Version::new(Epoch(epoch), Offset(offset))
    }

    fn log(epoch: u64, last: u64) -> Log {
        Log::from_runs(&[(Epoch(epoch), Offset(1), Offset(last))])
    }

    #[test]
    fn an_epoch_has_one_writer_and_a_restarted_node_is_another_one() {
        let mut seen = Invariants::default();
        let log = Log::default();
        assert_eq!(
            seen.promoted(SHARD, Epoch(1), process(1, 0), Some(&log)),
            Ok(())
        );
        assert_eq!(
            seen.promoted(SHARD, Epoch(1), process(1, 0), Some(&log)),
            Ok(())
        );
        assert_eq!(
            seen.promoted(SHARD, Epoch(2), process(2, 0), Some(&log)),
            Ok(())
        );
        let other_shard = seen.promoted(ShardId(2), Epoch(1), process(3, 0), Some(&log));
        assert_eq!(other_shard, Ok(()));
        let newest = Some((Epoch(2), process(2, 0)));
        assert_eq!(seen.newest_writer(SHARD), newest);
        let (epoch, first, second) = (Epoch(1), process(1, 0), process(1, 1));
        assert_eq!(
            seen.promoted(SHARD, epoch, second, Some(&log)),
            Err(Violation::TwoWriters {
                epoch,
                first,
                second
            })
        );
    }

    #[test]
    fn all_members_commit_one_log() {
        let mut seen = Invariants::default();
        let (first, second) = (version(1, 1), version(2, 1));
        assert_eq!(seen.committed(SHARD, process(1, 0), first, 7), Ok(()));
        assert_eq!(seen.committed(SHARD, process(2, 0), first, 7), Ok(()));
        assert_eq!(
            seen.committed(SHARD, process(3, 0), second, 7),
            Err(Violation::TwoLogs { first, second })
        );
        assert_eq!(
            seen.committed(SHARD, process(3, 0), first, 8),
            Err(Violation::TwoLogs {
                first,
                second: first
            }),
            "one name, two histories"
        );
        assert_eq!(seen.committed_log(SHARD).collect::<Vec<_>>(), [first]);
    }

    #[test]
    fn what_is_committed_is_never_removed_and_no_writer_lacks_it() {
        let mut seen = Invariants::default();
        let (old, new) = (process(1, 0), process(2, 0));
        assert_eq!(seen.committed(SHARD, old, version(1, 2), 7), Ok(()));
        assert_eq!(seen.truncated(SHARD, old, Offset(2)), Ok(()));
        assert_eq!(
            seen.truncated(SHARD, new, Offset(1)),
            Ok(()),
            "its own copy was not committed"
        );
        let (committed, after) = (Offset(2), Offset(1));
        assert_eq!(
            seen.truncated(SHARD, old, after),
            Err(Violation::Removed {
                process: old,
                committed,
                after
            })
        );
        assert_eq!(
            seen.promoted(SHARD, Epoch(2), new, Some(&log(1, 2))),
            Ok(())
        );
        assert_eq!(
            seen.promoted(SHARD, Epoch(3), new, Some(&log(1, 1))),
            Err(Violation::WriterLacks {
                writer: new,
                committed: version(1, 2)
            })
        );
        assert_eq!(
            seen.promoted(SHARD, Epoch(1), old, Some(&log(1, 1))),
            Ok(()),
            "it is late"
        );
    }

    #[test]
    fn promises_never_go_back_but_an_untold_one_may_get_lost_in_a_crash() {
        let mut seen = Invariants::default();
        let (first, second) = (process(1, 0), process(1, 1));
        assert_eq!(seen.promised(SHARD, first, Epoch(2)), Ok(()));
        seen.sealed(SHARD, NodeId(1), Epoch(2));
        assert_eq!(seen.promised(SHARD, first, Epoch(3)), Ok(()));
        let taken_back = |process, before, now| {
            Err(Violation::PromiseTakenBack {
                process,
                before: Epoch(before),
                now: Epoch(now),
            })
        };
        assert_eq!(
            seen.promised(SHARD, first, Epoch(2)),
            taken_back(first, 3, 2)
        );
        assert_eq!(seen.promised(SHARD, second, Epoch(2)), Ok(()));
        let third = process(1, 2);
        assert_eq!(
            seen.promised(SHARD, third, Epoch(1)),
            taken_back(third, 2, 1)
        );
    }

    #[test]
    fn an_answer_names_what_is_synced_and_what_the_promise_on_the_disk_allows() {
        let says = |body: Body, promised: u64, synced: u64| {
            let message = Message {
                epoch: Epoch(2),
                body,
            };
            told(
                process(1, 0),
                &message,
                Some(Epoch(promised)),
                Offset(synced),
            )
        };
        let prepared = || Body::Prepared {
            upto: Offset(3),
            committed: Offset(0),
        };
        assert_eq!(says(prepared(), 2, 3), Ok(()));
        let not_synced = |upto, synced| {
            Err(Violation::NotSynced {
                process: process(1, 0),
                epoch: Epoch(2),
                upto: Offset(upto),
                synced: Offset(synced),
            })
        };
        assert_eq!(says(prepared(), 2, 2), not_synced(3, 2));
        assert_eq!(says(prepared(), 1, 3), not_synced(3, 3));
        let upto = Offset(3);
        assert_eq!(says(Body::Committed { upto }, 1, 3), not_synced(0, 3));
        assert_eq!(says(Body::Seal, 1, 0), Ok(()), "a question");
    }

    #[test]
    fn the_chain_tells_histories_apart() {
        let set = |key: &'static str, value: &'static str| Entry {
            version: version(1, 1),
            operation: Operation::Set {
                key: Bytes::from_static(key.as_bytes()),
                value: Bytes::from_static(value.as_bytes()),
            },
        };
        let key = Bytes::from_static(b"ab");
        let delete = Entry {
            version: version(1, 1),
            operation: Operation::Delete { key },
        };
        let all = [
            chain(0, &set("a", "b")),
            chain(0, &set("ab", "")),
            chain(0, &delete),
            chain(1, &delete),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(chain(0, &delete), all[2]);
    }
}
