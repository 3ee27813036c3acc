//! Clients' requests and what they came to, on the wire.

use std::time::Duration;

use bytes::Bytes;
use kv_core::{Level, NodeId, SLOT_COUNT, ShardId, Slot, Version};

use super::{WireError, check_key, check_value, own, proto, version, version_to_proto};
use crate::handle::{Answer, Refusal, Request};

type ReadResult = proto::read_reply::Result;
type WriteResult = proto::write_reply::Result;
type RefusalKind = proto::refusal::Kind;

/// What a node replied to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The node that answers.
    pub node: NodeId,
    /// Its answer.
    pub answer: Answer,
    /// With `Moved`: the address of the writer, as far as the node knows.
    pub address: Option<String>,
}

/// A read, for the wire.
#[must_use]
pub fn get_to_proto(
    key: Bytes,
    level: Level,
    token: Option<Version>,
    deadline: Duration,
) -> proto::GetRequest {
    let level = match level {
        Level::Local => proto::Level::Local,
        Level::Lease => proto::Level::Lease,
        Level::Quorum => proto::Level::Quorum,
        Level::Replica => proto::Level::Replica,
    };
    proto::GetRequest {
        key,
        level: level.into(),
        token: token.map(version_to_proto),
        deadline_ms: deadline_to_proto(deadline),
    }
}

/// A read, from the wire, and how long it may take; nothing where the client leaves that to the node.
///
/// # Errors
/// Names the field that is beyond the limits.
pub fn get_from_proto(
    request: proto::GetRequest,
) -> Result<(Request, Option<Duration>), WireError> {
    check_key(&request.key)?;
    let level = match proto::Level::try_from(request.level) {
        Ok(proto::Level::Local) => Level::Local,
        Ok(proto::Level::Unspecified | proto::Level::Lease) => Level::Lease,
        Ok(proto::Level::Quorum) => Level::Quorum,
        Ok(proto::Level::Replica) => Level::Replica,
        Err(_) => return Err(WireError::Missing("level")),
    };
    let token = match request.token {
        Some(token) => Some(version("token", Some(token))?),
        None => None,
    };
    let request_deadline = deadline_from_proto(request.deadline_ms);
    let key = request.key;
    Ok((Request::Get { key, level, token }, request_deadline))
}

/// A set, for the wire.
#[must_use]
pub fn set_to_proto(key: Bytes, value: Bytes, deadline: Duration) -> proto::SetRequest {
    proto::SetRequest {
        key,
        value,
        deadline_ms: deadline_to_proto(deadline),
    }
}

/// A set, from the wire, and how long it may take.
///
/// # Errors
/// Names the field that is beyond the limits.
pub fn set_from_proto(
    request: proto::SetRequest,
) -> Result<(Request, Option<Duration>), WireError> {
    check_key(&request.key)?;
    check_value(&request.value)?;
    let (key, value) = own(&request.key, &request.value);
    let deadline = deadline_from_proto(request.deadline_ms);
    Ok((Request::Set { key, value }, deadline))
}

/// A delete, for the wire.
#[must_use]
pub fn delete_to_proto(key: Bytes, deadline: Duration) -> proto::DeleteRequest {
    proto::DeleteRequest {
        key,
        deadline_ms: deadline_to_proto(deadline),
    }
}

/// A delete, from the wire, and how long it may take.
///
/// # Errors
/// Names the field that is beyond the limits.
pub fn delete_from_proto(
    request: proto::DeleteRequest,
) -> Result<(Request, Option<Duration>), WireError> {
    check_key(&request.key)?;
    let deadline = deadline_from_proto(request.deadline_ms);
    let (key, _) = own(&request.key, &[]);
    Ok((Request::Delete { key }, deadline))
}

/// What a read came to, for the wire.
///
/// # Errors
/// `Mismatch` for an answer that no read ends with.
pub fn read_reply_to_proto(reply: Reply) -> Result<proto::ReadReply, WireError> {
    let result = match reply.answer {
        Answer::Value {
            value,
            version,
            token,
            shard,
        } => ReadResult::Value(proto::Value {
            value,
            version: version.map(version_to_proto),
            token: Some(version_to_proto(token)),
            shard: shard.0,
        }),
        Answer::Refused(refusal) => ReadResult::Refusal(refusal_to_proto(&refusal, reply.address)),
        Answer::Written { .. } | Answer::Unknown => return Err(WireError::Mismatch),
    };
    Ok(proto::ReadReply {
        node: reply.node.0,
        result: Some(result),
    })
}

/// What a read came to, from the wire.
///
/// # Errors
/// Names the field that is missing or beyond the limits.
pub fn read_reply_from_proto(reply: proto::ReadReply) -> Result<Reply, WireError> {
    let node = NodeId(reply.node);
    match reply.result.ok_or(WireError::Missing("result"))? {
        ReadResult::Value(read) => {
            if let Some(value) = &read.value {
                check_value(value)?;
            }
            let answer = Answer::Value {
                value: read.value,
                version: match read.version {
                    Some(found) => Some(version("version", Some(found))?),
                    None => None,
                },
                token: version("token", read.token)?,
                shard: ShardId(read.shard),
            };
            Ok(Reply {
                node,
                answer,
                address: None,
            })
        }
        ReadResult::Refusal(refusal) => refused(node, refusal),
    }
}

/// What a write came to, for the wire.
///
/// # Errors
/// `Mismatch` for an answer that no write ends with.
pub fn write_reply_to_proto(reply: Reply) -> Result<proto::WriteReply, WireError> {
    let result = match reply.answer {
        Answer::Written { version, shard } => WriteResult::Written(proto::Written {
            version: Some(version_to_proto(version)),
            shard: shard.0,
        }),
        Answer::Refused(refusal) => WriteResult::Refusal(refusal_to_proto(&refusal, reply.address)),
        Answer::Unknown => WriteResult::Unknown(proto::Unknown {}),
        Answer::Value { .. } => return Err(WireError::Mismatch),
    };
    Ok(proto::WriteReply {
        node: reply.node.0,
        result: Some(result),
    })
}

/// What a write came to, from the wire.
///
/// # Errors
/// Names the field that is missing or beyond the limits.
pub fn write_reply_from_proto(reply: proto::WriteReply) -> Result<Reply, WireError> {
    let node = NodeId(reply.node);
    let answer = match reply.result.ok_or(WireError::Missing("result"))? {
        WriteResult::Written(written) => Answer::Written {
            version: version("version", written.version)?,
            shard: ShardId(written.shard),
        },
        WriteResult::Refusal(refusal) => return refused(node, refusal),
        WriteResult::Unknown(proto::Unknown {}) => Answer::Unknown,
    };
    Ok(Reply {
        node,
        answer,
        address: None,
    })
}

fn refusal_to_proto(refusal: &Refusal, address: Option<String>) -> proto::Refusal {
    let kind = match refusal {
        Refusal::Moved {
            slot,
            shard,
            writer,
        } => RefusalKind::Moved(proto::Moved {
            slot: u32::from(slot.number()),
            shard: shard.map(|shard| shard.0),
            writer: writer.map(|writer| writer.0),
            address,
        }),
        Refusal::TryAgain => RefusalKind::Reason(proto::Reason::TryAgain.into()),
        Refusal::Behind => RefusalKind::Reason(proto::Reason::Behind.into()),
        Refusal::RolledBack => RefusalKind::Reason(proto::Reason::RolledBack.into()),
        Refusal::Unconfirmed => RefusalKind::Reason(proto::Reason::Unconfirmed.into()),
    };
    proto::Refusal { kind: Some(kind) }
}

fn refused(node: NodeId, refusal: proto::Refusal) -> Result<Reply, WireError> {
    let (refusal, address) = match refusal.kind.ok_or(WireError::Missing("kind"))? {
        RefusalKind::Moved(moved) => (
            Refusal::Moved {
                slot: slot(moved.slot)?,
                shard: moved.shard.map(ShardId),
                writer: moved.writer.map(NodeId),
            },
            moved.address,
        ),
        RefusalKind::Reason(reason) => (reason_from_proto(reason)?, None),
    };
    Ok(Reply {
        node,
        answer: Answer::Refused(refusal),
        address,
    })
}

fn reason_from_proto(reason: i32) -> Result<Refusal, WireError> {
    match proto::Reason::try_from(reason) {
        Ok(proto::Reason::TryAgain) => Ok(Refusal::TryAgain),
        Ok(proto::Reason::Behind) => Ok(Refusal::Behind),
        Ok(proto::Reason::RolledBack) => Ok(Refusal::RolledBack),
        Ok(proto::Reason::Unconfirmed) => Ok(Refusal::Unconfirmed),
        Ok(proto::Reason::Unspecified) | Err(_) => Err(WireError::Missing("reason")),
    }
}

fn slot(number: u32) -> Result<Slot, WireError> {
    u16::try_from(number)
        .ok()
        .and_then(Slot::new)
        .ok_or(WireError::OutOfRange {
            field: "slot",
            value: u64::from(number),
            min: 0,
            max: u64::from(SLOT_COUNT) - 1,
        })
}

/// Whole milliseconds, at least one: 0 would mean that the node chooses.
fn deadline_to_proto(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn deadline_from_proto(deadline_ms: u64) -> Option<Duration> {
    (deadline_ms > 0).then(|| Duration::from_millis(deadline_ms))
}
