//! A world in one process: shards that are always right, or wrong in one chosen way, in virtual time.
//!
//! It knows no network and no disk. A writer that is down, paused or cut off from the coordination service is replaced
//! after a session timeout, so that faults have something to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use checker::{EventKind, Function, NodeEvent, NodeEventKind, Version};
use kv::handle::{Gauges, Status};
use kv_core::{Epoch, NodeId, Offset, ShardId};
use rand::Rng as _;
use rand::rngs::StdRng;
use scenarios::play::Played;
use scenarios::scenario::{Kind, Scenario};
use scenarios::seed::stream;
use scenarios::world::{Act, Answer, Ask, Client, Place, Roles, Script, Stage, Trap, Work, World};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// In what way the world is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// In none.
    Nothing,
    /// Now and then a write is acknowledged and forgotten.
    LosesWrites,
    /// A new writer has nothing of what its predecessor acknowledged.
    ForgetsAtFailover,
    /// No operation is ever answered.
    AnswersNothing,
    /// No shard ever has a writer.
    NeverReady,
    /// The client panics at the hundredth operation.
    Panics,
    /// A node gives up.
    NodeStops,
    /// A node goes on whatever its disk does.
    NodeGoesOn,
    /// No disk ever fails.
    DisksHold,
    /// A node whose data is damaged refuses to start.
    DamageIsSeen,
    /// Node events are not recorded, so that some guarantees cannot be judged.
    RecordsNothing,
}

pub(crate) struct FakeStage(pub(crate) Flaw);

impl Stage for FakeStage {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn lacks(&self, kind: Kind) -> Option<String> {
        (kind == Kind::Clock).then(|| "it has no clocks".to_owned())
    }

    fn enact(&self, scenario: &Scenario, seed: u64, script: Script) -> Played {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (scenario, flaw) = (Arc::new(scenario.clone()), self.0);
        runtime.block_on(async move {
            let world = FakeWorld {
                start: Instant::now(),
                state: Arc::new(Mutex::new(State::new(&scenario, flaw))),
                scenario,
                seed,
                flaw,
            };
            script(Arc::new(world)).await
        })
    }
}

#[derive(Clone)]
struct FakeWorld {
    scenario: Arc<Scenario>,
    seed: u64,
    flaw: Flaw,
    start: Instant,
    state: Arc<Mutex<State>>,
}

struct State {
    next_index: u64,
    events: Vec<NodeEvent>,
    shards: BTreeMap<ShardId, Shard>,
    unreachable: BTreeSet<NodeId>,
    /// Those that will not start again.
    damaged: BTreeSet<NodeId>,
    /// Those that gave up because of their disks.
    stopped: BTreeSet<NodeId>,
    operations: u64,
    flaw: Flaw,
}

struct Shard {
    members: Vec<NodeId>,
    writer: NodeId,
    runs: Vec<(Epoch, Offset, Offset)>,
    values: BTreeMap<String, (Option<i64>, Version)>,
}

impl State {
    fn new(scenario: &Scenario, flaw: Flaw) -> Self {
        let n = scenario.cluster.config.replication_factor as u64;
        let shard = |shard: ShardId| {
            let members: Vec<NodeId> = (1..=n).map(|index| NodeId(shard.0 * n + index)).collect();
            let one = (Epoch(1), Offset(1), Offset(1));
            Shard {
                writer: members[0],
                members,
                runs: vec![one],
                values: BTreeMap::new(),
            }
        };
        let shards = scenario.shards().filter(|_| flaw != Flaw::NeverReady);
        let mut state = Self {
            next_index: 0,
            events: Vec::new(),
            shards: shards.map(|id| (id, shard(id))).collect(),
            unreachable: BTreeSet::new(),
            damaged: BTreeSet::new(),
            stopped: BTreeSet::new(),
            operations: 0,
            flaw,
        };
        for shard in scenario.shards() {
            state.publish(Duration::ZERO, shard);
        }
        state
    }

    fn stamp(&mut self) -> u64 {
        self.next_index += 1;
        self.next_index
    }

    fn record(&mut self, time: Duration, node: NodeId, kind: NodeEventKind) {
        let index = self.stamp();
        let time = time.as_nanos() as u64;
        self.events.push(NodeEvent {
            index,
            time,
            node: Some(node.0),
            incarnation: 1,
            sequence: index,
            kind,
        });
    }

    fn publish(&mut self, time: Duration, id: ShardId) {
        let Some(shard) = self.shards.get(&id) else {
            return;
        };
        let (writer, epoch) = (shard.writer, shard.epoch());
        let kind = NodeEventKind::Shard {
            shard: id.0 as u32,
            epoch,
            voters: shard.members.iter().map(|member| member.0).collect(),
            write_quorum: 2,
            writer: Some(writer.0),
        };
        self.record(time, writer, kind);
        let fields = [("shard", id.0.into()), ("epoch", epoch.into())];
        self.record(time, writer, NodeEventKind::other("promoted", fields));
    }

    /// Replaces writers that cannot be reached.
    fn fail_over(&mut self, time: Duration) {
        let ids: Vec<ShardId> = self.shards.keys().copied().collect();
        for id in ids {
            let unreachable = self.unreachable.clone();
            let shard = self.shards.get_mut(&id).unwrap();
            let successor = shard
                .members
                .iter()
                .find(|member| !unreachable.contains(member))
                .copied();
            if let Some(successor) = successor.filter(|_| unreachable.contains(&shard.writer)) {
                shard.writer = successor;
                let (epoch, _, last) = *shard.runs.last().unwrap();
                shard.runs.push((epoch.next(), last.next(), last.next()));
                if self.flaw == Flaw::ForgetsAtFailover {
                    shard.values.clear();
                }
                self.publish(time, id);
            }
        }
    }
}

impl Shard {
    fn epoch(&self) -> u64 {
        self.runs.last().unwrap().0.0
    }

    fn append(&mut self) -> Version {
        let run = self.runs.last_mut().unwrap();
        run.2 = run.2.next();
        Version {
            epoch: run.0.0,
            offset: run.2.0,
        }
    }
}

impl FakeWorld {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[async_trait]
impl World for FakeWorld {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn stamp(&self) -> u64 {
        self.state().stamp()
    }

    fn drain(&self) -> Vec<NodeEvent> {
        let events = std::mem::take(&mut self.state().events);
        if self.flaw == Flaw::RecordsNothing {
            Vec::new()
        } else {
            events
        }
    }

    fn shard(&self, shard: ShardId) -> Option<Roles> {
        let state = self.state();
        let shard = state.shards.get(&shard)?;
        Some(Roles {
            epoch: Epoch(shard.epoch()),
            writer: Some(shard.writer),
            members: shard.members.iter().copied().collect(),
            elector: None,
        })
    }

    async fn statuses(&self) -> BTreeMap<NodeId, Status> {
        let state = self.state();
        let status = |id: ShardId, shard: &Shard, node: NodeId| {
            let (epoch, _, last) = *shard.runs.last().unwrap();
            Status {
                node,
                shard: Some(id),
                writer_of: (node == shard.writer).then_some(epoch),
                promised: epoch,
                end: kv_core::Version::new(epoch, last),
                committed: last,
                runs: shard.runs.clone(),
                digest: Some(0),
                gauges: Gauges::default(),
                is_suspect: false,
            }
        };
        let of_shard = |(id, shard): (&ShardId, &Shard)| {
            let members = shard
                .members
                .iter()
                .filter(|node| !state.unreachable.contains(node));
            members
                .map(|node| (*node, status(*id, shard, *node)))
                .collect::<Vec<_>>()
        };
        state.shards.iter().flat_map(of_shard).collect()
    }

    fn client(&self, session: u64) -> Box<dyn Client> {
        Box::new(FakeClient {
            world: self.clone(),
            rng: stream(self.seed, "client", session),
        })
    }

    async fn spawn(&self, _session: u64, work: Work<()>) -> JoinHandle<()> {
        tokio::spawn(work)
    }

    async fn act(&self, act: &Act) {
        let done = NodeEventKind::other("act", [("act", format!("{act:?}").into())]);
        self.state().record(self.now(), NodeId(1), done);
        if let Act::Kill(node) | Act::PowerLoss(node) = act {
            self.state().stopped.remove(node);
        }
        if let Act::Start(node) = act
            && self.state().damaged.contains(node)
        {
            self.state().stopped.insert(*node);
            return;
        }
        match act {
            Act::PowerLoss(node)
            | Act::Kill(node)
            | Act::Pause(node)
            | Act::Cut(Place::Node(node), Place::Coordination) => {
                self.state().unreachable.insert(*node);
                let world = self.clone();
                tokio::spawn(async move {
                    sleep(world.scenario.cluster.session_timeout).await;
                    let now = world.now();
                    world.state().fail_over(now);
                });
            }
            Act::Start(node)
            | Act::Resume(node)
            | Act::Mend(Place::Node(node), Place::Coordination) => {
                self.state().unreachable.remove(node);
            }
            _ => {}
        }
    }

    /// Each disk fails a second after it was set up to.
    async fn trap(&self, node: NodeId, trap: &Trap) -> String {
        let done = NodeEventKind::other("act", [("act", format!("{trap:?} {node}").into())]);
        self.state().record(self.now(), NodeId(1), done);
        if self.flaw == Flaw::DisksHold {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_secs(1)).await;
        if matches!(trap, Trap::FailSync | Trap::Full) && self.flaw != Flaw::NodeGoesOn {
            self.state().stopped.insert(node);
        }
        if matches!(trap, Trap::FlipBit(_)) && self.flaw == Flaw::DamageIsSeen {
            self.state().damaged.insert(node);
        }
        "the disk fails".to_owned()
    }

    async fn failures(&self) -> BTreeMap<NodeId, String> {
        let stopped = self.flaw == Flaw::NodeStops;
        let by_disk = self.state().stopped.clone().into_iter();
        stopped
            .then_some(NodeId(2))
            .into_iter()
            .chain(by_disk)
            .map(|node| (node, "the disk is full".to_owned()))
            .collect()
    }
}

struct FakeClient {
    world: FakeWorld,
    rng: StdRng,
}

#[async_trait]
impl Client for FakeClient {
    async fn perform(&mut self, ask: &Ask) -> Answer {
        let deadline = self.world.scenario.workload.deadline;
        let way = Duration::from_micros(self.rng.random_range(500..3_000));
        sleep(way).await;
        let answer = self.serve(ask);
        match answer {
            Some(answer) => {
                sleep(way).await;
                answer
            }
            None => {
                sleep(deadline - way).await;
                let mut answer = Answer::of(EventKind::Info);
                answer.error = Some("no answer in time".to_owned());
                answer
            }
        }
    }
}

impl FakeClient {
    fn serve(&self, ask: &Ask) -> Option<Answer> {
        let (id, now) = (self.world.scenario.shard_of(&ask.key), self.world.now());
        let mut state = self.world.state();
        state.operations += 1;
        let (number, flaw) = (state.operations, self.world.flaw);
        assert!(
            flaw != Flaw::Panics || number < 100,
            "the hundredth operation"
        );
        let writer = state.shards.get(&id)?.writer;
        if state.unreachable.contains(&writer) || flaw == Flaw::AnswersNothing {
            return None;
        }
        let mut answer = Answer::of(EventKind::Ok);
        (answer.shard, answer.node) = (Some(id.0 as u32), Some(writer.0));
        let shard = state.shards.get_mut(&id)?;
        if ask.function == Function::Read {
            let (value, version) = shard.values.get(&ask.key).copied().unzip();
            (answer.value, answer.version) = (value.flatten(), version);
            return Some(answer);
        }
        let version = shard.append();
        if flaw != Flaw::LosesWrites || number % 50 != 0 {
            shard.values.insert(ask.key.clone(), (ask.value, version));
        }
        (answer.version, answer.token) = (Some(version), Some(version));
        let members: Vec<NodeId> = shard.members.clone();
        let (shard, epoch, offset) = (id.0 as u32, version.epoch, version.offset);
        for member in &members {
            state.record(
                now,
                *member,
                NodeEventKind::Synced {
                    shard,
                    epoch,
                    offset,
                },
            );
            state.record(
                now,
                *member,
                NodeEventKind::Committed {
                    shard,
                    epoch,
                    offset,
                    chain: offset as u32,
                },
            );
        }
        let members = members.iter().map(|member| member.0).collect();
        state.record(
            now,
            writer,
            NodeEventKind::Acknowledged {
                shard,
                epoch,
                offset,
                members,
            },
        );
        Some(answer)
    }
}
