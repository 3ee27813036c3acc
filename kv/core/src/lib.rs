//! The replication protocol of Splitbrain, sans-IO: [`Replica::step`] is the whole of it.
//!
//! The rules R1 to R21 that the comments and assertions name are those of `docs/protocol.md`. This crate owns no socket,
//! file, thread, clock or random source, so the same type runs in the server, in the simulator and in a model checker.
//!
//! # What the driver owes a replica
//!
//! 1. **Order.** It performs the effects of one step in order, and all of them before the next step.
//! 2. **Durability.** `Append`, `Truncate` and `Promise` reach the disk in the order in which they were issued.
//!    Each is reported once by [`Input::Synced`], after the sync that covers it has returned and never before. One sync may
//!    cover many. After a failed write or sync the replica gets no further input.
//! 3. **Shipping.** [`Effect::Ship`] sends the entries as the log stands at that effect, split into as many `Prepare`s as the
//!    message size asks for.
//! 4. **Applying.** [`Effect::Apply`] is done when the next effect is performed, so that a [`Effect::Serve`] behind it sees it.
//! 5. **Requests.** A [`RequestId`] is never used twice. Each request is answered once: by `Reply` or by `Serve`; at its
//!    deadline the driver puts [`Input::Abandon`] in.
//! 6. **Leases.** [`Input::Lease`] tells whether the lease holds by R16, counted from the *send* time of the last answered
//!    write to the coordination service in the present session; after a `lease` read the clock is looked at again.
//! 7. **Coordination.** `Lock`, `ReadRecord` and `SetRecord` are each answered, if need be by `Unknown` after a bound.
//!    Each `SetRecord` is answered exactly once: a late answer would be taken for the next one's. A `ReadRecord` is retried
//!    until it is answered, by an `Input::Record` even where nothing changed. Records are also put in unasked, whenever they or the liveness of the writer's session change.
//! 8. **Recovery.** A restarted replica gets exactly what was durable ([`Recovered`]), read by [`follows`] (R21).

pub mod invariants;
pub mod limits;
mod log;
mod message;
pub mod placement;
pub mod planted;
mod record;
mod replica;
mod slots;
mod step;
mod types;

pub use log::{Log, follows};
pub use message::{Body, Message};
pub use record::{Observed, QuorumError, ShardRecord, WriterRecord, election_quorum};
pub use replica::{Names, Recovered, Replica};
pub use slots::{SLOT_COUNT, Slot, SlotRange, slot_of};
pub use step::{Effect, Input, Notable, Refused, Reply, SetResult, Timer};
pub use types::{
    Entry, Epoch, Fencing, Level, NodeId, Offset, Operation, RequestId, SessionId, ShardId, Version,
};
