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
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
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
use crate::handle::{Answer, Request};
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

/// What was asked, understood.
#[derive(Debug)]
struct Wanted {
    level: Level,
    token: Option<(ShardId, Version)>,
    deadline: Duration,
}

/// Why a request was not understood: nothing happened.
pub(super) struct Wrong(String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        refused(StatusCode::BAD_REQUEST, "bad-request", &self.0)
    }
}

pub(super) async fn read(
    State(face): State<Face>,
    uri: Uri,
    query: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Wrong> {
    let key = key_of(&uri)?;
    let wanted = understand(query, &headers)?;
    let outcome = face.read(key, &wanted).await;
    Ok(match outcome {
        Outcome::Ok(read) => found(read),
        Outcome::Fail(fail) => failed(&fail),
        Outcome::Info(unsure) => unknown(&unsure),
    })
}

pub(super) async fn write(
    State(face): State<Face>,
    uri: Uri,
    query: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
    value: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let key = key_of(&uri)?;
    let wanted = understand(query, &headers)?;
    let value = match value {
        Ok(value) => value,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("a value has at most {VALUE_BYTES_MAX} bytes");
            return Ok(refused(StatusCode::PAYLOAD_TOO_LARGE, "limits", &message));
        }
        Err(rejection) => return Err(Wrong(rejection.body_text())),
    };
    check_value(&value).map_err(|error| Wrong(error.to_string()))?;
    Ok(written(
        face.write(Request::Set { key, value }, &wanted).await,
    ))
}

pub(super) async fn delete(
    State(face): State<Face>,
    uri: Uri,
    query: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Wrong> {
    let key = key_of(&uri)?;
    let wanted = understand(query, &headers)?;
    Ok(written(face.write(Request::Delete { key }, &wanted).await))
}

impl Face {
    /// Asks this node, and where it is another's, the one that serves it.
    async fn read(&self, key: Bytes, wanted: &Wanted) -> Outcome<Read> {
        let request = Request::Get {
            key: key.clone(),
            level: wanted.level,
            token: wanted.token.map(|(_, version)| version),
        };
        if let Answer::Value {
            value,
            version,
            token,
            shard,
        } = self.node.request(request, wanted.deadline).await
        {
            // A token of another shard says nothing about this one.
            let is_of_session = wanted.token.is_none_or(|(of, _)| of == shard);
            if is_of_session || wanted.level != Level::Replica {
                return Outcome::Ok(Read {
                    value,
                    version,
                    token,
                    shard,
                    node: self.node.node,
                });
            }
        }
        // A read has no effect: whatever it was refused for, another node may answer.
        let mut client = self.session();
        client.set_timeout(wanted.deadline);
        if let Some((shard, version)) = wanted.token {
            client.resume(shard, version);
        }
        client.get(key, wanted.level).await
    }

    async fn write(&self, request: Request, wanted: &Wanted) -> Outcome<Written> {
        match self.node.request(request.clone(), wanted.deadline).await {
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
                let mut client = self.session();
                client.set_timeout(wanted.deadline);
                match request {
                    Request::Set { key, value } => client.set(key, value).await,
                    Request::Delete { key } | Request::Get { key, .. } => client.delete(key).await,
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
fn understand(
    query: Result<Query<Asked>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Wanted, Wrong> {
    let Query(asked) = query.map_err(|rejection| Wrong(rejection.body_text()))?;
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

fn written(outcome: Outcome<Written>) -> Response {
    match outcome {
        Outcome::Ok(Written {
            version,
            shard,
            node,
        }) => {
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
