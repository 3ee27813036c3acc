//! What a user can do wrong.

use std::io;
use std::path::PathBuf;

use kv_core::QuorumError;

use crate::ledger::Promise;

/// Why an exploration cannot start, or cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// N and Q do not go together.
    #[error("{0}")]
    Quorum(QuorumError),
    /// A bound is out of range.
    #[error("--{bound} is {given}; allowed: {least} to {most}")]
    OutOfRange {
        /// Which.
        bound: &'static str,
        /// What was asked for.
        given: u64,
        /// The least that is allowed.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A bound can never be used.
    #[error("--{bound} has no effect without {needs}")]
    Idle {
        /// Which.
        bound: &'static str,
        /// What it takes.
        needs: &'static str,
    },
    /// There is no such property.
    #[error("there is no property {name:?}; there are: {}", Promise::flags().join(", "))]
    UnknownProperty {
        /// What was asked for.
        name: String,
    },
    /// Not a time.
    #[error("{text:?} is no time; write it as 90s, 10m or 2h")]
    NotATime {
        /// What was asked for.
        text: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
}

impl From<QuorumError> for Error {
    fn from(error: QuorumError) -> Self {
        Self::Quorum(error)
    }
}
