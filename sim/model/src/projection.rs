//! A situation of a shard in small, so that a run of real nodes and the model can be held against each other: who writes, and how
//! the members' epochs, log ends and commit offsets stand to each other.
//!
//! Numbers count only by their ranks, and names not at all: two situations are one if they differ in how long the logs are, which
//! epoch it is, or who is who.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use kv_core::Version;

use crate::state::State;

/// One member, seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Whether it is a writer, by its own account.
    pub writes: bool,
    /// Its promise.
    pub promised: u64,
    /// Where its durable log ends.
    pub end: Version,
    /// What it knows to be committed.
    pub committed: u64,
}

/// One member's ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ranks {
    writes: bool,
    /// Among all promises and epochs of log ends.
    promised: u8,
    /// Among all log ends.
    end: u8,
    /// Among all commit offsets.
    committed: u8,
}

/// A situation: the members by their ranks, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Projection(Vec<Ranks>);

impl Projection {
    /// The situation of these members.
    #[must_use]
    pub fn of(views: &[View]) -> Self {
        let promised = ranks(views.iter().map(|view| view.promised));
        let ends = ranks(views.iter().map(|view| view.end));
        let committed = ranks(views.iter().map(|view| view.committed));
        let ranks = views.iter().map(|view| Ranks {
            writes: view.writes,
            promised: rank(&promised, view.promised),
            end: rank(&ends, view.end),
            committed: rank(&committed, view.committed),
        });
        let mut members: Vec<Ranks> = ranks.collect();
        members.sort_unstable();
        Self(members)
    }

    /// The situation in a state of the model.
    #[must_use]
    pub fn of_state(state: &State) -> Self {
        let views = state.members.iter().map(|member| View {
            writes: member.replica.role_of().is_some(),
            promised: member.replica.promised().0,
            end: member.replica.synced(),
            committed: member.replica.committed().0,
        });
        Self::of(&views.collect::<Vec<_>>())
    }
}

fn ranks<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

fn rank<T: Ord>(ranks: &[T], value: T) -> u8 {
    let place = ranks.binary_search(&value).unwrap_or_default();
    u8::try_from(place).unwrap_or(u8::MAX)
}

/// `w1.2.0 -0.1.0`: a member each, whether it writes, and its ranks by promise, log end and commit.
impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, member) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            let role = if member.writes { 'w' } else { '-' };
            let Ranks {
                promised,
                end,
                committed,
                ..
            } = member;
            write!(f, "{space}{role}{promised}.{end}.{committed}")?;
        }
        Ok(())
    }
}

/// A text that names no situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this names no situation; a member of one is written as w1.2.0 or -0.1.0")]
pub struct NoProjection;

impl FromStr for Projection {
    type Err = NoProjection;

    fn from_str(text: &str) -> Result<Self, NoProjection> {
        let member = |text: &str| {
            let writes = text.starts_with('w');
            let numbers = text.strip_prefix(['w', '-'])?;
            let mut numbers = numbers.split('.').map(|number| number.parse().ok());
            Some(Ranks {
                writes,
                promised: numbers.next()??,
                end: numbers.next()??,
                committed: numbers.next()??,
            })
        };
        let members = text.split(' ').map(member);
        let members: Option<Vec<Ranks>> = members.collect();
        members.map(Self).ok_or(NoProjection)
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Epoch, Offset};

    use super::*;

    fn view(writes: bool, promised: u64, end: (u64, u64), committed: u64) -> View {
        View {
            writes,
            promised,
            end: Version::new(Epoch(end.0), Offset(end.1)),
            committed,
        }
    }

    #[test]
    fn names_and_absolute_numbers_do_not_count() {
        let one = [
            view(true, 3, (3, 9), 9),
            view(false, 3, (3, 8), 7),
            view(false, 1, (1, 4), 4),
        ];
        let other = [
            view(false, 2, (2, 1), 1),
            view(true, 7, (7, 5), 5),
            view(false, 7, (7, 4), 2),
        ];
        assert_eq!(Projection::of(&one), Projection::of(&other));
        let behind = [one[0], one[1], view(false, 3, (1, 4), 4)];
        assert_ne!(Projection::of(&one), Projection::of(&behind));
    }

    #[test]
    fn a_situation_survives_being_written_and_read() {
        let views = [view(true, 3, (3, 9), 9), view(false, 1, (1, 4), 4)];
        let projection = Projection::of(&views);
        assert_eq!(projection.to_string(), "-0.0.0 w1.1.1");
        assert_eq!(projection.to_string().parse(), Ok(projection));
        assert_eq!("x".parse::<Projection>(), Err(NoProjection));
    }
}
