//! How many requests a node has in hand at most, and how large they are together: the bound on what clients make it remember.
//!
//! A request takes its place before it is queued and keeps it until it is answered, so the bound covers the queue and what the
//! replica waits for alike. There is no waiting for a place.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Answer, Answered, Refusal, Request};

/// How many requests a node has in hand, unless it is chosen.
pub const REQUESTS_MAX: usize = 4096;

/// How many bytes of keys and values they have together, unless it is chosen.
pub const REQUEST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes are counted in such pieces, begun ones included.
const PIECE_BYTES: u64 = 1024;

/// An answer of so few bytes is not counted: the connections' own bounds hold for them.
const SMALL_ANSWER_BYTES: usize = 1024;

/// The places of a node.
#[derive(Clone, Debug)]
pub(super) struct Places {
    requests: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
    /// Of the answers that are on their way to those who asked.
    answer_pieces: Arc<Semaphore>,
}

/// Room for an answer, until it has gone out and this is dropped. A clone is the same room.
#[derive(Clone, Debug)]
pub struct Room {
    _pieces: Arc<OwnedSemaphorePermit>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _request: OwnedSemaphorePermit,
    _pieces: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(requests_max: usize, bytes_max: u64) -> Self {
        let pieces = usize::try_from(bytes_max / PIECE_BYTES).unwrap_or(usize::MAX);
        let most = Semaphore::MAX_PERMITS;
        Self {
            requests: Arc::new(Semaphore::new(requests_max.min(most))),
            pieces: Arc::new(Semaphore::new(pieces.min(most))),
            answer_pieces: Arc::new(Semaphore::new(pieces.min(most))),
        }
    }

    /// An answer with the room that it takes, or that there is none.
    pub(super) fn answered(&self, answer: Answer) -> Answered {
        let value_bytes = match &answer {
            Answer::Value {
                value: Some(value), ..
            } => value.len(),
            _ => 0,
        };
        match self.room(value_bytes) {
            Some(room) => Answered { answer, room },
            None => Answer::Refused(Refusal::Busy).into(),
        }
    }

    /// Room for an answer, where it needs some: nothing else where there is none.
    pub(super) fn room(&self, value_bytes: usize) -> Option<Option<Room>> {
        if value_bytes <= SMALL_ANSWER_BYTES {
            return Some(None);
        }
        let pieces = u32::try_from(1 + value_bytes as u64 / PIECE_BYTES).ok()?;
        let taken = self.answer_pieces.clone().try_acquire_many_owned(pieces);
        Some(Some(Room {
            _pieces: Arc::new(taken.ok()?),
        }))
    }

    /// A place for a request, if there is one.
    pub(super) fn take(&self, request: &Request) -> Option<Place> {
        let bytes = match request {
            Request::Get { key, .. } | Request::Delete { key } => key.len(),
            Request::Set { key, value } => key.len() + value.len(),
        };
        let pieces = 1 + bytes as u64 / PIECE_BYTES;
        let pieces = u32::try_from(pieces).ok()?;
        Some(Place {
            _request: self.requests.clone().try_acquire_owned().ok()?,
            _pieces: self.pieces.clone().try_acquire_many_owned(pieces).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn set(bytes: usize) -> Request {
        Request::Set {
            key: Bytes::from_static(b"k"),
            value: vec![0; bytes].into(),
        }
    }

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = Places::new(2, 1 << 20);
        let first = places.take(&set(1));
        let second = places.take(&set(1));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(&set(1)).is_none());
        drop(first);
        assert!(places.take(&set(1)).is_some());
    }

    #[test]
    fn answers_have_room_until_they_have_gone_out() {
        let places = Places::new(1, 1 << 20);
        let first = places.room(900_000);
        assert!(first.is_some());
        assert!(places.room(900_000).is_none());
        assert!(places.room(10).is_some(), "small ones need none");
        drop(first);
        assert!(places.room(900_000).is_some());
    }

    #[test]
    fn large_requests_fill_the_node_before_many_do() {
        let places = Places::new(100, 1 << 20);
        let large = places.take(&set(900_000));
        assert!(large.is_some());
        assert!(places.take(&set(900_000)).is_none());
        assert!(places.take(&set(1000)).is_some());
        drop(large);
        assert!(places.take(&set(900_000)).is_some());
    }
}
