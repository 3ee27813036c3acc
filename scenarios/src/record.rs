//! What a run leaves behind: the history of the clients and the events of the nodes, in one order.
//!
//! Sessions and the nemesis share one record. It also counts what the clients have seen and notices what happens in
//! the cluster, since faults wait for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checker::{Event, EventKind, Function, NodeEvent, NodeEventKind};
use kv_core::ShardId;
use serde_json::Value;
use tokio::sync::watch;

use crate::scenario::{Counted, Trigger, Turn};
use crate::world::{Answer, Ask, World};

/// The record of one run.
pub struct Record {
    world: Arc<dyn World>,
    /// When the workload began; times count from there.
    origin: Duration,
    state: Mutex<State>,
    counts: watch::Sender<Counts>,
}

#[derive(Default)]
struct State {
    history: Vec<Event>,
    events: Vec<NodeEvent>,
    /// What has happened to writers since the workload began.
    turns: Vec<Trigger>,
    next_value: i64,
}

/// How many operations were answered `ok`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Sets and deletes.
    pub writes: u64,
}

impl Counts {
    /// Reads and writes.
    #[must_use]
    pub fn operations(self) -> u64 {
        self.reads + self.writes
    }

    /// The number of what a scenario counts.
    #[must_use]
    pub fn of(self, what: Counted) -> u64 {
        match what {
            Counted::Writes => self.writes,
            Counted::Reads => self.reads,
            Counted::Operations => self.operations(),
        }
    }
}

/// Who asks: a process of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The session.
    pub session: u64,
    /// The process; another one after every operation whose outcome is unknown.
    pub process: u64,
}

impl Record {
    /// A record of a workload that begins now.
    #[must_use]
    pub fn begin(world: Arc<dyn World>) -> Arc<Self> {
        let record = Self {
            origin: world.now(),
            world,
            state: Mutex::default(),
            counts: watch::Sender::default(),
        };
        record.collect();
        record.state().turns.clear(); // What happened before triggers nothing.
        Arc::new(record)
    }

    /// The time since the workload began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.world.now().saturating_sub(self.origin)
    }

    /// A value that nobody has written yet.
    pub fn next_value(&self) -> i64 {
        let mut state = self.state();
        state.next_value += 1;
        state.next_value
    }

    /// Writes down that a session asks.
    pub fn invoke(&self, who: Who, ask: &Ask) {
        let mut event = self.event(who, EventKind::Invoke, ask);
        event.value = ask.value.map_or(Value::Null, Value::from);
        event.token = ask.token;
        self.push(event);
    }

    /// Writes down what a session was told.
    pub fn complete(&self, who: Who, ask: &Ask, answer: Answer) {
        let mut event = self.event(who, answer.kind, ask);
        let value = match ask.function {
            Function::Read => answer.value,
            Function::Write | Function::Delete => ask.value,
        };
        event.value = value.map_or(Value::Null, Value::from);
        event.version = answer.version;
        event.token = answer.token;
        event.shard = answer.shard;
        event.node = answer.node;
        event.error = answer.error;
        self.push(event);
        if answer.kind == EventKind::Ok {
            self.counts.send_modify(|counts| match ask.function {
                Function::Read => counts.reads += 1,
                Function::Write | Function::Delete => counts.writes += 1,
            });
        }
    }

    fn event(&self, who: Who, kind: EventKind, ask: &Ask) -> Event {
        let mut event = Event::new(who.process, kind, ask.function, &ask.key, Value::Null);
        event.session = Some(who.session);
        event.level = ask.level;
        event.time = nanoseconds(self.now());
        event
    }

    fn push(&self, mut event: Event) {
        let mut state = self.state();
        event.index = Some(self.world.stamp());
        state.history.push(event);
    }

    /// Writes down something that no node saw: a fault, the final log.
    pub fn note(&self, node: Option<u64>, kind: NodeEventKind) {
        let time = nanoseconds(self.now());
        let index = self.world.stamp();
        self.collect(); // What the nodes recorded earlier stands earlier.
        self.state().events.push(NodeEvent {
            index,
            time,
            node,
            incarnation: 0,
            sequence: 0,
            kind,
        });
    }

    /// Takes over what the nodes have recorded.
    fn collect(&self) {
        let mut state = self.state();
        let origin = nanoseconds(self.origin);
        for mut event in self.world.drain() {
            event.time = event.time.saturating_sub(origin);
            state.turns.extend(turn(&event));
            state.events.push(event);
        }
    }

    /// Whether that has happened since the workload began; of an election, whether one is under way.
    #[must_use]
    pub fn has_seen(&self, trigger: Trigger) -> bool {
        if trigger.turn == Turn::ElectionStarted {
            // No node tells of it: it is seen while it lasts.
            let roles = self.world.shard(ShardId(u64::from(trigger.shard)));
            return roles.is_some_and(|roles| roles.elector.is_some());
        }
        self.collect();
        self.state().turns.contains(&trigger)
    }

    /// What was answered `ok` so far, and how to wait for more.
    #[must_use]
    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    /// Takes the whole record: the history, the events, both by index.
    #[must_use]
    pub fn finish(&self) -> (Vec<Event>, Vec<NodeEvent>) {
        self.collect();
        let mut state = self.state();
        let mut events = std::mem::take(&mut state.events);
        events.sort_by_key(|event| event.index);
        (std::mem::take(&mut state.history), events)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a node's event means for the writer of its shard, if anything.
fn turn(event: &NodeEvent) -> Option<Trigger> {
    let turn = match event.kind.name() {
        "promoted" => Turn::Elected,
        "demoted" => Turn::Demoted,
        "released" => Turn::Released,
        "rolled_back" => Turn::RolledBack,
        _ => return None,
    };
    let shard = u16::try_from(event.kind.shard()?).ok()?;
    Some(Trigger { shard, turn })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
