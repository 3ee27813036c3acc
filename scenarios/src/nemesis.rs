//! The nemesis: does to the cluster what the scenario says, when it says so, and makes it good again.
//!
//! Every fault has a task of its own: it waits for its start, finds out who plays the roles that it names, acts, waits
//! for its end, and heals. When the workload's duration is over, everything heals. What a fault did and to whom stands in
//! the record; a fault that never fired makes the run worthless, so the tasks say whether they did. Disks that fail are a
//! matter of their own (`nemesis/disk.rs`): they have to wait until somebody uses them.

mod cast;
mod disk;
mod harm;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use checker::NodeEventKind;
use checker::limits::LINK_GRACE_NS;
use kv_core::NodeId;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use self::cast::Cast;
use self::harm::{Harm, Outage, harms};
use crate::record::Record;
use crate::scenario::{Action, Disturbance, End, Fault, Scenario, Start, Target, Turn};
use crate::world::{Act, Place, Trap, World};

/// How often the nemesis looks whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often it looks for an election, which is over in a few round trips.
const LOOK_CLOSELY: Duration = Duration::from_millis(2);

/// The nemesis of one run.
pub struct Nemesis {
    scenario: Arc<Scenario>,
    world: Arc<dyn World>,
    record: Arc<Record>,
    seed: u64,
    harmed: Mutex<Harmed>,
}

/// What a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It happened, or need not.
    Fired,
    /// It had to happen, and did not.
    Never,
    /// It happened, and this node, which had to stop by itself, went on.
    WentOn(NodeId),
}

/// What lasts at the moment. Faults may overlap: a link mends, and a node comes back, when the last of them ends. Where
/// they differ, as two speeds of a clock, that which began last counts.
#[derive(Default)]
struct Harmed {
    cuts: BTreeMap<(Place, Place), u32>,
    down: BTreeMap<NodeId, u32>,
    paused: BTreeMap<NodeId, u32>,
    outages: BTreeMap<Outage, u32>,
    disturbed: BTreeMap<(NodeId, NodeId), Vec<(usize, Disturbance)>>,
    drifts: BTreeMap<NodeId, Vec<(usize, i64)>>,
    slow: BTreeMap<NodeId, Vec<(usize, Duration)>>,
    trapped: BTreeMap<(NodeId, Trap), u32>,
    /// The disks that have failed, by fault.
    hit: BTreeSet<(usize, NodeId)>,
    /// The nodes of whose data a bit has flipped.
    damaged: BTreeSet<NodeId>,
    /// What was last written down of that.
    noted: Option<NodeEventKind>,
}

impl Nemesis {
    /// A nemesis that has done nothing yet.
    #[must_use]
    pub fn new(
        scenario: Arc<Scenario>,
        world: Arc<dyn World>,
        record: Arc<Record>,
        seed: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            scenario,
            world,
            record,
            seed,
            harmed: Mutex::default(),
        })
    }

    /// Writes down that nothing is out of order yet.
    pub async fn begin(&self) {
        self.note_links().await;
    }

    /// Lives through one fault of the scenario.
    pub async fn run(self: Arc<Self>, index: usize) -> Came {
        let fault = &self.scenario.faults[index];
        let waiting = async {
            self.wait_for_start(&fault.start).await;
            self.cast(index, fault).await
        };
        let Ok(cast) = timeout(self.patience(fault), waiting).await else {
            return match fault.latest {
                Some(_) => Came::Fired,
                None => Came::Never,
            };
        };
        if let Action::Disk { nodes, fault: how } = &fault.action {
            return self.break_disks(index, fault, &cast, (nodes, *how)).await;
        }
        let harms = harms(&fault.action, &cast, self.scenario.cluster.nodes);
        self.note("begin", index, fault, &cast);
        for harm in &harms {
            self.inflict(index, harm).await;
        }
        self.note_links().await;
        if !fault.action.kind().is_of_a_moment() {
            sleep(self.lasting(fault.end)).await;
            for harm in &harms {
                self.heal(index, harm).await;
            }
            self.note_links().await;
            self.note("end", index, fault, &cast);
        }
        Came::Fired
    }

    /// How long a fault may still wait for what it needs.
    fn patience(&self, fault: &Fault) -> Duration {
        let patience = fault.latest.map_or(Duration::MAX, |latest| {
            latest.saturating_sub(self.record.now())
        });
        self.left().min(patience)
    }

    /// The time until the workload is over.
    fn left(&self) -> Duration {
        self.scenario
            .workload
            .duration
            .saturating_sub(self.record.now())
    }

    async fn wait_for_start(&self, start: &Start) {
        match start {
            Start::At(at) => sleep(at.saturating_sub(self.record.now())).await,
            Start::When(trigger) => {
                let look_every = match trigger.turn {
                    Turn::ElectionStarted => LOOK_CLOSELY,
                    _ => LOOK_EVERY,
                };
                while !self.record.has_seen(*trigger) {
                    sleep(look_every).await;
                }
            }
            Start::After(count) => {
                let mut counts = self.record.counts();
                let enough = counts.wait_for(|counts| counts.of(count.what) >= count.count);
                enough.await.expect("the record outlives the nemesis");
            }
        }
    }

    /// Finds out who plays the roles that the fault names; waits while nobody does.
    async fn cast(&self, index: usize, fault: &Fault) -> Cast {
        let is_elector = |target: &Target| matches!(target, Target::Elector(_));
        let groups = fault.action.groups();
        let closely = groups.iter().any(|group| group.0.iter().any(is_elector));
        loop {
            let cast = Cast::find(
                &fault.action,
                &self.scenario,
                &*self.world,
                self.seed,
                index,
            );
            match cast {
                Some(cast) => return cast,
                None => sleep(if closely { LOOK_CLOSELY } else { LOOK_EVERY }).await,
            }
        }
    }

    fn lasting(&self, end: End) -> Duration {
        let wanted = match end {
            End::Until(end) => end.saturating_sub(self.record.now()),
            End::For(lasting) => lasting,
            End::WithTheWorkload => Duration::MAX,
        };
        wanted.min(self.left())
    }

    fn note(&self, phase: &str, index: usize, fault: &Fault, cast: &Cast) {
        let roles: Map<String, Value> = cast
            .roles()
            .map(|(target, ids)| (target, json!(ids)))
            .collect();
        let fields = [
            ("phase", json!(phase)),
            ("fault", json!(index + 1)),
            ("kind", json!(fault.action.kind().name())),
            ("what", json!(fault.action.to_string())),
            ("roles", Value::Object(roles)),
        ];
        self.record
            .note(None, NodeEventKind::other("fault", fields));
    }

    /// Writes down which nodes and links are out of order from now on, where that has changed.
    async fn note_links(&self) {
        self.note_links_of(&mut *self.harmed.lock().await);
    }

    /// The same. What is made good is written down before it is: while that takes its time, it may be so or not, and nobody is to be
    /// accused of having reached what was there already.
    fn note_links_of(&self, harmed: &mut Harmed) {
        let down = harmed
            .down
            .keys()
            .chain(harmed.paused.keys())
            .map(|node| node.0);
        let down: BTreeSet<u64> = down.collect();
        let between_nodes = |link: &(Place, Place)| match link {
            (Place::Node(from), Place::Node(to)) => Some((from.0, to.0)),
            _ => None,
        };
        let cut: Vec<(u64, u64)> = harmed.cuts.keys().filter_map(between_nodes).collect();
        let links = NodeEventKind::Links {
            down: down.into_iter().collect(),
            cut,
            grace_ns: LINK_GRACE_NS,
        };
        if harmed.noted.as_ref() != Some(&links) {
            self.record.note(None, links.clone());
            harmed.noted = Some(links);
        }
    }

    async fn inflict(&self, index: usize, harm: &Harm) {
        let mut harmed = self.harmed.lock().await;
        match harm {
            Harm::Cut(from, to) => {
                if raise(&mut harmed.cuts, (*from, *to)) {
                    self.world.act(&Act::Cut(*from, *to)).await;
                }
            }
            Harm::Down { node, power } => {
                raise(&mut harmed.down, *node);
                let act = if *power {
                    Act::PowerLoss(*node)
                } else {
                    Act::Kill(*node)
                };
                self.world.act(&act).await;
            }
            Harm::Restart(node) => {
                self.world.act(&Act::Kill(*node)).await;
                if !harmed.down.contains_key(node) {
                    self.start(*node, &harmed).await;
                }
            }
            Harm::Pause(node) => {
                // One that is down cannot stand still before it is up again.
                if raise(&mut harmed.paused, *node) && !harmed.down.contains_key(node) {
                    self.world.act(&Act::Pause(*node)).await;
                }
            }
            Harm::Coordination(outage) => {
                if raise(&mut harmed.outages, *outage) {
                    let act = match outage {
                        Outage::Down => Act::KillCoordination,
                        Outage::Paused => Act::PauseCoordination,
                    };
                    self.world.act(&act).await;
                }
            }
            Harm::Disturb(from, to, disturbance) => {
                let on_link = harmed.disturbed.entry((*from, *to)).or_default();
                on_link.push((index, *disturbance));
                self.world
                    .act(&Act::Disturb(*from, *to, Some(*disturbance)))
                    .await;
            }
            Harm::LoseSession(node) => self.world.act(&Act::LoseSession(*node)).await,
            Harm::Clock {
                node,
                jump,
                drift_ppm,
            } => {
                let drifts = harmed.drifts.entry(*node).or_default();
                drifts.push((index, *drift_ppm));
                self.world.act(&Act::JumpClock(*node, *jump)).await;
                self.world.act(&Act::DriftClock(*node, *drift_ppm)).await;
            }
            Harm::SlowDisk(node, delay) => {
                let delays = harmed.slow.entry(*node).or_default();
                delays.push((index, *delay));
                self.world.act(&Act::SlowDisk(*node, *delay)).await;
            }
        }
    }

    /// Starts a node, which stands still at once where another fault still wants that.
    async fn start(&self, node: NodeId, harmed: &Harmed) {
        self.world.act(&Act::Start(node)).await;
        if harmed.paused.contains_key(&node) {
            self.world.act(&Act::Pause(node)).await;
        }
    }

    async fn heal(&self, index: usize, harm: &Harm) {
        let mut harmed = self.harmed.lock().await;
        match harm {
            Harm::Cut(from, to) => {
                if lower(&mut harmed.cuts, (*from, *to)) {
                    self.note_links_of(&mut harmed);
                    self.world.act(&Act::Mend(*from, *to)).await;
                }
            }
            Harm::Down { node, .. } => {
                if lower(&mut harmed.down, *node) {
                    self.note_links_of(&mut harmed);
                    self.start(*node, &harmed).await;
                }
            }
            Harm::Pause(node) => {
                // Nobody goes on who is dead by now, or died before it could stand still.
                if lower(&mut harmed.paused, *node) && !harmed.down.contains_key(node) {
                    self.note_links_of(&mut harmed);
                    self.world.act(&Act::Resume(*node)).await;
                }
            }
            Harm::Coordination(outage) => {
                if lower(&mut harmed.outages, *outage) {
                    let act = match outage {
                        Outage::Down => Act::StartCoordination,
                        Outage::Paused => Act::ResumeCoordination,
                    };
                    self.world.act(&act).await;
                }
            }
            Harm::Disturb(from, to, _) => {
                let left = ended(&mut harmed.disturbed, (*from, *to), index);
                self.world.act(&Act::Disturb(*from, *to, left)).await;
            }
            Harm::Clock { node, .. } => {
                let drift = ended(&mut harmed.drifts, *node, index).unwrap_or_default();
                self.world.act(&Act::DriftClock(*node, drift)).await;
            }
            Harm::SlowDisk(node, _) => {
                let delay = ended(&mut harmed.slow, *node, index).unwrap_or_default();
                self.world.act(&Act::SlowDisk(*node, delay)).await;
            }
            Harm::Restart(_) | Harm::LoseSession(_) => {}
        }
    }
}

/// What is left of several faults of one place when that one ends: the last that began.
fn ended<K: Ord, T: Copy>(
    lasting: &mut BTreeMap<K, Vec<(usize, T)>>,
    place: K,
    index: usize,
) -> Option<T> {
    let here = lasting.entry(place).or_default();
    here.retain(|(fault, _)| *fault != index);
    here.last().map(|(_, left)| *left)
}

/// One more reason for something. Returns whether it is the first.
fn raise<K: Ord>(reasons: &mut BTreeMap<K, u32>, key: K) -> bool {
    let count = reasons.entry(key).or_default();
    *count += 1;
    *count == 1
}

/// One reason less. Returns whether none is left.
fn lower<K: Ord>(reasons: &mut BTreeMap<K, u32>, key: K) -> bool {
    let Some(count) = reasons.get_mut(&key) else {
        return false;
    };
    *count -= 1;
    let none_left = *count == 0;
    if none_left {
        reasons.remove(&key);
    }
    none_left
}
