//! Bytes that claim to be messages of clients or peers.

use std::time::Duration;

use bytes::Bytes;
use kv::handle::Request;
use kv::wire::{self, WireError, proto};
use prost::Message;

/// Whatever is understood is within the limits, and comes back the same from the wire. The first byte says what the rest claims to be.
pub(crate) fn message(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 9 {
        0 => request(bytes, wire::get_from_proto),
        1 => request(bytes, wire::set_from_proto),
        2 => request(bytes, wire::delete_from_proto),
        3 => {
            let opened = read(bytes, wire::envelope_from_proto);
            if let Some((from, to, message)) = opened {
                let again = wire::envelope_to_proto(from, to, &message);
                assert_eq!(wire::envelope_from_proto(again), Ok((from, to, message)));
            }
        }
        4 => {
            if let Ok(message) = wire::decode(Bytes::copy_from_slice(bytes)) {
                assert_eq!(wire::decode(wire::encode(&message)), Ok(message));
            }
        }
        5 => drop(read(bytes, wire::read_reply_from_proto)),
        6 => drop(read(bytes, wire::write_reply_from_proto)),
        7 => drop(read(bytes, wire::info_from_proto)),
        _ => drop(read(bytes, |reply: proto::KillReply| {
            Ok(wire::kill_from_proto(&reply))
        })),
    }
}

fn read<M: Message + Default, T>(
    bytes: &[u8],
    from_proto: impl Fn(M) -> Result<T, WireError>,
) -> Option<T> {
    from_proto(M::decode(bytes).ok()?).ok()
}

fn request<M: Message + Default>(
    bytes: &[u8],
    from_proto: impl Fn(M) -> Result<(Request, Option<Duration>), WireError>,
) {
    let Some((request, _)) = read(bytes, from_proto) else {
        return;
    };
    let (key, value) = match &request {
        Request::Get { key, .. } | Request::Delete { key } => (key, None),
        Request::Set { key, value } => (key, Some(value)),
    };
    wire::check_key(key).expect("a key that was read is within the limits");
    if let Some(value) = value {
        wire::check_value(value).expect("so is a value");
    }
}
