//! One run, from the first operation to the last.
//!
//! ```text
//!  cluster ready     workload (clients and nemesis side by side)      all healed   probes   final reads   final logs
//! ──────┼──────────────────────────────────────────────────────────────────┼──────────┼──────────┼────────────┼──
//! ```
//!
//! The end is what makes losses visible: a write to each shard shows that it works again, one read of each key shows
//! what is left, and the log of each writer is written down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use checker::{Event, EventKind, NodeEvent, NodeEventKind};
use kv::handle::Status;
use kv_core::{NodeId, ShardId};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::nemesis::Nemesis;
use crate::record::Record;
use crate::scenario::Scenario;
use crate::workload::Session;
use crate::world::observed::number;
use crate::world::{Script, World};

/// How long a cluster may take until every shard has a writer that serves.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long to wait before a probe or a final read is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What a run left behind.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// What the clients asked and were told.
    pub history: Vec<Event>,
    /// What the nodes recorded, and the faults.
    pub events: Vec<NodeEvent>,
    /// How many reads of the workload were answered.
    pub ok_reads: u64,
    /// How many writes and deletes of the workload were acknowledged.
    pub ok_writes: u64,
    /// Why the run shows nothing, or cannot be trusted.
    pub failures: Vec<Failure>,
}

/// Why a run fails by itself, whatever the guarantees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The cluster never became ready.
    NotReady {
        /// What was missing.
        why: String,
    },
    /// Too few operations were acknowledged.
    TooFewOk {
        /// How many were.
        ok: u64,
        /// How many the scenario asks for.
        min_ok: u64,
    },
    /// No read was answered.
    NoOkRead,
    /// No write was acknowledged.
    NoOkWrite,
    /// A fault never fired.
    NeverFired {
        /// Which, counted from 1.
        fault: usize,
        /// What it was to do.
        what: String,
    },
    /// A shard did not take a write again after the last fault, in time.
    NotRecovered {
        /// The shard.
        shard: u64,
    },
    /// A node stopped by itself.
    NodeStopped {
        /// The node.
        node: u64,
        /// Why.
        why: String,
    },
    /// Something panicked: a broken invariant, ours or the store's.
    Panicked {
        /// The message and where it comes from.
        message: String,
    },
    /// The history contradicts itself.
    BadHistory {
        /// How.
        why: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady { why } => write!(f, "the cluster never became ready: {why}"),
            Self::TooFewOk { ok, min_ok } => {
                write!(
                    f,
                    "vacuous: {ok} operations were acknowledged, at least {min_ok} are asked for (min_ok)"
                )
            }
            Self::NoOkRead => f.write_str("vacuous: no read was answered"),
            Self::NoOkWrite => f.write_str("vacuous: no write was acknowledged"),
            Self::NeverFired { fault, what } => {
                write!(f, "vacuous: fault {fault} never fired ({what})")
            }
            Self::NotRecovered { shard } => {
                write!(
                    f,
                    "shard {shard} took no write again after the last fault, in time (recovery_within)"
                )
            }
            Self::NodeStopped { node, why } => write!(f, "n{node} stopped by itself: {why}"),
            Self::Panicked { message } => write!(f, "panicked: {message}"),
            Self::BadHistory { why } => write!(f, "the history contradicts itself: {why}"),
        }
    }
}

/// The script of a scenario.
#[must_use]
pub fn script(scenario: &Arc<Scenario>, seed: u64) -> Script {
    let scenario = scenario.clone();
    Box::new(move |world| Box::pin(play(scenario, world, seed)))
}

async fn play(scenario: Arc<Scenario>, world: Arc<dyn World>, seed: u64) -> Played {
    if let Err(why) = ready(&scenario, &*world).await {
        let failures = vec![Failure::NotReady { why }];
        return Played {
            events: world.drain(),
            failures,
            ..Played::default()
        };
    }
    let record = Record::begin(world.clone());
    let mut play = Play {
        scenario,
        world,
        record,
        seed,
        failures: Vec::new(),
    };
    play.workload().await;
    let counts = *play.record.counts().borrow();
    play.judge_counts(counts.reads, counts.writes);
    play.recovery().await;
    let stopped = play.world.failures().await;
    let stopped = stopped
        .into_iter()
        .map(|(node, why)| Failure::NodeStopped { node: node.0, why });
    play.failures.extend(stopped);
    let (history, events) = play.record.finish();
    Played {
        history,
        events,
        ok_reads: counts.reads,
        ok_writes: counts.writes,
        failures: play.failures,
    }
}

/// Waits until every shard has a writer that serves.
async fn ready(scenario: &Scenario, world: &dyn World) -> Result<(), String> {
    let all_serve = async {
        loop {
            let statuses = world.statuses().await;
            let has_writer =
                |shard| writer(&statuses, shard).is_some() && world.shard(shard).is_some();
            if scenario.shards().all(has_writer) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(READY_WITHIN, all_serve).await.is_ok() {
        return Ok(());
    }
    let stopped = world.failures().await;
    let stopped = stopped
        .iter()
        .map(|(node, why)| format!("{node} stopped: {why}"));
    let why = stopped.collect::<Vec<_>>().join("; ");
    Err(if why.is_empty() {
        "some shard has no writer that serves".to_owned()
    } else {
        why
    })
}

/// The serving writer of a shard, if the nodes agree to have one; the one of the highest epoch, if several believe to be.
fn writer(
    statuses: &std::collections::BTreeMap<NodeId, Status>,
    shard: ShardId,
) -> Option<&Status> {
    let writers = statuses
        .values()
        .filter(|status| status.shard == Some(shard) && status.writer_of.is_some());
    writers.max_by_key(|status| (status.writer_of, status.committed, status.node))
}

struct Play {
    scenario: Arc<Scenario>,
    world: Arc<dyn World>,
    record: Arc<Record>,
    seed: u64,
    failures: Vec<Failure>,
}

impl Play {
    fn session(&self, session: u64) -> Session {
        let client = self.world.client(session);
        Session::new(
            session,
            self.scenario.clone(),
            self.record.clone(),
            client,
            self.seed,
        )
    }

    /// The clients work while the nemesis does its own; everything is healed when this is over.
    async fn workload(&mut self) {
        let nemesis = Nemesis::new(
            self.scenario.clone(),
            self.world.clone(),
            self.record.clone(),
            self.seed,
        );
        let faults: Vec<_> = (0..self.scenario.faults.len())
            .map(|index| tokio::spawn(nemesis.clone().run(index)))
            .collect();
        let sessions: Vec<_> = (0..u64::from(self.scenario.workload.clients))
            .map(|session| {
                self.world
                    .spawn(session, Box::pin(self.session(session).work()))
            })
            .collect();
        for session in sessions {
            session.await.expect("a session does not panic");
        }
        for (index, fault) in faults.into_iter().enumerate() {
            if !fault.await.expect("the nemesis does not panic") {
                let what = self.scenario.faults[index].action.to_string();
                self.failures.push(Failure::NeverFired {
                    fault: index + 1,
                    what,
                });
            }
        }
    }

    fn judge_counts(&mut self, reads: u64, writes: u64) {
        let min_ok = self.scenario.workload.min_ok;
        if reads + writes < min_ok {
            self.failures.push(Failure::TooFewOk {
                ok: reads + writes,
                min_ok,
            });
        }
        if reads == 0 {
            self.failures.push(Failure::NoOkRead);
        }
        if writes == 0 {
            self.failures.push(Failure::NoOkWrite);
        }
    }

    /// A write to each shard, a read of each key, and the logs.
    async fn recovery(&mut self) {
        let healed_at = self.record.now();
        self.record.note(None, NodeEventKind::other("healed", []));
        let session = self.session(u64::from(self.scenario.workload.clients));
        let (finale, answer) = tokio::sync::oneshot::channel();
        let probes = self.scenario.probe_keys();
        let record = self.record.clone();
        let give_up_at = healed_at + self.scenario.workload.recovery_within;
        let last = Finale {
            session,
            record,
            probes,
            keys: self.scenario.keys(),
            give_up_at,
        };
        let work = Box::pin(async move {
            let _ = finale.send(last.perform().await); // Nobody waits only if the run is over.
        });
        let task = self
            .world
            .spawn(u64::from(self.scenario.workload.clients), work);
        task.await.expect("the final session does not panic");
        let not_recovered = answer.await.expect("the final session answers");
        self.failures.extend(
            not_recovered
                .into_iter()
                .map(|shard| Failure::NotRecovered { shard }),
        );
        self.final_logs().await;
    }

    async fn final_logs(&self) {
        let statuses = self.world.statuses().await;
        for shard in self.scenario.shards() {
            let Some(status) = writer(&statuses, shard) else {
                continue; // The checker goes by the final reads then.
            };
            let runs = status
                .runs
                .iter()
                .map(|(epoch, first, last)| (epoch.0, first.0, last.0));
            let kind = NodeEventKind::FinalLog {
                shard: number(shard),
                runs: runs.collect(),
                committed: status.committed.0,
            };
            self.record.note(Some(status.node.0), kind);
        }
    }
}

/// The last session: probes and final reads.
struct Finale {
    session: Session,
    record: Arc<Record>,
    /// One key of each shard, by shard.
    probes: Vec<String>,
    keys: Vec<String>,
    give_up_at: Duration,
}

impl Finale {
    /// Returns the shards that took no write.
    async fn perform(mut self) -> Vec<u64> {
        let mut not_recovered = Vec::new();
        for (shard, key) in std::mem::take(&mut self.probes).iter().enumerate() {
            loop {
                if self.session.write(key).await.kind == EventKind::Ok {
                    break;
                }
                if self.record.now() >= self.give_up_at {
                    not_recovered.push(shard as u64);
                    break;
                }
                sleep(RETRY_AFTER).await;
            }
            self.keys.push(key.clone());
        }
        for key in &self.keys {
            while self.session.read(key).await.kind != EventKind::Ok
                && self.record.now() < self.give_up_at
            {
                sleep(RETRY_AFTER).await;
            }
        }
        not_recovered
    }
}
