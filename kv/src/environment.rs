//! The one seam to the outside: everything of the world that a node touches comes in through here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Message, NodeId};

use crate::coordination::Coordination;
use crate::events::Events;
use crate::fs::FileSystem;

/// What a node runs in. Production builds it from the config; the simulator builds its own.
#[derive(Clone)]
pub struct Environment {
    /// The data folder.
    pub file_system: Arc<dyn FileSystem>,
    /// The coordination service.
    pub coordination: Arc<dyn Coordination>,
    /// The links to the other members.
    pub transport: Arc<dyn Transport>,
    /// The node's own clock.
    pub clock: Arc<dyn Clock>,
    /// Where the node writes down what happens inside it.
    pub events: Arc<dyn Events>,
    /// Where the jitter of timers and retries comes from.
    pub seed: u64,
}

/// Where a node's incoming messages go: the sender, and what it says.
pub type Deliver = Arc<dyn Fn(NodeId, Message) + Send + Sync>;

/// The links to the other members: fire and forget.
///
/// Contract: `send` never blocks, and may drop, double, delay or reorder. The protocol is right anyway.
pub trait Transport: Send + Sync {
    /// Starts handing incoming messages to `deliver`.
    fn listen(&self, deliver: Deliver);
    /// Of which cluster the node is, once it knows: for transports that tell it to the other end.
    fn join(&self, _cluster: u64) {}
    /// Where the nodes of the cluster can be reached, whenever that changes.
    fn reach(&self, addresses: &BTreeMap<NodeId, String>);
    /// Sends a message, perhaps.
    fn send(&self, to: NodeId, message: Message);
}

/// A node's own monotonic clock. It may start anywhere and drift; nobody compares two nodes' clocks.
pub trait Clock: Send + Sync {
    /// The time since some moment of its own.
    fn now(&self) -> Duration;
}
