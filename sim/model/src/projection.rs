//! A situation of a shard in small, so that a run of real nodes and the model can be held against each other: who writes, and how
//! the members' epochs and log ends and what is committed stand to each other.
//!
//! Numbers count only by their ranks, and names not at all: two situations are one if they differ in how long the logs are, which
//! epoch it is, or who is who. What is committed counts for the shard, not for the member that has heard of it: the model tells
//! everybody at once (`reduction.rs`), real nodes learn of it one after the other.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use kv_core::Version;

use crate::state::State;
use crate::turn::SHARD;

/// One member, seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Whether it is a writer, by its own account.
    pub writes: bool,
    /// Its promise.
    pub promised: u64,
    /// Where its durable log ends.
    pub end: Version,
}

/// One member's ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ranks {
    writes: bool,
    /// Among all promises and epochs of log ends.
    promised: u8,
    /// Among all log ends and what is committed.
    end: u8,
}

/// A situation: the members by their ranks, in order, and what is committed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Projection {
    members: Vec<Ranks>,
    /// The last entry that anybody committed, among all log ends.
    committed: u8,
}

impl Projection {
    /// The situation of these members, of whom somebody has committed up to that entry.
    #[must_use]
    pub fn of(views: &[View], committed: Version) -> Self {
        let epochs = views.iter().map(|view| view.end.epoch.0);
        let epochs = ranks(epochs.chain(views.iter().map(|view| view.promised)));
        let ends = ranks(views.iter().map(|view| view.end).chain([committed]));
        let ranks = views.iter().map(|view| Ranks {
            writes: view.writes,
            promised: rank(&epochs, view.promised),
            end: rank(&ends, view.end),
        });
        let mut members: Vec<Ranks> = ranks.collect();
        members.sort_unstable();
        Self {
            members,
            committed: rank(&ends, committed),
        }
    }

    /// The situation in a state of the model.
    #[must_use]
    pub fn of_state(state: &State) -> Self {
        let views = state.members.iter().map(|member| View {
            writes: member.replica.role_of().is_some(),
            promised: member.replica.promised().0,
            end: member.replica.synced(),
        });
        let committed = state.ledger.invariants.committed_log(SHARD).max();
        Self::of(&views.collect::<Vec<_>>(), committed.unwrap_or_default())
    }

    /// How many members write, by their own account.
    #[must_use]
    pub fn writers(&self) -> usize {
        self.members.iter().filter(|member| member.writes).count()
    }

    /// How many members' logs end before what is committed.
    #[must_use]
    pub fn behind(&self) -> usize {
        let behind = |member: &&Ranks| member.end < self.committed;
        self.members.iter().filter(behind).count()
    }
}

fn ranks<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

fn rank<T: Ord>(ranks: &[T], value: T) -> u8 {
    let place = ranks.binary_search(&value).unwrap_or_default();
    u8::try_from(place).unwrap_or(u8::MAX)
}

/// `-0.1 -0.1 w1.2 c1`: of each member whether it writes, and its ranks by promise and log end; then what is committed, by its rank
/// among the log ends.
impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for member in &self.members {
            let role = if member.writes { 'w' } else { '-' };
            write!(f, "{role}{}.{} ", member.promised, member.end)?;
        }
        write!(f, "c{}", self.committed)
    }
}

/// A text that names no situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this names no situation; one looks like -0.1 -0.1 w1.2 c1")]
pub struct NoProjection;

impl FromStr for Projection {
    type Err = NoProjection;

    fn from_str(text: &str) -> Result<Self, NoProjection> {
        let member = |text: &str| {
            let (promised, end) = text.strip_prefix(['w', '-'])?.split_once('.')?;
            Some(Ranks {
                writes: text.starts_with('w'),
                promised: promised.parse().ok()?,
                end: end.parse().ok()?,
            })
        };
        let parse = || {
            let (members, committed) = text.rsplit_once(" c")?;
            let members: Option<Vec<Ranks>> = members.split(' ').map(member).collect();
            Some(Self {
                members: members?,
                committed: committed.parse().ok()?,
            })
        };
        parse().ok_or(NoProjection)
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Epoch, Offset};

    use super::*;

    fn version((epoch, offset): (u64, u64)) -> Version {
        Version::new(Epoch(epoch), Offset(offset))
    }

    fn view(writes: bool, promised: u64, end: (u64, u64)) -> View {
        View {
            writes,
            promised,
            end: version(end),
        }
    }

    #[test]
    fn names_and_absolute_numbers_do_not_count() {
        let one = [
            view(true, 3, (3, 9)),
            view(false, 3, (3, 8)),
            view(false, 1, (1, 4)),
        ];
        let other = [
            view(false, 2, (2, 1)),
            view(true, 7, (7, 5)),
            view(false, 7, (7, 4)),
        ];
        let committed = |place| version(place);
        assert_eq!(
            Projection::of(&one, committed((3, 8))),
            Projection::of(&other, committed((7, 4)))
        );
        let behind = [one[0], one[1], view(false, 3, (1, 4))];
        assert_ne!(
            Projection::of(&one, committed((3, 8))),
            Projection::of(&behind, committed((3, 8)))
        );
        assert_ne!(
            Projection::of(&one, committed((3, 8))),
            Projection::of(&one, committed((1, 4)))
        );
    }

    #[test]
    fn what_is_committed_may_lie_between_the_ends_of_logs() {
        let views = [view(true, 3, (3, 9)), view(false, 1, (1, 4))];
        let projection = Projection::of(&views, version((1, 6)));
        assert_eq!(projection.to_string(), "-0.0 w1.2 c1");
        assert_eq!((projection.writers(), projection.behind()), (1, 1));
    }

    #[test]
    fn a_situation_survives_being_written_and_read() {
        let views = [view(true, 3, (3, 9)), view(false, 1, (1, 4))];
        let projection = Projection::of(&views, version((1, 4)));
        assert_eq!(projection.to_string(), "-0.0 w1.1 c0");
        assert_eq!(projection.to_string().parse(), Ok(projection));
        for text in ["x", "", "w1.1", "w1 c0", "-0.0  c0"] {
            assert_eq!(text.parse::<Projection>(), Err(NoProjection), "{text}");
        }
    }
}
