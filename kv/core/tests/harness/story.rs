//! What scripted tests are made of: a cluster that settles, and rounds in which time passes.

use bytes::Bytes;
use kv_core::{
    Body, Entry, Epoch, Fencing, Input, Level, Message, NodeId, Notable, Offset, Operation, Reply,
    RequestId, Timer, Version,
};

use super::Cluster;
use super::ledger::Answer;
use super::network::Link;
use super::service::{Fate, Question};

/// How many rounds a timer takes.
pub(crate) fn delay(id: NodeId, timer: Timer) -> u64 {
    match timer {
        Timer::Heartbeat => 1,
        Timer::Seal => 2,
        Timer::Backoff => 1 + id.0,
        Timer::Rollback => 5,
        Timer::Release => 6,
        Timer::Election => 9,
    }
}

/// A cluster of n1 to nN whose writer is n1.
pub(crate) fn cluster(voter_count: u64, write_quorum: usize) -> Cluster {
    cluster_of(voter_count, write_quorum, Fencing::Epoch)
}

/// The same under either protocol.
pub(crate) fn cluster_of(voter_count: u64, write_quorum: usize, fencing: Fencing) -> Cluster {
    let mut cluster = Cluster::new(voter_count, write_quorum, fencing);
    cluster.start_all();
    cluster.settle();
    if cluster.writer().is_none() {
        cluster.fire(n(1), Timer::Seal); // All that can answer have answered.
        cluster.settle();
    }
    assert_eq!(cluster.writer(), Some(n(1)));
    cluster
}

/// Node n.
pub(crate) fn n(number: u64) -> NodeId {
    NodeId(number)
}

/// The name of an entry.
pub(crate) fn version(epoch: u64, offset: u64) -> Version {
    Version::new(Epoch(epoch), Offset(offset))
}

/// A message of an epoch.
pub(crate) fn message(epoch: u64, body: Body) -> Message {
    let epoch = Epoch(epoch);
    Message { epoch, body }
}

/// An entry that sets the key of all tests.
pub(crate) fn entry(epoch: u64, offset: u64, value: &'static str) -> Entry {
    let key = Bytes::from_static(b"k");
    let value = Bytes::from_static(value.as_bytes());
    Entry {
        version: version(epoch, offset),
        operation: Operation::Set { key, value },
    }
}

/// A `Prepare` of these entries, or an empty one.
pub(crate) fn prepare(epoch: u64, prev: Version, entries: Vec<Entry>, committed: u64) -> Message {
    let committed = Offset(committed);
    let body = Body::Prepare {
        prev,
        entries,
        committed,
    };
    message(epoch, body)
}

impl Cluster {
    /// Starts all nodes, each with a session.
    pub(crate) fn start_all(&mut self) {
        for id in self.ids() {
            self.start(id);
            self.open_session(id);
        }
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The member that may serve as the writer in the newest epoch.
    pub(crate) fn writer(&self) -> Option<NodeId> {
        let up = self.ids().into_iter().filter(|id| self.is_up(*id));
        let serving = up.filter(|id| self.replica(*id).writer_of().is_some());
        serving.max_by_key(|id| self.replica(*id).writer_of())
    }

    /// Delivers the message at an index of those on their way.
    pub(crate) fn deliver(&mut self, index: usize) {
        let flight = self.network.flights.remove(index);
        let (from, message) = (flight.from, flight.message);
        self.input(flight.to, Input::Message { from, message });
    }

    /// Delivers a message that may never have been sent.
    pub(crate) fn inject(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.input(to, Input::Message { from, message });
    }

    /// Holds everything between a node and the others back, or loses it.
    pub(crate) fn isolate(&mut self, id: NodeId, link: Link) {
        for other in self.ids() {
            if other != id {
                self.network.set(id, other, link);
                self.network.set(other, id, link);
            }
        }
    }

    /// Undoes [`Self::isolate`].
    pub(crate) fn rejoin(&mut self, id: NodeId) {
        for other in self.ids() {
            self.network.heal(id, other);
            self.network.heal(other, id);
        }
    }

    /// Lets everything happen that happens without the passing of time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.trouble.is_some() || !self.settle_one() {
                return;
            }
        }
        let trouble = Err("it never settles".to_owned());
        self.check(trouble);
    }

    pub(crate) fn settle_one(&mut self) -> bool {
        if let Some(index) = self.network.next() {
            self.deliver(index);
            return true;
        }
        for id in self.ids() {
            if self.is_up(id) && self.nodes[&id].fetched.is_some() {
                self.install(id);
                return true;
            }
            let is_slow = self.slow_disks.contains(&id);
            let unsynced_count = self.nodes[&id].unsynced.len();
            if self.is_up(id) && !is_slow && unsynced_count > 0 {
                self.sync(id, unsynced_count);
                return true;
            }
            if self.cut_off.contains(&id) {
                continue;
            }
            if !self.nodes[&id].session_news.is_empty() {
                self.take_session_news(id);
                return true;
            }
            if !self.nodes[&id].inbox.is_empty() {
                self.take_news(id, 0);
                return true;
            }
        }
        let reaches = |(id, _): &(NodeId, Question)| !self.cut_off.contains(id);
        let question = self.service.questions.iter().position(reaches);
        if let Some(index) = question {
            self.serve_question(index, Fate::Answered);
        }
        question.is_some()
    }

    /// A round of time passes: everything settles, then the timers that are due fire.
    pub(crate) fn pass_round(&mut self) {
        self.settle();
        self.round += 1;
        for id in self.ids() {
            let timers = self.nodes[&id].timers.clone();
            for (timer, due) in timers {
                if due <= self.round {
                    self.fire(id, timer);
                }
            }
        }
        self.settle();
    }

    pub(crate) fn pass_rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.pass_round();
        }
    }

    /// Ends every fault.
    pub(crate) fn heal_everything(&mut self) {
        self.note(|| "everything is healed".to_owned());
        self.network.links.clear();
        self.cut_off.clear();
        self.slow_disks.clear();
        for id in self.ids() {
            if !self.is_up(id) {
                self.start(id);
            }
        }
        self.settle();
        for id in self.ids() {
            let session = self.replica(id).session();
            if session.is_none() || session != self.service.sessions.get(&id).copied() {
                self.open_session(id);
            }
        }
        self.settle();
        while !self.service.late.is_empty() {
            self.set_late(0);
            self.settle();
        }
    }

    // Short words for common steps.

    /// One write at a node.
    pub(crate) fn write_one(&mut self, id: NodeId) -> RequestId {
        self.write(id, "k", 1)[0]
    }

    pub(crate) fn reply(&self, request: RequestId) -> Option<Reply> {
        match self.ledger.answer(request) {
            Some(Answer::Reply(reply)) => Some(*reply),
            _ => None,
        }
    }

    /// Whether a write is acknowledged.
    pub(crate) fn is_written(&self, request: RequestId) -> bool {
        matches!(self.reply(request), Some(Reply::Written(_)))
    }

    /// Whether a read has been served, and at which position.
    pub(crate) fn served(&self, request: RequestId) -> Option<(Level, Version)> {
        match self.ledger.answer(request) {
            Some(Answer::Served { level, applied, .. }) => Some((*level, *applied)),
            _ => None,
        }
    }

    /// A write that must be acknowledged at once.
    #[track_caller]
    pub(crate) fn must_write(&mut self, id: NodeId) -> RequestId {
        let request = self.write_one(id);
        self.settle();
        assert!(self.is_written(request), "the write is acknowledged");
        request
    }

    /// Whether a message with such a body is on its way.
    pub(crate) fn is_sent(&self, from: NodeId, to: NodeId, what: impl Fn(&Body) -> bool) -> bool {
        let messages = self.network.on_link(from, to);
        messages.iter().any(|message| what(&message.body))
    }

    /// The writer's session ends, and the others elect.
    pub(crate) fn depose(&mut self, id: NodeId) {
        self.end_session(id);
        self.settle();
    }

    pub(crate) fn role_at(&self, id: NodeId) -> Option<Epoch> {
        self.replica(id).role_of()
    }

    pub(crate) fn has_noted(&self, id: NodeId, what: impl Fn(&Notable) -> bool) -> bool {
        let notables = self.notables.iter();
        let mut own = notables.filter(|(node, _)| *node == id);
        own.any(|(_, notable)| what(notable))
    }

    pub(crate) fn committed_at(&self, id: NodeId) -> Offset {
        self.replica(id).committed()
    }

    pub(crate) fn end_at(&self, id: NodeId) -> Version {
        self.replica(id).log().end()
    }

    /// No invariant is broken.
    #[track_caller]
    pub(crate) fn assert_fine(&self) {
        assert_eq!(self.trouble, None);
    }
}
