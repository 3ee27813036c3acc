//! The model: which states there are at first, what can happen in each, and what comes of it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use kv_core::{
    Body, Epoch, Input, Level, NodeId, Recovered, Replica, RequestId, ShardRecord, SlotRange,
    Timer, WriterRecord,
};
use stateright::{Model, Property};

use crate::action::{Action, Event, Sync};
use crate::bounds::Bounds;
use crate::draft::Draft;
use crate::error::Error;
use crate::ledger::{Broken, Ledger, Promise};
use crate::marks::{Mark, Marks};
use crate::memo::{self, Disk, Step};
use crate::network::Network;
use crate::reduction::settles_by_arriving;
use crate::service::{Service, place};
use crate::shared::Shared;
use crate::state::{Left, Member, State};
use crate::turn::{SHARD, Turn};
use crate::wal::{self, Items, set};

/// The requests of reads stand above those of writes.
const READS_FROM: u64 = 100;

/// One shard within bounds.
#[derive(Clone, Debug)]
pub struct System {
    /// The bounds.
    pub bounds: Bounds,
    /// What was reached.
    pub marks: Arc<Marks>,
    initial: State,
}

impl System {
    /// A shard whose first writer, n1, has just been published in epoch 1.
    ///
    /// # Errors
    /// When the quorums do not go together.
    pub fn new(bounds: Bounds) -> Result<Self, Error> {
        let marks = Arc::new(Marks::default());
        let initial = first_state(&bounds, &marks)?;
        Ok(Self {
            bounds,
            marks,
            initial,
        })
    }

    /// What happens in one action, with the words for it; nothing where that is nothing.
    pub fn turn<'a>(&'a self, state: &'a Draft, action: &Action) -> Option<Turn<'a>> {
        let disk = match action.sync {
            Sync::AtOnce => Disk::AtOnce,
            Sync::Later | Sync::Never => Disk::Later,
        };
        let member = state.member(action.event.node());
        let arrival = arrival(member, &state.service, &action.event, disk);
        self.turn_by(state, action, arrival.as_deref())
    }

    /// The same; if something arrives, with the step that it leads to.
    pub(crate) fn turn_by<'a>(
        &'a self,
        state: &'a Draft,
        action: &Action,
        arrival: Option<&Step>,
    ) -> Option<Turn<'a>> {
        let node = action.event.node();
        let mut turn = Turn::new(
            &self.bounds,
            &self.marks,
            state,
            node,
            action.sync != Sync::AtOnce,
        );
        match action.sync {
            Sync::AtOnce => {}
            Sync::Later => turn.left.slow_syncs = turn.left.slow_syncs.checked_sub(1)?,
            Sync::Never => turn.left.crashes = turn.left.crashes.checked_sub(1)?,
        }
        match &action.event {
            Event::Deliver(envelope, _) => {
                if self.bounds.prunes() && settles_by_arriving(&action.event) {
                    turn.network.remove(envelope);
                }
                turn.arrive(arrival?);
            }
            Event::Mirrored(envelope) => turn.deliver_mirrored(envelope),
            Event::Write(_) => {
                turn.left.writes = turn.left.writes.checked_sub(1)?;
                let value = self.bounds.writes - turn.left.writes;
                turn.input(Input::Write(vec![(
                    RequestId(u64::from(value)),
                    set(value),
                )]));
                if turn.member.log.len() == state.member(node).log.len() {
                    return None; // Refused.
                }
            }
            Event::Read(_) => {
                turn.left.reads = turn.left.reads.checked_sub(1)?;
                let request = READS_FROM + u64::from(turn.left.reads);
                let floor = turn.ledger.floor();
                turn.ledger.reads.push((node, request, floor));
                turn.input(Input::Read {
                    request: RequestId(request),
                    level: Level::Quorum,
                    token: None,
                });
            }
            Event::Sync(_) => {
                turn.sync_now();
            }
            Event::LoseSession { writer, .. } => {
                turn.left.lost_sessions = turn.left.lost_sessions.checked_sub(1)?;
                turn.end_session(*writer);
                let seen = turn.service.observe();
                turn.input(Input::Record(seen));
            }
            Event::Expire(_) => {
                if turn.service.sessions[place(node)].is_some() {
                    turn.left.lost_sessions = turn.left.lost_sessions.checked_sub(1)?;
                }
                turn.input(Input::Session(None));
                turn.register();
            }
            Event::Learn(_) => turn.arrive(arrival?),
            Event::Crash(_) => {
                turn.left.crashes = turn.left.crashes.checked_sub(1)?;
                turn.crash();
            }
            Event::Rollback(_) => {
                turn.left.rollbacks = turn.left.rollbacks.checked_sub(1)?;
                turn.input(Input::Timer(Timer::Rollback));
                turn.member.proposal.as_ref()?;
            }
            Event::Set(_) => {
                let (revision, record) = turn.member.proposal.take()?;
                turn.set(revision, record);
                turn.go_on();
            }
            Event::Release(_) => {
                turn.left.releases = turn.left.releases.checked_sub(1)?;
                turn.input(Input::Timer(Timer::Release));
            }
            Event::Retry(_) => {
                turn.left.retries = turn.left.retries.checked_sub(1)?;
                turn.member.backs_off = false;
                turn.input(Input::Timer(Timer::Backoff));
                if turn.member.replica == state.member(node).replica {
                    return None;
                }
            }
            Event::Hurry(_) => turn.input(Input::Timer(Timer::Seal)),
        }
        if action.sync != Sync::AtOnce && (!turn.asked_disk || turn.member.unsynced.is_empty()) {
            return None; // The same as if it had synced.
        }
        if action.sync == Sync::Never {
            turn.crash();
        }
        Some(turn)
    }
}

/// The step that a message, or the record, leads to.
pub(crate) fn arrival(
    member: &Member,
    service: &Shared<Service>,
    event: &Event,
    disk: Disk,
) -> Option<Rc<Step>> {
    let disk = match member.unsynced.is_empty() {
        true => disk,
        false => Disk::Later,
    };
    let replica = &member.replica;
    match event {
        Event::Deliver(envelope, count) => Some(memo::deliver(replica, envelope, *count, disk)),
        Event::Learn(_) => Some(memo::learn(replica, service, disk)),
        _ => None,
    }
}

/// Whether an event plainly changes nothing: most of what could arrive has arrived before.
fn is_idle(state: &State, event: &Event, arrival: &Step) -> bool {
    !settles_by_arriving(event)
        && arrival.is_idle(&state.member(event.node()).replica, &state.network)
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.has(Promise::Assertions) {
            return;
        }
        let mut add = |event: Event| {
            let mut may_ask = !matches!(
                event,
                Event::Sync(_) | Event::Crash(_) | Event::Read(_) | Event::Rollback(_)
            );
            let member = state.member(event.node());
            if let Some(arrival) = arrival(member, &state.service, &event, Disk::AtOnce) {
                if is_idle(state, &event, &arrival) {
                    return;
                }
                may_ask = arrival.may_ask_disk();
            }
            let mut push = |sync: Sync| {
                let event = event.clone();
                actions.push(Action { event, sync });
            };
            if may_ask && state.left.slow_syncs > 0 {
                push(Sync::Later);
            }
            if may_ask && state.left.crashes > 0 {
                push(Sync::Never);
            }
            push(Sync::AtOnce);
        };
        for envelope in state.network.envelopes() {
            for count in 0..=envelope.entry_count() {
                add(Event::Deliver(*envelope, count));
            }
        }
        if self.bounds.symmetric {
            let sealed = state
                .network
                .envelopes()
                .iter()
                .filter(|envelope| matches!(envelope.message.body, Body::Sealed { .. }));
            sealed.for_each(|envelope| add(Event::Mirrored(*envelope)));
        }
        for node in state.nodes() {
            let member = state.member(node);
            let replica = &member.replica;
            let writes = replica.role_of().is_some();
            if writes && state.left.writes > 0 {
                add(Event::Write(node));
            }
            if writes && state.left.rollbacks > 0 {
                add(Event::Rollback(node));
            }
            if writes && state.left.releases > 0 {
                add(Event::Release(node));
            }
            if member.backs_off && state.left.retries > 0 {
                add(Event::Retry(node));
            }
            if replica.writer_of().is_some() && state.left.reads > 0 {
                add(Event::Read(node));
            }
            if !member.unsynced.is_empty() {
                add(Event::Sync(node));
            }
            if member.proposal.is_some() {
                add(Event::Set(node));
            }
            let registered = state.service.sessions[place(node)];
            if registered != replica.session() || state.left.lost_sessions > 0 {
                add(Event::Expire(node));
            }
            if let Some(writer) = state.service.record.writer
                && writer.node != node
                && state.left.lost_sessions > 0
                && state.service.sessions[place(writer.node)] == Some(writer.session)
            {
                add(Event::LoseSession {
                    writer: writer.node,
                    observer: node,
                });
            }
            if replica.sealing().is_some()
                && (replica.is_plain() || state.service.record.released_by.is_some())
            {
                add(Event::Hurry(node));
            }
            if state.left.crashes > 0 {
                add(Event::Crash(node));
            }
            add(Event::Learn(node));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let draft = Draft::of(state);
        let changes = self.turn(&draft, &action)?.finish()?;
        self.settle(state, draft.with(changes), action.event.node(), |_| {})
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! always {
            ($($promise:ident),*) => { vec![$(Property::always(Promise::$promise.name(), |_: &Self, state: &State| !state.broken.has(Promise::$promise))),*] };
        }
        macro_rules! sometimes {
            ($($mark:ident),*) => { [$(Property::sometimes(Mark::$mark.name(), |system: &Self, _: &State| system.marks.count(Mark::$mark) > 0)),*] };
        }
        let mut all = always!(
            OneWriter,
            OneLog,
            CommittedStays,
            PromisesStay,
            ToldIsSynced,
            OnQuorum,
            NoLostWrite,
            NoPhantom,
            Linearizable,
            Assertions
        );
        all.extend(sometimes!(
            RolledForward,
            Truncated,
            RefusedStale,
            RolledBack,
            AcknowledgedLater,
            Restarted,
            RefusedPrepare,
            Conflict
        ));
        all
    }
}

impl Turn<'_> {
    /// The slow disk has synced.
    fn sync_now(&mut self) {
        self.be_quick();
        self.sync();
        self.go_on();
    }

    /// The member gets a session under which it is registered, and a lease that belongs to it.
    fn register(&mut self) {
        self.member.sessions += 1;
        let session = self
            .service
            .register(self.member.replica.id(), self.member.sessions);
        self.input(Input::Session(Some(session)));
        self.input(Input::Lease(true));
        self.member.lease = true;
    }

    /// What was not durable is gone, and so is what was in memory.
    fn crash(&mut self) {
        let node = self.member.replica.id();
        self.service.end_session(node);
        self.restart(node);
        self.register();
        let seen = self.service.observe();
        self.input(Input::Record(seen));
    }
}

fn first_state(bounds: &Bounds, marks: &Marks) -> Result<State, Error> {
    let voters: BTreeSet<NodeId> = (1..=u64::from(bounds.replicas)).map(NodeId).collect();
    let writer = NodeId(1);
    let mut service = Service {
        revision: 1,
        record: Shared::new(ShardRecord {
            shard: SHARD,
            epoch: Epoch(1),
            writer: None,
            released_by: None,
            voters: voters.clone(),
            write_quorum: usize::from(bounds.quorum),
            election_quorum: bounds.election_quorum()?,
            slots: Vec::<SlotRange>::new(),
            fencing: bounds.fencing,
        }),
        sessions: vec![None; voters.len()],
        lock: None,
    };
    for &node in &voters {
        service.register(node, 1);
    }
    let session = service.sessions[0].expect("n1 is registered");
    let mut record = ShardRecord::clone(&service.record);
    record.writer = Some(WriterRecord {
        node: writer,
        session,
    });
    service.record = Shared::new(record);
    let member = |node: &NodeId| Member {
        replica: Shared::new(Replica::new(Recovered {
            node: *node,
            fencing: bounds.fencing,
            promised: Epoch(0),
            log: kv_core::Log::default(),
            applied: kv_core::Offset::ZERO,
            suspect: false,
        })),
        incarnation: 0,
        sessions: 1,
        log: Items::new(),
        disk: wal::Disk::default(),
        unsynced: Vec::new(),
        applied: kv_core::Offset::ZERO,
        lease: true,
        proposal: None,
        backs_off: false,
    };
    let mut state = State {
        members: voters
            .iter()
            .map(|node| Shared::new(member(node)))
            .collect(),
        network: Shared::new(Network::default()),
        service: Shared::new(service),
        ledger: Shared::new(Ledger::default()),
        left: Left::all(bounds),
        broken: Broken::default(),
    };
    for &node in voters.iter().rev() {
        let draft = Draft::of(&state);
        let mut turn = Turn::new(bounds, marks, &draft, node, false);
        let session = turn.service.sessions[place(node)];
        turn.input(Input::Session(session));
        turn.input(Input::Lease(true));
        let seen = turn.service.observe();
        turn.input(Input::Record(seen));
        let changes = turn.finish();
        let changes = changes.expect("a member that comes up has changed");
        state = draft.with(changes).finish();
    }
    Ok(state)
}
