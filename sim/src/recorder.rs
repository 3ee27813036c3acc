//! One global order for all that happens in a run: the clients' operations and the nodes' events draw their numbers here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::environment::{Deliver, Transport};
use kv::events::{Event, Events};
use kv_core::invariants::{Invariants, Process, Violation, told};
use kv_core::{Epoch, Fencing, Message, NodeId, Offset, ShardId, ShardRecord};
use tokio::time::Instant;

/// A node's event with its place in the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The place in the global order, shared with the history.
    pub index: u64,
    /// Since the start of the run.
    pub time: Duration,
    /// Whose event.
    pub node: NodeId,
    /// Which life of the node.
    pub incarnation: u64,
    /// The number of the event within that life.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// Collects the events of a run, and keeps what the scripts ask for: who is the writer of what.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_index: u64,
    recorded: Vec<Recorded>,
    writers: BTreeMap<ShardId, (Epoch, NodeId)>,
    records: BTreeMap<ShardId, ShardRecord>,
    invariants: Invariants,
    /// Where the log on each process's disk ends, and whose log it is.
    synced: BTreeMap<Process, (ShardId, Offset)>,
    /// The first two observations that cannot both be, under `Fencing::Epoch`.
    violation: Option<Violation>,
}

impl State {
    /// Holds what happens against the invariants that the model checker knows too.
    fn watch(&mut self, process: Process, event: &Event) {
        let invariants = &mut self.invariants;
        let (shard, result) = match *event {
            Event::Promoted {
                shard,
                epoch,
                ref log,
            }
            | Event::RolledBack {
                shard,
                epoch,
                ref log,
                ..
            } => (shard, invariants.promoted(shard, epoch, process, Some(log))),
            Event::Promised(shard, epoch) => (shard, invariants.promised(shard, process, epoch)),
            Event::Truncated { shard, after } => {
                (shard, invariants.truncated(shard, process, after))
            }
            Event::Committed {
                shard,
                version,
                chain,
            } => {
                let chain = u64::from(chain);
                (shard, invariants.committed(shard, process, version, chain))
            }
            _ => return,
        };
        self.judge(shard, result);
    }

    /// Follows what is on a process's disk, as far as it knows itself.
    fn follow_disk(&mut self, process: Process, event: &Event) {
        match *event {
            Event::Synced(shard, version) => {
                let (_, end) = self.synced.entry(process).or_insert((shard, Offset::ZERO));
                *end = version.offset.max(*end);
            }
            Event::Truncated { after, .. } | Event::Lost { after, .. } => {
                if let Some((_, end)) = self.synced.get_mut(&process) {
                    *end = after.min(*end);
                }
            }
            _ => {}
        }
    }

    fn judge(&mut self, shard: ShardId, result: Result<(), Violation>) {
        let record = self.records.get(&shard);
        let is_fenced = record.is_none_or(|record| record.fencing == Fencing::Epoch);
        if is_fenced && self.violation.is_none() {
            self.violation = result.err();
        }
    }
}

impl Recorder {
    /// A recorder whose run starts now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// The next place in the global order, and the time since the start of the run.
    pub fn stamp(&self) -> (u64, Duration) {
        let mut state = self.state();
        let index = state.next_index;
        state.next_index += 1;
        (index, self.start.elapsed())
    }

    /// Takes what was recorded since the last call.
    pub fn drain(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.state().recorded)
    }

    /// The node that was promoted last in a shard, with its epoch.
    #[must_use]
    pub fn writer(&self, shard: ShardId) -> Option<(Epoch, NodeId)> {
        self.state().writers.get(&shard).copied()
    }

    /// The newest record of each shard that any node has seen.
    #[must_use]
    pub fn records(&self) -> BTreeMap<ShardId, ShardRecord> {
        self.state().records.clone()
    }

    /// What broke an invariant of the fenced protocol, if anything did.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.state().violation
    }

    /// Where one life of a node writes its events.
    #[must_use]
    pub fn events(self: &Arc<Self>, node: NodeId, incarnation: u64) -> Arc<dyn Events> {
        Arc::new(NodeEvents {
            recorder: self.clone(),
            node,
            incarnation,
            sequence: Mutex::new(0),
        })
    }

    /// The transport of one life of a node, with an ear at what it says.
    #[must_use]
    pub fn overhear(
        self: &Arc<Self>,
        node: NodeId,
        incarnation: u64,
        transport: Arc<dyn Transport>,
    ) -> Arc<dyn Transport> {
        Arc::new(Overheard {
            recorder: self.clone(),
            process: Process { node, incarnation },
            transport,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct NodeEvents {
    recorder: Arc<Recorder>,
    node: NodeId,
    incarnation: u64,
    sequence: Mutex<u64>,
}

impl Events for NodeEvents {
    fn record(&self, event: Event) {
        let (index, time) = self.recorder.stamp();
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.recorder.state();
        match &event {
            Event::Promoted { shard, epoch, .. } => {
                let newest = state.writers.entry(*shard).or_insert((*epoch, self.node));
                if *epoch >= newest.0 {
                    *newest = (*epoch, self.node);
                }
            }
            Event::Shard(record) => {
                let newest = state
                    .records
                    .entry(record.shard)
                    .or_insert_with(|| record.clone());
                if record.epoch >= newest.epoch {
                    *newest = record.clone();
                }
            }
            _ => {}
        }
        let (node, incarnation) = (self.node, self.incarnation);
        let process = Process { node, incarnation };
        state.watch(process, &event);
        state.follow_disk(process, &event);
        state.recorded.push(Recorded {
            index,
            time,
            node,
            incarnation,
            sequence: *sequence,
            event,
        });
        *sequence += 1;
    }
}

struct Overheard {
    recorder: Arc<Recorder>,
    process: Process,
    transport: Arc<dyn Transport>,
}

impl Transport for Overheard {
    fn listen(&self, deliver: Deliver) {
        self.transport.listen(deliver);
    }

    fn reach(&self, addresses: &BTreeMap<NodeId, String>) {
        self.transport.reach(addresses);
    }

    fn send(&self, to: NodeId, message: Message) {
        let mut state = self.recorder.state();
        if let Some(&(shard, end)) = state.synced.get(&self.process) {
            // When a promise is synced, nobody outside is told.
            state.judge(shard, told(self.process, &message, None, end));
        }
        drop(state);
        self.transport.send(to, message);
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Body, Log, Version};

    use super::*;

    #[test]
    fn two_writers_in_one_epoch_are_noticed() {
        let recorder = Recorder::new();
        let (shard, epoch) = (ShardId(0), Epoch(2));
        let promoted = Event::Promoted {
            shard,
            epoch,
            log: Log::default(),
        };
        recorder.events(NodeId(1), 0).record(promoted.clone());
        assert_eq!(recorder.violation(), None);
        recorder.events(NodeId(1), 1).record(promoted);
        assert!(matches!(
            recorder.violation(),
            Some(Violation::TwoWriters { .. })
        ));
    }

    struct Nowhere;

    impl Transport for Nowhere {
        fn listen(&self, _deliver: Deliver) {}
        fn reach(&self, _addresses: &BTreeMap<NodeId, String>) {}
        fn send(&self, _to: NodeId, _message: Message) {}
    }

    #[test]
    fn an_answer_that_a_crash_could_undo_is_noticed() {
        let recorder = Recorder::new();
        let (shard, node, epoch) = (ShardId(0), NodeId(1), Epoch(2));
        let events = recorder.events(node, 0);
        let transport = recorder.overhear(node, 0, Arc::new(Nowhere));
        let answer = |upto: u64| {
            let (upto, committed) = (Offset(upto), Offset::ZERO);
            let body = Body::Prepared { upto, committed };
            transport.send(NodeId(2), Message { epoch, body });
        };
        let synced = |upto: u64| {
            events.record(Event::Synced(shard, Version::new(epoch, Offset(upto))));
        };
        synced(2);
        answer(2);
        let after = Offset(1);
        events.record(Event::Truncated { shard, after });
        answer(1);
        assert_eq!(recorder.violation(), None);
        answer(2);
        let noticed = recorder.violation();
        assert!(matches!(noticed, Some(Violation::NotSynced { .. })));
    }
}
