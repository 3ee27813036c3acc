//! The cues of a directed run: what happens next, one thing at a time, in place of clients and faults with times.
//!
//! While cues are given, every message between nodes is held, the coordination service tells nobody anything unasked, and
//! timers take so long that none fires unasked. A cue lets through exactly one message, or makes exactly one thing happen,
//! and the next one comes when the world is quiet again. After the last everything goes its way. Held messages never
//! arrive, so that whatever no cue delivers is lost; one message may be delivered often.
//!
//! ```toml
//! [[cue]]
//! write = "n1"            # a client asks n1 for a write, and does not wait
//! [[cue]]
//! deliver = "prepare"
//! from = "n1"
//! to = "n2"
//! epoch = 1
//! after = 0               # the entries above this offset
//! upto = 1                # up to this one, though the message may have carried more
//! committed = 0
//! ```
//!
//! The model checker writes such files from its counterexamples; a person may as well.

use std::fmt;

use checker::Level;
use kv_core::NodeId;

use super::script;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cue {
    /// What.
    pub what: What,
    /// Whether the node's disk syncs nothing from now on until a `sync`.
    pub slow: bool,
}

/// What happens at a cue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A held message arrives.
    Deliver(Parcel),
    /// A client asks the node for a write.
    Write(NodeId),
    /// A client asks the node for a read.
    Read(NodeId, Level),
    /// The node's disk has synced.
    Sync(NodeId),
    /// The session of a node ends, and it does not know; another node sees it.
    LoseSession {
        /// Whose.
        node: NodeId,
        /// Who is the first to see it.
        seen_by: NodeId,
        /// Whether the node's lease still holds by its own clock, which a good clock does not allow (R16).
        early: bool,
    },
    /// The node learns that its session is over, which may happen just now, and gets a new one.
    Expire(NodeId),
    /// The node hears what the coordination service has to tell.
    Learn(NodeId),
    /// The machine loses power, its session ends, and it starts again.
    Crash(NodeId),
    /// The node's patience with the quorum ends (R9). Its conditional set waits for a `set`.
    Rollback(NodeId),
    /// The node's conditional set takes place.
    Set(NodeId),
    /// The node has missed the quorum for too long (R17).
    Release(NodeId),
    /// The node tries again to elect a writer (R12), because its turn for the lock has come or its next attempt is due.
    Retry(NodeId),
    /// The node waits no longer for more voters than its election needs.
    Hurry(NodeId),
}

/// A message, as far as a cue names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The kind of message.
    pub kind: ParcelKind,
    /// Who sent it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The epoch that it names.
    pub epoch: u64,
    /// Its numbers.
    pub numbers: Numbers,
}

/// The numbers of a message; what is not given may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The offset before the first entry; what was refused; where a plain rollback ends.
    pub after: Option<u64>,
    /// The last offset that it is about.
    pub upto: Option<u64>,
    /// What the sender has committed.
    pub committed: Option<u64>,
    /// The batch of reads that asks to be confirmed.
    pub round: Option<u64>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal),* $(,)?) => {
        /// The kinds of message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ParcelKind { $($(#[$doc])* $kind),* }

        impl ParcelKind {
            /// All of them, with their names in a file.
            pub(super) const ALL: &[(Self, &str)] = &[$((Self::$kind, $name)),*];
        }
    };
}

kinds! {
    /// Entries for a replica, or a heartbeat.
    Prepare = "prepare",
    /// They are synced.
    Prepared = "prepared",
    /// The entry before them is not there.
    Refused = "refused",
    /// The epoch is over.
    Stale = "stale",
    /// They are on Q disks.
    Commit = "commit",
    /// They are applied.
    Committed = "committed",
    /// Promise this epoch.
    Seal = "seal",
    /// Promised.
    Sealed = "sealed",
    /// Is the epoch still the highest?
    Confirm = "confirm",
    /// It is.
    Confirmed = "confirmed",
    /// Forget what stands above, in the plain protocol.
    Rollback = "rollback",
}

impl Cue {
    /// The node at which it happens.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match &self.what {
            What::Deliver(parcel) => parcel.to,
            What::LoseSession { seen_by, .. } => *seen_by,
            What::Write(node)
            | What::Read(node, _)
            | What::Sync(node)
            | What::Expire(node)
            | What::Learn(node)
            | What::Crash(node)
            | What::Rollback(node)
            | What::Set(node)
            | What::Release(node)
            | What::Retry(node)
            | What::Hurry(node) => *node,
        }
    }

    /// Whether a client asks for something.
    #[must_use]
    pub fn is_ask(&self) -> bool {
        matches!(self.what, What::Write(_) | What::Read(..))
    }
}

/// As the lines of a file, `key = value`.
impl fmt::Display for Cue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Deliver(parcel) => write!(f, "{parcel}")?,
            What::Write(node) => writeln!(f, "write = \"{node}\"")?,
            What::Read(node, level) => {
                writeln!(f, "read = \"{node}\"\nlevel = \"{}\"", script::name(*level))?;
            }
            What::Sync(node) => writeln!(f, "sync = \"{node}\"")?,
            What::LoseSession {
                node,
                seen_by,
                early,
            } => {
                writeln!(f, "lose_session = \"{node}\"\nseen_by = \"{seen_by}\"")?;
                if *early {
                    writeln!(f, "early = true")?;
                }
            }
            What::Expire(node) => writeln!(f, "expire = \"{node}\"")?,
            What::Learn(node) => writeln!(f, "learn = \"{node}\"")?,
            What::Crash(node) => writeln!(f, "crash = \"{node}\"")?,
            What::Rollback(node) => writeln!(f, "rollback = \"{node}\"")?,
            What::Set(node) => writeln!(f, "set = \"{node}\"")?,
            What::Release(node) => writeln!(f, "release = \"{node}\"")?,
            What::Retry(node) => writeln!(f, "retry = \"{node}\"")?,
            What::Hurry(node) => writeln!(f, "hurry = \"{node}\"")?,
        }
        if self.slow {
            writeln!(f, "slow = true")?;
        }
        Ok(())
    }
}

impl fmt::Display for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            from,
            to,
            epoch,
            numbers,
        } = self;
        let known = ParcelKind::ALL.iter().find(|(known, _)| known == kind);
        let name = known.map_or("", |(_, name)| name);
        writeln!(
            f,
            "deliver = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\nepoch = {epoch}"
        )?;
        let numbers = [
            ("after", numbers.after),
            ("upto", numbers.upto),
            ("committed", numbers.committed),
            ("round", numbers.round),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                writeln!(f, "{name} = {number}")?;
            }
        }
        Ok(())
    }
}
