//! The coordination service: one shard record with a revision, sessions, and a lock.
//!
//! What it can do wrong: a conditional set may happen or not while its answer is lost, and it may happen long after that;
//! a read may be answered late; a session may end at any time, and its node may learn of it much later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kv_core::{
    Epoch, Fencing, NodeId, Observed, SessionId, SetResult, ShardId, ShardRecord, SlotRange,
};

/// What a node has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Record,
    Set { revision: u64, record: ShardRecord },
}

/// What becomes of a conditional set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is tried and answered.
    Answered,
    /// It is tried, and nobody learns how it ended.
    AnswerLost,
    /// It never happens, and nobody learns that.
    Lost,
    /// Nobody learns how it ended, and it is tried later.
    Late,
}

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) revision: u64,
    pub(crate) record: ShardRecord,
    pub(crate) sessions: BTreeMap<NodeId, SessionId>,
    sessions_count: u64,
    pub(crate) lock: Option<NodeId>,
    waiting: VecDeque<NodeId>,
    pub(crate) questions: Vec<(NodeId, Question)>,
    /// Sets that were given up by whoever asked, and may happen yet.
    pub(crate) late: Vec<(u64, ShardRecord)>,
}

impl Service {
    pub(crate) fn new(
        voters: &BTreeSet<NodeId>,
        write_quorum: usize,
        election_quorum: usize,
        fencing: Fencing,
    ) -> Self {
        Self {
            revision: 1,
            record: ShardRecord {
                shard: ShardId(1),
                epoch: Epoch(0),
                writer: None,
                released_by: None,
                voters: voters.clone(),
                write_quorum,
                election_quorum,
                slots: SlotRange::new(0, 1024).into_iter().collect(),
                fencing,
            },
            sessions: BTreeMap::new(),
            sessions_count: 0,
            lock: None,
            waiting: VecDeque::new(),
            questions: Vec::new(),
            late: Vec::new(),
        }
    }

    /// The record, and whether the writer that it names is registered.
    pub(crate) fn observe(&self) -> Observed {
        let writer = self.record.writer.map(|writer| writer.node);
        Observed {
            revision: self.revision,
            record: self.record.clone(),
            writer_session: writer.and_then(|writer| self.sessions.get(&writer).copied()),
        }
    }

    /// Tries a conditional set.
    pub(crate) fn set(&mut self, revision: u64, record: ShardRecord) -> SetResult {
        if revision != self.revision {
            return SetResult::Conflict;
        }
        self.revision += 1;
        self.record = record;
        SetResult::Done(self.revision)
    }

    pub(crate) fn open_session(&mut self, node: NodeId) -> SessionId {
        self.sessions_count += 1;
        let session = SessionId(self.sessions_count);
        self.sessions.insert(node, session);
        session
    }

    /// Ends a session; returns who has the lock now, if that is somebody new.
    pub(crate) fn end_session(&mut self, node: NodeId) -> Option<NodeId> {
        self.sessions.remove(&node);
        self.unlock(node)
    }

    /// Asks for the lock; returns who has it now, if that is somebody new.
    pub(crate) fn wait_for_lock(&mut self, node: NodeId) -> Option<NodeId> {
        if !self.waiting.contains(&node) {
            self.waiting.push_back(node);
        }
        self.grant()
    }

    /// Gives the lock up; returns who has it now, if that is somebody new.
    pub(crate) fn unlock(&mut self, node: NodeId) -> Option<NodeId> {
        self.waiting.retain(|waiting| *waiting != node);
        if self.lock == Some(node) {
            self.lock = None;
        }
        self.grant()
    }

    fn grant(&mut self) -> Option<NodeId> {
        if self.lock.is_some() {
            return None;
        }
        self.lock = self.waiting.pop_front();
        self.lock
    }

    pub(crate) fn ask(&mut self, node: NodeId, question: Question) {
        let known =
            question == Question::Record && self.questions.contains(&(node, Question::Record));
        if !known {
            self.questions.push((node, question));
        }
    }

    /// The node is down: its questions get no answer, but its sets may happen yet.
    pub(crate) fn forget(&mut self, node: NodeId) {
        for (from, question) in std::mem::take(&mut self.questions) {
            match question {
                question if from != node => self.questions.push((from, question)),
                Question::Set { revision, record } => self.late.push((revision, record)),
                Question::Record => {}
            }
        }
    }
}
