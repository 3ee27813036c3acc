//! What can happen next.

use std::fmt;

use kv_core::NodeId;

use crate::network::Envelope;
use crate::shared::Shared;

/// Something that happens.
#[derive(Clone, PartialEq)]
pub struct Action {
    /// What.
    pub event: Event,
    /// What comes of what it asks to be durable.
    pub sync: Sync,
}

/// What comes of what a member asks to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It is synced at once.
    AtOnce,
    /// It is synced by an action of its own.
    Later,
    /// The member crashes before it is synced, after it has sent what does not wait for it.
    Never,
}

/// Without the disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message arrives; of a `Prepare`, so many of the entries.
    Deliver(Shared<Envelope>, usize),
    /// The same for a `Sealed`, where the elector chooses the other way among equal logs (`symmetry.rs`).
    Mirrored(Shared<Envelope>),
    /// A client asks the member to write the next value.
    Write(NodeId),
    /// A client asks the member for a `quorum` read.
    Read(NodeId),
    /// What the member has asked to be durable is.
    Sync(NodeId),
    /// The coordination service ends the session of the writer, whose lease has ended before, where clocks are good; another member
    /// is the first to see it.
    LoseSession {
        /// Whose session ends. It does not know yet.
        writer: NodeId,
        /// Who sees it.
        observer: NodeId,
    },
    /// The member learns that its session is gone (which may happen just now), and gets a new one.
    Expire(NodeId),
    /// The member learns the shard record and the liveness of its writer as they are now.
    Learn(NodeId),
    /// The member crashes, its session ends, and it starts again under a new one.
    Crash(NodeId),
    /// The writer has waited for Q voters for too long: it asks for a rollback (R9).
    Rollback(NodeId),
    /// The conditional set of the member arrives at the service, and its answer at the member.
    Set(NodeId),
    /// The writer has missed Q voters for too long: it gives the role back (R17).
    Release(NodeId),
    /// The member has waited for its next attempt at an election (R12).
    Retry(NodeId),
    /// The elector waits for more voters than it needs no longer.
    Hurry(NodeId),
}

impl Event {
    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Deliver(envelope, _) | Self::Mirrored(envelope) => envelope.to,
            Self::LoseSession { observer, .. } => *observer,
            Self::Write(node)
            | Self::Read(node)
            | Self::Sync(node)
            | Self::Expire(node)
            | Self::Learn(node)
            | Self::Crash(node)
            | Self::Rollback(node)
            | Self::Set(node)
            | Self::Release(node)
            | Self::Retry(node)
            | Self::Hurry(node) => *node,
        }
    }
}

impl Event {
    /// The message that arrives, if one does.
    #[must_use]
    pub fn arriving(&self) -> Option<Envelope> {
        match self {
            Self::Deliver(envelope, count) => Some(envelope.prefix(*count)),
            Self::Mirrored(envelope) => Some(Envelope::clone(envelope)),
            _ => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.event {
            Event::Deliver(envelope, count) => {
                let Envelope { from, to, message } = &envelope.prefix(*count);
                write!(
                    f,
                    "{to} gets from {from} ({}): {}",
                    message.epoch,
                    crate::words::body(&message.body)
                )
            }
            Event::Mirrored(envelope) => {
                let Envelope { from, to, message } = &**envelope;
                let said = crate::words::body(&message.body);
                let epoch = message.epoch;
                write!(
                    f,
                    "{to} gets from {from} ({epoch}): {said}, and chooses the other of equal logs"
                )
            }
            Event::Write(node) => write!(f, "a client asks {node} for a write"),
            Event::Read(node) => write!(f, "a client asks {node} for a quorum read"),
            Event::Sync(node) => write!(f, "the disk of {node} syncs"),
            Event::LoseSession { writer, observer } => {
                write!(f, "the session of {writer} ends, and {observer} sees it")
            }
            Event::Expire(node) => write!(
                f,
                "{node} learns that its session is gone, and gets a new one"
            ),
            Event::Learn(node) => write!(f, "{node} learns the shard record"),
            Event::Crash(node) => write!(f, "{node} crashes and starts again"),
            Event::Rollback(node) => write!(f, "{node} asks for a rollback"),
            Event::Set(node) => write!(f, "the set of {node} takes place"),
            Event::Retry(node) => write!(f, "{node} considers an election by what it has seen"),
            Event::Release(node) => write!(f, "{node} gives the writer's role back"),
            Event::Hurry(node) => write!(f, "the elector {node} waits no longer"),
        }?;
        fmt::Display::fmt(&self.sync, f)
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtOnce => "",
            Self::Later => " (not synced yet)",
            Self::Never => " (and crashes before it has synced, and starts again)",
        })
    }
}

/// The Explorer shows this.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
