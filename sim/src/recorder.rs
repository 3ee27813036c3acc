//! One global order for all that happens in a run: the clients' operations and the nodes' events draw their numbers here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::events::{Event, Events};
use kv_core::invariants::{Invariants, Process, Violation};
use kv_core::{Epoch, Fencing, NodeId, ShardId, ShardRecord};
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
    /// The first two observations that cannot both be, under `Fencing::Epoch`.
    violation: Option<Violation>,
}

impl State {
    /// Holds what happens against the invariants that the model checker knows too.
    fn watch(&mut self, process: Process, event: &Event) {
        let invariants = &mut self.invariants;
        let (shard, result) = match *event {
            Event::Promoted(shard, epoch) | Event::RolledBack { shard, epoch, .. } => {
                (shard, invariants.promoted(shard, epoch, process, None))
            }
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
            Event::Promoted(shard, epoch) => {
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
        state.watch(Process { node, incarnation }, &event);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_in_one_epoch_are_noticed() {
        let recorder = Recorder::new();
        let (shard, epoch) = (ShardId(0), Epoch(2));
        recorder
            .events(NodeId(1), 0)
            .record(Event::Promoted(shard, epoch));
        assert_eq!(recorder.violation(), None);
        recorder
            .events(NodeId(1), 1)
            .record(Event::Promoted(shard, epoch));
        assert!(matches!(
            recorder.violation(),
            Some(Violation::TwoWriters { .. })
        ));
    }
}
