//! Why a node of this crate cannot start, or stops.

use crate::data_folder::DataFolderError;
use crate::engine::EngineError;
use crate::server::BindError;
use crate::wal::WalError;

/// Why a node cannot start, or why it stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder is not this node's.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The log is damaged, or its disk failed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The address cannot be served on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log task ended before the node did.
    #[error("the log task ended; the log it wrote is intact, restart the node")]
    LogTaskEnded,
    /// A task of the node broke an invariant of ours.
    #[error("a task of the node panicked; its message is above")]
    Panicked,
}
