//! Node events as people read them, each a short sentence.

use std::fmt;

use super::{NodeEvent, NodeEventKind};
use crate::{history::Version, verdict::Milliseconds};

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", Milliseconds(self.time))?;
        if let Some(node) = self.node {
            write!(f, "  node {node}")?;
        }
        write!(f, "  {}", self.kind)
    }
}

impl fmt::Display for NodeEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((shard, version)) = self.entry() {
            return match self {
                Self::Committed { chain, .. } => {
                    write!(
                        f,
                        "committed {version} of shard {shard} (chain {chain:08x})"
                    )
                }
                Self::Acknowledged { members, .. } => {
                    write!(
                        f,
                        "acknowledged {version} of shard {shard}, counting the members {members:?}"
                    )
                }
                _ => write!(f, "synced the log of shard {shard} up to {version}"),
            };
        }
        match self {
            Self::Shard {
                shard,
                epoch,
                voters,
                write_quorum,
                writer,
            } => {
                write!(f, "shard {shard} is in epoch {epoch}: voters {voters:?}, ")?;
                write!(f, "write quorum {write_quorum}, ")?;
                match writer {
                    Some(writer) => write!(f, "writer {writer}"),
                    None => f.write_str("no writer"),
                }
            }
            Self::Truncated { shard, after } => {
                write!(f, "truncated the log of shard {shard} after offset {after}")
            }
            Self::Lost { shard, after } => {
                write!(
                    f,
                    "recovered the log of shard {shard} only up to offset {after}"
                )
            }
            Self::FinalLog {
                shard,
                runs,
                committed,
            } => {
                write!(
                    f,
                    "final log of shard {shard}, committed up to offset {committed}:"
                )?;
                runs.iter().try_for_each(|(epoch, first, last)| {
                    write!(f, " epoch {epoch} has {first}..={last}")
                })
            }
            Self::Links { down, cut, .. } => {
                let cut: Vec<String> = cut
                    .iter()
                    .map(|(from, to)| format!("{from} to {to}"))
                    .collect();
                match (down.as_slice(), cut.as_slice()) {
                    ([], []) => f.write_str("all nodes are up and linked"),
                    (down, []) => write!(f, "nodes {down:?} are down, no link is cut"),
                    ([], cut) => write!(f, "all nodes are up, cut are {}", cut.join(", ")),
                    (down, cut) => write!(f, "nodes {down:?} are down, cut are {}", cut.join(", ")),
                }
            }
            Self::Probe {
                shard,
                session,
                key,
                within_ns,
            } => {
                let within = Milliseconds(*within_ns);
                write!(
                    f,
                    "session {session} probes shard {shard}: a write of {key} is to be ok within {within} ms"
                )
            }
            Self::FinalState {
                shard, live: false, ..
            } => write!(f, "is not live at the end, as a member of shard {shard}"),
            Self::FinalState {
                shard,
                epoch,
                committed,
                digest,
                ..
            } => {
                let name = Version {
                    epoch: *epoch,
                    offset: *committed,
                };
                write!(
                    f,
                    "holds shard {shard} up to {name} at the end, with the digest {digest:08x}"
                )
            }
            Self::Other { kind, fields } => {
                f.write_str(kind)?;
                fields
                    .iter()
                    .try_for_each(|(name, value)| write!(f, "  {name} {value}"))
            }
            other => f.write_str(other.name()),
        }
    }
}
