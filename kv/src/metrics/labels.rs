//! By what metrics are told apart.

use prometheus_client::encoding::EncodeLabelSet;

use super::Phase;
use crate::handle::{Answer, Refusal};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Operation {
    pub(super) operation: &'static str,
}

/// What a request came to, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    operation: &'static str,
    /// `ok`, `fail` or `info`.
    outcome: &'static str,
    /// Why it was refused; empty otherwise.
    reason: &'static str,
}

impl Outcome {
    pub(super) fn new(operation: Operation, answer: &Answer) -> Self {
        let (outcome, reason) = match answer {
            Answer::Written { .. } | Answer::Value { .. } => ("ok", ""),
            Answer::Unknown => ("info", ""),
            Answer::Refused(refusal) => ("fail", reason(refusal)),
        };
        Self {
            operation: operation.operation,
            outcome,
            reason,
        }
    }
}

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Moved { .. } => "moved",
        Refusal::TryAgain => "try-again",
        Refusal::Behind => "behind",
        Refusal::RolledBack => "rolled-back",
        Refusal::Unconfirmed => "unconfirmed",
        Refusal::Busy => "busy",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PhaseName {
    phase: &'static str,
}

impl From<Phase> for PhaseName {
    fn from(phase: Phase) -> Self {
        let phase = match phase {
            Phase::Log => "log",
            Phase::Commit => "commit",
            Phase::Acknowledge => "acknowledge",
        };
        Self { phase }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EventKind {
    pub(super) event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Queue {
    pub(super) queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Peer {
    pub(super) replica: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Came {
    pub(super) came: &'static str,
}
