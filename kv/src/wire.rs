//! The wire format: protobuf messages on one side, the types of the store on the other.
//!
//! This is the only place that knows both. Reading is total: whatever the bytes are, the result is a value within the
//! limits or a [`WireError`], never a panic. What was read is within the limits but may still be stale or a lie; that is
//! for the protocol to judge.

use bytes::Bytes;
use kv_core::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kv_core::{Epoch, Message, NodeId, Offset, Version};
use prost::Message as _;

mod cluster;
mod many;
mod peer;
mod request;

#[cfg(test)]
mod tests;

pub use cluster::{Info, info_from_proto, info_to_proto};
pub use many::{
    many_rejected_to_proto, many_reply_from_proto, many_reply_to_proto, many_request_from_proto,
    many_request_to_proto,
};
pub use peer::{Chunk, chunk_from_proto, chunk_to_proto, envelope_from_proto, envelope_to_proto};
pub use request::{
    Reply, delete_from_proto, delete_to_proto, get_from_proto, get_to_proto, read_reply_from_proto,
    read_reply_to_proto, set_from_proto, set_to_proto, write_reply_from_proto,
    write_reply_to_proto,
};

/// The messages and services of `proto/kv.proto`, generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::use_self,
    reason = "generated; the documentation is in proto/kv.proto"
)]
pub mod proto {
    tonic::include_proto!("kv");
}

/// The largest gRPC message that a node or a client accepts, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The largest epoch and offset that are read from the wire: far from where adding one could overflow.
pub const NUMBER_MAX: u64 = 1 << 62;

const _: () = assert!(2 * kv_core::limits::BATCH_BYTES_MAX <= MESSAGE_BYTES_MAX);

/// Why a message was not understood. Nothing of it took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are no protobuf message of that type.
    #[error("the message is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field that every such message has is missing, or names a choice that this version does not know.
    #[error("the field `{0}` is missing or unknown")]
    Missing(&'static str),
    /// A number is out of its range.
    #[error("the field `{field}` is {value}; allowed: {min} to {max}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The key is empty or too long.
    #[error("the key has {0} bytes; allowed: 1 to {KEY_BYTES_MAX}")]
    KeyLength(usize),
    /// The value is too long.
    #[error("the value has {0} bytes; allowed: up to {VALUE_BYTES_MAX}")]
    ValueLength(usize),
    /// An answer of that kind does not belong to that request.
    #[error("the answer does not belong to the request")]
    Mismatch,
}

/// Checks the length of a key.
///
/// # Errors
/// Names the length and what is allowed.
pub fn check_key(key: &[u8]) -> Result<(), WireError> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        Ok(())
    } else {
        Err(WireError::KeyLength(key.len()))
    }
}

/// Checks the length of a value.
///
/// # Errors
/// Names the length and what is allowed.
pub fn check_value(value: &[u8]) -> Result<(), WireError> {
    if value.len() <= VALUE_BYTES_MAX {
        Ok(())
    } else {
        Err(WireError::ValueLength(value.len()))
    }
}

/// A key and a value in memory of their own. What arrives is a slice of the buffer that it arrived in, kilobytes for a request of a hundred
/// bytes, and all of that would be kept for as long as the value is.
fn own(key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
    let mut both = Vec::with_capacity(key.len() + value.len());
    both.extend_from_slice(key);
    both.extend_from_slice(value);
    let mut value = Bytes::from(both);
    let key = value.split_to(key.len());
    (key, value)
}

/// Writes a message between members as bytes, for a transport that is not gRPC.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    peer::message_to_proto(message).encode_to_vec().into()
}

/// Reads a message between members from bytes.
///
/// # Errors
/// Whenever the bytes are not what [`encode`] writes, or are beyond the limits.
pub fn decode(bytes: Bytes) -> Result<Message, WireError> {
    peer::message_from_proto(proto::PeerMessage::decode(bytes)?)
}

/// What a kill says back: who stops.
#[must_use]
pub fn kill_to_proto(node: NodeId) -> proto::KillReply {
    proto::KillReply { node: node.0 }
}

/// Who stops.
#[must_use]
pub fn kill_from_proto(reply: &proto::KillReply) -> NodeId {
    NodeId(reply.node)
}

fn in_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<u64, WireError> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(WireError::OutOfRange {
            field,
            value,
            min,
            max,
        })
    }
}

fn epoch(field: &'static str, value: u64) -> Result<Epoch, WireError> {
    in_range(field, value, 0, NUMBER_MAX).map(Epoch)
}

fn offset(field: &'static str, value: u64) -> Result<Offset, WireError> {
    in_range(field, value, 0, NUMBER_MAX).map(Offset)
}

fn version_to_proto(version: Version) -> proto::Version {
    proto::Version {
        epoch: version.epoch.0,
        offset: version.offset.0,
    }
}

fn version(field: &'static str, version: Option<proto::Version>) -> Result<Version, WireError> {
    let version = version.ok_or(WireError::Missing(field))?;
    Ok(Version::new(
        epoch(field, version.epoch)?,
        offset(field, version.offset)?,
    ))
}
