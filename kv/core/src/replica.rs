//! One shard member as a pure state machine: all control flow of the protocol.
//!
//! This file holds the state that every member has and routes inputs; the roles are in the folder beside it:
//! `follower.rs` (R4, R5, R7), `writer.rs` (R1, R6, R8), `rollback.rs` (R9, R10), `election.rs` (R12 to R14),
//! `standing.rs` (R11, R15, R17: what the shard record makes of this member), `read.rs` (R16), `durability.rs` (R3),
//! `catch_up.rs` (snapshots, and disks that have lost something) and `fencing.rs`, where the two protocols differ.

mod catch_up;
mod durability;
mod election;
mod fencing;
mod follower;
mod forgetful;
mod hand_over;
mod read;
mod renamed;
mod rollback;
mod standing;
mod writer;

use std::collections::BTreeMap;

use crate::log::Log;
use crate::planted::{Bug, planted};
use crate::step::{Effect, Input, Notable};
use crate::{
    Body, Epoch, Fencing, Message, NodeId, Observed, Offset, RequestId, SessionId, Version,
};
use catch_up::Suspicion;
use durability::Durability;
use election::Election;
use follower::Following;
pub use renamed::Names;
use standing::Proposal;
use writer::Writer;

/// What a replica needs to start: who it is, and what recovery found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// The node.
    pub node: NodeId,
    /// Which protocol the shard runs.
    pub fencing: Fencing,
    /// The promise on disk.
    pub promised: Epoch,
    /// The log on disk.
    pub log: Log,
    /// What the engine has applied durably; all of it is committed.
    pub applied: Offset,
    /// Whether the disk may have lost entries or promises that it had synced.
    pub suspect: bool,
}

/// One shard member as a pure state machine: no clock, no socket, no disk, no randomness.
///
/// The driver feeds [`Input`]s and performs the [`Effect`]s in order; its duties are listed in the crate's
/// documentation. `Eq + Hash`, so that a model checker explores this very type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    id: NodeId,
    fencing: Fencing,
    /// The session with the coordination service, while there is one.
    session: Option<SessionId>,
    /// Whether the lease of that session holds.
    lease: bool,
    /// The newest shard record that was seen.
    observed: Option<Observed>,
    /// The last session of each writer that was seen to have ended: nobody is published in it again.
    ended: BTreeMap<NodeId, SessionId>,
    /// A conditional set of the record that is under way.
    proposal: Option<Proposal>,
    /// R3: nothing of a lower epoch is accepted. Stays zero under `Fencing::None`.
    promised: Epoch,
    /// The greatest epoch in which this process was the writer; it never writes in it again (R1, R11).
    written: Epoch,
    log: Log,
    durability: Durability,
    /// What this member knows to be committed. Volatile: it is learned anew after a restart (R7).
    committed: Offset,
    role: Role,
    election: Election,
    /// While the disk may have lost what it had synced.
    suspicion: Option<Suspicion>,
    /// Reads at this replica that wait until their token is applied.
    waiting_reads: BTreeMap<RequestId, Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Follower(Following),
    Writer(Box<Writer>),
}

impl Replica {
    /// A replica as it comes up, with what its disk holds.
    ///
    /// # Panics
    /// If the engine has applied more than the log holds: the driver must not start on such a disk.
    #[must_use]
    pub fn new(recovered: Recovered) -> Self {
        let end = recovered.log.end().offset;
        let promised = match planted(Bug::PromiseForgotten) {
            true => Epoch(0),
            false => recovered.promised,
        };
        assert!(recovered.applied <= end, "what is applied is in the log");
        Self {
            id: recovered.node,
            fencing: recovered.fencing,
            session: None,
            lease: false,
            observed: None,
            ended: BTreeMap::new(),
            proposal: None,
            promised,
            written: Epoch(0),
            log: recovered.log,
            durability: Durability::recovered(promised, end),
            committed: recovered.applied,
            role: Role::Follower(Following::default()),
            election: Election::Idle,
            suspicion: (recovered.suspect && recovered.fencing.promises()).then(Suspicion::default),
            waiting_reads: BTreeMap::new(),
        }
    }

    /// Handles one input to completion. Total: hostile network input is dropped, never a panic.
    ///
    /// # Panics
    /// On a bug of ours, or of the driver's: a broken invariant stops the node rather than spreading.
    pub fn step(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let (promised_before, committed_before) = (self.promised, self.committed);
        match input {
            Input::Message { from, message } => self.on_message(from, message, effects),
            Input::Synced(count) => self.on_synced(count, effects),
            Input::Write(writes) => self.on_write(writes, effects),
            Input::Read {
                request,
                level,
                token,
            } => self.on_read(request, level, token, effects),
            Input::Abandon(request) => self.on_abandon(request, effects),
            Input::Timer(timer) => self.on_timer(timer, effects),
            Input::Session(session) => self.on_session(session, effects),
            Input::Lease(holds) => self.lease = holds && self.session.is_some(),
            Input::Record(observed) => self.on_record(observed, effects),
            Input::Lock(granted) => self.on_lock(granted, effects),
            Input::Set(result) => self.on_set(result, effects),
            Input::Installed(names) => self.on_installed(names, effects),
            Input::HandOver => self.on_hand_over(effects),
        }
        self.leave_when_done(effects);
        assert!(
            self.promised >= promised_before,
            "R3: a promise is never taken back"
        );
        assert!(
            self.committed <= self.durability.log
                || planted(Bug::OwnVoteUnsynced)
                || planted(Bug::AnswersUnsynced),
            "R6, R7: nothing commits that is not on the own disk"
        );
        assert!(
            self.durability.log <= self.log.end().offset,
            "nothing is durable past the log"
        );
        if self.fencing.promises() {
            assert!(
                self.committed >= committed_before || planted(Bug::RollbackOfCommitted),
                "R5: a committed entry stays committed"
            );
            if let Role::Writer(writer) = &self.role {
                assert!(
                    writer.epoch == self.promised,
                    "R3: a writer has promised its own epoch"
                );
            }
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        if from == self.id || !self.is_voter(from) || !self.is_voter(self.id) {
            return; // Not of this shard, as far as we know: stale or hostile.
        }
        if self.may_have_promised_more() {
            return; // R3: the promise may be lost; the record will tell how high it can have been.
        }
        let Message { epoch, body } = message;
        match body {
            Body::Prepare {
                prev,
                entries,
                committed,
            } => {
                if self.admit(from, epoch, effects) {
                    self.on_prepare(from, epoch, prev, entries, committed, effects);
                }
            }
            Body::Seal => {
                if self.admit(from, epoch, effects) {
                    self.on_seal(from, epoch, effects);
                }
            }
            Body::Commit { upto } => self.on_commit(from, epoch, upto, effects),
            Body::Confirm { round } => self.on_confirm(from, epoch, round, effects),
            Body::Rollback { after } => self.on_rollback_message(from, epoch, after, effects),
            Body::Prepared { upto, committed } => {
                self.on_prepared(from, epoch, upto, committed, effects);
            }
            Body::Committed { upto } => self.on_committed(from, epoch, upto, effects),
            Body::Refused { prev, hint } => self.on_refused(from, epoch, prev, hint, effects),
            Body::Stale { promised } => self.on_stale(epoch, promised, effects),
            Body::Sealed { end, session } => self.on_sealed(from, epoch, end, session, effects),
            Body::Confirmed { round } => self.on_confirmed(from, epoch, round, effects),
            Body::Lost { session } => self.on_lost(from, epoch, session, effects),
            Body::Extent { session, end } => self.on_extent(from, epoch, session, end, effects),
            Body::Offer { at, bytes } => {
                if self.admit(from, epoch, effects) {
                    self.on_offer(from, epoch, at, bytes, effects);
                }
            }
            Body::Fetch { at, position } => self.on_fetch(from, epoch, at, position, effects),
            Body::Chunk {
                at,
                position,
                bytes,
                crc,
            } => effects.push(Effect::Store {
                from,
                epoch,
                at,
                position,
                bytes,
                crc,
            }),
        }
    }

    fn on_timer(&mut self, timer: crate::Timer, effects: &mut Vec<Effect>) {
        use crate::Timer;
        match timer {
            Timer::Heartbeat => self.on_heartbeat_timer(effects),
            Timer::Release => self.on_release_timer(effects),
            Timer::Rollback => self.on_rollback_timer(effects),
            Timer::Election => self.on_election_timer(effects),
            Timer::Seal => self.on_seal_timer(effects),
            Timer::Backoff => self.on_backoff_timer(effects),
        }
    }

    /// The deadline of a request has passed: whoever still waits is told what is known.
    fn on_abandon(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        if self.waiting_reads.remove(&request).is_some() {
            effects.push(refuse(request, crate::Refused::Behind));
        } else if let Role::Writer(writer) = &mut self.role {
            writer.abandon(request, effects);
            self.confirm_reads(effects); // The batch that asked may be empty now.
        }
    }

    /// Whether a node is a voter by the newest record (R18: the voters stand in the record).
    fn is_voter(&self, node: NodeId) -> bool {
        self.observed
            .as_ref()
            .is_some_and(|observed| observed.record.voters.contains(&node))
    }

    fn write_quorum(&self) -> usize {
        self.observed
            .as_ref()
            .map_or(usize::MAX, |observed| observed.record.write_quorum)
            - usize::from(planted(Bug::FewerThanWriteQuorum))
    }

    /// Moves `committed` forward and applies; answers the reads that waited for it.
    fn commit(&mut self, upto: Offset, effects: &mut Vec<Effect>) {
        if upto <= self.committed {
            return;
        }
        self.committed = upto;
        effects.push(Effect::Apply { upto });
        self.serve_waiting_reads(effects);
    }

    /// Removes everything above `after` from the log.
    fn truncate(&mut self, after: Offset, effects: &mut Vec<Effect>) {
        if after < self.committed {
            assert!(
                !self.fencing.promises() || planted(Bug::RollbackOfCommitted),
                "R5: no truncation at or below committed"
            );
            self.committed = after;
            effects.push(Effect::Rewind { after });
            effects.push(Effect::Observe(Notable::Forgot { after }));
        }
        self.log.truncate(after);
        self.durability.truncated(self.log.end().offset);
        effects.push(Effect::Truncate { after });
        effects.push(Effect::Observe(Notable::Truncated { after }));
    }

    // What drivers and tests may look at.

    /// The node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The epoch in which this member serves as the writer, once it may (R15).
    #[must_use]
    pub fn writer_of(&self) -> Option<Epoch> {
        match &self.role {
            Role::Writer(writer) if self.is_ready(writer) => Some(writer.epoch),
            _ => None,
        }
    }

    /// The epoch in which this member has the writer's role, serving or not.
    #[must_use]
    pub fn role_of(&self) -> Option<Epoch> {
        match &self.role {
            Role::Writer(writer) => Some(writer.epoch),
            Role::Follower(_) => None,
        }
    }

    /// What a writer knows of its followers: what each holds durably, and what it has committed.
    pub fn followers_known(&self) -> impl Iterator<Item = (NodeId, Offset, Offset)> {
        let followers = match &self.role {
            Role::Writer(writer) => Some(&writer.followers),
            Role::Follower(_) => None,
        };
        followers
            .into_iter()
            .flatten()
            .map(|(node, each)| (*node, each.matched, each.committed))
    }

    /// The promise.
    #[must_use]
    pub fn promised(&self) -> Epoch {
        self.promised
    }

    /// What is known to be committed.
    #[must_use]
    pub fn committed(&self) -> Offset {
        self.committed
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The last entry that is known to be on this member's disk.
    #[must_use]
    pub fn synced(&self) -> Version {
        self.name(self.durability.log)
    }

    /// Whether it believes that the lease of its session holds.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.lease
    }

    /// The epoch of the election for which it asks voters.
    #[must_use]
    pub fn sealing(&self) -> Option<Epoch> {
        match &self.election {
            Election::Sealing(sealing) => Some(sealing.epoch()),
            _ => None,
        }
    }

    /// Whether it runs the plain protocol.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.fencing.promises()
    }

    /// The session that this member has.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The newest shard record that was seen.
    #[must_use]
    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }

    /// The last applied entry: what a session token of this member says.
    #[must_use]
    pub fn applied(&self) -> Version {
        self.name(self.committed)
    }

    /// The name of an entry that is surely in the log.
    fn name(&self, offset: Offset) -> Version {
        self.log
            .version_at(offset)
            .expect("the offset lies within the log")
    }
}

fn refuse(request: RequestId, why: crate::Refused) -> Effect {
    Effect::Reply {
        request,
        reply: crate::Reply::Refused(why),
    }
}

fn send(to: NodeId, epoch: Epoch, body: Body) -> Effect {
    Effect::Send {
        to,
        message: Message { epoch, body },
    }
}
