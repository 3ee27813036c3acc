//! What each guarantee means, in words for people: its definition, where it comes from, what the input must hold for it
//! to be judged, and what the evidence of a violation looks like.
//!
//! The exact rules stand at the head of the modules that judge; this is what one reads before those.

use crate::guarantee::Guarantee;

/// A guarantee, explained. All texts are whole sentences.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// In one line.
    pub summary: &'static str,
    /// What is shown, as the verdict means it.
    pub definition: &'static str,
    /// Where the guarantee comes from.
    pub source: &'static str,
    /// What the input must hold; without it the verdict is `unknown`.
    pub needs: &'static str,
    /// The events that prove a violation.
    pub evidence: &'static str,
}

const TERRY: &str = "Terry, Demers, Petersen, Spreitzer, Theimer and Welch, Session guarantees for weakly consistent \
    replicated data (PDIS 1994).";

impl Guarantee {
    /// Explains the guarantee.
    pub fn explanation(self) -> Explanation {
        match self {
            Self::ReadYourWrites
            | Self::ReadYourWritesStable
            | Self::MonotonicReads
            | Self::MonotonicWrites
            | Self::WritesFollowReads => of_a_session(self),
            Self::QuorumDurability | Self::NoQuorumNoAck | Self::NoLostWrite | Self::NoPhantom => {
                of_a_write(self)
            }
            Self::OneLog | Self::Convergence | Self::Recovery | Self::Linearizable => {
                of_the_whole(self)
            }
        }
    }
}

fn of_a_session(guarantee: Guarantee) -> Explanation {
    match guarantee {
        Guarantee::ReadYourWrites => Explanation {
            summary: "After its own write a session never reads anything older.",
            definition: "After a session's ok write of a key (a delete is a write), its reads of that key return a \
                version that is not lower. Without versions: never the value of a write that had ended before its own \
                began, and nothing only if a delete can explain it. In scope are reads at the writer, and replica reads \
                that carried a token. Its own info writes bind nothing.",
            source: TERRY,
            needs: "A history; versions make it sharper. It is unknown where versions contradict each other and values \
                alone do not decide.",
            evidence: "The session's write, its later read, and the write whose value the read returned.",
        },
        Guarantee::ReadYourWritesStable => Explanation {
            summary: "The same, as long as one node stays the writer.",
            definition: "Read-your-writes, but only for a write and a read that one node answered, with no promoted, \
                demoted or started of any member of the shard from the write's invocation to the read's completion. \
                This is what a single writer promises without any fencing.",
            source: "The original design of this store: read-your-writes on a stable writer, nothing across a failover.",
            needs: "Node events with promoted, demoted and started; a history with the field node, in one index with \
                them.",
            evidence: "The session's write, its later read at the same node, and the write whose value the read returned.",
        },
        Guarantee::MonotonicReads => Explanation {
            summary: "From read to read, a session never goes back.",
            definition: "For two reads of a key in one session, one after the other, the version never falls. Without \
                versions: never the value of a write that had ended before any write of the value seen before began. \
                In scope are reads at the writer, and replica reads that carried a token.",
            source: TERRY,
            needs: "A history; versions make it sharper. It is unknown where versions contradict each other and values \
                alone do not decide.",
            evidence: "The two reads, and the writes of what they returned.",
        },
        Guarantee::MonotonicWrites => Explanation {
            summary: "A session's writes of a key take effect in its order.",
            definition: "For two ok writes of a key in one session, one after the other, the version rises. A delete is \
                a write; an info write binds nothing.",
            source: TERRY,
            needs: "A history whose ok writes carry versions of one shard a key: no client sees the order of writes \
                otherwise. It is unknown where versions contradict each other.",
            evidence: "The two writes.",
        },
        _ => Explanation {
            summary: "A session's write comes after what the session had read.",
            definition: "For a read of a key and a later ok write of it in one session, the write's version is higher \
                than what was read. In scope are reads at the writer, and replica reads that carried a token.",
            source: TERRY,
            needs: "A history whose ok answers carry versions of one shard a key: no client sees the order of writes \
                otherwise. It is unknown where versions contradict each other.",
            evidence: "The write that was read, the read, and the later write.",
        },
    }
}

fn of_a_write(guarantee: Guarantee) -> Explanation {
    match guarantee {
        Guarantee::QuorumDurability => Explanation {
            summary: "A quorum had synced and committed each write before its ok.",
            definition: "Before each ok write, at least Q voters of the epoch had synced and committed its entry, and \
                still held it: those whom the writer counted when it acknowledged. The order is that of the events' \
                index, never of clocks. What is lost later breaks other guarantees.",
            source: "Gray and Reuter, Transaction processing (1993): durability; with the quorums of Gifford, Weighted \
                voting for replicated data (SOSP 1979).",
            needs: "Node events shard, synced, committed, acknowledged, truncated, lost and installed of every member; a history \
                with versions, in one index with them. It is unknown where a counted member left no record.",
            evidence: "The configuration, the acknowledgement, the event that shows what a counted member lacked, and the \
                write.",
        },
        Guarantee::NoQuorumNoAck => Explanation {
            summary: "Nothing is acknowledged while no quorum is connected.",
            definition: "No ok write lies wholly inside an interval in which fewer than Q members of its shard were \
                connected: over its whole time, the node that answered had too few other voters that were up at some \
                moment and linked with it both ways, each way at some moment. Changes of links count from grace_ns \
                before until grace_ns after their event.",
            source: "Gifford, Weighted voting for replicated data (SOSP 1979): a write gathers its write quorum.",
            needs: "Node events links (the first before the first write) and shard; a history in one index and on one \
                clock with them.",
            evidence: "The configuration, the state of the links when the write began and when it ended, and the write.",
        },
        Guarantee::NoLostWrite => Explanation {
            summary: "After healing, every acknowledged write is still there.",
            definition: "The final log of a shard holds the entry of every ok write, committed. Without logs: no ok write \
                lies wholly before the write that the final read shows, or before a delete that explains the absence.",
            source: "Jepsen's set and register tests (jepsen.io): an acknowledged write that no final read shows is lost.",
            needs: "Node events final_log and committed with versions in the history; or a final read of each key.",
            evidence: "The write, and the final log or the final read that lacks it.",
        },
        _ => Explanation {
            summary: "What failed is never seen.",
            definition: "Nothing that ended fail is ever read or committed: no ok read of any level, at any time, returns \
                a value that only failed writes wrote, or nothing with the version of a delete where all deletes failed.",
            source: "Adya, Liskov and O'Neil, Generalized isolation level definitions (ICDE 2000): G1a, aborted reads; \
                and Jepsen's rule that fail means it never happened.",
            needs: "A history. It is unknown for a key on which a write failed and that nobody has read since.",
            evidence: "The failed write, and the read that returned its value.",
        },
    }
}

fn of_the_whole(guarantee: Guarantee) -> Explanation {
    match guarantee {
        Guarantee::OneLog => Explanation {
            summary: "All members commit the same entries, and an epoch has one writer.",
            definition: "At each (shard, offset) all committed events agree on the epoch and on the chained checksum, and \
                all promoted events of a (shard, epoch) are of one life of one node.",
            source: "Ongaro and Ousterhout, In search of an understandable consensus algorithm (USENIX ATC 2014), figure \
                3: State Machine Safety and Election Safety.",
            needs: "Node events committed and promoted of every voter; with shard, so that a silent voter is noticed.",
            evidence: "The two committed events at the first offset where they differ, or the two promoted events.",
        },
        Guarantee::Convergence => Explanation {
            summary: "After a silence all live members hold the same.",
            definition: "When nothing has been written for quiet_ns, all live voters of a shard's newest configuration \
                have one applied position and one digest.",
            source: "Terry et al., Managing update conflicts in Bayou (SOSP 1995): eventual consistency; here with a bound.",
            needs: "Node events final_state of every voter and shard; a history in one index and on one clock with \
                them. It is unknown if something was written too shortly before, or if fewer than two of several \
                voters were live.",
            evidence: "The configuration, and two final states that differ.",
        },
        Guarantee::Recovery => Explanation {
            summary: "After the last fault each shard takes writes again in time.",
            definition: "After the last fault heals, with coordination up and at least max(Q, E) live members, E = N - Q \
                + 1, a probe write to each shard is ok within the time that the probe states.",
            source: "Gilbert and Lynch, Brewer's conjecture (2002): availability, promised again once the partition is \
                over; with a bound, so that it can be checked.",
            needs: "Node events healed and, of each shard, shard and probe; final_state (or links) to tell who is live; \
                a history in one index and on one clock with them.",
            evidence: "The end of the last fault, the probe, and its first and last attempt.",
        },
        _ => Explanation {
            summary: "Per key, some order of the operations explains every answer.",
            definition: "Per key, the operations can be put in one order that respects real time and in which every read \
                returns what was written last. Judged are reads of level lease and quorum (and those without a level) \
                and all writes. info writes stay open for ever; what failed is left out.",
            source: "Herlihy and Wing, Linearizability: a correctness condition for concurrent objects (TOPLAS 1990); the \
                search is Wing and Gong's (1993), key by key after Horn and Kroening (2015).",
            needs: "A history. It is unknown if the search exceeds its limits.",
            evidence: "The fewest operations on one key that contradict each other.",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guarantee_is_explained_in_whole_sentences_of_its_own() {
        let mut summaries: Vec<&str> = Vec::new();
        for guarantee in Guarantee::ALL {
            let explained = guarantee.explanation();
            for text in [
                explained.summary,
                explained.definition,
                explained.source,
                explained.needs,
                explained.evidence,
            ] {
                assert!(text.ends_with('.'), "{guarantee}: {text}");
                assert!(!text.contains("  "), "{guarantee}: {text}");
            }
            summaries.push(explained.summary);
        }
        summaries.sort_unstable();
        summaries.dedup();
        assert_eq!(summaries.len(), Guarantee::ALL.len());
    }
}
