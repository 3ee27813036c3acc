//! Messages between the members of a shard, on the wire.

use bytes::Bytes;
use kv_core::limits::BATCH_ENTRIES_MAX;
use kv_core::{Body, Entry, Message, NodeId, Operation, SessionId, Version};

use super::{WireError, check_key, check_value, epoch, in_range, offset, own, proto};
use super::{version, version_to_proto};

type ProtoBody = proto::peer_message::Body;
type ProtoOperation = proto::entry::Operation;

/// Puts a message into an envelope.
#[must_use]
pub fn envelope_to_proto(from: NodeId, to: NodeId, message: &Message) -> proto::Envelope {
    proto::Envelope {
        from: from.0,
        to: to.0,
        message: Some(message_to_proto(message)),
    }
}

/// Opens an envelope: the sender, the one that it is for, and the message.
///
/// # Errors
/// Whenever the message is not understood or is beyond the limits.
pub fn envelope_from_proto(
    envelope: proto::Envelope,
) -> Result<(NodeId, NodeId, Message), WireError> {
    let message = envelope.message.ok_or(WireError::Missing("message"))?;
    Ok((
        NodeId(envelope.from),
        NodeId(envelope.to),
        message_from_proto(message)?,
    ))
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which snapshot.
    pub at: Version,
    /// Where in it the bytes stand.
    pub position: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// Their CRC-32.
    pub crc: u32,
}

/// Puts a part of a snapshot on the wire.
#[must_use]
pub fn chunk_to_proto(chunk: Chunk) -> proto::Chunk {
    proto::Chunk {
        at: Some(version_to_proto(chunk.at)),
        position: chunk.position,
        bytes: chunk.bytes,
        crc: chunk.crc,
    }
}

/// Reads a part of a snapshot.
///
/// # Errors
/// Whenever it is not understood.
pub fn chunk_from_proto(chunk: proto::Chunk) -> Result<Chunk, WireError> {
    Ok(Chunk {
        at: version("at", chunk.at)?,
        position: chunk.position,
        bytes: chunk.bytes,
        crc: chunk.crc,
    })
}

pub(super) fn message_to_proto(message: &Message) -> proto::PeerMessage {
    let body = match &message.body {
        Body::Prepare {
            prev,
            entries,
            committed,
        } => ProtoBody::Prepare(proto::Prepare {
            prev: Some(version_to_proto(*prev)),
            entries: entries.iter().map(entry_to_proto).collect(),
            committed: committed.0,
        }),
        Body::Prepared { upto, committed } => ProtoBody::Prepared(proto::Prepared {
            upto: upto.0,
            committed: committed.0,
        }),
        Body::Refused { prev, hint } => ProtoBody::Refused(proto::Refused {
            prev: Some(version_to_proto(*prev)),
            hint: Some(version_to_proto(*hint)),
        }),
        Body::Stale { promised } => ProtoBody::Stale(proto::Stale {
            promised: promised.0,
        }),
        Body::Commit { upto } => ProtoBody::Commit(proto::Commit { upto: upto.0 }),
        Body::Committed { upto } => ProtoBody::Committed(proto::Committed { upto: upto.0 }),
        Body::Seal => ProtoBody::Seal(proto::Seal {}),
        Body::Sealed { end, session } => ProtoBody::Sealed(proto::Sealed {
            end: Some(version_to_proto(*end)),
            session: session.0,
        }),
        Body::Confirm { round } => ProtoBody::Confirm(proto::Confirm { round: *round }),
        Body::Confirmed { round } => ProtoBody::Confirmed(proto::Confirmed { round: *round }),
        Body::Rollback { after } => ProtoBody::Rollback(proto::Rollback { after: after.0 }),
        Body::Lost { session } => ProtoBody::Lost(proto::Lost { session: session.0 }),
        Body::Extent { session, end } => ProtoBody::Extent(proto::Extent {
            session: session.0,
            end: end.0,
        }),
        Body::Offer { at, bytes } => ProtoBody::Offer(proto::Offer {
            at: Some(version_to_proto(*at)),
            bytes: *bytes,
        }),
        Body::Fetch { at, position } => ProtoBody::Fetch(proto::Fetch {
            at: Some(version_to_proto(*at)),
            position: *position,
        }),
        Body::Chunk {
            at,
            position,
            bytes,
            crc,
        } => ProtoBody::Chunk(chunk_to_proto(Chunk {
            at: *at,
            position: *position,
            bytes: bytes.clone(),
            crc: *crc,
        })),
    };
    proto::PeerMessage {
        epoch: message.epoch.0,
        body: Some(body),
    }
}

pub(super) fn message_from_proto(message: proto::PeerMessage) -> Result<Message, WireError> {
    let body = match message.body.ok_or(WireError::Missing("body"))? {
        ProtoBody::Prepare(body) => prepare_from_proto(body)?,
        ProtoBody::Prepared(body) => Body::Prepared {
            upto: offset("upto", body.upto)?,
            committed: offset("committed", body.committed)?,
        },
        ProtoBody::Refused(body) => Body::Refused {
            prev: version("prev", body.prev)?,
            hint: version("hint", body.hint)?,
        },
        ProtoBody::Stale(body) => Body::Stale {
            promised: epoch("promised", body.promised)?,
        },
        ProtoBody::Commit(body) => Body::Commit {
            upto: offset("upto", body.upto)?,
        },
        ProtoBody::Committed(body) => Body::Committed {
            upto: offset("upto", body.upto)?,
        },
        ProtoBody::Seal(proto::Seal {}) => Body::Seal,
        ProtoBody::Sealed(body) => Body::Sealed {
            end: version("end", body.end)?,
            session: SessionId(body.session),
        },
        ProtoBody::Confirm(body) => Body::Confirm { round: body.round },
        ProtoBody::Confirmed(body) => Body::Confirmed { round: body.round },
        ProtoBody::Rollback(body) => Body::Rollback {
            after: offset("after", body.after)?,
        },
        ProtoBody::Lost(body) => Body::Lost {
            session: SessionId(body.session),
        },
        ProtoBody::Extent(body) => Body::Extent {
            session: SessionId(body.session),
            end: offset("end", body.end)?,
        },
        ProtoBody::Offer(body) => Body::Offer {
            at: version("at", body.at)?,
            bytes: body.bytes,
        },
        ProtoBody::Fetch(body) => Body::Fetch {
            at: version("at", body.at)?,
            position: body.position,
        },
        ProtoBody::Chunk(body) => {
            let Chunk {
                at,
                position,
                bytes,
                crc,
            } = chunk_from_proto(body)?;
            Body::Chunk {
                at,
                position,
                bytes,
                crc,
            }
        }
    };
    Ok(Message {
        epoch: epoch("epoch", message.epoch)?,
        body,
    })
}

fn prepare_from_proto(body: proto::Prepare) -> Result<Body, WireError> {
    let count = u64::try_from(body.entries.len()).unwrap_or(u64::MAX);
    in_range("entries", count, 0, BATCH_ENTRIES_MAX)?;
    Ok(Body::Prepare {
        prev: version("prev", body.prev)?,
        entries: body
            .entries
            .into_iter()
            .map(entry_from_proto)
            .collect::<Result<_, _>>()?,
        committed: offset("committed", body.committed)?,
    })
}

fn entry_to_proto(entry: &Entry) -> proto::Entry {
    let operation = match &entry.operation {
        Operation::EpochStart => ProtoOperation::EpochStart(proto::EpochStart {}),
        Operation::Set { key, value } => ProtoOperation::Set(proto::SetOperation {
            key: key.clone(),
            value: value.clone(),
        }),
        Operation::Delete { key } => {
            ProtoOperation::Delete(proto::DeleteOperation { key: key.clone() })
        }
    };
    proto::Entry {
        version: Some(version_to_proto(entry.version)),
        operation: Some(operation),
    }
}

fn entry_from_proto(entry: proto::Entry) -> Result<Entry, WireError> {
    let operation = match entry.operation.ok_or(WireError::Missing("operation"))? {
        ProtoOperation::EpochStart(proto::EpochStart {}) => Operation::EpochStart,
        ProtoOperation::Set(proto::SetOperation { key, value }) => {
            check_key(&key)?;
            check_value(&value)?;
            let (key, value) = own(&key, &value);
            Operation::Set { key, value }
        }
        ProtoOperation::Delete(proto::DeleteOperation { key }) => {
            check_key(&key)?;
            let (key, _) = own(&key, &[]);
            Operation::Delete { key }
        }
    };
    Ok(Entry {
        version: version("version", entry.version)?,
        operation,
    })
}
