//! One run, from the first operation to the last.
//!
//! ```text
//!  cluster ready     workload (clients and nemesis side by side)      all healed   probes   final reads   silence
//! ──────┼──────────────────────────────────────────────────────────────────┼──────────┼──────────┼────────────┼──
//! ```
//!
//! The end (`play/finale.rs`) is what makes losses visible.

mod directed;
mod failure;
mod finale;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use checker::{Event, Guarantee, NodeEvent};
use kv::handle::Status;
use kv_core::{NodeId, ShardId};
use tokio::time::{sleep, timeout};

use crate::nemesis::{Came, Nemesis};
use crate::record::Record;
use crate::scenario::{Expected, Scenario};
use crate::workload::Session;
use crate::world::{Script, World};

pub use failure::Failure;

/// How long a cluster may take until every shard has a writer that serves.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    /// What else the world leaves, by the names of files in the run's folder.
    pub left: BTreeMap<String, Vec<u8>>,
}

impl Played {
    /// A run that came to nothing.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self {
            failures: vec![failure],
            ..Self::default()
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
            left: world.leave().await,
            ..Played::default()
        };
    }
    let record = Record::begin(world.clone());
    let mut play = Play {
        scenario,
        world,
        record,
        seed,
        damaged: BTreeSet::new(),
        failures: Vec::new(),
    };
    let is_directed = !play.scenario.cues.is_empty();
    match is_directed {
        true => {
            let missed = directed::play(&play).await;
            play.failures.extend(missed);
        }
        false => play.workload().await,
    }
    let counts = *play.record.counts().borrow();
    if !is_directed {
        play.judge_counts(counts.reads, counts.writes);
    }
    let not_recovered = finale::play(&play).await;
    // Where a scenario does not count on recovery, its verdict alone tells.
    let expect = &play.scenario.expect;
    if expect.of(play.scenario.fencing(), Guarantee::Recovery) == Expected::Holds {
        play.failures.extend(not_recovered);
    }
    let stopped = play.world.failures().await;
    let stopped = stopped
        .into_iter()
        .filter(|(node, _)| !play.damaged.contains(node))
        .map(|(node, why)| Failure::NodeStopped { node: node.0, why });
    play.failures.extend(stopped);
    let (history, events) = play.record.finish();
    Played {
        history,
        events,
        ok_reads: counts.reads,
        ok_writes: counts.writes,
        failures: play.failures,
        left: play.world.leave().await,
    }
}

/// Waits until every shard has a writer that serves.
async fn ready(scenario: &Scenario, world: &dyn World) -> Result<(), String> {
    let all_serve = async {
        loop {
            let statuses = world.statuses().await;
            // No writer can serve while messages are held; that everybody knows the shard is enough then.
            let is_known = |shard| {
                let members = statuses.values();
                members.filter(|it| it.shard == Some(shard)).count() == statuses.len()
            };
            let has_writer = |shard| {
                world.shard(shard).is_some()
                    && match scenario.cues.is_empty() {
                        true => writer(&statuses, shard).is_some(),
                        false => is_known(shard),
                    }
            };
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
fn writer(statuses: &BTreeMap<NodeId, Status>, shard: ShardId) -> Option<&Status> {
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
    /// The nodes that are right to stop, as their data is damaged.
    damaged: BTreeSet<NodeId>,
    failures: Vec<Failure>,
}

impl Play {
    /// Gives the world the time for what an operation gives rise to at once.
    async fn settle(&self) {
        sleep(2 * LOOK_EVERY).await;
    }

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
        nemesis.begin().await;
        let faults: Vec<_> = (0..self.scenario.faults.len())
            .map(|index| tokio::spawn(nemesis.clone().run(index)))
            .collect();
        let mut sessions = Vec::new();
        for session in 0..u64::from(self.scenario.workload.clients) {
            let work = Box::pin(self.session(session).work());
            sessions.push(self.world.spawn(session, work).await);
        }
        for session in sessions {
            session.await.expect("a session does not panic");
        }
        for (index, fault) in faults.into_iter().enumerate() {
            let came = fault.await.expect("the nemesis does not panic");
            let what = || self.scenario.faults[index].action.to_string();
            let fault = index + 1;
            match came {
                Came::Fired => {}
                Came::Never => self.failures.push(Failure::NeverFired {
                    fault,
                    what: what(),
                }),
                Came::WentOn(node) => self.failures.push(Failure::WentOn {
                    node: node.0,
                    what: what(),
                }),
            }
        }
        self.damaged = nemesis.damaged().await;
    }

    fn judge_counts(&mut self, reads: u64, writes: u64) {
        let min_ok = self.scenario.workload.min_ok;
        if reads + writes < min_ok {
            self.failures.push(Failure::TooFewOk {
                ok: reads + writes,
                min_ok,
            });
        }
        // A script chooses its operations, and need not have both kinds.
        let is_script = !self.scenario.workload.script.is_empty();
        if reads == 0 && !(is_script && writes > 0) {
            self.failures.push(Failure::NoOkRead);
        }
        if writes == 0 && !(is_script && reads > 0) {
            self.failures.push(Failure::NoOkWrite);
        }
    }
}
