//! The network between the members: every message that was ever sent and may still matter.
//!
//! A message stays after it has arrived, so that loss (it never arrives), doubling (it arrives again), delay and reordering need
//! no actions of their own. What cannot change anything any more is left out, so that equal situations are equal states:
//!
//! - A `Prepared`, `Committed` or `Commit` that another one of the same link and epoch covers. Sending the greater one commutes
//!   with the arrival of the smaller one, so whoever misses the smaller one here has it in another order.
//! - The `Prepare`s of one link and epoch are one, of which any prefix may arrive: a driver splits them as it likes.
//! - `Stale`, whose only effect is that the writer reads the record, which it may do at any time anyway.
//! - What its receiver cannot listen to any more (`Network::retain`).

use std::cmp::Ordering;

use kv_core::{Body, Epoch, Message, NodeId, Offset, Version};

use crate::shared::Shared;

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Who sent it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// What.
    pub message: Message,
}

impl Envelope {
    /// The message with the first so many entries only, if it is a `Prepare`.
    #[must_use]
    pub fn prefix(&self, count: usize) -> Self {
        let mut envelope = self.clone();
        if let Body::Prepare { entries, .. } = &mut envelope.message.body {
            entries.truncate(count);
        }
        envelope
    }

    /// How many entries it carries.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        match &self.message.body {
            Body::Prepare { entries, .. } => entries.len(),
            _ => 0,
        }
    }
}

/// All messages that may still arrive, in a canonical order.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Network {
    envelopes: Vec<Shared<Envelope>>,
}

/// With room for what a turn sends.
impl Clone for Network {
    fn clone(&self) -> Self {
        const MORE: usize = 3;
        let mut envelopes = Vec::with_capacity(self.envelopes.len() + MORE);
        envelopes.extend_from_slice(&self.envelopes);
        Self { envelopes }
    }
}

impl Network {
    /// These messages.
    #[must_use]
    pub fn of(mut envelopes: Vec<Envelope>) -> Self {
        envelopes.sort_by(order);
        let envelopes = envelopes.into_iter().map(Shared::new).collect();
        Self { envelopes }
    }

    /// The messages, in order.
    pub fn envelopes(&self) -> &[Shared<Envelope>] {
        &self.envelopes
    }

    /// Whether a message, or one that covers it, is there, or need not be.
    #[must_use]
    pub fn has_sent(&self, envelope: &Shared<Envelope>) -> bool {
        let is_there = || self.envelopes.contains(envelope);
        let is_covered = || self.envelopes.iter().any(|known| covers(known, envelope));
        match envelope.message.body {
            Body::Stale { .. } => true,
            Body::Prepared { .. } | Body::Committed { .. } | Body::Commit { .. } => {
                is_there() || is_covered()
            }
            _ => is_there(),
        }
    }

    /// Whether `Prepare`s with these entries of a writer's log are there.
    #[must_use]
    pub fn has_shipped(
        &self,
        from: NodeId,
        to: NodeId,
        epoch: Epoch,
        (prev, last): (Offset, Offset),
        committed: Offset,
    ) -> bool {
        self.envelopes
            .iter()
            .any(|known| match &known.message.body {
                Body::Prepare {
                    prev: first,
                    entries,
                    committed: known_committed,
                } => {
                    let end = first.offset.0 + entries.len() as u64;
                    (known.from, known.to, known.message.epoch) == (from, to, epoch)
                        && first.offset <= prev
                        && last.0 <= end
                        && committed <= *known_committed
                }
                _ => false,
            })
    }

    /// Puts a message in that is not there, and makes one of those that say the same.
    pub fn post(&mut self, mut envelope: Shared<Envelope>, merges: bool) {
        while merges
            && let Some((place, union)) = self
                .envelopes
                .iter()
                .enumerate()
                .find_map(|(place, known)| Some((place, union(known, &envelope)?)))
        {
            self.envelopes.remove(place);
            envelope = Shared::new(union);
        }
        self.envelopes.retain(|known| !covers(&envelope, known));
        let place = self
            .envelopes
            .partition_point(|known| order(known, &envelope) == Ordering::Less);
        self.envelopes.insert(place, envelope);
    }

    /// Takes a message out.
    pub fn remove(&mut self, envelope: &Shared<Envelope>) {
        self.envelopes.retain(|known| known != envelope);
    }

    /// Leaves out of the `Prepare`s the entries up to where their receivers have them for good.
    pub fn trim(&mut self, holds_upto: impl Fn(&Envelope) -> Option<Version>) {
        for known in &mut self.envelopes {
            if let Some(upto) = holds_upto(known) {
                let mut envelope = Envelope::clone(known);
                if let Body::Prepare { prev, entries, .. } = &mut envelope.message.body {
                    entries.retain(|entry| entry.version.offset > upto.offset);
                    *prev = upto;
                }
                *known = Shared::new(envelope);
            }
        }
        self.envelopes.sort_by(|one, other| order(one, other));
    }

    /// Leaves out what does not matter any more.
    pub fn retain(&mut self, matters: impl Fn(&Envelope) -> bool) {
        self.envelopes.retain(|known| matters(known));
    }
}

/// Whether whoever gets `greater` needs `smaller` no more.
fn covers(greater: &Envelope, smaller: &Envelope) -> bool {
    let link = |envelope: &Envelope| (envelope.from, envelope.to, envelope.message.epoch);
    link(greater) == link(smaller) && says(&greater.message.body, &smaller.message.body)
}

/// Whether, on one link and in one epoch, the one message says what the other says.
fn says(greater: &Body, smaller: &Body) -> bool {
    match (greater, smaller) {
        (Body::Prepared { committed, .. }, Body::Committed { upto }) => committed >= upto,
        (
            Body::Prepared { upto, committed },
            Body::Prepared {
                upto: less,
                committed: fewer,
            },
        ) => upto >= less && committed >= fewer,
        (Body::Committed { upto }, Body::Committed { upto: less })
        | (Body::Commit { upto }, Body::Commit { upto: less }) => upto >= less,
        _ => false,
    }
}

/// Two messages of one link and epoch as one.
fn union(one: &Envelope, other: &Envelope) -> Option<Envelope> {
    union_of_prepares(one, other)
        .or_else(|| union_of_answers(one, other))
        .or_else(|| union_of_answers(other, one))
}

/// A `Prepared` with what was committed since: what the replica would answer to the next heartbeat.
fn union_of_answers(one: &Envelope, other: &Envelope) -> Option<Envelope> {
    let link = |envelope: &Envelope| (envelope.from, envelope.to, envelope.message.epoch);
    match (&one.message.body, &other.message.body) {
        (&Body::Prepared { upto, committed }, &Body::Committed { upto: now })
            if link(one) == link(other) =>
        {
            let mut union = one.clone();
            union.message.body = Body::Prepared {
                upto,
                committed: committed.max(now),
            };
            Some(union)
        }
        _ => None,
    }
}

/// Two `Prepare`s of one link and epoch as one, where they meet and agree.
fn union_of_prepares(one: &Envelope, other: &Envelope) -> Option<Envelope> {
    let link = |envelope: &Envelope| (envelope.from, envelope.to, envelope.message.epoch);
    let (
        Body::Prepare {
            prev: first,
            entries: early,
            committed,
        },
        Body::Prepare {
            prev: second,
            entries: late,
            committed: second_committed,
        },
    ) = (&one.message.body, &other.message.body)
    else {
        return None;
    };
    if link(one) != link(other) {
        return None;
    }
    if first.offset > second.offset {
        return union_of_prepares(other, one);
    }
    let skip = usize::try_from(second.offset.0 - first.offset.0).expect("logs are short");
    let name_before = match skip {
        0 => *first,
        _ => early.get(skip - 1)?.version,
    };
    let overlap = &early[skip..];
    let agrees =
        name_before == *second && overlap.iter().zip(late).all(|(one, other)| one == other);
    if !agrees {
        return None;
    }
    let mut entries = early.clone();
    entries.extend(late.iter().skip(overlap.len()).cloned());
    let mut union = one.clone();
    union.message.body = Body::Prepare {
        prev: *first,
        entries,
        committed: *committed.max(second_committed),
    };
    Some(union)
}

/// A total order by content, the same in every run.
fn order(one: &Envelope, other: &Envelope) -> Ordering {
    let rank = |envelope: &Envelope| {
        let Envelope { from, to, message } = envelope;
        (*to, *from, message.epoch, kind(&message.body))
    };
    rank(one)
        .cmp(&rank(other))
        .then_with(|| match (&one.message.body, &other.message.body) {
            (
                Body::Prepare {
                    prev,
                    entries,
                    committed,
                },
                Body::Prepare {
                    prev: second_prev,
                    entries: second_entries,
                    committed: second,
                },
            ) => {
                let names = |entries: &[kv_core::Entry]| {
                    entries
                        .iter()
                        .map(|entry| entry.version)
                        .collect::<Vec<_>>()
                };
                let values = |entries: &[kv_core::Entry]| {
                    entries.iter().map(crate::wal::Item::of).collect::<Vec<_>>()
                };
                (prev, committed, names(entries), values(entries)).cmp(&(
                    second_prev,
                    second,
                    names(second_entries),
                    values(second_entries),
                ))
            }
            (one, other) => numbers(one).cmp(&numbers(other)),
        })
}

fn kind(body: &Body) -> u8 {
    match body {
        Body::Prepare { .. } => 0,
        Body::Prepared { .. } => 1,
        Body::Refused { .. } => 2,
        Body::Stale { .. } => 3,
        Body::Commit { .. } => 4,
        Body::Committed { .. } => 5,
        Body::Seal => 6,
        Body::Sealed { .. } => 7,
        Body::Confirm { .. } => 8,
        Body::Confirmed { .. } => 9,
        Body::Rollback { .. } => 10,
        Body::Lost { .. } => 11,
        Body::Extent { .. } => 12,
        Body::Offer { .. } => 13,
        Body::Fetch { .. } => 14,
        Body::Chunk { .. } => 15,
    }
}

fn numbers(body: &Body) -> [u64; 4] {
    match body {
        Body::Prepare { .. } | Body::Seal => [0; 4],
        Body::Prepared { upto, committed } => [upto.0, committed.0, 0, 0],
        Body::Refused { prev, hint } => [prev.epoch.0, prev.offset.0, hint.epoch.0, hint.offset.0],
        Body::Stale {
            promised: Epoch(number),
        } => [*number, 0, 0, 0],
        Body::Commit { upto } | Body::Committed { upto } => [upto.0, 0, 0, 0],
        Body::Sealed { end, session } => [end.epoch.0, end.offset.0, session.0, 0],
        Body::Confirm { round } | Body::Confirmed { round } => [*round, 0, 0, 0],
        Body::Rollback { after } => [after.0, 0, 0, 0],
        Body::Lost { session } => [session.0, 0, 0, 0],
        Body::Extent { session, end } => [session.0, end.0, 0, 0],
        Body::Offer { at, bytes: number }
        | Body::Fetch {
            at,
            position: number,
        }
        | Body::Chunk {
            at,
            position: number,
            ..
        } => [at.epoch.0, at.offset.0, *number, 0],
    }
}
