//! How requests reach a node: what may be asked, and what may be answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Epoch, Fencing, Level, NodeId, Offset, ShardId, Slot, SlotRange, Version};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::fs::File;
use crate::metrics::{self, Metrics};

mod places;
mod shown;

use places::{Place, Places};
pub use places::{REQUEST_BYTES_MAX, REQUESTS_MAX, Room};

/// A client's request, checked against the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
        /// How much the read promises.
        level: Level,
        /// For level `replica`: answer only when this has been applied.
        token: Option<Version>,
    },
    /// Gives a key a value.
    Set {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Takes a key away.
    Delete {
        /// The key.
        key: Bytes,
    },
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The write is on Q nodes (`ok`).
    Written {
        /// The entry that it became; the session token, too.
        version: Version,
        /// The shard.
        shard: ShardId,
    },
    /// The value of a key (`ok`).
    Value {
        /// The value; nothing if the key is absent.
        value: Option<Bytes>,
        /// The entry that wrote or deleted it, if that is known.
        version: Option<Version>,
        /// How far this node had applied: the session token.
        token: Version,
        /// The shard.
        shard: ShardId,
    },
    /// It did not happen and will not (`fail`).
    Refused(Refusal),
    /// Nobody knows yet whether it happened (`info`). Reads never end like this.
    Unknown,
}

/// An answer, and the room that it takes until it has gone out.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// To be held until then; a small one takes none.
    pub room: Option<Room>,
}

impl From<Answer> for Answered {
    fn from(answer: Answer) -> Self {
        Self { answer, room: None }
    }
}

/// Why a request was definitely refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another shard or another node serves that.
    Moved {
        /// The slot of the key.
        slot: Slot,
        /// The shard that owns it, as far as this node knows.
        shard: Option<ShardId>,
        /// The shard's writer, as far as this node knows.
        writer: Option<NodeId>,
    },
    /// The writer is not ready (it has just been elected, or is rolling back): try again soon.
    TryAgain,
    /// The replica has not applied as far as the session token asks, in time.
    Behind,
    /// The writer gave the write up and the giving up is committed (R10).
    RolledBack,
    /// The level could not be given in time (no lease, no confirmation).
    Unconfirmed,
    /// The node has as many requests in hand as it takes. Said at once, so that nobody waits for nothing.
    Busy,
}

/// The cluster as one node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterMap {
    /// The registered nodes, and the members that are not registered at the moment, with their RPC addresses.
    pub nodes: BTreeMap<NodeId, String>,
    /// The shards.
    pub shards: BTreeMap<ShardId, ShardView>,
}

/// A shard in the cluster map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardView {
    /// The configuration number.
    pub epoch: Epoch,
    /// The writer, if there is one.
    pub writer: Option<NodeId>,
    /// The members that count.
    pub voters: BTreeSet<NodeId>,
    /// Q.
    pub write_quorum: usize,
    /// What it owns.
    pub slots: Vec<SlotRange>,
    /// Which protocol it runs.
    pub fencing: Fencing,
}

impl ClusterMap {
    /// The shard that owns a slot.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.shards
            .iter()
            .find(|(_, view)| view.slots.iter().any(|range| range.contains(slot)))
            .map(|(shard, _)| *shard)
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who answers.
    pub node: NodeId,
    /// The shard that it is a member of.
    pub shard: Option<ShardId>,
    /// The epoch that it writes in, if it is a writer that serves.
    pub writer_of: Option<Epoch>,
    /// The promise.
    pub promised: Epoch,
    /// The last entry of the log.
    pub end: Version,
    /// What is committed.
    pub committed: Offset,
    /// The log as runs of equal epoch: epoch, first and last offset.
    pub runs: Vec<(Epoch, Offset, Offset)>,
    /// The digest of all that is stored, if it was asked for.
    pub digest: Option<u32>,
    /// How far and how full everything is.
    pub gauges: Gauges,
    /// Whether the node's disk may have lost what it had synced, so that it takes no part in elections.
    pub is_suspect: bool,
}

impl Status {
    /// How many entries a replica lacks on its disk, as its writer knows it.
    #[must_use]
    pub fn lag(&self, replica: &Follower) -> u64 {
        self.end.offset.0.saturating_sub(replica.matched.0)
    }
}

/// How far and how full everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// What is visible.
    pub applied: Offset,
    /// What the engine holds durably.
    pub checkpoint: Offset,
    /// What a writer knows of its replicas.
    pub followers: Vec<Follower>,
    /// The size of the log's files.
    pub log_bytes: u64,
    /// The size of the engine's files.
    pub engine_bytes: u64,
    /// Requests that the driver has not taken yet.
    pub requests_queued: u64,
    /// Requests that it has taken and not answered yet.
    pub requests_waiting: u64,
    /// Peers' messages that it has not taken yet.
    pub messages_queued: u64,
}

/// What a writer knows of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Which one.
    pub node: NodeId,
    /// What it holds durably.
    pub matched: Offset,
    /// What it has committed.
    pub committed: Offset,
}

/// A node that does not say how it is within this is not well.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// How much longer than the deadline the driver's own answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_millis(250);

/// A question to the driver, with the place for the answer.
#[derive(Debug)]
pub enum Ask {
    /// A client's request; to be answered within the deadline, from now.
    Request(Request, Duration, ReplyTo),
    /// How are you?
    Status {
        /// Whether to read all that is stored, for its digest.
        digest: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Status>,
    },
    /// Give me a snapshot of all that you store.
    Snapshot(oneshot::Sender<OfferedSnapshot>),
    /// Give the writer's role to somebody else, if you have it.
    HandOver,
    /// End the session with the coordination service, and stop.
    Leave(oneshot::Sender<()>),
}

/// Where the answer to a request goes. Until it is there, or dropped, the request has its place among those in hand: a
/// client that goes away does not make room for another one before the driver is rid of its request.
#[derive(Debug)]
pub struct ReplyTo {
    sender: oneshot::Sender<Answered>,
    places: Places,
    _place: Place,
}

impl ReplyTo {
    /// Answers; where there is no room for the answer, that the node is busy.
    ///
    /// # Errors
    /// Gives the answer back where nobody waits for it any more.
    pub fn send(self, answer: Answer) -> Result<(), Answer> {
        let answered = self.places.answered(answer);
        self.sender
            .send(answered)
            .map_err(|answered| answered.answer)
    }
}

/// A snapshot in a file, which stays readable for as long as this is held.
#[derive(Clone)]
pub struct OfferedSnapshot {
    /// The last entry that it covers.
    pub at: Version,
    /// Its bytes.
    pub file: Arc<dyn File>,
}

impl std::fmt::Debug for OfferedSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a snapshot at {}", self.at)
    }
}

/// Reaches a running node from anywhere in the process.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    /// The node.
    pub node: NodeId,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) cluster: watch::Receiver<ClusterMap>,
    pub(crate) metrics: Arc<Metrics>,
    /// It has been asked to stop.
    is_leaving: Arc<AtomicBool>,
    /// Of which cluster the node is, once it knows.
    cluster_id: watch::Receiver<Option<u64>>,
    places: Places,
}

impl NodeHandle {
    /// Reaches the node whose driver answers what comes out of `asks`, and which keeps `cluster` up to date.
    #[must_use]
    pub fn new(
        node: NodeId,
        asks: mpsc::Sender<Ask>,
        cluster: watch::Receiver<ClusterMap>,
    ) -> Self {
        Self {
            node,
            asks,
            cluster,
            metrics: Arc::default(),
            is_leaving: Arc::default(),
            cluster_id: watch::channel(None).1,
            places: Places::new(REQUESTS_MAX, REQUEST_BYTES_MAX),
        }
    }

    /// The same, for a node that learns of which cluster it is.
    #[must_use]
    pub fn with_cluster_id(self, cluster_id: watch::Receiver<Option<u64>>) -> Self {
        Self { cluster_id, ..self }
    }

    /// Of which cluster the node is, once it has joined one.
    #[must_use]
    pub fn cluster_id(&self) -> Option<u64> {
        *self.cluster_id.borrow()
    }

    /// The same, with other bounds than the usual ones: so many requests in hand, of so many bytes together.
    #[must_use]
    pub fn with_bounds(self, requests_max: usize, request_bytes_max: u64) -> Self {
        Self {
            places: Places::new(requests_max, request_bytes_max),
            ..self
        }
    }

    /// Asks the node and waits for the answer, at most a little longer than the deadline.
    ///
    /// There is no waiting for a place: a node that has its hands full says so. What the driver never got is refused; what it got and does not answer is `Unknown`, for a write.
    pub async fn request(&self, request: Request, deadline: Duration) -> Answered {
        let (operation, asked) = (metrics::operation(&request), Instant::now());
        let answered = self.request_unmeasured(request, deadline).await;
        let answer = &answered.answer;
        self.metrics.answered(operation, answer, asked.elapsed());
        answered
    }

    async fn request_unmeasured(&self, request: Request, deadline: Duration) -> Answered {
        let unanswered = match &request {
            Request::Get { .. } => Answer::Refused(Refusal::TryAgain),
            Request::Set { .. } | Request::Delete { .. } => Answer::Unknown,
        };
        let Some(place) = self.places.take(&request) else {
            return Answer::Refused(Refusal::Busy).into();
        };
        let (sender, answer) = oneshot::channel();
        let reply = ReplyTo {
            sender,
            places: self.places.clone(),
            _place: place,
        };
        match self.asks.try_send(Ask::Request(request, deadline, reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Answer::Refused(Refusal::Busy).into(),
            // The node is stopping: it never reached the log.
            Err(TrySendError::Closed(_)) => return Answer::Refused(Refusal::TryAgain).into(),
        }
        match tokio::time::timeout(deadline + ANSWER_GRACE, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) | Err(_) => unanswered.into(),
        }
    }

    /// Room for an answer of another node that goes out through this one: nothing else where there is none.
    #[must_use]
    pub fn room(&self, value_bytes: usize) -> Option<Option<Room>> {
        self.places.room(value_bytes)
    }

    /// What the node says of itself; nothing once it has stopped. With the `digest`, it reads all that it stores.
    pub async fn status(&self, digest: bool) -> Option<Status> {
        let (reply, status) = oneshot::channel();
        self.asks.send(Ask::Status { digest, reply }).await.ok()?;
        status.await.ok()
    }

    /// What can be measured of the node, as text for Prometheus.
    pub async fn metrics(&self) -> String {
        let status = self.status_soon().await;
        self.metrics.render(status.as_ref())
    }

    /// A snapshot of what the node's engine holds; nothing once it has stopped.
    pub async fn snapshot(&self) -> Option<OfferedSnapshot> {
        let (reply, snapshot) = oneshot::channel();
        self.asks.send(Ask::Snapshot(reply)).await.ok()?;
        snapshot.await.ok()
    }

    pub(crate) async fn ask(&self, ask: Ask) {
        // A node that has stopped has nothing more to do.
        let _ = self.asks.send(ask).await;
    }

    /// The same, without the digest; nothing also where it takes too long.
    pub async fn status_soon(&self) -> Option<Status> {
        let asked = self.status(false);
        tokio::time::timeout(STATUS_PATIENCE, asked).await.ok()?
    }

    /// Whether clients should come to this node: it turns, stays, is whole, and its shard has a writer that serves, as far as it knows.
    ///
    /// # Errors
    /// Says why they should not.
    pub async fn readiness(&self) -> Result<&'static str, &'static str> {
        let Some(status) = self.status_soon().await else {
            return Err("the node does not answer, or has stopped");
        };
        if self.is_leaving() {
            return Err("the node is about to stop");
        }
        if status.is_suspect {
            return Err("the node is being repaired by its writer");
        }
        let map = self.cluster();
        let Some(shard) = status.shard.and_then(|shard| map.shards.get(&shard)) else {
            return Ok("idle: the node is a member of no shard");
        };
        match shard.writer {
            Some(writer) if writer == self.node && status.writer_of.is_none() => {
                Err("the node has just become the writer and does not serve yet")
            }
            Some(_) => Ok("ok"),
            None => Err("the shard has no writer: an election runs"),
        }
    }

    /// Whether the node has been asked to stop: it answers what it can, and nobody new should come.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_to_leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Lets the node end its session and stop, and waits for that.
    pub(crate) async fn leave(&self) {
        let (left, leaving) = oneshot::channel();
        self.ask(Ask::Leave(left)).await;
        let _ = leaving.await; // An error means that it has stopped, which is as good.
    }

    /// The cluster as the node knows it, now and from now on.
    #[must_use]
    pub fn cluster_as_it_changes(&self) -> watch::Receiver<ClusterMap> {
        self.cluster.clone()
    }

    /// The cluster as the node knows it now.
    #[must_use]
    pub fn cluster(&self) -> ClusterMap {
        self.cluster.borrow().clone()
    }
}
