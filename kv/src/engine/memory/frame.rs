//! A batch as bytes.
//!
//! ```text
//!  0            8       12
//!  | body bytes | crc32 | change | change | ...
//!  | u64        | u32   | body bytes in all
//!
//!  0           4             8
//!  | key bytes | value bytes | key | value |
//!  | u32       | u32         |     |       |        value bytes 0xFFFF_FFFF: the key is taken away
//! ```
//!
//! The checksum is of the body's length and the body.

use bytes::Bytes;

use super::super::Change;

/// The bytes before the changes.
pub(super) const HEADER_BYTES: usize = 12;

const CHANGE_HEADER_BYTES: usize = 8;
const TAKEN_AWAY: u32 = u32::MAX;

/// How many bytes a change takes.
pub(super) fn change_bytes(key: &[u8], value: Option<&Bytes>) -> u64 {
    (CHANGE_HEADER_BYTES + key.len() + value.map_or(0, Bytes::len)) as u64
}

/// # Panics
/// When a key or a value has 4 GiB: the store's limits are far below.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let sizes = changes
        .iter()
        .map(|change| change_bytes(&change.key, change.value.as_ref()));
    let mut frame = Vec::with_capacity(HEADER_BYTES + sizes.sum::<u64>() as usize);
    frame.extend_from_slice(&[0; HEADER_BYTES]);
    for Change { key, value } in changes {
        frame.extend_from_slice(&length(key).to_le_bytes());
        let value_bytes = value.as_ref().map_or(TAKEN_AWAY, length);
        frame.extend_from_slice(&value_bytes.to_le_bytes());
        frame.extend_from_slice(key);
        frame.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let body_bytes = (frame.len() - HEADER_BYTES) as u64;
    frame[..8].copy_from_slice(&body_bytes.to_le_bytes());
    let crc = checksum(body_bytes, &frame[HEADER_BYTES..]);
    frame[8..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn length(bytes: &Bytes) -> u32 {
    let length = bytes.len() as u64;
    assert!(length < u64::from(TAKEN_AWAY), "keys and values are small");
    length as u32
}

fn checksum(body_bytes: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&body_bytes.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// What the header says: how long the body is, and its checksum.
pub(super) fn header(bytes: &[u8; HEADER_BYTES]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
    (
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u32::from_le_bytes([i, j, k, l]),
    )
}

/// The changes of a body; nothing if it is not one with this checksum.
pub(super) fn decode(body: &[u8], crc: u32) -> Option<Vec<Change>> {
    if checksum(body.len() as u64, body) != crc {
        return None;
    }
    let mut changes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let key_bytes = take_length(&mut rest)?;
        let value_bytes = take_length(&mut rest)?;
        let key = take(&mut rest, key_bytes)?;
        let value = match value_bytes {
            TAKEN_AWAY => None,
            bytes => Some(take(&mut rest, bytes)?),
        };
        changes.push(Change { key, value });
    }
    Some(changes)
}

fn take_length(rest: &mut &[u8]) -> Option<u32> {
    let (length, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*length))
}

fn take(rest: &mut &[u8], bytes: u32) -> Option<Bytes> {
    let (taken, after) = rest.split_at_checked(bytes as usize)?;
    *rest = after;
    Some(Bytes::copy_from_slice(taken))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(frame: &[u8]) -> (u64, Option<Vec<Change>>) {
        let (start, body) = frame.split_first_chunk().unwrap();
        let (body_bytes, crc) = header(start);
        (body_bytes, decode(body, crc))
    }

    fn any_changes() -> impl Strategy<Value = Vec<Change>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let change = (bytes(), prop::option::of(bytes()));
        let change = change.prop_map(|(key, value)| Change { key, value });
        prop::collection::vec(change, 0..5)
    }

    proptest! {
        #[test]
        fn a_batch_comes_back_as_it_was(changes in any_changes()) {
            let frame = encode(&changes);
            let body_bytes = (frame.len() - HEADER_BYTES) as u64;
            prop_assert_eq!(parts(&frame), (body_bytes, Some(changes)));
        }

        #[test]
        fn any_bytes_are_a_batch_or_refused(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let changes = decode(&body, checksum(body.len() as u64, &body));
            prop_assert!(changes.is_none_or(|changes| encode(&changes)[HEADER_BYTES..] == body));
        }
    }

    #[test]
    fn a_flipped_bit_is_refused() {
        let change = Change {
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from_static(b"value")),
        };
        let frame = encode(&[change]);
        for bit in 64..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parts(&flipped).1, None, "bit {bit}");
        }
    }
}
