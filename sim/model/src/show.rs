//! States as a person reads them: in the Explorer, in a story, in a failing test.

use std::fmt;

use kv_core::{NodeId, SessionId};

use crate::ledger::{Placed, Promise};
use crate::network::Envelope;
use crate::service::place;
use crate::state::{Member, State};
use crate::wal::{Item, offset_of};

/// A log, oldest first. What stands after the bar is not on disk yet.
#[must_use]
pub fn log(member: &Member) -> String {
    let entry = |(index, item): (usize, &Item)| name(offset_of(index).0, *item);
    let on_disk = member.disk.log.len();
    if !member.log.starts_with(&member.disk.log) {
        let written: Vec<_> = member.log.iter().enumerate().map(entry).collect();
        let disk: Vec<_> = member.disk.log.iter().enumerate().map(entry).collect();
        return format!("[{}] (on disk: [{}])", written.join(" "), disk.join(" "));
    }
    let mut words = Vec::new();
    for place in member.log.iter().enumerate() {
        if place.0 == on_disk {
            words.push("|".to_owned());
        }
        words.push(entry(place));
    }
    format!("[{}]", words.join(" "))
}

/// An entry by its epoch, offset and value.
fn name(offset: u64, item: Item) -> String {
    match item {
        Item { epoch, value: 0 } => format!("e{epoch}.o{offset}=start"),
        Item { epoch, value } => format!("e{epoch}.o{offset}={value}"),
    }
}

/// A write by its place.
#[must_use]
pub fn placed(placed: &Placed) -> String {
    name(placed.offset.0, placed.item)
}

/// What a member is right now.
#[must_use]
pub fn role(member: &Member) -> String {
    let replica = &member.replica;
    let mut role = match (replica.role_of(), replica.writer_of()) {
        (Some(epoch), Some(_)) => format!("writer of {epoch}"),
        (Some(epoch), None) => format!("starting {epoch}"),
        (None, _) => "replica".to_owned(),
    };
    if let Some(epoch) = replica.sealing() {
        role.push_str(&format!(", electing for {epoch}"));
    }
    role
}

/// A member in a line.
#[must_use]
pub fn member(node: NodeId, member: &Member) -> String {
    let replica = &member.replica;
    let mut line = format!(
        "{node}  {:<16} {}, committed {}",
        role(member),
        log(member),
        replica.committed()
    );
    if !replica.is_plain() {
        line.push_str(&format!(", promised {}", replica.promised()));
        if member.disk.promised != replica.promised() {
            line.push_str(" (not synced)");
        }
    }
    if replica.role_of().is_some() && !member.lease {
        line.push_str(", lease over");
    }
    if let Some((_, record)) = &member.proposal {
        line.push_str(&format!(", has asked for {}", record.epoch));
    }
    if member.incarnation > 0 {
        line.push_str(&format!(", restarted {}x", member.incarnation));
    }
    line
}

/// The shard record in words.
#[must_use]
pub fn record(state: &State) -> String {
    let service = &state.service;
    let writer = match service.record.writer {
        Some(writer) if service.sessions[place(writer.node)] == Some(writer.session) => {
            format!("writer {}", writer.node)
        }
        Some(writer) => format!("writer {}, whose session is gone", writer.node),
        None => "no writer".to_owned(),
    };
    let lock = service
        .lock
        .map_or_else(String::new, |holder| format!(", election lock at {holder}"));
    format!("{}, {writer}{lock}", service.record.epoch)
}

/// A message in a line.
#[must_use]
pub fn envelope(envelope: &Envelope) -> String {
    let Envelope { from, to, message } = envelope;
    let body = crate::words::body(&message.body);
    format!("{from} -> {to} ({}) {body}", message.epoch)
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "shard record: {}", record(self))?;
        for node in self.nodes() {
            let member = self.member(node);
            writeln!(f, "  {}", self::member(node, member))?;
            let registered = self.service.sessions[place(node)];
            if registered != member.replica.session() {
                let name = |session: Option<SessionId>| {
                    session.map_or_else(|| "none".to_owned(), |session| session.to_string())
                };
                let believed = name(member.replica.session());
                writeln!(f, "      session {believed}, really {}", name(registered))?;
            }
        }
        writeln!(f, "messages that may arrive:")?;
        for known in self.network.envelopes() {
            writeln!(f, "  {}", envelope(known))?;
        }
        let ledger = &self.ledger;
        let acknowledged: Vec<_> = ledger.acknowledged.iter().map(placed).collect();
        writeln!(f, "acknowledged: [{}]", acknowledged.join(" "))?;
        if !ledger.failed.is_empty() {
            writeln!(f, "ended as fail: {:?}", ledger.failed)?;
        }
        for (node, request, _) in &ledger.reads {
            writeln!(f, "read {request} waits at {node}")?;
        }
        let left = &self.left;
        write!(
            f,
            "left: writes {}, crashes {}, lost sessions {}, rollbacks {}, releases {}, retries {}, slow syncs {}, reads {}",
            left.writes,
            left.crashes,
            left.lost_sessions,
            left.rollbacks,
            left.releases,
            left.retries,
            left.slow_syncs,
            left.reads
        )?;
        for promise in Promise::ALL {
            if self.broken.has(promise) {
                write!(f, "\nBROKEN: {}", promise.name())?;
            }
        }
        Ok(())
    }
}

/// The Explorer shows this.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
