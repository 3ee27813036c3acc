//! What an operator's tools ask: whether the node lives, whether it takes part, how the cluster is, and what it counts.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Face, as_json, refused};
use crate::agent::AgentState;
use crate::handle::{ClusterMap, Status};

/// Whether the driver turns.
pub(super) async fn health(State(face): State<Face>) -> Response {
    match face.node.status_soon().await {
        Some(_) => "ok\n".into_response(),
        None => not_well("the node does not answer, or has stopped"),
    }
}

/// Whether the node is registered, and either serves or knows who does.
pub(super) async fn readiness(State(face): State<Face>) -> Response {
    let state = *face.agent.borrow();
    // Who does not hear the service for a while goes on with what it knows.
    let (AgentState::Registered(_) | AgentState::Disconnected(_)) = state else {
        return not_well("the node is not registered with the coordination service");
    };
    match face.node.readiness().await {
        Ok(ready) => format!("{ready}\n").into_response(),
        Err(why) => not_well(why),
    }
}

fn not_well(why: &str) -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, "not-ready", why)
}

pub(super) async fn metrics(State(face): State<Face>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", kind)], face.node.metrics().await).into_response()
}

pub(super) async fn info(State(face): State<Face>) -> Response {
    let body = json!({
        "node": face.node.node.0,
        "cluster": cluster(&face.node.cluster()),
        "status": face.node.status_soon().await.as_ref().map(status),
    });
    as_json(StatusCode::OK, &body)
}

fn cluster(map: &ClusterMap) -> Value {
    let nodes = map.nodes.iter();
    let nodes: Vec<Value> = nodes
        .map(|(node, address)| json!({ "node": node.0, "address": address }))
        .collect();
    json!({ "nodes": nodes, "shards": map.shards_as_json() })
}

fn status(status: &Status) -> Value {
    let gauges = &status.gauges;
    let followers = gauges.followers.iter().map(|follower| {
        json!({
            "node": follower.node.0,
            "matched": follower.matched.0,
            "committed": follower.committed.0,
            "lag": status.lag(follower),
        })
    });
    json!({
        "shard": status.shard.map(|shard| shard.0),
        "writer_of": status.writer_of.map(|epoch| epoch.0),
        "promised": status.promised.0,
        "end": { "epoch": status.end.epoch.0, "offset": status.end.offset.0 },
        "committed": status.committed.0,
        "applied": gauges.applied.0,
        "checkpoint": gauges.checkpoint.0,
        "suspect": status.is_suspect,
        "replicas": followers.collect::<Vec<_>>(),
        "log_bytes": gauges.log_bytes,
        "engine_bytes": gauges.engine_bytes,
        "requests_queued": gauges.requests_queued,
        "requests_waiting": gauges.requests_waiting,
        "messages_queued": gauges.messages_queued,
    })
}
