//! A world: a cluster that runs somewhere, its clients, and what can be done to it.
//!
//! The runner, the workload and the nemesis know this trait and no world by name. The simulator is one world
//! (`world/sim.rs`), real processes (`world/local.rs`) and containers (`world/docker.rs`) are others. A [`Stage`] starts a world for one run and plays a script
//! in it.

pub mod client;
#[cfg(not(madsim))]
pub mod docker;
#[cfg(not(madsim))]
pub mod local;
pub mod observed;
#[cfg(not(madsim))]
pub mod real;
#[cfg(madsim)]
pub mod sim;
pub mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checker::{EventKind, Function, Level, NodeEvent, Version};
use kv::engine::EngineKind;
use kv::handle::Status;
use kv_core::{Epoch, NodeId, ShardId};
use tokio::task::JoinHandle;

use self::trouble::Trouble;
use crate::play::Played;
use crate::scenario::{Action, Cue, Disturbance, Kind, Scenario, Spot};

/// Work that a world runs somewhere.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is played in a world, from the first operation to the last.
pub type Script = Box<dyn FnOnce(Arc<dyn World>) -> Work<Played> + Send>;

/// Starts worlds of one kind.
pub trait Stage: Send + Sync {
    /// The name of the kind.
    fn name(&self) -> &'static str;

    /// Whether runs are of real processes: they cannot be repeated, and take their time.
    fn is_real(&self) -> bool {
        false
    }
    /// Whether this machine has all that a run needs, and nothing stands in the way. Asked before anything is started.
    ///
    /// # Errors
    /// In one line: what is missing, and what to do.
    fn prepare(&self) -> Result<(), Trouble> {
        Ok(())
    }

    /// Why this world cannot do faults of a kind, if it cannot. Asked before anything is started.
    fn lacks(&self, kind: Kind) -> Option<String>;
    /// Why this world, which can do faults of that kind, cannot do this one. Asked before anything is started.
    fn lacks_action(&self, _action: &Action) -> Option<String> {
        None
    }
    /// What else of a scenario this world cannot do. Asked before anything is started.
    fn lacks_scenario(&self, _scenario: &Scenario) -> Option<String> {
        None
    }
    /// Why no node of this world can store in such an engine, if none can. Asked before anything is started.
    fn lacks_engine(&self, _engine: EngineKind) -> Option<&'static str> {
        None
    }

    /// Starts the scenario's cluster, tells where it is, line by line, and keeps it until somebody wants the program to end.
    ///
    /// # Errors
    /// When it does not come up, or the world has no cluster that one could play with.
    fn keep(&self, _scenario: &Scenario, _tell: &dyn Fn(&[String])) -> Result<(), Trouble> {
        Err(Trouble::NothingToKeep { world: self.name() })
    }

    /// Starts the scenario's cluster, plays the script in it, and takes everything down again.
    ///
    /// Called on a thread of its own, which is fresh; a runtime is made and ended inside. With the same scenario, seed
    /// and script, the simulator gives the same result.
    fn enact(&self, scenario: &Scenario, seed: u64, script: Script) -> Played;
}

/// A running cluster with its clients and its surroundings.
#[async_trait]
pub trait World: Send + Sync {
    /// The time since the world began.
    fn now(&self) -> Duration;
    /// The next place in the one order of everything that happens in the run.
    fn stamp(&self) -> u64;
    /// What the nodes have recorded since the last call, in that order. Times are since the world began.
    fn drain(&self) -> Vec<NodeEvent>;

    /// The roles in a shard now, as the newest published record tells them.
    fn shard(&self, shard: ShardId) -> Option<Roles>;
    /// What the nodes that are up say of themselves.
    async fn statuses(&self) -> BTreeMap<NodeId, Status>;

    /// The client of a session. Sessions are numbered from 0 to the scenario's `clients`, that one included: the last
    /// is for the end of the run.
    fn client(&self, session: u64) -> Box<dyn Client>;
    /// Runs a session's work on the session's machine.
    async fn spawn(&self, session: u64, work: Work<()>) -> JoinHandle<()>;

    /// Does something to the cluster or its surroundings. Doing it twice is doing it once.
    async fn act(&self, act: &Act);
    /// Sets a node's disk up to fail, waits until it has, and says in a sentence what happened. Who waits no longer takes it
    /// back with [`Act::Disarm`].
    async fn trap(&self, node: NodeId, trap: &Trap) -> String;
    /// Directs a run. A world that cannot says why.
    async fn direct(&self, _direction: &Direction) -> Result<(), String> {
        Err("this world cannot be directed".to_owned())
    }
    /// In a directed run, a session's client that asks this node only.
    async fn client_at(&self, _session: u64, _node: NodeId) -> Option<Box<dyn Client>> {
        None
    }
    /// Which nodes stopped by themselves, and why.
    async fn failures(&self) -> BTreeMap<NodeId, String>;
    /// What else is to be kept of a run, by the names of files in its folder.
    async fn leave(&self) -> BTreeMap<String, Vec<u8>> {
        BTreeMap::new()
    }
}

/// What the director of a run says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From now on nothing happens by itself.
    Begin {
        /// Whether an election waits for a cue even when its turn for the lock has come.
        retries: bool,
    },
    /// This happens; when it is over, the world is quiet again.
    Cue(Cue),
    /// Everything goes its way again.
    End,
}

/// Who is what in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The configuration number.
    pub epoch: Epoch,
    /// The writer, if there is one.
    pub writer: Option<NodeId>,
    /// The members, the writer included.
    pub members: BTreeSet<NodeId>,
    /// Who holds the lock of the shard's elections at the moment, if anybody does.
    pub elector: Option<NodeId>,
}

/// Somewhere that links lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A node.
    Node(NodeId),
    /// The coordination service.
    Coordination,
    /// The machines of all clients.
    Clients,
}

/// One thing that can be done to a cluster or its surroundings.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Nothing goes from the one to the other any more.
    Cut(Place, Place),
    /// What was cut goes again.
    Mend(Place, Place),
    /// Single messages from the one node to the other are disturbed so; by nothing, as they were at first.
    Disturb(NodeId, NodeId, Option<Disturbance>),
    /// The power goes: what was not synced is lost.
    PowerLoss(NodeId),
    /// The process dies; what it wrote stays.
    Kill(NodeId),
    /// A process that is down starts with what its disk holds.
    Start(NodeId),
    /// The process stands still.
    Pause(NodeId),
    /// It goes on.
    Resume(NodeId),
    /// The process of the coordination service dies; it forgets nothing that it has answered.
    KillCoordination,
    /// It starts again, if it is down.
    StartCoordination,
    /// It stands still.
    PauseCoordination,
    /// It goes on.
    ResumeCoordination,
    /// The session with the coordination service expires.
    LoseSession(NodeId),
    /// The clock jumps forward.
    JumpClock(NodeId, Duration),
    /// The clock runs so much faster, in millionths.
    DriftClock(NodeId, i64),
    /// Every sync takes that much longer.
    SlowDisk(NodeId, Duration),
    /// The power goes, and nothing survives that the disk has not made durable.
    StrictPowerLoss(NodeId),
    /// The disk is set up to fail no longer: space is given back, and syncs tell the truth again.
    Disarm(NodeId, Trap),
}

/// How a disk is set up to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trap {
    /// The next sync fails, and the pages that it was about are gone.
    FailSync,
    /// There is no space left, so that the next write that needs some fails.
    Full,
    /// Syncs make nothing durable and say that they did.
    Lie,
    /// The power goes in the middle of the next write to the log.
    TearLog,
    /// The power goes with that operation of checkpoints, counted from 1 and from now on.
    CutCheckpoint(u64),
    /// The power goes with that operation on files of received snapshots, counted from 1 and from now on.
    CutSnapshot(u64),
    /// As soon as there is such a part, the power goes, nothing survives that was not durable, and a bit of it flips.
    FlipBit(Spot),
}

/// What a session asks of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What to do.
    pub function: Function,
    /// The key.
    pub key: String,
    /// What to write.
    pub value: Option<i64>,
    /// How much a read promises.
    pub level: Option<Level>,
    /// What a read at a replica must have applied.
    pub token: Option<Version>,
}

/// What a session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `ok`, `fail` or `info`.
    pub kind: EventKind,
    /// What a read returned.
    pub value: Option<i64>,
    /// The entry that wrote the value, or that the write became.
    pub version: Option<Version>,
    /// How far the node that answered had applied.
    pub token: Option<Version>,
    /// The shard that answered.
    pub shard: Option<u32>,
    /// The node that answered.
    pub node: Option<u64>,
    /// Why it ended in `fail` or `info`.
    pub error: Option<String>,
}

impl Answer {
    /// An answer that says no more than how it ended.
    #[must_use]
    pub fn of(kind: EventKind) -> Self {
        Self {
            kind,
            value: None,
            version: None,
            token: None,
            shard: None,
            node: None,
            error: None,
        }
    }
}

/// A session's client.
#[async_trait]
pub trait Client: Send {
    /// Asks, and waits for the answer or the workload's deadline, whichever comes first.
    async fn perform(&mut self, ask: &Ask) -> Answer;
}
