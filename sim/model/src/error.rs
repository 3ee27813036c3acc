//! What a user can do wrong.

use kv_core::QuorumError;

/// Why an exploration cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// N and Q do not go together.
    #[error("{0}")]
    Quorum(QuorumError),
}

impl From<QuorumError> for Error {
    fn from(error: QuorumError) -> Self {
        Self::Quorum(error)
    }
}
