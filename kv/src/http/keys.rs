//! `/kv/{key}`: the key is everything behind `/kv/`, percent-decoded: any bytes, slashes included. A value is the body as it is.
//!
//! | asked by query or header | what |
//! |---|---|
//! | `level`, `Kv-Level` | how much a read promises: `writer` (the same as `lease`, the default), `quorum`, `local`, `replica` |
//! | `token`, `Kv-Token` | `SHARD:EPOCH:OFFSET`: a session; a `replica` that has not applied as far is not the one that answers |
//! | `timeout`, `Kv-Timeout` | how long it may take, such as `500ms`; 5 s unless it is said |
//!
//! | status | what it says |
//! |---|---|
//! | 200 | done; the answer's `Kv-Version`, `Kv-Token` and `Kv-Node` say what was read or written, how far the session has come, and who answered |
//! | 404 | there is no such key |
//! | 400, 413 | the request is wrong, and nothing happened |
//! | 503 | refused: it did not happen and will not; try again, after `Retry-After` |
//! | 504 | nobody knows whether the write happened, or will |

use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kv_core::limits::VALUE_BYTES_MAX;
use kv_core::{Epoch, Level, NodeId, Offset, ShardId, Version};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;

use super::{Face, as_json, ended, refused};
use crate::client::{Read, Written};
use crate::error::{Fail, Outcome, Unsure};
use crate::handle::{Answer, Answered, Request, Room};
use crate::quantity::Length;
use crate::server::{DEADLINE_DEFAULT, DEADLINE_MAX};
use crate::wire::{check_key, check_value};

/// What a query may say. A header of the same name says the same.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    level: Option<String>,
    token: Option<String>,
    timeout: Option<String>,
}

/// What was asked, understood: the path, the query and the headers.
#[derive(Debug)]
pub(super) struct Wanted {
    key: Bytes,
    level: Level,
    token: Option<(ShardId, Version)>,
    deadline: Duration,
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Wrong;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Wrong> {
        let key = key_of(&parts.uri)?;
        let query = Query::from_request_parts(parts, state).await;
        let Query(asked) = query.map_err(|rejection| Wrong(rejection.body_text()))?;
        understand(key, asked, &parts.headers)
    }
}

/// Why a request was not understood: nothing happened.
pub(super) struct Wrong(String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        refused(StatusCode::BAD_REQUEST, "bad-request", &self.0)
    }
}

pub(super) async fn read(State(face): State<Face>, wanted: Wanted) -> Response {
    let (outcome, room) = face.read(wanted).await;
    let mut response = answered(outcome, found);
    if let Some(room) = room {
        response.extensions_mut().insert(room); // Held until the answer has gone out.
    }
    response
}

pub(super) async fn write(
    State(face): State<Face>,
    wanted: Wanted,
    value: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let value = match value {
        Ok(value) => value,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("a value has at most {VALUE_BYTES_MAX} bytes");
            return Ok(refused(StatusCode::PAYLOAD_TOO_LARGE, "limits", &message));
        }
        Err(rejection) => return Err(Wrong(rejection.body_text())),
    };
    check_value(&value).map_err(|error| Wrong(error.to_string()))?;
    Ok(answered(face.write(wanted, Some(value)).await, written))
}

pub(super) async fn delete(State(face): State<Face>, wanted: Wanted) -> Response {
    answered(face.write(wanted, None).await, written)
}

impl Face {
    /// Asks this node, and where it is another's, the one that serves it. The answer may take room until it has gone out.
    async fn read(&self, wanted: Wanted) -> (Outcome<Read>, Option<Room>) {
        let Wanted {
            key,
            level,
            token: session,
            deadline,
        } = wanted;
        let request = Request::Get {
            key: key.clone(),
            level,
            token: session.map(|(_, version)| version),
        };
        let Answered { answer, room } = self.node.request(request, deadline).await;
        if let Answer::Value {
            value,
            version,
            token,
            shard,
        } = answer
        {
            // A token of another shard says nothing about this one.
            let is_of_session = session.is_none_or(|(of, _)| of == shard);
            if is_of_session || level != Level::Replica {
                let read = Read {
                    value,
                    version,
                    token,
                    shard,
                    node: self.node.node,
                };
                return (Outcome::Ok(read), room);
            }
        }
        // A read has no effect: whatever it was refused for, another node may answer.
        let mut client = self.session(deadline);
        if let Some((shard, version)) = session {
            client.resume(shard, version);
        }
        match client.get(key, level).await {
            Outcome::Ok(read) => self.with_room(read),
            other => (other, None),
        }
    }

    /// Takes room for what another node answered.
    fn with_room(&self, read: Read) -> (Outcome<Read>, Option<Room>) {
        let value_bytes = read.value.as_ref().map_or(0, Bytes::len);
        match self.node.room(value_bytes) {
            Some(room) => (Outcome::Ok(read), room),
            None => (Outcome::Fail(Fail::Busy), None),
        }
    }

    /// Gives a key a value, or takes it away: at this node, and where it is another's, at the one that serves it.
    async fn write(&self, wanted: Wanted, value: Option<Bytes>) -> Outcome<Written> {
        let Wanted { key, deadline, .. } = wanted;
        let request = match value.clone() {
            Some(value) => Request::Set {
                key: key.clone(),
                value,
            },
            None => Request::Delete { key: key.clone() },
        };
        match self.node.request(request, deadline).await.answer {
            Answer::Written { version, shard } => Outcome::Ok(Written {
                version,
                shard,
                node: self.node.node,
            }),
            Answer::Unknown | Answer::Value { .. } => Outcome::Info(Unsure::Undecided {
                node: self.node.node,
            }),
            // It certainly did not happen here (R19).
            Answer::Refused(_) => {
                let mut client = self.session(deadline);
                match value {
                    Some(value) => client.set(key, value).await,
                    None => client.delete(key).await,
                }
            }
        }
    }
}

/// The key that a path names.
fn key_of(uri: &Uri) -> Result<Bytes, Wrong> {
    let encoded = uri.path().strip_prefix("/kv/").unwrap_or_default();
    let key = Bytes::from(percent_decode_str(encoded).collect::<Vec<u8>>());
    check_key(&key).map_err(|error| Wrong(error.to_string()))?;
    Ok(key)
}

/// Reads the query and the headers; what the query says counts more.
fn understand(key: Bytes, asked: Asked, headers: &HeaderMap) -> Result<Wanted, Wrong> {
    let header = |name: &str| -> Result<Option<String>, Wrong> {
        let value = headers.get(name).map(|value| value.to_str());
        let value = value.transpose();
        let value = value.map_err(|_| Wrong(format!("{name} is no text")))?;
        Ok(value.map(str::to_owned))
    };
    let level = asked.level.or(header("kv-level")?);
    let token = asked.token.or(header("kv-token")?);
    let timeout = asked.timeout.or(header("kv-timeout")?);
    Ok(Wanted {
        key,
        level: level.map_or(Ok(Level::Lease), |name| level_named(&name))?,
        token: token.map(|text| token_of(&text)).transpose()?,
        deadline: timeout.map_or(Ok(DEADLINE_DEFAULT), |text| deadline_of(&text))?,
    })
}

fn level_named(name: &str) -> Result<Level, Wrong> {
    match name {
        "writer" | "lease" => Ok(Level::Lease),
        "quorum" => Ok(Level::Quorum),
        "local" => Ok(Level::Local),
        "replica" => Ok(Level::Replica),
        other => Err(Wrong(format!(
            "the level `{other}` is none of writer (or lease), quorum, local and replica"
        ))),
    }
}

fn token_of(text: &str) -> Result<(ShardId, Version), Wrong> {
    let parts: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([shard, epoch, offset]) => Ok((
            ShardId(*shard),
            Version::new(Epoch(*epoch), Offset(*offset)),
        )),
        _ => Err(Wrong(format!(
            "the token `{text}` is no SHARD:EPOCH:OFFSET, such as 0:3:117"
        ))),
    }
}

fn deadline_of(text: &str) -> Result<Duration, Wrong> {
    match Length::from_str(text) {
        Ok(Length(time)) if (Duration::from_millis(1)..=DEADLINE_MAX).contains(&time) => Ok(time),
        _ => Err(Wrong(format!(
            "the timeout `{text}` is no time from 1ms to {} s, such as 500ms or 2s",
            DEADLINE_MAX.as_secs()
        ))),
    }
}

fn token_text(shard: ShardId, token: Version) -> String {
    format!("{}:{}:{}", shard.0, token.epoch.0, token.offset.0)
}

fn answer_headers(
    version: Option<Version>,
    shard: ShardId,
    token: Version,
    node: NodeId,
) -> [(&'static str, String); 3] {
    let version = version.map(|version| format!("{}:{}", version.epoch.0, version.offset.0));
    [
        ("kv-version", version.unwrap_or_else(|| "none".to_owned())),
        ("kv-token", token_text(shard, token)),
        ("kv-node", node.0.to_string()),
    ]
}

fn found(read: Read) -> Response {
    let headers = answer_headers(read.version, read.shard, read.token, read.node);
    match read.value {
        Some(value) => {
            let kind = [("content-type", "application/octet-stream")];
            (StatusCode::OK, headers, kind, value).into_response()
        }
        None => {
            let message = "there is no such key";
            let response = refused(StatusCode::NOT_FOUND, "not-found", message);
            (headers, response).into_response()
        }
    }
}

fn written(written: Written) -> Response {
    let Written {
        version,
        shard,
        node,
    } = written;
    let body = json!({
        "outcome": "ok",
        "version": { "epoch": version.epoch.0, "offset": version.offset.0 },
        "shard": shard.0,
        "node": node.0,
        "token": token_text(shard, version),
    });
    let headers = answer_headers(Some(version), shard, version, node);
    (headers, as_json(StatusCode::OK, &body)).into_response()
}

fn answered<T>(outcome: Outcome<T>, done: impl FnOnce(T) -> Response) -> Response {
    match outcome {
        Outcome::Ok(result) => done(result),
        Outcome::Fail(fail) => failed(&fail),
        Outcome::Info(unsure) => unknown(&unsure),
    }
}

fn failed(fail: &Fail) -> Response {
    match fail {
        Fail::Limits(_) => refused(StatusCode::BAD_REQUEST, fail.name(), &fail.to_string()),
        _ => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let response = refused(status, fail.name(), &fail.to_string());
            ([("retry-after", "1")], response).into_response()
        }
    }
}

fn unknown(unsure: &Unsure) -> Response {
    let status = StatusCode::GATEWAY_TIMEOUT;
    ended(status, "info", unsure.name(), &unsure.to_string())
}
