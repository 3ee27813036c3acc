//! A cluster in memory: replicas, disks, a network and a coordination service, all moved by hand.
//!
//! It performs the effects as the driver's duties in the crate's documentation say. Nothing moves by itself: a test (or a
//! seeded generator) delivers, drops and doubles messages, syncs disks, fires timers, answers questions, crashes nodes.
//! Everything that happens is checked as it happens, and the first trouble is kept.

pub(crate) mod ledger;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod service;
pub(crate) mod story;
pub(crate) mod words;

use std::collections::{BTreeMap, BTreeSet};

use kv_core::invariants::{Invariants, Process};
use kv_core::{
    Body, Effect, Epoch, Fencing, Input, Level, Message, NodeId, Notable, Offset, Operation,
    Replica, RequestId, ShardId, Timer, Version, election_quorum,
};

use ledger::{Answer, Ledger};
use network::Network;
use node::{Durable, Node};
use service::{Fate, Question, Service};

/// The shard that all tests are about.
pub(crate) const SHARD: ShardId = ShardId(1);

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) fencing: Fencing,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) service: Service,
    pub(crate) network: Network,
    pub(crate) ledger: Ledger,
    pub(crate) invariants: Invariants,
    /// What the replicas found worth writing down.
    pub(crate) notables: Vec<(NodeId, Notable)>,
    /// Disks that sync only by hand.
    pub(crate) slow_disks: BTreeSet<NodeId>,
    /// Nodes that do not reach the coordination service.
    pub(crate) cut_off: BTreeSet<NodeId>,
    /// The first thing that went wrong.
    pub(crate) trouble: Option<String>,
    /// What happened, where somebody wants to read it.
    pub(crate) transcript: Option<Vec<String>>,
    pub(crate) round: u64,
}

impl Cluster {
    /// Voters n1 to nN, all of them down, and a record without a writer.
    pub(crate) fn new(voter_count: u64, write_quorum: usize, fencing: Fencing) -> Self {
        let voters: BTreeSet<_> = (1..=voter_count).map(NodeId).collect();
        let election_quorum = election_quorum(voters.len(), write_quorum, None).unwrap();
        Self {
            fencing,
            nodes: voters.iter().map(|id| (*id, Node::new(*id))).collect(),
            service: Service::new(&voters, write_quorum, election_quorum, fencing),
            network: Network::default(),
            ledger: Ledger::default(),
            invariants: Invariants::default(),
            notables: Vec::new(),
            slow_disks: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            trouble: None,
            transcript: None,
            round: 0,
        }
    }

    /// Whether what only the fenced protocol promises is checked.
    pub(crate) fn is_strict(&self) -> bool {
        self.fencing == Fencing::Epoch
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.nodes[&id].replica.is_some()
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(crate) fn replica(&self, id: NodeId) -> &Replica {
        self.nodes[&id].replica.as_ref().unwrap()
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push(line());
        }
    }

    pub(crate) fn check<E: std::fmt::Display>(&mut self, result: Result<(), E>) {
        if let Err(trouble) = result
            && self.trouble.is_none()
        {
            self.note(|| format!("!! {trouble}"));
            self.trouble = Some(trouble.to_string());
        }
    }

    // Inputs.

    /// Gives a node an input and performs the effects.
    pub(crate) fn input(&mut self, id: NodeId, input: Input) {
        if !self.is_up(id) {
            return;
        }
        self.note(|| words::input(id, &input));
        let mut effects = Vec::new();
        let replica = self.node(id).replica.as_mut();
        replica.unwrap().step(input, &mut effects);
        for effect in effects {
            self.perform(id, effect);
        }
    }

    /// Syncs the oldest durable effects of a node.
    pub(crate) fn sync(&mut self, id: NodeId, count: usize) {
        let node = self.node(id);
        let count = count.min(node.unsynced.len());
        node.sync(count);
        if count > 0 {
            self.input(id, Input::Synced(count));
        }
    }

    /// Fires a timer, if it is set.
    pub(crate) fn fire(&mut self, id: NodeId, timer: Timer) {
        if self.node(id).timers.remove(&timer).is_some() {
            self.input(id, Input::Timer(timer));
        }
    }

    /// A client asks a node for writes, each of a value of its own.
    pub(crate) fn write(&mut self, id: NodeId, key: &'static str, count: usize) -> Vec<RequestId> {
        let to = self.nodes[&id].process();
        let requests: Vec<_> = (0..count).map(|_| self.ledger.open(to, None)).collect();
        let set = |request: &RequestId| Operation::Set {
            key: key.into(),
            value: Ledger::value(*request),
        };
        let writes = requests.iter().map(|request| (*request, set(request)));
        let writes = writes.collect();
        self.input(id, Input::Write(writes));
        requests
    }

    /// A client reads.
    pub(crate) fn read(&mut self, id: NodeId, level: Level, token: Option<Version>) -> RequestId {
        let to = self.nodes[&id].process();
        let request = self.ledger.open(to, Some(level));
        self.input(
            id,
            Input::Read {
                request,
                level,
                token,
            },
        );
        request
    }

    /// A node has fetched all of a snapshot, and takes it over. Says whether there was one of use.
    pub(crate) fn install(&mut self, id: NodeId) -> bool {
        if !self.is_up(id) {
            return false;
        }
        let Some(names) = self.node(id).install() else {
            return false;
        };
        self.note(|| format!("{id} installs a snapshot up to {}", names.end()));
        self.input(id, Input::Installed(names));
        let upto = self.nodes[&id].applied();
        self.committed(id, Offset::ZERO, upto);
        true
    }

    // Faults.

    /// The disk of a node that is down loses synced entries above `kept`, and all promises above `promised`; the damage is noticed.
    pub(crate) fn rot(&mut self, id: NodeId, kept: usize, promised: Epoch) {
        assert!(!self.is_up(id), "what is lost is found out at the start");
        self.note(|| {
            format!(
                "the disk of {id} loses all above {kept}, and what was promised above {promised}"
            )
        });
        let disk = &mut self.node(id).disk;
        disk.entries.truncate(kept.max(disk.checkpoint.len()));
        disk.promised = disk.promised.min(promised);
        disk.suspect = true;
    }

    /// Power loss.
    pub(crate) fn crash(&mut self, id: NodeId) {
        self.note(|| format!("{id} crashes"));
        self.node(id).crash();
        self.service.forget(id);
    }

    /// Starts a node that is down, without a session yet.
    pub(crate) fn start(&mut self, id: NodeId) {
        self.note(|| format!("{id} starts"));
        let fencing = self.fencing;
        self.node(id).start(fencing);
        let (process, promised) = (self.nodes[&id].process(), self.nodes[&id].disk.promised);
        let kept = self.invariants.promised(SHARD, process, promised);
        if self.is_strict() && !self.nodes[&id].disk.suspect {
            self.check(kept);
        }
        let applied = self.nodes[&id].applied();
        self.committed(id, Offset::ZERO, applied);
        self.service.ask(id, Question::Record);
    }

    /// Ends the session of a node; the node learns of it when the news arrives.
    pub(crate) fn end_session(&mut self, id: NodeId) {
        if !self.service.sessions.contains_key(&id) {
            return;
        }
        if self.nodes[&id].lease {
            self.set_lease(id, false); // R16: clocks see to it that the lease ends first.
        }
        self.note(|| format!("the session of {id} ends"));
        let granted = self.service.end_session(id);
        self.grant(granted);
        self.node(id).session_news.push_back(None);
        self.tell_everybody();
    }

    /// Gives a node a new session.
    pub(crate) fn open_session(&mut self, id: NodeId) {
        self.end_session(id);
        let session = self.service.open_session(id);
        self.note(|| format!("{id} gets session {session}"));
        self.node(id).session_news.push_back(Some(session));
        self.tell_everybody();
    }

    pub(crate) fn set_lease(&mut self, id: NodeId, holds: bool) {
        self.node(id).lease = holds;
        self.input(id, Input::Lease(holds));
    }

    // The coordination service at work.

    /// Answers a question that was asked.
    pub(crate) fn serve_question(&mut self, index: usize, fate: Fate) {
        let (id, question) = self.service.questions.remove(index);
        let answer = match question {
            Question::Record => Input::Record(self.service.observe()),
            Question::Set { revision, record } => {
                self.note(|| format!("{id}'s set on revision {revision}: {fate:?}"));
                let unknown = Input::Set(kv_core::SetResult::Unknown);
                match fate {
                    Fate::Answered => Input::Set(self.set(revision, record)),
                    Fate::AnswerLost => {
                        self.set(revision, record);
                        unknown
                    }
                    Fate::Lost => unknown,
                    Fate::Late => {
                        self.service.late.push((revision, record));
                        unknown
                    }
                }
            }
        };
        self.node(id).inbox.push_back(answer);
    }

    /// Tries a conditional set that nobody waits for any more.
    pub(crate) fn set_late(&mut self, index: usize) {
        let (revision, record) = self.service.late.remove(index);
        self.note(|| format!("a late set on revision {revision}"));
        self.set(revision, record);
    }

    fn set(&mut self, revision: u64, record: kv_core::ShardRecord) -> kv_core::SetResult {
        let result = self.service.set(revision, record);
        if matches!(result, kv_core::SetResult::Done(_)) {
            let seen = self.service.observe();
            self.note(|| words::record(&seen));
            self.tell_everybody();
        }
        result
    }

    fn tell_everybody(&mut self) {
        for id in self.nodes.keys() {
            if self.is_up(*id) {
                self.service.ask(*id, Question::Record);
            }
        }
    }

    fn grant(&mut self, granted: Option<NodeId>) {
        if let Some(id) = granted {
            self.node(id).inbox.push_back(Input::Lock(true));
        }
    }

    /// Gives a node the news that waits at an index of its inbox.
    pub(crate) fn take_news(&mut self, id: NodeId, index: usize) {
        if let Some(input) = self.node(id).inbox.remove(index) {
            self.input(id, input);
        }
    }

    /// Gives a node the oldest news of its session.
    pub(crate) fn take_session_news(&mut self, id: NodeId) {
        if let Some(session) = self.node(id).session_news.pop_front() {
            self.input(id, Input::Session(session));
        }
    }

    // Effects.

    fn perform(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Append(entries) => self.node(id).write(Durable::Append(entries)),
            Effect::Truncate { after } => self.node(id).write(Durable::Truncate(after)),
            Effect::Promise(epoch) => self.node(id).write(Durable::Promise(epoch)),
            Effect::Send { to, message } => {
                self.told(id, message.epoch, &message.body);
                self.network.send(id, to, message);
            }
            Effect::Ship {
                to,
                epoch,
                prev,
                last,
                committed,
            } => {
                let node = &self.nodes[&id];
                if prev.offset < node.trimmed && prev.offset < last {
                    let at = node.disk.checkpoint.last().unwrap().version;
                    let body = Body::Offer { at, bytes: 0 };
                    self.network.send(id, to, Message { epoch, body });
                } else {
                    let entries = &node.entries;
                    self.network
                        .ship((id, to), epoch, prev, last, committed, entries);
                }
            }
            Effect::Restart(log) => {
                let entries = self.nodes[&id].disk.checkpoint.clone();
                let names: Vec<_> = entries.iter().map(|entry| entry.version).collect();
                assert_eq!(log.end(), names.last().copied().unwrap());
                self.node(id).write(Durable::Restart(entries));
            }
            Effect::DeclareWhole => self.node(id).disk.suspect = false,
            Effect::Fetch {
                from, at, epoch, ..
            } => {
                let covered = usize::try_from(at.offset.0).unwrap();
                let entries = self.nodes[&from].disk.checkpoint.get(..covered);
                if let Some(entries) = entries.filter(|it| it.last().unwrap().version == at) {
                    let entries = entries.to_vec();
                    self.node(id).fetched = Some(entries);
                    let body = Body::Fetch { at, position: 0 };
                    self.network.send(id, from, Message { epoch, body });
                }
            }
            Effect::ShipSnapshot { .. } | Effect::Store { .. } => {}
            Effect::Apply { upto } => {
                let before = self.nodes[&id].applied();
                self.node(id).apply(upto);
                self.committed(id, before, upto);
            }
            Effect::Rewind { after } => self.node(id).rewind(after),
            Effect::Serve { request, level } => self.serve(id, request, level),
            Effect::Reply { request, reply } => {
                self.answered(id, request, Answer::Reply(reply));
            }
            Effect::SetTimer(timer) => {
                let due = self.round + story::delay(id, timer);
                self.node(id).timers.insert(timer, due);
            }
            Effect::CancelTimer(timer) => {
                self.node(id).timers.remove(&timer);
            }
            Effect::Lock if self.service.sessions.contains_key(&id) => {
                let granted = self.service.wait_for_lock(id);
                self.grant(granted);
            }
            Effect::Lock => self.node(id).inbox.push_back(Input::Lock(false)),
            Effect::Unlock => {
                let granted = self.service.unlock(id);
                self.grant(granted);
            }
            Effect::ReadRecord => self.service.ask(id, Question::Record),
            Effect::SetRecord { revision, record } => {
                self.service.ask(id, Question::Set { revision, record });
            }
            Effect::Observe(notable) => self.observe(id, notable),
        }
    }

    fn serve(&mut self, id: NodeId, request: RequestId, level: Level) {
        let node = &self.nodes[&id];
        let applied = node.applied();
        let last = match applied {
            Offset::ZERO => Version::ZERO,
            _ => node.entry(applied).version,
        };
        let value = node.engine.values.get(&b"k"[..]);
        let value = value.and_then(|(_, value)| value.clone());
        let answer = Answer::Served {
            level,
            applied: last,
            value,
        };
        self.answered(id, request, answer);
    }

    fn answered(&mut self, id: NodeId, request: RequestId, answer: Answer) {
        self.note(|| words::answer(id, request, &answer));
        let strict = self.is_strict();
        let result = self.ledger.answered(request, answer, strict);
        self.check(result);
    }

    /// Whoever gets this answer counts on the promise behind it.
    fn told(&mut self, id: NodeId, epoch: Epoch, body: &Body) {
        let counts = matches!(
            body,
            Body::Sealed { .. }
                | Body::Prepared { .. }
                | Body::Committed { .. }
                | Body::Refused { .. }
        );
        if counts && self.is_strict() {
            self.invariants.sealed(SHARD, id, epoch);
            if self.nodes[&id].disk.promised < epoch {
                self.check(Err(format!(
                    "{id} answers in {epoch} before its promise is synced"
                )));
            }
        }
        if let Body::Prepared { upto, .. } = body
            && self.is_strict()
        {
            let node = &self.nodes[&id];
            let upto = usize::try_from(upto.0).unwrap();
            if node.disk.log().get(..upto) != node.entries.get(..upto) {
                self.check(Err(format!(
                    "{id} says that it holds {upto}, which is not synced"
                )));
            }
        }
    }

    fn committed(&mut self, id: NodeId, after: Offset, upto: Offset) {
        let strict = self.is_strict();
        let process: Process = self.nodes[&id].process();
        for offset in after.0 + 1..=upto.0 {
            let node = &self.nodes[&id];
            let entry = node.entry(Offset(offset)).clone();
            let hash = node.engine.chains[usize::try_from(offset).unwrap() - 1];
            let agreed = self
                .invariants
                .committed(SHARD, process, entry.version, hash);
            if strict {
                self.check(agreed);
            }
            let result = self.ledger.committed(&entry, strict);
            self.check(result);
        }
    }

    fn observe(&mut self, id: NodeId, notable: Notable) {
        self.note(|| words::notable(id, &notable));
        let process = self.nodes[&id].process();
        let log = self.nodes[&id].replica.as_ref().unwrap().log().clone();
        let result = match &notable {
            Notable::Promoted(epoch) | Notable::RolledBack { epoch, .. } => {
                self.invariants.promoted(SHARD, *epoch, process, Some(&log))
            }
            Notable::Promised(epoch) => self.invariants.promised(SHARD, process, *epoch),
            Notable::Truncated { after } => self.invariants.truncated(SHARD, process, *after),
            _ => Ok(()),
        };
        if self.is_strict() {
            self.check(result);
            if let Notable::Contradicted { offset, from } = &notable {
                self.check(Err(format!(
                    "{id} hears from {from} against {offset}, which is committed"
                )));
            }
        }
        self.notables.push((id, notable));
    }
}
