//! Inputs and messages as a person reads them in a transcript.

use kv_core::{
    Body, Entry, Input, Message, NodeId, Notable, Observed, Operation, Reply, RequestId, Version,
};

use super::ledger::Answer;

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
        Body::Lost { session } => format!("Lost session={session}"),
        Body::Extent { session, end } => format!("Extent session={session} end={}", end.0),
        Body::Offer { at, bytes } => format!("Offer at={} bytes={bytes}", short(*at)),
        Body::Fetch { at, position } => format!("Fetch at={} position={position}", short(*at)),
        Body::Chunk { at, position, .. } => {
            format!("Chunk at={} position={position}", short(*at))
        }
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

/// Something that a node found worth writing down.
pub(crate) fn notable(of: NodeId, notable: &Notable) -> String {
    match notable {
        Notable::Promoted(epoch) => format!("{of} is the writer of {epoch}"),
        Notable::Demoted(epoch) => format!("{of} is no longer the writer of {epoch}"),
        Notable::Promised(epoch) => format!("{of} promises {epoch}"),
        Notable::Elected { epoch, writer } => {
            format!("{of} has chosen {writer} for the writer of {epoch}")
        }
        Notable::RolledBack { epoch, after } => {
            format!("{of} gives up what stands above {} in {epoch}", after.0)
        }
        Notable::Released(epoch) => format!("{of} has released the role in {epoch}"),
        Notable::Truncated { after } => format!("{of} removes what stands above {}", after.0),
        Notable::Acknowledged { version, members } => {
            let members: Vec<_> = members.iter().map(NodeId::to_string).collect();
            let members = members.join(" ");
            format!("{of} counts {members} for {}", short(*version))
        }
        other => format!("{of} {other:?}"),
    }
}

/// An answer to a client.
pub(crate) fn answer(of: NodeId, request: RequestId, answer: &Answer) -> String {
    match answer {
        Answer::Reply(Reply::Written(version)) => format!("{of}: {request} ok {}", short(*version)),
        Answer::Reply(Reply::Unknown) => format!("{of}: {request} info"),
        Answer::Reply(Reply::Refused(why)) => format!("{of}: {request} fail {why:?}"),
        Answer::Served { level, applied, .. } => {
            format!("{of}: {request} read {level:?} at {}", short(*applied))
        }
    }
}

/// A log with its committed part before the bar.
pub(crate) fn log(entries: &[Entry], committed: usize) -> String {
    let all: Vec<_> = entries.iter().map(entry).collect();
    let (committed, rest) = all.split_at(committed);
    format!("{} | {}", committed.join(" "), rest.join(" "))
        .trim()
        .to_owned()
}
