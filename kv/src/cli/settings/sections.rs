//! The sections of the file: every field, its default, its unit and its reason.
//!
//! These types only carry what is written; `check.rs` makes valid ones of them. Times and sizes have their unit with them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use kv::config::{LOG_RETAIN_BYTES, Timing};
use kv::door::Limits;
use kv::engine::{self, EngineKind};
use kv::quantity::{Length, Size};
use kv::{store, wal};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cli::shape::Fencing;

/// `[node]`: who the node is, and where.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct NodeSection {
    /// The number of the node, from 1, unique in the cluster. A data folder belongs to one node for ever.
    pub(in crate::cli) id: u64,
    /// The folder that keeps everything; it is made if it does not exist. It must be set, here or by a flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) data: Option<PathBuf>,
    /// The address to serve gRPC on, for clients and for the other nodes.
    pub(in crate::cli) listen: String,
    /// The address that others reach the node at, if it is not the one that it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) advertise: Option<String>,
    /// The address of this machine that calls to other nodes come from; the system chooses unless it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) source: Option<IpAddr>,
    /// Whether clients may stop the node with `kv kill`: for trying out what the others do then.
    pub(in crate::cli) allow_kill: bool,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            id: 1,
            data: None,
            listen: "127.0.0.1:7001".to_owned(),
            advertise: None,
            source: None,
            allow_kill: false,
        }
    }
}

/// `[cluster]`: what all nodes of a cluster agree on. Every node must say the same.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct ClusterSection {
    /// How many shards the keys are spread over; each has a writer of its own.
    pub(in crate::cli) shards: u16,
    /// N: how many nodes a shard has, the writer included; 3 unless it is set, and 1 for a node that is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) replication_factor: Option<usize>,
    /// Q: how many nodes, the writer included, must have a write before it is acknowledged; a majority of N unless it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) write_quorum: Option<usize>,
    /// E: how many nodes must promise before one becomes the writer; N − Q + 1 unless it is set, and no less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) election_quorum: Option<usize>,
    /// Which protocol the shards run: "epoch", which is safe, or "none", the plain one that can lose writes.
    pub(in crate::cli) fencing: FencingName,
}

impl Default for ClusterSection {
    fn default() -> Self {
        Self {
            shards: 1,
            replication_factor: None,
            write_quorum: None,
            election_quorum: None,
            fencing: FencingName::Epoch,
        }
    }
}

/// The names of the protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum FencingName {
    Epoch,
    None,
}

impl From<Fencing> for FencingName {
    fn from(fencing: Fencing) -> Self {
        match fencing {
            Fencing::Epoch => Self::Epoch,
            Fencing::None => Self::None,
        }
    }
}

/// `[coordination]`: the service that knows which nodes live and who writes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct CoordinationSection {
    /// "embedded": within this process, for a node that is alone; "zookeeper": a service that all nodes of the cluster reach.
    pub(in crate::cli) kind: CoordinationKind,
    /// ZooKeeper's connect string: its servers, and the path under which this cluster keeps its records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) servers: Option<String>,
    /// A file with one line, `USER:PASSWORD`, with which the node identifies itself to ZooKeeper (digest); no other client
    /// can read or change the records then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) auth_file: Option<PathBuf>,
    /// How long the service keeps a silent session alive: a dead writer is noticed no sooner, and a slow one loses its role
    /// no sooner.
    pub(in crate::cli) session_timeout: Length,
}

impl Default for CoordinationSection {
    fn default() -> Self {
        Self {
            kind: CoordinationKind::Embedded,
            servers: None,
            auth_file: None,
            session_timeout: Length(Timing::default().session_timeout),
        }
    }
}

/// The kinds of coordination services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum CoordinationKind {
    Embedded,
    Zookeeper,
}

/// `[storage]`: how the node's data is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct StorageSection {
    /// What the data is kept in: "memory", "redb", "sled", or "rocksdb" where the program was built with it. A folder keeps
    /// its engine; `kv data migrate` changes it.
    pub(in crate::cli) engine: EngineName,
    /// How much memory the engine may use for what it has read.
    pub(in crate::cli) cache: Size,
    /// How much log may be applied between two checkpoints: a restart replays no more than about twice that.
    pub(in crate::cli) checkpoint: Size,
    /// How much log is kept for other members that lack it; who lacks more gets a snapshot.
    pub(in crate::cli) log_retain: Size,
    /// How much of the log goes into one file.
    pub(in crate::cli) wal_segment: Size,
    /// How many zeros the log writes ahead of small batches, so that most of these need no new space and a quick sync.
    pub(in crate::cli) wal_preallocate: Size,
}

impl Default for StorageSection {
    fn default() -> Self {
        Self {
            engine: EngineKind::default().into(),
            cache: Size(engine::Options::default().cache_bytes),
            checkpoint: Size(store::Options::default().checkpoint_bytes),
            log_retain: Size(LOG_RETAIN_BYTES),
            wal_segment: Size(wal::Options::default().segment_bytes),
            wal_preallocate: Size(wal::Options::default().preallocate_bytes),
        }
    }
}

/// An engine, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct EngineName(pub(in crate::cli) EngineKind);

impl From<EngineKind> for EngineName {
    fn from(kind: EngineKind) -> Self {
        Self(kind)
    }
}

impl Serialize for EngineName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for EngineName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// `[timing]`: how long things take. The defaults suit one data centre; nothing here changes what is safe but the drift.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct TimingSection {
    /// How often an idle writer tells the others that it lives.
    pub(in crate::cli) heartbeat: Length,
    /// How long a write may wait for its quorum before the writer gives it up; shorter than the deadlines of clients.
    pub(in crate::cli) rollback: Length,
    /// How long a writer may miss its quorum before it releases the role; longer than the heartbeat.
    pub(in crate::cli) release: Length,
    /// How long an election may try to reach its quorum before it lets others try.
    pub(in crate::cli) election: Length,
    /// How often an election asks again whoever has not answered.
    pub(in crate::cli) seal: Length,
    /// How long to wait before the next attempt at an election; half as long to half as long again.
    pub(in crate::cli) backoff: Length,
    /// How far the clocks of two machines may drift apart in a second, in millionths: lease reads hold as long as this is true.
    pub(in crate::cli) clock_drift_ppm: u32,
}

impl Default for TimingSection {
    fn default() -> Self {
        let Timing {
            session_timeout: _,
            clock_drift_ppm_max,
            heartbeat,
            rollback,
            release,
            election,
            seal,
            backoff,
        } = Timing::default();
        Self {
            heartbeat: Length(heartbeat),
            rollback: Length(rollback),
            release: Length(release),
            election: Length(election),
            seal: Length(seal),
            backoff: Length(backoff),
            clock_drift_ppm: clock_drift_ppm_max,
        }
    }
}

impl TimingSection {
    /// The lengths and their names.
    pub(super) fn lengths(&self) -> [(&'static str, Duration); 6] {
        [
            ("timing.heartbeat", self.heartbeat.0),
            ("timing.rollback", self.rollback.0),
            ("timing.release", self.release.0),
            ("timing.election", self.election.0),
            ("timing.seal", self.seal.0),
            ("timing.backoff", self.backoff.0),
        ]
    }
}

/// `[tls]`: certificates and keys, files in PEM. Without a certificate the node speaks plain text.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct TlsSection {
    /// The node's certificate, with those between it and its CA. It is for serving and for calling other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) cert: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) key: Option<PathBuf>,
    /// The CA of clients' certificates: whoever shows one of them is a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) client_ca: Option<PathBuf>,
    /// The CA of nodes' certificates: whoever shows one of them that names a node (`URI:kv://node/3`) is that member of the
    /// cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) peer_ca: Option<PathBuf>,
}

/// `[auth]`: who may come in. Secrets are in files of their own, never here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct AuthSection {
    /// The tokens of clients, one a line: whoever shows one of them is a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) client_tokens_file: Option<PathBuf>,
    /// The token of the nodes: whoever shows it is a member of the cluster. Where there are several, one a line, the first is shown
    /// and all are taken, so that it can be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) peer_token_file: Option<PathBuf>,
    /// Whether to listen without TLS, or for whoever comes, where more than this machine can connect.
    pub(in crate::cli) insecure: bool,
}

/// `[limits]`: how much is let in. What is beyond is refused at once.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct LimitsSection {
    /// How many connections are served at a time; one more is closed at once. Each needs a file handle of the process.
    pub(in crate::cli) connections: usize,
    /// How many connections may be in their first moments, before they have said what they want; for one more, the oldest of
    /// these is closed. Each needs a file handle, too.
    pub(in crate::cli) handshakes: usize,
    /// How long these first moments may last: TLS and the first bytes of the protocol.
    pub(in crate::cli) handshake_timeout: Length,
    /// How many requests one connection may have under way; its client waits with the rest.
    pub(in crate::cli) requests_per_connection: u32,
    /// How many clients' requests the node has in hand; one more is refused with `Busy`.
    pub(in crate::cli) requests: usize,
    /// How many bytes of keys and values these have together, and how many the answers on their way; beyond that it is `Busy`.
    pub(in crate::cli) request_bytes: Size,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let Limits {
            connections,
            handshakes,
            handshake_timeout,
            requests_per_connection,
            requests,
            request_bytes,
        } = Limits::default();
        Self {
            connections,
            handshakes,
            handshake_timeout: Length(handshake_timeout),
            requests_per_connection,
            requests,
            request_bytes: Size(request_bytes),
        }
    }
}

/// `[http]`: the HTTP face.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct HttpSection {
    /// The address to serve HTTP on; without one there is no HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) listen: Option<String>,
}

/// `[log]`: what the node tells about itself, on stderr.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct LogSection {
    /// How much is told: "error", "warn", "info", "debug" or "trace"; also by module, as in `RUST_LOG`.
    pub(in crate::cli) level: String,
    /// "human", or "json" for machines: one object a line.
    pub(in crate::cli) format: LogFormat,
    /// A file that gets every event of the node for a checker, one JSON object a line (`checker/FORMAT.md`). It grows with every
    /// write and is never cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) events: Option<PathBuf>,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Human,
            events: None,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum LogFormat {
    Human,
    Json,
}
