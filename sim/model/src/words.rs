//! Messages in words.

use kv_core::{Body, Entry, Operation};

/// A message as a person reads it.
#[must_use]
pub fn body(body: &Body) -> String {
    match body {
        Body::Prepare {
            prev,
            entries,
            committed,
        } => {
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!(
                "Prepare after {prev} [{}], committed {committed}",
                entries.join(", ")
            )
        }
        Body::Prepared { upto, committed } => {
            format!("Prepared up to {upto}, committed {committed}")
        }
        Body::Refused { prev, hint } => format!("Refused {prev}, holds {hint}"),
        Body::Stale { promised } => format!("Stale, promised {promised}"),
        Body::Commit { upto } => format!("Commit up to {upto}"),
        Body::Committed { upto } => format!("Committed up to {upto}"),
        Body::Seal => "Seal".to_owned(),
        Body::Sealed { end, session } => format!("Sealed at {end} in {session}"),
        Body::Confirm { round } => format!("Confirm {round}"),
        Body::Confirmed { round } => format!("Confirmed {round}"),
        Body::Rollback { after } => format!("Rollback to {after}"),
        Body::Lost { session } => format!("Lost, says {session}"),
        Body::Extent { session, end } => format!("Extent {end} for {session}"),
        Body::Offer { at, .. } => format!("Offer of a snapshot at {at}"),
        Body::Fetch { at, position } => format!("Fetch {at} from byte {position}"),
        Body::Chunk { at, position, .. } => format!("Chunk of {at} at byte {position}"),
    }
}

/// An entry as a person reads it.
#[must_use]
pub fn entry(entry: &Entry) -> String {
    let name = entry.version;
    match &entry.operation {
        Operation::EpochStart => format!("{name} EpochStart"),
        Operation::Set { value, .. } => format!("{name}={}", String::from_utf8_lossy(value)),
        Operation::Delete { .. } => format!("{name} delete"),
    }
}
