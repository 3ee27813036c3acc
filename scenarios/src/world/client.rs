//! A session's client in every world: the store's own, with its answers in the words of the history.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use checker::{EventKind, Function};
use kv::client::ClientOptions;
use kv::error::Outcome;
use kv_core::Level;

use super::observed::number;
use super::{Answer, Ask, Client};
use crate::seed::stream;

/// The store's client, for one session.
pub struct StoreClient(kv::client::Client);

impl StoreClient {
    /// The client of a session that knows these nodes; its jitter comes from the run's seed.
    #[must_use]
    pub fn new(
        nodes: Arc<[String]>,
        deadline: Duration,
        (seed, session): (u64, u64),
        options: ClientOptions,
    ) -> Self {
        let options = ClientOptions {
            timeout: deadline,
            seed: rand::Rng::random(&mut stream(seed, "client", session)),
            ..options
        };
        Self(kv::client::Client::new(nodes.to_vec(), options))
    }
}

#[async_trait]
impl Client for StoreClient {
    async fn perform(&mut self, ask: &Ask) -> Answer {
        let key = Bytes::copy_from_slice(ask.key.as_bytes());
        match ask.function {
            Function::Read => read(self.0.get(key, level(ask.level)).await),
            Function::Write => {
                let value = ask.value.expect("a write has a value").to_string();
                written(self.0.set(key, value.into()).await)
            }
            Function::Delete => written(self.0.delete(key).await),
        }
    }
}

pub(super) fn level(level: Option<checker::Level>) -> Level {
    match level {
        Some(checker::Level::Local) => Level::Local,
        Some(checker::Level::Quorum) => Level::Quorum,
        Some(checker::Level::Replica) => Level::Replica,
        Some(checker::Level::Lease) | None => Level::Lease,
    }
}

fn read(outcome: Outcome<kv::client::Read>) -> Answer {
    answer(outcome, |read| Answer {
        value: read.value.as_deref().map(integer),
        version: read.version.map(version),
        token: Some(version(read.token)),
        shard: Some(number(read.shard)),
        node: Some(read.node.0),
        ..Answer::of(EventKind::Ok)
    })
}

fn written(outcome: Outcome<kv::client::Written>) -> Answer {
    answer(outcome, |written| Answer {
        version: Some(version(written.version)),
        token: Some(version(written.version)),
        shard: Some(number(written.shard)),
        node: Some(written.node.0),
        ..Answer::of(EventKind::Ok)
    })
}

fn answer<T>(outcome: Outcome<T>, ok: impl FnOnce(T) -> Answer) -> Answer {
    match outcome {
        Outcome::Ok(value) => ok(value),
        Outcome::Fail(why) => Answer {
            error: Some(why.to_string()),
            ..Answer::of(EventKind::Fail)
        },
        Outcome::Info(why) => Answer {
            error: Some(why.to_string()),
            ..Answer::of(EventKind::Info)
        },
    }
}

/// The integer that a session wrote. Anything else was written by nobody, and reads as a value that nobody wrote.
pub(super) fn integer(value: &[u8]) -> i64 {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(-1)
}

pub(super) fn version(version: kv_core::Version) -> checker::Version {
    checker::Version {
        epoch: version.epoch.0,
        offset: version.offset.0,
    }
}
