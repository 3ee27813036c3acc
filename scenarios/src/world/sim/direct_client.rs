//! A client of a directed run: it asks one node, past the network, and goes to no other.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use checker::{EventKind, Function};
use kv::handle::{self, NodeHandle, Refusal, Request};

use crate::world::client::{integer, level, version};
use crate::world::observed::number;
use crate::world::{Answer, Ask, Client};

/// A client of one node.
pub(super) struct DirectClient {
    /// The node; none, when it is down.
    pub(super) node: Option<NodeHandle>,
    /// How long to wait for an answer.
    pub(super) deadline: Duration,
}

#[async_trait]
impl Client for DirectClient {
    async fn perform(&mut self, ask: &Ask) -> Answer {
        let Some(node) = &self.node else {
            return Answer::of(EventKind::Fail);
        };
        let key = Bytes::copy_from_slice(ask.key.as_bytes());
        let request = match ask.function {
            Function::Read => Request::Get {
                key,
                level: level(ask.level),
                token: None,
            },
            Function::Write => {
                let value = ask.value.expect("a write has a value").to_string();
                Request::Set {
                    key,
                    value: value.into(),
                }
            }
            Function::Delete => Request::Delete { key },
        };
        let from = Some(node.node.0);
        match node.request(request, self.deadline).await.answer {
            handle::Answer::Written { version: at, shard } => Answer {
                version: Some(version(at)),
                token: Some(version(at)),
                shard: Some(number(shard)),
                node: from,
                ..Answer::of(EventKind::Ok)
            },
            handle::Answer::Value {
                value,
                version: at,
                token,
                shard,
            } => Answer {
                value: value.as_deref().map(integer),
                version: at.map(version),
                token: Some(version(token)),
                shard: Some(number(shard)),
                node: from,
                ..Answer::of(EventKind::Ok)
            },
            handle::Answer::Refused(why) => Answer {
                error: Some(refused(&why).to_owned()),
                node: from,
                ..Answer::of(EventKind::Fail)
            },
            handle::Answer::Unknown => Answer {
                error: Some("nobody knows what became of it".to_owned()),
                ..Answer::of(EventKind::Info)
            },
        }
    }
}

fn refused(why: &Refusal) -> &'static str {
    match why {
        Refusal::Moved { .. } => "another node is the writer",
        Refusal::TryAgain => "the writer is not ready",
        Refusal::Behind => "the replica is behind",
        Refusal::RolledBack => "the writer gave it up",
        Refusal::Unconfirmed => "too few members confirmed",
        Refusal::Busy => "the node has too many requests in hand",
    }
}
