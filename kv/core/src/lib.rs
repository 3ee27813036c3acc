//! The replication protocol, sans-IO. (Header is written with `replica.rs`.)
pub mod limits;
mod message;
pub mod placement;
mod record;
mod slots;
mod types;

pub use message::{Body, Message};
pub use record::{Observed, QuorumError, ShardRecord, WriterRecord, election_quorum};
pub use slots::{SLOT_COUNT, Slot, SlotRange, slot_of};
pub use types::{
    Entry, Epoch, Fencing, Level, NodeId, Offset, Operation, RequestId, SessionId, ShardId, Version,
};
