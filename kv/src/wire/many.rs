//! Requests and replies on a stream of many: those of single calls, with a number around them.

use std::time::Duration;

use super::request::{
    delete_from_proto, delete_to_proto, get_from_proto, get_to_proto, read_reply_from_proto,
    read_reply_to_proto, set_from_proto, set_to_proto, write_reply_from_proto,
    write_reply_to_proto,
};
use super::{Reply, WireError, proto};
use crate::handle::Request;

type ProtoRequest = proto::many_request::Request;
type ProtoReply = proto::many_reply::Reply;

/// A request, for a stream; whoever sends it gives it its number.
#[must_use]
pub fn many_request_to_proto(request: Request, deadline: Duration) -> proto::ManyRequest {
    let request = match request {
        Request::Get { key, level, token } => {
            ProtoRequest::Get(get_to_proto(key, level, token, deadline))
        }
        Request::Set { key, value } => ProtoRequest::Set(set_to_proto(key, value, deadline)),
        Request::Delete { key } => ProtoRequest::Delete(delete_to_proto(key, deadline)),
    };
    proto::ManyRequest {
        number: 0,
        request: Some(request),
    }
}

/// A request from a stream, and how long it may take.
///
/// # Errors
/// Names the field that is missing or beyond the limits.
pub fn many_request_from_proto(
    request: proto::ManyRequest,
) -> Result<(Request, Option<Duration>), WireError> {
    match request.request.ok_or(WireError::Missing("request"))? {
        ProtoRequest::Get(get) => get_from_proto(get),
        ProtoRequest::Set(set) => set_from_proto(set),
        ProtoRequest::Delete(delete) => delete_from_proto(delete),
    }
}

/// What a request of a stream came to, for the wire.
///
/// # Errors
/// `Mismatch` for an answer that no such request ends with.
pub fn many_reply_to_proto(
    number: u64,
    is_read: bool,
    reply: Reply,
) -> Result<proto::ManyReply, WireError> {
    let reply = match is_read {
        true => ProtoReply::Read(read_reply_to_proto(reply)?),
        false => ProtoReply::Write(write_reply_to_proto(reply)?),
    };
    Ok(proto::ManyReply {
        number,
        reply: Some(reply),
    })
}

/// The reply to a request of a stream that was refused as such.
#[must_use]
pub fn many_rejected_to_proto(number: u64, error: &WireError) -> proto::ManyReply {
    let reply = ProtoReply::Rejected(error.to_string());
    proto::ManyReply {
        number,
        reply: Some(reply),
    }
}

/// What a request of a stream came to, from the wire; or why it was refused as such.
///
/// # Errors
/// Names the field that is missing or beyond the limits; `Mismatch` for a reply that does not belong to the request.
pub fn many_reply_from_proto(
    is_read: bool,
    reply: proto::ManyReply,
) -> Result<Result<Reply, String>, WireError> {
    match (is_read, reply.reply.ok_or(WireError::Missing("reply"))?) {
        (true, ProtoReply::Read(read)) => read_reply_from_proto(read).map(Ok),
        (false, ProtoReply::Write(written)) => write_reply_from_proto(written).map(Ok),
        (_, ProtoReply::Rejected(why)) => Ok(Err(why)),
        _ => Err(WireError::Mismatch),
    }
}
