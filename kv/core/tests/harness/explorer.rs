//! Random runs: a seed draws a cluster, how likely each kind of event is, and then events; at the end everything is healed
//! and the cluster is held to what it promised.

use kv_core::{Fencing, Input, Level, NodeId, Notable, RequestId, Timer};

use crate::chance::Chance;
use crate::harness::network::Link;
use crate::harness::service::{Fate, Question};
use crate::harness::{Cluster, SHARD};

/// The rounds after healing within which a write must be acknowledged.
const RECOVERY_ROUNDS_MAX: usize = 60;
const EVENTS_MAX: usize = 400;
/// Voters and write quorums; the interesting ones more often.
const SHAPES: [(u64, usize); 10] = [
    (3, 2),
    (3, 2),
    (3, 2),
    (4, 3),
    (4, 3),
    (4, 2),
    (3, 3),
    (3, 1),
    (2, 2),
    (1, 1),
];

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acknowledged_count: u64,
    pub(crate) rolled_back_count: u64,
    pub(crate) quorum_read_count: u64,
    pub(crate) crash_count: u64,
    /// Snapshots that were taken over.
    pub(crate) install_count: u64,
    /// Disks that lost what they had synced.
    pub(crate) rot_count: u64,
    /// How often a serving writer was asked to go.
    pub(crate) hand_over_count: u64,
    pub(crate) epoch: u64,
    /// The acknowledged writes that the final log lacks.
    pub(crate) lost_count: u64,
}

/// How likely each kind of event is; a seed turns some of them off (swarm testing).
struct Weights([usize; 22]);

const DELIVER: usize = 0;
const CHURN: usize = 17;
const NAMES: [(&str, usize); 22] = [
    ("deliver", 60),
    ("deliver the oldest", 60),
    ("lose", 10),
    ("double", 6),
    ("sync", 40),
    ("question", 40),
    ("news", 40),
    ("timer", 14),
    ("heartbeat", 20),
    ("write", 16),
    ("read", 10),
    ("crash or start", 4),
    ("session", 4),
    ("link", 4),
    ("abandon", 2),
    ("late set, lease", 8),
    ("a round of calm", 3),
    ("churn", 4),
    ("snapshot", 8),
    ("rot", 3),
    ("checkpoint", 8),
    ("hand over", 3),
];

impl Weights {
    fn draw(chance: &mut Chance) -> Self {
        let mut weights = NAMES.map(|(_, weight)| weight);
        for (index, weight) in weights.iter_mut().enumerate() {
            *weight = match index {
                0..=1 | 9 => *weight,
                4..=6 => *weight / [1, 1, 4, 8][chance.below(4)], // Without these nothing happens at all.
                _ => *weight * [0, 1, 1, 3][chance.below(4)],
            };
        }
        weights[CHURN] *= [1, 1, 10][chance.below(3)];
        weights[DELIVER] *= [0, 1, 3][chance.below(3)];
        Self(weights)
    }
}

/// One random run.
pub(crate) struct Run {
    pub(crate) cluster: Cluster,
    chance: Chance,
    crash_count: u64,
    rot_count: u64,
    hand_over_count: u64,
    turns_a_blind_eye: bool,
}

impl Run {
    pub(crate) fn new(seed: u64, fencing: Fencing, with_transcript: bool) -> Self {
        let mut chance = Chance::new(seed);
        let (voter_count, write_quorum) = SHAPES[chance.below(SHAPES.len())];
        let mut cluster = Cluster::new(voter_count, write_quorum, fencing);
        cluster.transcript = with_transcript.then(Vec::new);
        cluster.network.batch = [None, Some(1), Some(2)][chance.below(3)];
        cluster.note(|| format!("{voter_count} voters, write quorum {write_quorum}, {fencing:?}"));
        cluster.start_all();
        if chance.percent(80) {
            cluster.settle();
        }
        Self {
            cluster,
            chance,
            crash_count: 0,
            rot_count: 0,
            hand_over_count: 0,
            turns_a_blind_eye: false,
        }
    }

    /// The same run, in which nobody notices that a disk has lost something.
    pub(crate) fn with_blind_eye(mut self) -> Self {
        self.turns_a_blind_eye = true;
        self
    }

    /// Runs it to its end.
    pub(crate) fn finish(&mut self) -> Result<Tally, String> {
        let weights = Weights::draw(&mut self.chance);
        let event_count = 50 + self.chance.below(EVENTS_MAX);
        for _ in 0..event_count {
            self.event(&weights);
            self.outcome()?;
        }
        self.cluster.heal_everything();
        self.outcome()?;
        let recovered = self.recover();
        if self.cluster.is_strict() {
            recovered?;
            self.converge()?;
            self.answer_everything()?;
        }
        self.outcome()?;
        Ok(self.tally())
    }

    fn outcome(&self) -> Result<(), String> {
        match &self.cluster.trouble {
            Some(trouble) => Err(trouble.clone()),
            None => Ok(()),
        }
    }

    fn tally(&self) -> Tally {
        let ledger = &self.cluster.ledger;
        let writer = self.cluster.writer();
        let lost = writer.map_or(0, |writer| {
            ledger.lost(&self.cluster.nodes[&writer].entries).len()
        });
        let count = |length: usize| u64::try_from(length).unwrap();
        let notables = self.cluster.notables.iter();
        let installed = notables.filter(|(_, it)| matches!(it, Notable::Installed(_)));
        Tally {
            acknowledged_count: count(ledger.acknowledged.len()),
            rolled_back_count: ledger.rolled_back_count,
            quorum_read_count: ledger.quorum_read_count,
            crash_count: self.crash_count,
            install_count: count(installed.count()),
            rot_count: self.rot_count,
            hand_over_count: self.hand_over_count,
            epoch: self.cluster.service.record.epoch.0,
            lost_count: count(lost),
        }
    }

    /// Liveness: once everything is healed, a write is acknowledged within a bounded number of rounds.
    fn recover(&mut self) -> Result<(), String> {
        let mut asked: Option<RequestId> = None;
        for _ in 0..RECOVERY_ROUNDS_MAX {
            self.cluster.pass_round();
            self.outcome()?;
            match asked {
                Some(request) if self.cluster.is_written(request) => return Ok(()),
                Some(request) if self.cluster.ledger.answer(request).is_none() => {}
                _ => {
                    let writer = self.cluster.writer();
                    asked = writer.map(|writer| self.cluster.write_one(writer));
                }
            }
        }
        Err("no write is acknowledged after everything is healed".to_owned())
    }

    /// All logs become one, and it holds what was acknowledged.
    fn converge(&mut self) -> Result<(), String> {
        self.cluster.pass_rounds(8);
        self.outcome()?;
        let Some(writer) = self.cluster.writer() else {
            return Err("the writer is gone again".to_owned());
        };
        let end = self.cluster.end_at(writer);
        for id in self.cluster.ids() {
            let node = &self.cluster.nodes[&id];
            if node.entries != self.cluster.nodes[&writer].entries {
                return Err(format!("the log of {id} is not that of {writer}"));
            }
            if node.applied() != end.offset || self.cluster.committed_at(id) != end.offset {
                return Err(format!("{id} has not applied all up to {end}"));
            }
        }
        let lost = self
            .cluster
            .ledger
            .lost(&self.cluster.nodes[&writer].entries);
        match lost.is_empty() {
            true => Ok(()),
            false => Err(format!("acknowledged, but not in the final log: {lost:?}")),
        }
    }

    /// Whoever still waits is answered at the deadline.
    fn answer_everything(&mut self) -> Result<(), String> {
        for id in self.cluster.ids() {
            let process = self.cluster.nodes[&id].process();
            let waiting = self.cluster.ledger.waiting_at(process);
            if !waiting.is_empty() && self.cluster.replica(id).role_of().is_some() {
                let writes = |id: &&RequestId| {
                    self.cluster.ledger.requests[id].level != Some(Level::Replica)
                };
                if let Some(request) = waiting.iter().find(writes) {
                    return Err(format!("{request} waits though everything is healed"));
                }
            }
            for request in waiting {
                self.cluster.input(id, Input::Abandon(request));
            }
            let waiting = self.cluster.ledger.waiting_at(process);
            if let Some(request) = waiting.first() {
                return Err(format!("{request} is not answered at its deadline"));
            }
        }
        Ok(())
    }

    // Events.

    fn any_node(&mut self) -> NodeId {
        let ids = self.cluster.ids();
        ids[self.chance.below(ids.len())]
    }

    fn event(&mut self, weights: &Weights) {
        let id = self.any_node();
        match self.chance.weighted(&weights.0) {
            0 => self.deliver(false),
            1 => self.deliver(true),
            2 => {
                let flights = &mut self.cluster.network.flights;
                if !flights.is_empty() {
                    flights.remove(self.chance.below(flights.len()));
                }
            }
            3 => {
                let flights = &mut self.cluster.network.flights;
                if let Some(flight) = self.chance.pick(flights).cloned() {
                    flights.push(flight);
                }
            }
            4 => self.sync(id),
            5 => self.question(),
            6 => self.news(id),
            7 => {
                let timers: Vec<_> = self.cluster.nodes[&id].timers.keys().copied().collect();
                if let Some(timer) = self.chance.pick(&timers) {
                    self.cluster.fire(id, *timer);
                }
            }
            8 => self.cluster.fire(id, Timer::Heartbeat),
            9 => self.write(),
            10 => self.read(id),
            11 => self.crash_or_start(id),
            12 if self.cluster.service.sessions.contains_key(&id) && self.chance.percent(60) => {
                self.cluster.end_session(id);
            }
            12 if self.cluster.is_up(id) => self.cluster.open_session(id),
            13 => self.link(id),
            14 => self.abandon(id),
            15 => self.rest(id),
            16 => self.cluster.pass_round(),
            17 => self.churn(),
            18 => {
                self.cluster.install(id);
            }
            19 => self.rot(id),
            20 => self.checkpoint(id),
            21 => self.hand_over(id),
            _ => {}
        }
    }

    fn deliver(&mut self, oldest: bool) {
        let network = &self.cluster.network;
        let moves = |index: &usize| {
            let flight = &network.flights[*index];
            !network.links.contains_key(&(flight.from, flight.to))
        };
        let movable: Vec<_> = (0..network.flights.len()).filter(moves).collect();
        let index = match oldest {
            true => movable.first(),
            false => self.chance.pick(&movable),
        };
        if let Some(index) = index {
            self.cluster.deliver(*index);
        }
    }

    fn sync(&mut self, id: NodeId) {
        let unsynced_count = self.cluster.nodes[&id].unsynced.len();
        if unsynced_count > 0 {
            let count = match self.chance.percent(50) {
                true => unsynced_count,
                false => 1 + self.chance.below(unsynced_count),
            };
            self.cluster.sync(id, count);
        }
    }

    fn question(&mut self) {
        let service = &self.cluster.service;
        let reaches = |index: &usize| !self.cluster.cut_off.contains(&service.questions[*index].0);
        let open: Vec<_> = (0..service.questions.len()).filter(reaches).collect();
        if let Some(index) = self.chance.pick(&open).copied() {
            let is_set = matches!(service.questions[index].1, Question::Set { .. });
            let fate = match is_set && self.chance.percent(25) {
                true => [Fate::AnswerLost, Fate::Lost, Fate::Late][self.chance.below(3)],
                false => Fate::Answered,
            };
            self.cluster.serve_question(index, fate);
        }
    }

    fn news(&mut self, id: NodeId) {
        if self.cluster.cut_off.contains(&id) || !self.cluster.is_up(id) {
            return;
        }
        let (inbox_count, session_count) = {
            let node = &self.cluster.nodes[&id];
            (node.inbox.len(), node.session_news.len())
        };
        let drawn = self.chance.below(inbox_count + session_count + 1);
        match drawn {
            drawn if drawn < inbox_count => self.cluster.take_news(id, drawn),
            _ => self.cluster.take_session_news(id),
        }
    }

    fn write(&mut self) {
        let ids = self.cluster.ids();
        let has_role = |id: &&NodeId| {
            self.cluster.is_up(**id) && self.cluster.replica(**id).role_of().is_some()
        };
        let writers: Vec<_> = ids.iter().filter(has_role).copied().collect();
        let id = match self.chance.percent(95) {
            true => self.chance.pick(&writers).copied(),
            false => self.chance.pick(&ids).copied(),
        };
        if let Some(id) = id
            && self.cluster.is_up(id)
        {
            let count = 1 + self.chance.below(3);
            self.cluster.write(id, "k", count);
        }
    }

    fn read(&mut self, id: NodeId) {
        let writers: Vec<_> = self.cluster.ids();
        let serves = |id: &NodeId| {
            self.cluster.is_up(*id) && self.cluster.replica(*id).writer_of().is_some()
        };
        let writers: Vec<_> = writers.into_iter().filter(serves).collect();
        let to = self.chance.pick(&writers).copied().unwrap_or(id);
        if !self.cluster.is_up(to) {
            return;
        }
        let level = [
            Level::Quorum,
            Level::Quorum,
            Level::Lease,
            Level::Local,
            Level::Replica,
        ];
        let level = level[self.chance.below(level.len())];
        let token = self.cluster.ledger.acknowledged.keys().next_back().copied();
        self.cluster.read(to, level, token);
    }

    fn crash_or_start(&mut self, id: NodeId) {
        if !self.cluster.is_up(id) {
            self.cluster.start(id);
            if self.chance.percent(80) {
                self.cluster.open_session(id);
            }
        } else if self.chance.percent(60) {
            self.crash_count += 1;
            self.cluster.crash(id);
            if self.chance.percent(50) {
                self.cluster.end_session(id);
            }
        }
    }

    fn link(&mut self, id: NodeId) {
        let other = self.any_node();
        let network = &mut self.cluster.network;
        match self.chance.below(8) {
            0 => network.set(id, other, Link::Cut),
            1 => network.set(id, other, Link::Held),
            2 => self.cluster.isolate(id, Link::Held),
            3 => self.cluster.isolate(id, Link::Cut),
            4 => self.cluster.rejoin(id),
            5 => {
                self.cluster.cut_off.insert(id);
            }
            6 => self.cluster.cut_off.clear(),
            _ => network.links.clear(),
        }
    }

    /// A writer that reaches one of the others at most is deposed, one of the others is silent, and the election goes on until
    /// a little after somebody is promoted: this is how logs come to differ.
    fn churn(&mut self) {
        let ids = self.cluster.ids();
        let has_role = |id: &&NodeId| {
            self.cluster.is_up(**id) && self.cluster.replica(**id).role_of().is_some()
        };
        let writers: Vec<_> = ids.iter().filter(has_role).copied().collect();
        self.cluster.network.links.clear();
        if self.chance.percent(60) {
            let silent = self.any_node();
            self.cluster.isolate(silent, Link::Cut);
        }
        if let Some(writer) = self.chance.pick(&writers).copied() {
            let other = self.any_node();
            self.cluster.isolate(writer, Link::Cut);
            if self.chance.percent(50) {
                self.cluster.network.heal(writer, other);
            }
            if self.chance.percent(50) {
                self.cluster.write(writer, "k", 1);
            }
            for _ in 0..self.chance.below(6) {
                self.cluster.settle_one();
            }
            self.cluster.end_session(writer);
        }
        for id in ids {
            let is_up = self.cluster.is_up(id);
            if is_up && !self.cluster.service.sessions.contains_key(&id) && self.chance.percent(80)
            {
                self.cluster.open_session(id);
            }
        }
        let before = self.cluster.invariants.newest_writer(SHARD);
        for _ in 0..80 {
            self.cluster.settle_one();
            if self.cluster.invariants.newest_writer(SHARD) != before {
                break;
            }
        }
        for _ in 0..self.chance.below(12) {
            self.cluster.settle_one();
        }
    }

    /// The engine flushes; often the log forgets what the engine has.
    fn checkpoint(&mut self, id: NodeId) {
        if self.cluster.is_up(id) {
            let trims = self.chance.percent(70) && self.cluster.is_strict();
            let node = self.cluster.node(id);
            node.flush();
            if trims {
                node.trimmed = node.applied();
            }
        }
    }

    fn hand_over(&mut self, id: NodeId) {
        if self.cluster.is_up(id) {
            self.hand_over_count += u64::from(self.cluster.replica(id).writer_of().is_some());
            self.cluster.input(id, Input::HandOver);
        }
    }

    /// One disk at a time loses what it had synced, and none where a single disk is a quorum.
    fn rot(&mut self, id: NodeId) {
        let is_whole = |id: &NodeId| !self.cluster.nodes[id].disk.suspect;
        let all_whole = self.cluster.ids().iter().all(is_whole);
        let write_quorum = self.cluster.service.record.write_quorum;
        if !self.cluster.is_strict() || !all_whole || write_quorum == 1 || self.cluster.is_up(id) {
            return;
        }
        let disk = &self.cluster.nodes[&id].disk;
        let (held, promised) = (disk.entries.len(), disk.promised.0);
        let kept = self.chance.below(held + 1);
        let promised = self.chance.below(usize::try_from(promised).unwrap() + 1);
        let promised = kv_core::Epoch(u64::try_from(promised).unwrap());
        self.cluster.rot(id, kept, promised);
        self.cluster.node(id).disk.suspect = !self.turns_a_blind_eye;
        self.rot_count += 1;
    }

    fn abandon(&mut self, id: NodeId) {
        let process = self.cluster.nodes[&id].process();
        let waiting = self.cluster.ledger.waiting_at(process);
        if self.cluster.is_up(id)
            && let Some(request) = self.chance.pick(&waiting)
        {
            self.cluster.input(id, Input::Abandon(*request));
        }
    }

    fn rest(&mut self, id: NodeId) {
        match self.chance.below(2) {
            0 if !self.cluster.service.late.is_empty() => {
                let index = self.chance.below(self.cluster.service.late.len());
                self.cluster.set_late(index);
            }
            1 if self.cluster.is_up(id) => {
                let replica = self.cluster.replica(id).session();
                let session = self.cluster.service.sessions.get(&id).copied();
                if replica.is_some() && replica == session {
                    let holds = !self.cluster.nodes[&id].lease;
                    self.cluster.set_lease(id, holds);
                }
            }
            _ => {}
        }
    }
}
