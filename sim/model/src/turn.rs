//! One member's turn: an input goes into the real replica, and what comes out is performed as the driver's duties say.
//!
//! What a member asks of the coordination service is answered within the turn where the delay makes no difference, so that it
//! is no state of its own: the lock and the reading of the record (nothing but the conditional set depends on the time between),
//! and the sets of an election (a delay before the set is a delay of the message that led to it). The set of a rollback takes
//! place in an action of its own: the writer may commit in between (R9).

use std::collections::VecDeque;

use kv_core::invariants::{Process, Violation, chain, told};
use kv_core::planted::Bug;
use kv_core::{
    Body, Effect, Epoch, Input, Level, Message, NodeId, Notable, Offset, Recovered, Refused,
    Replica, Reply, SetResult, ShardId, Timer, Version,
};

use crate::bounds::Bounds;
use crate::draft::{Changes, Draft, Drafted};
use crate::ledger::{Broken, Ledger, Placed, Promise};
use crate::marks::{Mark, Marks};
use crate::memo::{self, Asked, Disk, Step};
use crate::network::{Envelope, Network};
use crate::service::{Service, place};
use crate::shared::{Part, Shared};
use crate::state::{Left, Member};
use crate::symmetry::Permutation;
use crate::wal::{Durable, Item, chain_upto, length, offset_of, range};

/// The shard that the model is about.
pub const SHARD: ShardId = ShardId(1);

/// A state in the making.
pub struct Turn<'a> {
    bounds: &'a Bounds,
    marks: &'a Marks,
    before: &'a Draft,
    node: NodeId,
    /// Whether what becomes due for the disk waits for a sync of its own.
    slow: bool,
    inputs: VecDeque<Input>,
    /// Whether anything was asked of the disk in this turn.
    pub asked_disk: bool,
    /// Whether anything happened beyond what a member notes for itself and what it sends.
    pub is_visible: bool,
    /// A bound was exceeded: this turn does not happen.
    pub out_of_bounds: bool,
    /// The member.
    pub member: Part<'a, Member>,
    /// The network.
    pub network: Part<'a, Network>,
    /// The other members, and this one as it was.
    members: Drafted<'a>,
    /// The service.
    pub service: Part<'a, Service>,
    /// The ledger.
    pub ledger: Part<'a, Ledger>,
    /// What is left of the bounds.
    pub left: Left,
    /// What was broken.
    pub broken: Broken,
    /// What happened, for a story.
    pub notes: Vec<String>,
}

impl<'a> Turn<'a> {
    /// The turn of a member.
    pub fn new(
        bounds: &'a Bounds,
        marks: &'a Marks,
        before: &'a Draft,
        node: NodeId,
        slow: bool,
    ) -> Self {
        let member = before.members[place(node)].lend();
        Self {
            bounds,
            marks,
            before,
            node,
            slow: slow || !member.unsynced.is_empty(),
            inputs: VecDeque::new(),
            asked_disk: false,
            is_visible: false,
            out_of_bounds: false,
            member,
            network: before.network.lend(),
            members: before.members.iter().map(Part::lend).collect(),
            service: Part::Old(before.service),
            ledger: before.ledger.lend(),
            left: before.left,
            broken: before.broken,
            notes: Vec::new(),
        }
    }

    /// Puts an input in, and all that follows from it at once.
    pub fn input(&mut self, input: Input) {
        match self.inputs.is_empty() && !self.out_of_bounds {
            true => self.step(input),
            false => self.inputs.push_back(input),
        }
        self.go_on();
    }

    /// The disk syncs at once from here on.
    pub fn be_quick(&mut self) {
        self.slow = false;
    }

    /// The process dies and comes back with what its disk holds.
    pub fn restart(&mut self, node: NodeId) {
        let disk = self.member.disk.clone();
        let recovered = Recovered {
            node,
            fencing: self.bounds.fencing,
            promised: disk.promised,
            log: disk.recovered(),
            applied: Offset::ZERO,
            suspect: false,
        };
        let gone = self.process();
        self.ledger.invariants.ended(SHARD, gone);
        let member = Member {
            replica: Shared::new(Replica::new(recovered)),
            incarnation: self.member.incarnation + 1,
            sessions: self.member.sessions,
            log: disk.log.clone(),
            disk,
            unsynced: Vec::new(),
            applied: Offset::ZERO,
            lease: false,
            proposal: None,
            backs_off: false,
        };
        *self.member = member;
        self.slow = false;
        self.ledger.reads.retain(|(at, _, _)| *at != node);
        let (process, promised) = (self.process(), self.member.replica.promised());
        let result = self.ledger.invariants.promised(SHARD, process, promised);
        self.check(result);
    }

    /// The session of another member ends; its lease has ended before, where clocks are good.
    pub fn end_session(&mut self, other: NodeId) {
        self.service.end_session(other);
        if !self.bounds.bad_clocks {
            self.members[place(other)].lease = false;
        }
    }

    /// Whatever follows at once.
    pub fn go_on(&mut self) {
        while !self.out_of_bounds {
            match self.inputs.pop_front() {
                Some(input) => self.step(input),
                None if !self.slow && !self.member.unsynced.is_empty() => self.sync(),
                None => break,
            }
        }
    }

    /// Everything that was asked for is durable.
    pub fn sync(&mut self) {
        let synced = self.sync_disk();
        self.inputs.push_back(Input::Synced(synced));
    }

    fn sync_disk(&mut self) -> usize {
        let unsynced = std::mem::take(&mut self.member.unsynced);
        for durable in &unsynced {
            self.member.disk.apply(durable);
        }
        unsynced.len()
    }

    fn step(&mut self, input: Input) {
        let is_next = self.inputs.is_empty() && self.member.unsynced.is_empty();
        let disk = match self.slow || !is_next {
            true => Disk::Later,
            false => Disk::AtOnce,
        };
        let step = memo::step(&self.member.replica, input, disk);
        self.perform_all(&step);
    }

    /// A message or the record arrives, which leads to this step.
    pub(crate) fn arrive(&mut self, step: &Step) {
        self.perform_all(step);
        self.go_on();
    }

    /// A message arrives where names are the other way round.
    pub fn deliver_mirrored(&mut self, envelope: &Shared<Envelope>) {
        let mirror = Permutation::reversal(self.members.len());
        let step = memo::deliver_mirrored(&self.member.replica, envelope, &mirror);
        self.perform_all(&step);
        self.go_on();
    }

    fn perform_all(&mut self, step: &Step) {
        let Some(replica) = &step.replica else {
            self.broken.insert(Promise::Assertions);
            self.notes.push("an assertion of the core fails".to_owned());
            self.inputs.clear();
            return;
        };
        if replica.hash_value() != self.member.replica.hash_value() {
            self.member.replica = *replica;
        }
        for asked in &step.asked {
            self.perform(asked);
        }
    }

    fn perform(&mut self, asked: &Asked) {
        let effect = match asked {
            Asked::Send(envelope) => return self.send(envelope),
            Asked::Synced => {
                self.sync_disk();
                return;
            }
            Asked::Other(effect) => &**effect,
        };
        let is_refused_lock = *effect == Effect::Lock && self.service.lock.is_some();
        self.is_visible |= !is_refused_lock && !memo::is_note(asked, &self.member.replica);
        match *effect {
            Effect::Append(ref entries) => {
                let items: Vec<_> = entries.iter().map(Item::of).collect();
                self.member.log.extend(items.iter().copied());
                self.ask_disk(Durable::Append(items));
            }
            Effect::Truncate { after } => {
                self.member.log.truncate(length(after));
                self.ask_disk(Durable::Truncate(after));
                self.marks.hit(Mark::Truncated);
            }
            Effect::Promise(epoch) => self.ask_disk(Durable::Promise(epoch)),
            Effect::Ship {
                to,
                epoch,
                prev,
                last,
                committed,
            } => {
                let ends = (prev.offset, last);
                if self.bounds.prunes()
                    && self
                        .network
                        .has_shipped(self.node, to, epoch, ends, committed)
                {
                    return;
                }
                let entries = range(&self.member.log, prev.offset, last);
                let body = Body::Prepare {
                    prev,
                    entries,
                    committed,
                };
                let (from, message) = (self.node, Message { epoch, body });
                self.send(&Shared::new(Envelope { from, to, message }));
            }
            Effect::Apply { upto } => self.apply(upto),
            Effect::Rewind { after } => self.member.applied = after.min(self.member.applied),
            Effect::Restart(_)
            | Effect::DeclareWhole
            | Effect::Fetch { .. }
            | Effect::Store { .. }
            | Effect::ShipSnapshot { .. } => {
                unreachable!("the model's disks lose nothing, and its logs keep everything")
            }
            Effect::Serve { request, level } => {
                if level == Level::Quorum {
                    self.serve_quorum(request.0);
                }
            }
            Effect::Reply { request, reply } => self.reply(request.0, reply),
            Effect::SetTimer(Timer::Backoff) => {
                if self.left.retries > 0 && !self.member.backs_off {
                    self.member.backs_off = true;
                }
            }
            Effect::Send { .. } | Effect::SetTimer(_) | Effect::CancelTimer(_) => {
                unreachable!("a step tells them apart")
            }
            Effect::Lock => {
                let granted = match self.service.lock {
                    None => self.service.lock(self.node),
                    Some(holder) => holder == self.node,
                };
                self.inputs.push_back(Input::Lock(granted));
            }
            Effect::Unlock if self.service.lock == Some(self.node) => {
                self.service.unlock(self.node)
            }
            Effect::Unlock => {}
            Effect::ReadRecord => {
                let seen = self.service.observe();
                self.inputs.push_back(Input::Record(seen));
            }
            Effect::SetRecord {
                revision,
                ref record,
            } => {
                let record = record.clone();
                if self.member.replica.role_of().is_some() && record.writer.is_some() {
                    self.member.proposal = Some((revision, record));
                } else {
                    self.set(revision, record);
                }
            }
            Effect::Observe(ref notable) => self.observe(notable),
        }
    }

    fn ask_disk(&mut self, durable: Durable) {
        self.asked_disk = true;
        self.member.unsynced.push(durable);
    }

    fn send(&mut self, envelope: &Shared<Envelope>) {
        let message = &envelope.message;
        if matches!(message.body, Body::Stale { .. }) {
            self.marks.hit(Mark::RefusedStale);
        }
        if matches!(message.body, Body::Refused { .. }) {
            self.marks.hit(Mark::RefusedPrepare);
        }
        let answers = matches!(
            message.body,
            Body::Prepared { .. }
                | Body::Refused { .. }
                | Body::Sealed { .. }
                | Body::Committed { .. }
        );
        if answers {
            if !self.bounds.prunes() || self.member.disk.promised < message.epoch {
                self.ledger
                    .invariants
                    .sealed(SHARD, self.node, message.epoch); // Else the disk says it as well.
            }
            self.check_synced(message);
            if self.member.incarnation > 0 && matches!(message.body, Body::Prepared { .. }) {
                self.marks.hit(Mark::Restarted);
            }
        }
        if !self.network.has_sent(envelope) {
            self.network.post(*envelope, self.bounds.prunes());
        }
    }

    /// Whether an answer names no more than what is on the disk.
    fn check_synced(&mut self, answer: &Message) {
        let disk = &self.member.disk;
        let promised = (!self.member.replica.is_plain()).then_some(disk.promised);
        let synced = offset_of(disk.log.len()).previous();
        let result = told(self.process(), answer, promised, synced);
        self.check(result);
    }

    /// The conditional set takes place, and is answered.
    pub fn set(&mut self, revision: u64, record: kv_core::ShardRecord) {
        if record.epoch > Epoch(u64::from(self.bounds.epochs)) {
            self.out_of_bounds = true;
            return;
        }
        let result = match self.service.set(revision, record) {
            Some(revision) => SetResult::Done(revision),
            None => {
                self.marks.hit(Mark::Conflict);
                SetResult::Conflict
            }
        };
        self.inputs.push_back(Input::Set(result));
    }

    fn process(&self) -> Process {
        Process {
            node: self.node,
            incarnation: u64::from(self.member.incarnation),
        }
    }

    fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.break_promise(Promise::of(violation), || violation.to_string());
        }
    }

    fn break_promise(&mut self, promise: Promise, why: impl FnOnce() -> String) {
        self.broken.insert(promise);
        self.notes.push(format!("!! {}: {}", promise.name(), why()));
    }

    fn apply(&mut self, upto: Offset) {
        let process = self.process();
        let log = self.member.log.clone();
        let mut hash = chain_upto(&log, self.member.applied);
        for index in length(self.member.applied)..length(upto) {
            let (item, offset) = (log[index], offset_of(index));
            let version = Version::new(Epoch(u64::from(item.epoch)), offset);
            let is_new = !self
                .ledger
                .invariants
                .committed_log(SHARD)
                .any(|known| known.offset == offset);
            if is_new
                && item.value != 0
                && self
                    .member
                    .replica
                    .role_of()
                    .is_some_and(|epoch| epoch > version.epoch)
            {
                self.marks.hit(Mark::RolledForward);
            }
            hash = chain(hash, &item.at(offset));
            let result = self
                .ledger
                .invariants
                .committed(SHARD, process, version, hash);
            self.check(result);
            if !self.ledger.commit(item.value) {
                self.break_promise(Promise::NoPhantom, || {
                    format!("{version} is committed, and its client was told that it failed")
                });
            }
        }
        self.member.applied = upto;
    }

    fn serve_quorum(&mut self, request: u64) {
        let place = self
            .ledger
            .reads
            .iter()
            .position(|(node, id, _)| (*node, *id) == (self.node, request));
        let Some(place) = place else { return };
        let (_, _, floor) = self.ledger.reads.remove(place);
        self.check_read(floor, "a quorum read");
    }

    fn check_read(&mut self, floor: Option<Placed>, kind: &str) {
        if let Some(floor) = floor
            && !floor.is_in(&self.member.log, self.member.applied)
        {
            let node = self.node;
            self.break_promise(Promise::Linearizable, || {
                format!(
                    "{kind} at {node} does not show the write at {}",
                    floor.offset
                )
            });
        }
    }

    fn reply(&mut self, request: u64, reply: Reply) {
        let value = u8::try_from(request).unwrap_or(0);
        let is_write = request <= u64::from(self.bounds.writes);
        match reply {
            Reply::Written(version) => self.acknowledge(version),
            Reply::Refused(Refused::RolledBack) if is_write => {
                self.marks.hit(Mark::RolledBack);
                self.notes
                    .push(format!("the write of {value} ends as fail"));
                if !self.ledger.fail(value) {
                    self.break_promise(Promise::NoPhantom, || {
                        format!("{value} is committed, and its client is told that it failed")
                    });
                }
            }
            Reply::Refused(_) | Reply::Unknown => {
                let is_it =
                    |&(at, id, _): &(NodeId, u64, Option<Placed>)| (at, id) == (self.node, request);
                if let Some(place) = self.ledger.reads.iter().position(is_it) {
                    self.ledger.reads.remove(place);
                }
            }
        }
    }

    fn acknowledge(&mut self, version: Version) {
        let offset = version.offset;
        let Some(&item) = self.member.log.get(length(offset.previous())) else {
            return;
        };
        let placed = Placed { offset, item };
        let chain = chain_upto(&self.member.log, offset);
        let holds = |log: &[Item]| length(offset) <= log.len() && chain_upto(log, offset) == chain;
        let others = self.before.nodes().filter(|node| *node != self.node);
        let others = others
            .filter(|node| holds(&self.before.member(*node).disk.log))
            .count();
        let holders = others + usize::from(holds(&self.member.disk.log));
        self.notes.push(format!(
            "the write of {} is acknowledged as {version}",
            item.value
        ));
        if holders < usize::from(self.bounds.quorum) {
            self.break_promise(Promise::OnQuorum, || {
                format!("{version} is acknowledged and on {holders} disks")
            });
        }
        if version.epoch > Epoch(1) {
            self.marks.hit(Mark::AcknowledgedLater);
        }
        self.ledger.acknowledged.push(placed);
        self.ledger.acknowledged.sort_unstable();
    }

    fn observe(&mut self, notable: &Notable) {
        let process = self.process();
        let result = match *notable {
            Notable::Promoted(epoch) | Notable::RolledBack { epoch, .. } => self
                .ledger
                .invariants
                .promoted(SHARD, epoch, process, Some(self.member.replica.log())),
            Notable::Promised(epoch) => self.ledger.invariants.promised(SHARD, process, epoch),
            Notable::Truncated { after } => self.ledger.invariants.truncated(SHARD, process, after),
            _ => return,
        };
        self.check(result);
    }

    /// What the turn has changed; nothing, where that is nothing.
    pub fn finish(mut self) -> Option<Changes> {
        if self.bounds.prunes()
            && self.member.is_new()
            && self.member.replica.role_of().is_some()
            && self.member.unsynced.is_empty()
        {
            self.input(Input::Timer(Timer::Heartbeat)); // What it sends may get lost: that is to send nothing.
        }
        if self.out_of_bounds {
            return None;
        }
        self.read_at_once();
        self.check_acknowledged();
        let before = self.before;
        let mut members = self.members;
        members[place(self.node)] = self.member;
        let members = members.into_iter().zip(&before.members);
        let changes = Changes {
            members: members
                .map(|(after, before)| after.changed(before))
                .collect(),
            network: self.network.changed(&before.network),
            service: self.service.changed(&before.service),
            ledger: self.ledger.changed(&before.ledger),
            left: self.left,
            broken: self.broken,
        };
        let is_any = changes.members.iter().any(Option::is_some)
            || changes.network.is_some()
            || changes.service.is_some()
            || changes.ledger.is_some()
            || (changes.left, changes.broken) != (before.left, before.broken);
        is_any.then_some(changes)
    }

    /// Every writer that may answer a `lease` read does so in every state: a read that takes no time.
    fn read_at_once(&mut self) {
        if may_read(&self.member) {
            let floor = self.ledger.floor();
            self.check_read(floor, "a lease read");
        }
        let own = self.node;
        for node in self.before.nodes().filter(|node| *node != own) {
            let other = &self.members[place(node)];
            if may_read(other)
                && let Some(floor) = self.ledger.floor()
                && !floor.is_in(&other.log, other.applied)
            {
                self.break_promise(Promise::Linearizable, || {
                    format!(
                        "a lease read at {node} does not show the write at {}",
                        floor.offset
                    )
                });
            }
        }
    }

    /// A writer that the record names, and that may serve, has every acknowledged write.
    fn check_acknowledged(&mut self) {
        let named = self
            .service
            .record
            .writer
            .is_some_and(|writer| writer.node == self.node);
        let replica = &self.member.replica;
        if !named || replica.writer_of() != Some(self.service.record.epoch) {
            return;
        }
        let lost = |placed: &&Placed| !placed.is_in(&self.member.log, replica.log().end().offset);
        let lost = self.ledger.acknowledged.iter().find(lost).copied();
        if let Some(lost) = lost {
            self.break_promise(Promise::NoLostWrite, || {
                format!(
                    "the write of {} at {} is gone",
                    lost.item.value, lost.offset
                )
            });
        }
    }
}

/// Whether a member answers a `lease` read right now.
fn may_read(member: &Member) -> bool {
    let replica = &member.replica;
    let fresh = member.lease || kv_core::planted::planted(Bug::NoFreshLook);
    replica.writer_of().is_some() && (replica.is_plain() || (replica.holds_lease() && fresh))
}
