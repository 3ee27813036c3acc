//! Values that were written once, without a search (Gibbons and Korach 1997, section 4).
//!
//! The only write of a value and the reads of it form a cluster: in any linearization they stand together, with nothing
//! else between. Let f be where the first of them ends, and s where the last of them begins. If f < s, the value was
//! certainly there from f to s, a *forward zone*. If not, they all overlap, and can stand at any one point from s to f, a
//! *backward zone*. With all values written once, a linearization exists exactly if no read ends before its write begins,
//! no two forward zones overlap, and no backward zone lies inside a forward one.
//!
//! ```text
//!   w(1) |---|  f                       s |---| r(1)      1 was there all along from f to s,
//!                   |---| w(2)                            so nothing else can have been there in between
//! ```
//!
//! A value that nobody read makes each of its writes a cluster by itself. The register begins as if nothing had been
//! written before everything else, so reads of nothing form a cluster as long as there is no delete.
//!
//! Where a read value was written more than once, the rules cannot decide, but still refute: each such operation stands
//! somewhere between its invocation and its completion, and that must not be inside a forward zone of another value.

use super::register::{Conflict, Register};
use crate::history::Position;

/// What the zones tell.
#[derive(Debug)]
pub(super) enum Zones {
    Linearizable,
    Refuted(Conflict),
    /// Some value that was read was written more than once, and the others are in order.
    Open,
}

/// A point of the order of lines, counted from 1 so that 0 is before everything.
type Point = u64;

/// The operations on one value, as the two that matter.
#[derive(Clone, Copy)]
struct Cluster {
    first_end: Point,
    /// None for the beginning.
    first_ended: Option<u32>,
    last_begin: Point,
    last_begun: u32,
}

impl Cluster {
    fn of(index: u32, invoked: Position, completed: Position) -> Self {
        Self {
            first_end: Point::from(completed) + 1,
            first_ended: Some(index),
            last_begin: Point::from(invoked) + 1,
            last_begun: index,
        }
    }

    fn join(&mut self, other: &Self) {
        if other.first_end < self.first_end {
            (self.first_end, self.first_ended) = (other.first_end, other.first_ended);
        }
        if other.last_begin > self.last_begin {
            (self.last_begin, self.last_begun) = (other.last_begin, other.last_begun);
        }
    }

    fn is_forward(&self) -> bool {
        self.first_end < self.last_begin
    }
}

/// Decides a register as far as the zones of its values do.
pub(super) fn decide(register: &Register) -> Zones {
    let mut by_value: Vec<u32> = (0..register.actions.len() as u32).collect();
    let action = |index: &u32| &register.actions[*index as usize];
    by_value.sort_by_key(|index| {
        (
            action(index).value,
            !action(index).is_write,
            action(index).invoked,
        )
    });
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut is_decided = true;
    for group in by_value.chunk_by(|a, b| action(a).value == action(b).value) {
        let (writes, reads) = group.split_at(group.partition_point(|index| action(index).is_write));
        let begins = action(&group[0]).value == 0;
        let single =
            |index: &u32| Cluster::of(*index, action(index).invoked, action(index).completed);
        if reads.is_empty() {
            clusters.extend(writes.iter().map(single));
            continue;
        }
        if writes.len() + usize::from(begins) > 1 {
            is_decided = false;
            clusters.extend(
                group
                    .iter()
                    .filter(|index| !action(index).is_open())
                    .map(single),
            );
            continue;
        }
        let mut cluster = match writes {
            [write] => {
                if let Some(&read) = reads
                    .iter()
                    .find(|read| action(read).completed < action(write).invoked)
                {
                    return Zones::Refuted(Conflict::ReadBeforeWrite {
                        read,
                        write: *write,
                    });
                }
                single(write)
            }
            _ if begins => Cluster {
                first_end: 0,
                first_ended: None,
                last_begin: 0,
                last_begun: 0,
            },
            _ => return Zones::Refuted(Conflict::NeverWritten { read: reads[0] }),
        };
        reads.iter().for_each(|read| cluster.join(&single(read)));
        clusters.push(cluster);
    }
    match conflict(&mut clusters) {
        Some(conflict) => Zones::Refuted(conflict),
        None if is_decided => Zones::Linearizable,
        None => Zones::Open,
    }
}

/// Finds a cluster that something else stands inside of.
fn conflict(clusters: &mut [Cluster]) -> Option<Conflict> {
    clusters.sort_by_key(|cluster| (!cluster.is_forward(), cluster.first_end));
    let (forward, backward) = clusters.split_at(clusters.partition_point(Cluster::is_forward));
    let both_sides = |outer: &Cluster, inner: &Cluster| Conflict::BothSides {
        around: (outer.first_ended, outer.last_begun),
        between: (
            inner.last_begun,
            inner.first_ended.unwrap_or(inner.last_begun),
        ),
    };
    if let Some(pair) = forward
        .windows(2)
        .find(|pair| pair[1].first_end < pair[0].last_begin)
    {
        return Some(both_sides(&pair[0], &pair[1]));
    }
    backward.iter().find_map(|inner| {
        let before = forward.partition_point(|outer| outer.first_end < inner.last_begin);
        let outer = forward[..before]
            .last()
            .filter(|outer| inner.first_end < outer.last_begin)?;
        Some(both_sides(outer, inner))
    })
}
