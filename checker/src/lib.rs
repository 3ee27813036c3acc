//! Judges recorded histories: session guarantees, quorum guarantees, linearizability.
//!
//! The checker knows nothing of any store. It reads a history in Jepsen's shape ([`history`]), optionally what the nodes
//! recorded themselves ([`node_events`]), and answers per guarantee whether it holds, is violated (with the few events
//! that prove it), or cannot be known ([`verdict`]).

pub mod error;
pub mod guarantee;
pub mod history;
pub mod node_events;
pub mod verdict;

pub use self::{
    error::Error,
    guarantee::Guarantee,
    history::{Event, EventKind, Function, History, Level, Version},
    node_events::{NodeEvent, NodeEventKind},
    verdict::{Evidence, Reason, Verdict, Witness},
};
