//! Inputs and messages as a person reads them in a transcript.

use kv_core::{Body, Entry, Input, Message, NodeId, Observed, Operation, Version};

fn short(version: Version) -> String {
    format!("{}.{}", version.epoch.0, version.offset.0)
}

fn entry(entry: &Entry) -> String {
    let name = short(entry.version);
    match &entry.operation {
        Operation::EpochStart => format!("{name}:start"),
        Operation::Set { value, .. } => format!("{name}:r{}", String::from_utf8_lossy(value)),
        Operation::Delete { .. } => format!("{name}:delete"),
    }
}

/// A message.
pub(crate) fn message(message: &Message) -> String {
    let body = match &message.body {
        Body::Prepare {
            prev,
            entries,
            committed,
        } => {
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!(
                "Prepare prev={} [{}] committed={}",
                short(*prev),
                entries.join(" "),
                committed.0
            )
        }
        Body::Prepared { upto, committed } => {
            format!("Prepared upto={} committed={}", upto.0, committed.0)
        }
        Body::Refused { prev, hint } => {
            format!("Refused prev={} hint={}", short(*prev), short(*hint))
        }
        Body::Stale { promised } => format!("Stale promised={promised}"),
        Body::Commit { upto } => format!("Commit upto={}", upto.0),
        Body::Committed { upto } => format!("Committed upto={}", upto.0),
        Body::Seal => "Seal".to_owned(),
        Body::Sealed { end, session } => format!("Sealed end={} session={session}", short(*end)),
        Body::Confirm { round } => format!("Confirm {round}"),
        Body::Confirmed { round } => format!("Confirmed {round}"),
        Body::Rollback { after } => format!("Rollback after={}", after.0),
    };
    format!("{} {body}", message.epoch)
}

/// A shard record.
pub(crate) fn record(seen: &Observed) -> String {
    let writer = seen.record.writer.map_or("nobody".to_owned(), |writer| {
        format!("{} in {}", writer.node, writer.session)
    });
    let lives = match (seen.record.writer, seen.writer_session) {
        (Some(writer), Some(session)) if writer.session == session => "",
        (Some(_), _) => " (gone)",
        (None, _) => "",
    };
    format!(
        "record {}: {}, writer {writer}{lives}",
        seen.revision, seen.record.epoch
    )
}

/// An input.
pub(crate) fn input(to: NodeId, input: &Input) -> String {
    match input {
        Input::Message {
            from,
            message: sent,
        } => format!("{from} -> {to} {}", message(sent)),
        Input::Synced(count) => format!("{to} synced {count}"),
        Input::Write(writes) => {
            let ids: Vec<_> = writes.iter().map(|(id, _)| id.to_string()).collect();
            format!("{to} write {}", ids.join(" "))
        }
        Input::Read { request, level, .. } => format!("{to} {level:?} read {request}"),
        Input::Record(seen) => format!("{to} sees {}", record(seen)),
        Input::Session(Some(session)) => format!("{to} has session {session}"),
        Input::Session(None) => format!("{to} learns that its session is over"),
        other => format!("{to} {other:?}"),
    }
}
