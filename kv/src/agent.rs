//! The coordination agent of a node: one task that keeps the session, the registration and the lease, watches the
//! shard record, and does what the replica asks of the coordination service.
//!
//! ```text
//!            Command                 reads, conditional sets
//!   driver ──────────► ┌───────────┐ ─────────────────────► ┌──────────────┐
//!                      │   agent   │                        │ coordination │
//!          ◄────────── └───────────┘ ◄───────────────────── └──────────────┘
//!            Notice          │        events, answers
//!                            ▼
//!                       ClusterMap
//! ```
//!
//! - `task.rs` is the outer loop: a session begins, is served until it expires, and the next one begins.
//! - `serving.rs` is the inner one: commands, calls under way, watches, timers.
//! - `mirror.rs` is what the agent knows: it reads again what a watch says has changed, and slowly the rest.
//! - `queue.rs` is the agent's place in the queue of a lock.
//!
//! No call holds up another: each runs as a future of its own, and ends by the session's own timeout.

mod mirror;
mod queue;
mod serving;
mod task;

use std::time::Duration;

pub use kv_core::SetResult;
use kv_core::{Observed, SessionId, ShardRecord};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::config::NodeConfig;
use crate::coordination::CoordinationError;
use crate::environment::Environment;
use crate::handle::ClusterMap;

/// The part of its granted timeout by which a lease is shorter: the grain of the service's clock (R16).
const LEASE_TICK_PART: u32 = 20;
/// This part of its timeout, in hundredths, after an answer a session is proven alive again: a little more than a quarter, so
/// that each touch can prove the one before ([`touches_apart`]) though clocks differ. A lost answer is survivable.
const TOUCH_AFTER_PERCENT: u32 = 28;

const _: () = assert!(3 * TOUCH_AFTER_PERCENT < 100 - 100 / LEASE_TICK_PART);

/// What the driver asks of the agent. Each is answered by one [`Notice`], at the latest after a session timeout or so.
/// Without a session, `Lock` and `Set` are refused at once, and a `Read` is answered when there is one again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take the shard's election lock; answered by `Lock`.
    Lock,
    /// Give the lock back, or stop waiting for it; not answered.
    Unlock,
    /// Read the record, then the liveness of the session that it names, in this order (R12); answered by `Shard`.
    Read,
    /// Replace the record if it still has that revision; answered by `Set`. Several are not answered in order.
    Set {
        /// The revision that is replaced.
        revision: u64,
        /// The new record.
        record: ShardRecord,
    },
}

/// What the agent tells the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session began (registered as this node), or the last one is over, and with it any lock.
    Session(Option<SessionId>),
    /// The record of the shard that this node is a member of, whenever it or the liveness of its writer changes.
    Shard(Observed),
    /// Whether the lock was granted.
    Lock(bool),
    /// How a `Set` ended.
    Set(SetResult),
    /// The session is known to live until `until` by this node's own clock, whatever happens (R16).
    Lease {
        /// The session.
        session: SessionId,
        /// Its earliest end, on the node's [`Clock`](crate::environment::Clock).
        until: Duration,
    },
}

/// How far a node's agent has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// There is no session: the service has not been reached yet, or the last session expired.
    Connecting,
    /// There is a session, and an earlier one of the same node still has to end.
    Registering,
    /// The data folder belongs to another cluster than the one of this service.
    OtherCluster {
        /// Whose the folder is.
        folder: u64,
        /// The service's.
        service: u64,
    },
    /// The data folder cannot note whose it is.
    NoFolder,
    /// The service refuses the node, or holds what it cannot read.
    Refused(CoordinationError),
    /// Another living process is registered under this node's id: the earlier session had the time to end and did not.
    IdTaken(SessionId),
    /// The node is registered under this session.
    Registered(SessionId),
    /// It is or was, but nothing has been heard from the service for a while.
    Disconnected(SessionId),
}

/// Reaches a node's agent. The agent ends when this is dropped, and its session times out; [`AgentHandle::close`] ends
/// it at once.
#[derive(Debug)]
pub struct AgentHandle {
    requests: mpsc::UnboundedSender<Request>,
    cluster: watch::Receiver<ClusterMap>,
    state: watch::Receiver<AgentState>,
    joined: watch::Receiver<Option<u64>>,
    task: AbortHandle,
}

/// What reaches the agent's task.
#[derive(Debug)]
enum Request {
    Command(Command),
    Close(oneshot::Sender<()>),
}

impl AgentHandle {
    /// Starts the agent of a node, with the notices that it gives.
    #[must_use]
    pub fn start(
        config: &NodeConfig,
        environment: &Environment,
    ) -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let (requests, incoming) = mpsc::unbounded_channel();
        let (outgoing, notices) = mpsc::unbounded_channel();
        let (cluster_sender, cluster) = watch::channel(ClusterMap::default());
        let (state_sender, state) = watch::channel(AgentState::Connecting);
        let (joined_sender, joined) = watch::channel(None);
        let desk = task::Desk {
            requests: incoming,
            notices: outgoing,
            cluster: cluster_sender,
            state: state_sender,
            joined: joined_sender,
        };
        let task = tokio::spawn(task::run(config.clone(), environment.clone(), desk));
        let handle = Self {
            requests,
            cluster,
            state,
            joined,
            task: task.abort_handle(),
        };
        (handle, notices)
    }

    /// Hands a command over. Never waits.
    pub fn command(&self, command: Command) {
        // Where the task has ended, nobody waits for the answer either.
        let _ = self.requests.send(Request::Command(command));
    }

    /// The cluster as the agent knows it, kept up to date. The address of a member stays while it is not registered:
    /// it may be cut off from the coordination service alone.
    #[must_use]
    pub fn cluster(&self) -> watch::Receiver<ClusterMap> {
        self.cluster.clone()
    }

    /// How far the agent has come, kept up to date.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<AgentState> {
        self.state.clone()
    }

    /// Of which cluster the node is, once it has found out.
    #[must_use]
    pub fn joined(&self) -> watch::Receiver<Option<u64>> {
        self.joined.clone()
    }

    /// Ends the session at once, best effort, and with it the registration.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).is_ok() {
            // An error means that the task has ended, which is as good.
            let _ = closed.await;
        }
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long a lease lasts, from the sending of the write that was answered (R16).
#[must_use]
pub fn lease_duration(session_timeout: Duration, clock_drift_ppm_max: u32) -> Duration {
    let drift = session_timeout * clock_drift_ppm_max / 1_000_000;
    let tick = session_timeout / LEASE_TICK_PART;
    session_timeout.saturating_sub(drift + tick)
}

/// How long after the answer to one write another is sent, if that is to prove the first where an answer alone does not (R16): by
/// then a word of the session has gone to whoever keeps it. That is a quarter of the timeout, by the fastest clock, and some more,
/// since words may be late.
fn touches_apart(session_timeout: Duration, clock_drift_ppm_max: u32) -> Duration {
    let words_apart = session_timeout / 4;
    words_apart + words_apart * clock_drift_ppm_max / 1_000_000 + session_timeout / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_touch_proves_the_one_before_even_on_a_slow_clock() {
        let timeout = Duration::from_secs(4);
        let pause = timeout * TOUCH_AFTER_PERCENT / 100;
        assert!(touches_apart(timeout, 10_000) < pause * 990_000 / 1_000_000);
        assert!(touches_apart(timeout, 10_000) * 990_000 / 1_000_000 > timeout / 4);
    }

    #[test]
    fn a_lease_ends_before_the_session_even_on_a_slow_clock() {
        let timeout = Duration::from_secs(4);
        let lease = lease_duration(timeout, 10_000);
        assert_eq!(lease, Duration::from_millis(3760));
        // A clock that is slow by the bound has counted less when the session ends.
        assert!(lease < timeout * 990_000 / 1_000_000);
        assert_eq!(lease_duration(timeout, 1_000_000), Duration::ZERO);
    }
}
