//! What the clients asked and were told, as a history that the checker reads (`checker/FORMAT.md`).
//!
//! Lines are written in the order in which they happen: an invocation before anything is sent, a completion after the answer has come.
//! So an operation that ended before another one began stands above it, which is all that the checker asks of an order.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use kv::client::{Read, Written};
use kv::error::Outcome;
use kv_core::{Level, Version};
use serde::Serialize;

use super::plan::{Kind, Operation, number_in};

/// A history that is being written.
pub(super) struct Record {
    state: Mutex<State>,
    origin: Instant,
}

struct State {
    out: BufWriter<File>,
    next_index: u64,
    next_process: u64,
    /// The first thing that went wrong: nothing is written after it.
    failed: Option<io::Error>,
}

/// Who asks. A session goes on as another process after an operation whose end nobody knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    session: u64,
    process: u64,
}

/// One line. The fields stand in the order in which the checker writes them.
#[derive(Serialize)]
struct Line<'a> {
    index: u64,
    process: u64,
    session: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    f: &'static str,
    key: &'a str,
    value: Option<Value>,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    /// What somebody else wrote.
    Text(String),
}

/// How an operation was answered.
pub(super) struct Answer<'a> {
    kind: &'static str,
    value: Option<&'a Bytes>,
    version: Option<Version>,
    token: Option<Version>,
    shard: Option<u64>,
    node: Option<u64>,
    error: Option<&'static str>,
}

impl Answer<'_> {
    fn not_ok(kind: &'static str, error: &'static str) -> Self {
        Self {
            kind,
            value: None,
            version: None,
            token: None,
            shard: None,
            node: None,
            error: Some(error),
        }
    }
}

impl<'a> From<&'a Outcome<Read>> for Answer<'a> {
    fn from(outcome: &'a Outcome<Read>) -> Self {
        match outcome {
            Outcome::Ok(read) => Self {
                kind: "ok",
                value: read.value.as_ref(),
                version: read.version,
                token: Some(read.token),
                shard: Some(read.shard.0),
                node: Some(read.node.0),
                error: None,
            },
            Outcome::Fail(fail) => Self::not_ok("fail", fail.name()),
            Outcome::Info(unsure) => Self::not_ok("info", unsure.name()),
        }
    }
}

impl From<&Outcome<Written>> for Answer<'_> {
    fn from(outcome: &Outcome<Written>) -> Self {
        match outcome {
            Outcome::Ok(written) => Self {
                kind: "ok",
                value: None,
                version: Some(written.version),
                token: Some(written.version),
                shard: Some(written.shard.0),
                node: Some(written.node.0),
                error: None,
            },
            Outcome::Fail(fail) => Self::not_ok("fail", fail.name()),
            Outcome::Info(unsure) => Self::not_ok("info", unsure.name()),
        }
    }
}

impl Record {
    /// Begins a history in a new file.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let state = State {
            out: BufWriter::new(File::create(path)?),
            next_index: 0,
            next_process: 0,
            failed: None,
        };
        Ok(Self {
            state: Mutex::new(state),
            origin: Instant::now(),
        })
    }

    /// A session that has not asked anything yet.
    pub(super) fn session(&self) -> Who {
        let process = self.next_process();
        Who {
            session: process,
            process,
        }
    }

    /// Writes down that a session asks.
    pub(super) fn invoke(
        &self,
        who: Who,
        operation: &Operation,
        level: Level,
        token: Option<Version>,
    ) {
        let mut line = self.line(who, "invoke", operation, level);
        line.token = token.map(pair);
        self.write(line);
    }

    /// Writes down what a session was told; who it is from now on.
    pub(super) fn complete<'a>(
        &self,
        mut who: Who,
        operation: &Operation,
        level: Level,
        answer: impl Into<Answer<'a>>,
    ) -> Who {
        let answer = answer.into();
        let mut line = self.line(who, answer.kind, operation, level);
        if operation.kind == Kind::Get {
            line.value = answer.value.map(|value| match number_in(value) {
                Some(number) => Value::Number(number),
                None => Value::Text(value.escape_ascii().to_string()),
            });
        }
        line.version = answer.version.map(pair);
        line.token = answer.token.map(pair);
        line.shard = answer.shard;
        line.node = answer.node;
        line.error = answer.error;
        self.write(line);
        if answer.kind == "info" {
            who.process = self.next_process();
        }
        who
    }

    /// Writes out what is still in memory.
    pub(super) fn finish(&self) -> io::Result<()> {
        let mut state = self.state();
        match state.failed.take() {
            Some(error) => Err(error),
            None => state.out.flush(),
        }
    }

    fn line<'a>(
        &self,
        who: Who,
        kind: &'static str,
        operation: &'a Operation,
        level: Level,
    ) -> Line<'a> {
        let is_read = operation.kind == Kind::Get;
        let is_set = operation.kind == Kind::Set;
        let time = self.origin.elapsed().as_nanos();
        Line {
            index: 0,
            process: who.process,
            session: who.session,
            kind,
            f: match operation.kind {
                Kind::Get => "read",
                Kind::Set => "write",
                Kind::Delete => "delete",
            },
            key: std::str::from_utf8(&operation.key).unwrap_or("not text"),
            value: is_set.then_some(Value::Number(operation.number)),
            time: u64::try_from(time).unwrap_or(u64::MAX),
            shard: None,
            node: None,
            level: is_read.then_some(level_name(level)),
            version: None,
            token: None,
            error: None,
        }
    }

    fn write(&self, mut line: Line<'_>) {
        let mut state = self.state();
        if state.failed.is_some() {
            return;
        }
        line.index = state.next_index;
        state.next_index += 1;
        let written = serde_json::to_writer(&mut state.out, &line).map_err(io::Error::from);
        let written = written.and_then(|()| state.out.write_all(b"\n"));
        state.failed = written.err();
    }

    fn next_process(&self) -> u64 {
        let mut state = self.state();
        state.next_process += 1;
        state.next_process - 1
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(version: Version) -> (u64, u64) {
    (version.epoch.0, version.offset.0)
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Local => "local",
        Level::Lease => "lease",
        Level::Quorum => "quorum",
        Level::Replica => "replica",
    }
}
