//! What stands between the network and a node: how much is let in, and who.
//!
//! A [`Door`] is handed to [`Node::start_behind`](crate::node::Node::start_behind). The simulator has none: its network has neither
//! connections nor strangers. All faces of a node share one door, so that its bounds hold for all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::NodeId;
use tokio::sync::Semaphore;

use crate::handle::{REQUEST_BYTES_MAX, REQUESTS_MAX};
#[cfg(feature = "net")]
use crate::security::Security;

/// How much is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are served at a time; one more is closed at once.
    pub connections: usize,
    /// How many connections may be in their first moments, before they have said what they want; for one more, the oldest of
    /// these is closed.
    pub handshakes: usize,
    /// How long these first moments may last: TLS and the first bytes of the protocol.
    pub handshake_timeout: Duration,
    /// How many requests one connection may have under way.
    pub requests_per_connection: u32,
    /// How many clients' requests the node has in hand; one more is refused with `Busy`.
    pub requests: usize,
    /// How many bytes of keys and values these have together, and how many the answers on their way.
    pub request_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            handshakes: 128,
            handshake_timeout: Duration::from_secs(5),
            requests_per_connection: 256,
            requests: REQUESTS_MAX,
            request_bytes: REQUEST_BYTES_MAX,
        }
    }
}

/// What stands between the network and a node. A clone is the same door.
#[derive(Clone, Debug)]
pub struct Door {
    /// How much is let in.
    pub limits: Limits,
    /// Who is let in.
    #[cfg(feature = "net")]
    pub security: Arc<Security>,
    /// What has come to it.
    pub counters: Arc<Counters>,
    /// The connections that may still come in.
    pub(crate) places: Arc<Semaphore>,
}

impl Default for Door {
    /// Open to everybody, within the usual limits.
    fn default() -> Self {
        Self::within(Limits::default())
    }
}

impl Door {
    /// Open to everybody, within these limits.
    #[must_use]
    pub fn within(limits: Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(
                limits.connections.min(Semaphore::MAX_PERMITS),
            )),
            limits,
            #[cfg(feature = "net")]
            security: Arc::default(),
            counters: Arc::default(),
        }
    }

    /// Open to those only who can show who they are.
    #[cfg(feature = "net")]
    #[must_use]
    pub fn secured(limits: Limits, security: Arc<Security>) -> Self {
        Self {
            security,
            ..Self::within(limits)
        }
    }

    /// How many connections are served now.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        let most = self.limits.connections.min(Semaphore::MAX_PERMITS);
        most.saturating_sub(self.places.available_permits())
    }
}

/// What has come to a door since the node started.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    refused_full: AtomicU64,
    crowded_out: AtomicU64,
    silent: AtomicU64,
    senseless: AtomicU64,
    unauthenticated: AtomicU64,
    forbidden: AtomicU64,
}

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections that were let in.
    Accepted,
    /// Connections that were closed since there were as many as are served.
    RefusedFull,
    /// Connections that were closed in their first moments to make room for others.
    CrowdedOut,
    /// Connections that said nothing in time.
    Silent,
    /// Connections whose first bytes were not what they should be, TLS included.
    Senseless,
    /// Requests of those who did not show who they are.
    Unauthenticated,
    /// Requests of those who may not make them.
    Forbidden,
}

impl Count {
    /// All of them, with their names for metrics.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Accepted, "accepted"),
        (Self::RefusedFull, "refused_full"),
        (Self::CrowdedOut, "crowded_out"),
        (Self::Silent, "silent"),
        (Self::Senseless, "senseless"),
        (Self::Unauthenticated, "unauthenticated"),
        (Self::Forbidden, "forbidden"),
    ];
}

impl Counters {
    fn of(&self, count: Count) -> &AtomicU64 {
        match count {
            Count::Accepted => &self.accepted,
            Count::RefusedFull => &self.refused_full,
            Count::CrowdedOut => &self.crowded_out,
            Count::Silent => &self.silent,
            Count::Senseless => &self.senseless,
            Count::Unauthenticated => &self.unauthenticated,
            Count::Forbidden => &self.forbidden,
        }
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.of(count).load(Ordering::Relaxed)
    }

    #[cfg_attr(
        not(feature = "net"),
        expect(dead_code, reason = "nothing comes from a real network")
    )]
    pub(crate) fn add(&self, count: Count) {
        self.of(count).fetch_add(1, Ordering::Relaxed);
    }
}

/// Who makes a request, as far as that was shown. The services find it among the extensions of a request; where there is none, there
/// is no door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// Nobody in particular.
    #[default]
    Anyone,
    /// A client.
    Client,
    /// A member of the cluster; which one, if a certificate says so.
    Peer(Option<NodeId>),
}
