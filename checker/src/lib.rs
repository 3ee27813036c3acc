//! Judges recorded histories: session guarantees, quorum guarantees, linearizability.
//!
//! The checker knows nothing of any store. It reads a history in Jepsen's shape ([`history`]), optionally what the
//! nodes recorded themselves ([`node_events`]), and answers per guarantee whether it holds, is violated (with the few
//! events that prove it), or cannot be known ([`verdict`]). What each guarantee means stands in [`explain`]; both files
//! are described field by field in `FORMAT.md`, beside the crate's manifest.

pub mod error;
pub mod explain;
pub mod guarantee;
pub mod history;
pub mod limits;
pub mod linearizable;
pub mod node_events;
pub mod phantom;
pub mod quorum;
pub mod sessions;
pub mod verdict;
mod versions;

pub use self::{
    error::Error,
    explain::Explanation,
    guarantee::Guarantee,
    history::{Event, EventKind, Function, History, Level, Version},
    limits::Limits,
    node_events::{NodeEvent, NodeEventKind},
    verdict::{Evidence, Reason, Verdict, Witness},
};

use self::{
    quorum::{
        connectivity, convergence, durability, lost_write, one_log, records::Records, recovery,
    },
    sessions::{monotonic_reads, read_your_writes, write_order},
    versions::Claims,
};

/// Judges one guarantee. `events` are the nodes' own, and may be empty.
pub fn check(
    history: &History,
    events: &[NodeEvent],
    guarantee: Guarantee,
    limits: &Limits,
) -> Verdict {
    let records = Records::new(events);
    let claims = Claims::new(history);
    check_one(history, events, &records, &claims, guarantee, limits)
}

/// Judges several guarantees of one history, in the order given.
pub fn check_all(
    history: &History,
    events: &[NodeEvent],
    guarantees: &[Guarantee],
    limits: &Limits,
) -> Vec<(Guarantee, Verdict)> {
    let records = Records::new(events);
    let claims = Claims::new(history);
    let judge = |&guarantee| {
        (
            guarantee,
            check_one(history, events, &records, &claims, guarantee, limits),
        )
    };
    guarantees.iter().map(judge).collect()
}

fn check_one<'h>(
    history: &'h History,
    events: &[NodeEvent],
    records: &Records<'_>,
    claims: &Claims<'h>,
    guarantee: Guarantee,
    limits: &Limits,
) -> Verdict {
    if history.operations().is_empty() {
        return Verdict::unknown("the history is empty, so there is nothing to judge");
    }
    match guarantee {
        Guarantee::ReadYourWrites => read_your_writes::read_your_writes(history, claims),
        Guarantee::ReadYourWritesStable => {
            read_your_writes::read_your_writes_stable(history, claims, events)
        }
        Guarantee::MonotonicReads => monotonic_reads::judge(history, claims),
        Guarantee::MonotonicWrites => write_order::monotonic_writes(history, claims),
        Guarantee::WritesFollowReads => write_order::writes_follow_reads(history, claims),
        Guarantee::QuorumDurability => durability::judge(history, claims, records),
        Guarantee::NoQuorumNoAck => connectivity::judge(history, records),
        Guarantee::NoLostWrite => lost_write::judge(history, claims, records),
        Guarantee::NoPhantom => phantom::judge(history),
        Guarantee::OneLog => one_log::judge(records),
        Guarantee::Convergence => convergence::judge(history, records),
        Guarantee::Recovery => recovery::judge(history, records),
        Guarantee::Linearizable => linearizable::judge(history, limits),
    }
}
