//! Why a run fails by itself: it shows nothing, or something broke that no guarantee is about.

use std::fmt;

use serde::Serialize;

/// Why a run fails by itself, whatever the guarantees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Somebody wanted the program to end.
    Interrupted,
    /// The cluster never became ready.
    NotReady {
        /// What was missing.
        why: String,
    },
    /// Too few operations were acknowledged.
    TooFewOk {
        /// How many were.
        ok: u64,
        /// How many the scenario asks for.
        min_ok: u64,
    },
    /// No read was answered.
    NoOkRead,
    /// No write was acknowledged.
    NoOkWrite,
    /// A fault never fired.
    NeverFired {
        /// Which, counted from 1.
        fault: usize,
        /// What it was to do.
        what: String,
    },
    /// A cue of a directed run could not be given: the run took another way.
    CueMissed {
        /// Which, counted from 1.
        cue: usize,
        /// What it was to do.
        what: String,
        /// What was missing.
        why: String,
    },
    /// A shard did not take a write again after the last fault, in time.
    NotRecovered {
        /// The shard.
        shard: u64,
    },
    /// A node stopped by itself.
    NodeStopped {
        /// The node.
        node: u64,
        /// Why.
        why: String,
    },
    /// A node went on after its disk had failed.
    WentOn {
        /// The node.
        node: u64,
        /// What the disk did.
        what: String,
    },
    /// Two things happened that cannot both be: an invariant of the protocol is broken.
    Invariant {
        /// Which two.
        what: String,
    },
    /// Something panicked: a broken invariant, ours or the store's.
    Panicked {
        /// The message and where it comes from.
        message: String,
    },
    /// The history contradicts itself.
    BadHistory {
        /// How.
        why: String,
    },
}

impl Failure {
    /// Whether the run merely shows nothing. Whatever is left out of such a run, it shows still less.
    #[must_use]
    pub fn is_vacuous(&self) -> bool {
        match self {
            Self::TooFewOk { .. }
            | Self::NoOkRead
            | Self::NoOkWrite
            | Self::NeverFired { .. }
            | Self::CueMissed { .. } => true,
            Self::Interrupted
            | Self::NotReady { .. }
            | Self::NotRecovered { .. }
            | Self::NodeStopped { .. }
            | Self::WentOn { .. }
            | Self::Invariant { .. }
            | Self::Panicked { .. }
            | Self::BadHistory { .. } => false,
        }
    }

    /// What failed, in a few words: two failures of one name are likely one bug. A panic is named by its place.
    #[must_use]
    pub fn name(&self) -> String {
        let name = match self {
            Self::Interrupted => "interrupted",
            Self::NotReady { .. } => "never ready",
            Self::TooFewOk { .. } => "too few ok",
            Self::NoOkRead => "no ok read",
            Self::NoOkWrite => "no ok write",
            Self::NeverFired { .. } => "a fault never fired",
            Self::CueMissed { .. } => "a cue was missed",
            Self::NotRecovered { .. } => "not recovered",
            Self::NodeStopped { .. } => "a node stopped",
            Self::WentOn { .. } => "a node went on after its disk failed",
            Self::BadHistory { .. } => "bad history",
            Self::Invariant { .. } => "an invariant is broken",
            Self::Panicked { message } => {
                let place = message.rsplit_once(" (").map(|(_, place)| place);
                let place = place.unwrap_or("somewhere").trim_end_matches(')');
                return format!("panic at {place}");
            }
        };
        name.to_owned()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::NotReady { why } => write!(f, "the cluster never became ready: {why}"),
            Self::TooFewOk { ok, min_ok } => {
                write!(
                    f,
                    "vacuous: {ok} operations were acknowledged, at least {min_ok} are asked for (min_ok)"
                )
            }
            Self::NoOkRead => f.write_str("vacuous: no read was answered"),
            Self::NoOkWrite => f.write_str("vacuous: no write was acknowledged"),
            Self::NeverFired { fault, what } => {
                write!(f, "vacuous: fault {fault} never fired ({what})")
            }
            Self::CueMissed { cue, what, why } => {
                write!(f, "vacuous: cue {cue} could not be given ({what}): {why}")
            }
            Self::NotRecovered { shard } => {
                write!(
                    f,
                    "shard {shard} took no write again after the last fault, in time (recovery_within)"
                )
            }
            Self::NodeStopped { node, why } => write!(f, "n{node} stopped by itself: {why}"),
            Self::WentOn { node, what } => {
                write!(f, "n{node} went on after its disk had failed ({what})")
            }
            Self::Invariant { what } => write!(f, "an invariant of the protocol is broken: {what}"),
            Self::Panicked { message } => write!(f, "panicked: {message}"),
            Self::BadHistory { why } => write!(f, "the history contradicts itself: {why}"),
        }
    }
}
