//! What can go wrong, as a client and as the owner of a node see it.
//!
//! The words are Jepsen's: `ok`, `fail` (it did not happen and will not) and `info` (nobody knows). The difference
//! between the last two is what the checker lives on, so in doubt an outcome is [`Outcome::Info`].

use kv_core::{NodeId, Slot};

use crate::coordination::CoordinationError;
use crate::data_folder::DataFolderError;
use crate::store::StoreError;
use crate::wal::WalError;
use crate::wire::WireError;

/// What a client knows of an operation once it has ended.
#[derive(Clone, Debug)]
#[must_use]
pub enum Outcome<T> {
    /// It happened.
    Ok(T),
    /// It did not happen and will not. A read without an answer ends like this, too: it has no effect.
    Fail(Fail),
    /// A write that may have happened, or may happen yet.
    Info(Unsure),
}

impl<T> Outcome<T> {
    /// The same outcome with another result.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Ok(result) => Outcome::Ok(change(result)),
            Self::Fail(reason) => Outcome::Fail(reason),
            Self::Info(reason) => Outcome::Info(reason),
        }
    }

    /// The result, if there is one.
    pub fn ok(self) -> Option<T> {
        match self {
            Self::Ok(result) => Some(result),
            Self::Fail(_) | Self::Info(_) => None,
        }
    }
}

/// Why an operation definitely did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fail {
    /// The request is beyond the limits; it was not sent.
    #[error(transparent)]
    Limits(#[from] WireError),
    /// No node could be reached, or none answered a read in time.
    #[error("no node answers; tried: {}", tried.join(", "))]
    Unreachable {
        /// The addresses that were tried.
        tried: Vec<String>,
    },
    /// Somebody is there, but TLS came to nothing: one of both does not trust the other, or does not speak it.
    #[error("cannot speak with {address}: {why}")]
    Untrusted {
        /// Its address.
        address: String,
        /// What TLS says.
        why: String,
    },
    /// No node knew of a writer for the slot before the deadline.
    #[error(
        "slot {slot} has no writer that is known and can be reached; try again in a few seconds"
    )]
    NoWriter {
        /// The slot of the key.
        slot: Slot,
    },
    /// The replica that was chosen is not in the cluster.
    #[error("there is no node {0} in the cluster")]
    NoSuchNode(NodeId),
    /// The writer was not ready before the deadline.
    #[error("the writer is not ready (just elected, or rolling back); try again in a few seconds")]
    NotReady,
    /// The nodes sent the client from one to another too often.
    #[error("the nodes do not agree on who serves slot {slot}; try again in a few seconds")]
    Misrouted {
        /// The slot of the key.
        slot: Slot,
    },
    /// The writer gave the write up and the giving up is committed (R10).
    #[error("the write was rolled back: too few replicas confirmed it in time")]
    RolledBack,
    /// No replica had applied as far as the session token asks before the deadline.
    #[error("no replica has caught up with this session; try again, or read at the writer")]
    Behind,
    /// The level could not be given before the deadline.
    #[error("the writer could not confirm that it still is the writer; try again in a few seconds")]
    Unconfirmed,
    /// The node had as many requests in hand as it takes, until the deadline.
    #[error(
        "the node has too many requests in hand; send fewer at a time, or try again in a few seconds"
    )]
    Busy,
    /// The node refused the request as such.
    #[error("the node refused the request: {}", .0.message())]
    Rejected(tonic::Status),
}

impl Fail {
    /// A short, stable name for histories and machines.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Limits(_) => "limits",
            Self::Unreachable { .. } => "unreachable",
            Self::Untrusted { .. } => "untrusted",
            Self::NoWriter { .. } => "no-writer",
            Self::NoSuchNode(_) => "no-such-node",
            Self::NotReady => "not-ready",
            Self::Misrouted { .. } => "misrouted",
            Self::RolledBack => "rolled-back",
            Self::Behind => "behind",
            Self::Unconfirmed => "unconfirmed",
            Self::Busy => "busy",
            Self::Rejected(_) => "rejected",
        }
    }
}

/// Why nobody knows whether a write happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unsure {
    /// No answer came before the deadline.
    #[error("no answer from {address} in time; the write may have happened, or may happen yet")]
    Unanswered {
        /// Where the write was sent.
        address: String,
    },
    /// The connection broke, or the answer was not understood, after the write was sent.
    #[error("lost {address} after sending ({}); the write may have happened", status.message())]
    Broken {
        /// Where the write was sent.
        address: String,
        /// What the connection says.
        status: tonic::Status,
    },
    /// The node itself does not know yet.
    #[error("node {node} does not know yet whether the write happened")]
    Undecided {
        /// The node that answered.
        node: NodeId,
    },
}

impl Unsure {
    /// A short, stable name for histories and machines.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unanswered { .. } => "unanswered",
            Self::Broken { .. } => "broken",
            Self::Undecided { .. } => "undecided",
        }
    }
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address to listen on is no address of this machine.
    #[error(
        "cannot listen on {listen}: it is no HOST:PORT of this machine, such as 127.0.0.1:7001"
    )]
    Address {
        /// The address.
        listen: String,
    },
    /// Somebody else listens there.
    #[error("cannot listen on {listen}: the port is in use; stop its owner or choose another port")]
    InUse {
        /// The address.
        listen: String,
    },
    /// The operating system refused.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The server broke while it served.
    #[error("the server on {listen} stopped: {source}")]
    Broken {
        /// The address.
        listen: String,
        /// What it said.
        source: tonic::transport::Error,
    },
}

impl ServerError {
    /// What the operating system says about listening somewhere.
    pub(crate) fn from_io(listen: &str, source: std::io::Error) -> Self {
        let listen = listen.to_owned();
        match source.kind() {
            std::io::ErrorKind::AddrInUse => Self::InUse { listen },
            std::io::ErrorKind::AddrNotAvailable => Self::Address { listen },
            kind => Self::Listen {
                listen,
                source: kind.into(),
            },
        }
    }
}

/// Why a node does not start, or why it stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder is not this node's.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The log is damaged, or its disk failed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot serve.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A client stopped it with the `Kill` call.
    #[error("a client stopped the node")]
    Killed,
    /// It was asked to leave, and has.
    #[error("the node has left")]
    Left,
    /// Another living process is registered under the same id.
    #[error("another running node has the id {}; stop it, or give this one an id of its own", .0.0)]
    IdTaken(NodeId),
    /// The data folder is of another cluster.
    #[error(
        "the data folder belongs to cluster {folder:016x}, and the coordination service to {service:016x}; start the node with the \
         coordination service of its cluster, or with an empty folder"
    )]
    OtherCluster {
        /// Whose the folder is.
        folder: u64,
        /// The service's.
        service: u64,
    },
    /// The data folder cannot note which cluster it belongs to.
    #[error(
        "the data folder cannot be written; see that there is space and that it is not read-only"
    )]
    NoFolder,
    /// The coordination service refuses it, or holds what it cannot read.
    #[error(transparent)]
    Coordination(CoordinationError),
    /// The log task ended before the node did.
    #[error("the log task ended; what it synced is intact, restart the node")]
    LogTaskEnded,
    /// A task of the node broke an invariant of ours.
    #[error("a task of the node panicked; its message is above")]
    Panicked,
}
