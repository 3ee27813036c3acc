//! Which of the held messages a cue means.
//!
//! A driver may split `Prepare`s as it likes and say what it has committed in messages of its own, so a cue names what is told and
//! not how: a `Prepare` is cut off where the cue says, or made of several, and a newer commit offset follows by itself.

use kv_core::{Body, Offset};
use sim::network::Held;

use crate::scenario::{Numbers, Parcel, ParcelKind};

/// The messages to hand over, in order; nothing while they are not all there.
pub(super) fn choose(held: &[Held], parcel: &Parcel) -> Option<Vec<Held>> {
    let is_of_link = |held: &&Held| {
        (held.from, held.to, held.message.epoch.0) == (parcel.from, parcel.to, parcel.epoch)
    };
    let newest_first: Vec<&Held> = held.iter().rev().filter(is_of_link).collect();
    let numbers = parcel.numbers;
    match parcel.kind {
        ParcelKind::Prepare => prepares(&newest_first, numbers),
        ParcelKind::Prepared => answers(&newest_first, numbers),
        kind => {
            let is_meant = |held: &&&Held| is_meant(&held.message.body, kind, numbers);
            let found = newest_first.iter().find(is_meant)?;
            Some(vec![(**found).clone()])
        }
    }
}

fn is_meant(body: &Body, kind: ParcelKind, numbers: Numbers) -> bool {
    let is = |wanted: Option<u64>, number: u64| wanted.is_none_or(|wanted| wanted == number);
    match (kind, body) {
        (ParcelKind::Prepare, Body::Prepare { .. }) => true,
        (ParcelKind::Prepared, Body::Prepared { upto, .. })
        | (ParcelKind::Commit, Body::Commit { upto })
        | (ParcelKind::Committed, Body::Committed { upto }) => is(numbers.upto, upto.0),
        (ParcelKind::Refused, Body::Refused { prev, hint }) => {
            is(numbers.after, prev.offset.0) && is(numbers.upto, hint.offset.0)
        }
        (ParcelKind::Stale, Body::Stale { .. }) | (ParcelKind::Seal, Body::Seal) => true,
        (ParcelKind::Sealed, Body::Sealed { end, .. }) => is(numbers.upto, end.offset.0),
        (ParcelKind::Confirm, Body::Confirm { round })
        | (ParcelKind::Confirmed, Body::Confirmed { round }) => is(numbers.round, *round),
        (ParcelKind::Rollback, Body::Rollback { after }) => is(numbers.after, after.0),
        _ => false,
    }
}

/// One `Prepare` after the other, until all entries are told.
fn prepares(newest_first: &[&Held], numbers: Numbers) -> Option<Vec<Held>> {
    let after = numbers.after.unwrap_or(0);
    let upto = numbers.upto.unwrap_or(after);
    let wanted = numbers.committed.unwrap_or(u64::MAX);
    let (mut chosen, mut place, mut told) = (Vec::new(), after, 0);
    while chosen.is_empty() || place < upto {
        let pieces = newest_first.iter().filter_map(|held| {
            let (piece, first, last, committed) = cut(held, upto)?;
            let goes_on = first <= place && (last > place || upto == after && first == place);
            goes_on.then_some((piece, last, committed))
        });
        // What says just as much as is wanted; else less, since the rest follows; else more.
        let rank = |committed: u64| (committed <= wanted, committed.min(wanted));
        let best = pieces.max_by_key(|(_, last, committed)| (*last, rank(*committed)));
        let (piece, last, committed) = best?;
        chosen.push(piece);
        (place, told) = (last, committed.max(told));
    }
    if let Some(committed) = numbers.committed.filter(|committed| told < *committed) {
        let last = chosen.last().cloned();
        chosen.push(newest(
            newest_first,
            |body| matches!(body, Body::Commit { upto } if upto.0 == committed),
        )?);
        chosen.extend(last); // The answer says what the replica has made of both.
    }
    Some(chosen)
}

/// A `Prepare` without the entries above an offset: it, where it begins and ends, and what it says to be committed.
fn cut(held: &Held, upto: u64) -> Option<(Held, u64, u64, u64)> {
    let mut held = held.clone();
    let Body::Prepare {
        prev,
        entries,
        committed,
    } = &mut held.message.body
    else {
        return None;
    };
    entries.retain(|entry| entry.version.offset <= Offset(upto));
    let last = entries.last().map_or(*prev, |entry| entry.version);
    let (first, last, committed) = (prev.offset.0, last.offset.0, committed.0);
    Some((held, first, last, committed))
}

/// A `Prepared`, and what was committed since.
fn answers(newest_first: &[&Held], numbers: Numbers) -> Option<Vec<Held>> {
    let wanted = numbers.committed.unwrap_or(0);
    let prepared = newest_first
        .iter()
        .filter_map(|held| match held.message.body {
            Body::Prepared { upto, committed } if Some(upto.0) == numbers.upto => {
                Some(((*held).clone(), committed.0))
            }
            _ => None,
        });
    let rank = |committed: u64| (committed <= wanted, committed.min(wanted));
    let (prepared, told) = prepared.max_by_key(|(_, committed)| rank(*committed))?;
    let mut chosen = vec![prepared];
    if told < wanted {
        chosen.push(newest(
            newest_first,
            |body| matches!(body, Body::Committed { upto } if upto.0 == wanted),
        )?);
    }
    Some(chosen)
}

fn newest(newest_first: &[&Held], is_it: impl Fn(&Body) -> bool) -> Option<Held> {
    let mut all = newest_first.iter();
    let found = all.find(|held| is_it(&held.message.body))?;
    Some((*found).clone())
}
