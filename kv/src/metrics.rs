//! What an operator can measure of a node, in the text format of Prometheus.
//!
//! Everything that happens is counted where it happens: requests in `handle.rs`, the phases of a write in `driver/phases.rs`, elections
//! and the rest by the node's own events. How things stand is asked for when somebody looks ([`Metrics::render`]).
//!
//! All names begin with `splitbrain_`; times are in seconds, sizes in bytes, and places in the log are offsets. There is no global
//! registry: two nodes in one process count each for itself. Nothing here has a clock, and nothing that is decided depends on it.

mod labels;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::door::{Count, Counters};
use crate::events::{Event, Events};
use crate::handle::{Answer, Request, Status};
use labels::{Came, EventKind, Operation, Outcome, Peer, PhaseName, Queue};

type Number = Gauge<u64, AtomicU64>;

/// Of a batch of writes at the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From the append until it is durable on the writer's disk.
    Log,
    /// From the append until Q members hold it durably: committed.
    Commit,
    /// From there until Q members have committed it: acknowledged.
    Acknowledge,
}

/// The metrics of one node.
pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    request_seconds: Family<Operation, Histogram>,
    phase_seconds: Family<PhaseName, Histogram>,
    events: Family<EventKind, Counter>,
    standing: Standing,
    door: OnceLock<Arc<Counters>>,
}

/// How things stand: set whenever somebody looks.
#[derive(Default)]
struct Standing {
    promised_epoch: Number,
    writer_epoch: Number,
    log_end: Number,
    committed: Number,
    applied: Number,
    checkpoint: Number,
    log_bytes: Number,
    engine_bytes: Number,
    suspect: Number,
    queued: Family<Queue, Number>,
    matched: Family<Peer, Number>,
    lag: Family<Peer, Number>,
    came: Family<Came, Number>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From a tenth of a millisecond to 26 seconds, twice as much each time.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

impl Metrics {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("splitbrain");
        let requests = Family::default();
        registry.register(
            "requests",
            "Requests that were answered, by what they came to",
            requests.clone(),
        );
        let request_seconds = Family::<Operation, Histogram>::new_with_constructor(seconds);
        registry.register_with_unit(
            "request",
            "From a request's arrival to its answer",
            Unit::Seconds,
            request_seconds.clone(),
        );
        let phase_seconds = Family::<PhaseName, Histogram>::new_with_constructor(seconds);
        registry.register_with_unit(
            "write_phase",
            "How long the phases of writes take at the writer",
            Unit::Seconds,
            phase_seconds.clone(),
        );
        let events = Family::default();
        registry.register(
            "events",
            "What happened inside: elections, rollbacks, refusals",
            events.clone(),
        );
        let standing = Standing::default();
        standing.register(&mut registry);
        Self {
            registry,
            requests,
            request_seconds,
            phase_seconds,
            events,
            standing,
            door: OnceLock::new(),
        }
    }

    /// A request was answered, so long after it had come.
    pub(crate) fn answered(&self, operation: Operation, answer: &Answer, took: Duration) {
        let outcome = Outcome::new(operation.clone(), answer);
        self.requests.get_or_create(&outcome).inc();
        let seconds = self.request_seconds.get_or_create(&operation);
        seconds.observe(took.as_secs_f64());
    }

    /// A phase of a write is over.
    pub(crate) fn passed(&self, phase: Phase, took: Duration) {
        let seconds = self.phase_seconds.get_or_create(&PhaseName::from(phase));
        seconds.observe(took.as_secs_f64());
    }

    /// Also tells what comes to a door.
    pub(crate) fn follow(&self, door: Arc<Counters>) {
        let _ = self.door.set(door); // A node has one door.
    }

    /// Everything as text, with the node's own view of how it stands; without one the last is told.
    #[must_use]
    pub fn render(&self, status: Option<&Status>) -> String {
        if let Some(status) = status {
            self.standing.set(status);
        }
        for (count, came) in Count::ALL {
            let number = self.standing.came.get_or_create(&Came { came });
            number.set(self.door.get().map_or(0, |door| door.get(count)));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes all that is written to it");
        text
    }
}

impl Standing {
    fn register(&self, registry: &mut Registry) {
        let mut number = |name: &str, help: &str, number: &Number| {
            registry.register(name, help, number.clone());
        };
        number(
            "promised_epoch",
            "The highest promised epoch",
            &self.promised_epoch,
        );
        number(
            "writer_epoch",
            "The epoch in which the node serves as the writer; 0 if it does not",
            &self.writer_epoch,
        );
        number("log_end_offset", "The last entry of the log", &self.log_end);
        number(
            "committed_offset",
            "The last entry that is committed",
            &self.committed,
        );
        number(
            "applied_offset",
            "The last entry that is visible",
            &self.applied,
        );
        number(
            "checkpoint_offset",
            "The last entry that the engine holds durably: a restart begins there",
            &self.checkpoint,
        );
        number(
            "suspect",
            "1 while the disk may have lost what it had synced",
            &self.suspect,
        );
        let bytes = Unit::Bytes;
        let log = self.log_bytes.clone();
        registry.register_with_unit("log", "The log's files", bytes, log);
        let engine = self.engine_bytes.clone();
        registry.register_with_unit("engine", "The engine's files", Unit::Bytes, engine);
        let queued = self.queued.clone();
        registry.register("queue_length", "What waits, by queue", queued);
        registry.register(
            "door",
            "What has come to the door: connections, and requests of those who may not make them",
            self.came.clone(),
        );
        registry.register(
            "replica_matched_offset",
            "What a replica holds durably, as its writer knows it",
            self.matched.clone(),
        );
        registry.register(
            "replica_lag_entries",
            "How many entries a replica lacks, as its writer knows it",
            self.lag.clone(),
        );
    }

    fn set(&self, status: &Status) {
        self.promised_epoch.set(status.promised.0);
        self.writer_epoch
            .set(status.writer_of.map_or(0, |epoch| epoch.0));
        self.log_end.set(status.end.offset.0);
        self.committed.set(status.committed.0);
        self.applied.set(status.gauges.applied.0);
        self.checkpoint.set(status.gauges.checkpoint.0);
        self.suspect.set(u64::from(status.is_suspect));
        self.log_bytes.set(status.gauges.log_bytes);
        self.engine_bytes.set(status.gauges.engine_bytes);
        let queues = [
            ("requests", status.gauges.requests_queued),
            ("unanswered", status.gauges.requests_waiting),
            ("messages", status.gauges.messages_queued),
        ];
        for (queue, length) in queues {
            self.queued.get_or_create(&Queue { queue }).set(length);
        }
        // Who writes no longer knows nothing of the others.
        self.matched.clear();
        self.lag.clear();
        for follower in &status.gauges.followers {
            let peer = Peer {
                replica: follower.node.0,
            };
            self.matched.get_or_create(&peer).set(follower.matched.0);
            self.lag.get_or_create(&peer).set(status.lag(follower));
        }
    }
}

/// Which operation a request asks for.
pub(crate) fn operation(request: &Request) -> Operation {
    Operation {
        operation: match request {
            Request::Get { .. } => "get",
            Request::Set { .. } => "set",
            Request::Delete { .. } => "delete",
        },
    }
}

/// Counts events on their way to where they are written down.
pub(crate) struct Measured {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<dyn Events>,
}

impl Events for Measured {
    fn record(&self, event: Event) {
        // What happens to every entry has metrics of its own.
        if !event.is_of_an_entry() {
            let kind = EventKind {
                event: event.name(),
            };
            self.metrics.events.get_or_create(&kind).inc();
        }
        self.events.record(event);
    }
}
