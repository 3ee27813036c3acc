//! A node. (A stub with the final signature: the node itself comes with the driver.)

pub use crate::error::NodeError;

use crate::config::NodeConfig;
use crate::environment::Environment;
use crate::handle::NodeHandle;

/// A running node. Dropping it stops its tasks.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// Says what keeps the node from running.
    pub async fn start(config: NodeConfig, environment: Environment) -> Result<Self, NodeError> {
        let _ = (config, environment);
        Err(NodeError::Killed)
    }

    /// Reaches the node.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Waits until the node has stopped by itself, and says why.
    pub async fn stopped(&mut self) -> NodeError {
        std::future::pending().await
    }
}
