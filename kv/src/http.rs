//! The HTTP face of a node: keys for whoever has no gRPC, and what an operator's tools ask for.
//!
//! | request | what it does |
//! |---|---|
//! | `GET`, `PUT`, `DELETE /kv/{key}` | reads, writes or deletes a key; what another node serves is asked of it (`keys.rs`) |
//! | `GET /info` | the cluster as this node knows it, and how it stands, as JSON |
//! | `GET /healthz` | whether the node lives: 200, or 503 |
//! | `GET /readyz` | whether it takes part and knows its way: 200, or 503 with the reason |
//! | `GET /metrics` | what it counts, for Prometheus |
//!
//! Connections come through the node's door, as those of gRPC do (`listener.rs`): TLS, who may come, and how many. Only whether the node
//! is well may be asked by anybody. No request takes longer than its deadline.

mod keys;
mod listener;
mod standing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use kv_core::limits::VALUE_BYTES_MAX;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_http::timeout::TimeoutLayer;

use crate::agent::AgentState;
use crate::client::Client;
use crate::door::{Count, Door};
use crate::error::ServerError;
use crate::handle::NodeHandle;
use crate::net::{Admits, Came, Listener, Speaks, hold_room};
use crate::server::{self, REQUEST_TIME_MAX};

/// What the handlers know.
#[derive(Clone, Debug)]
struct Face {
    node: NodeHandle,
    agent: watch::Receiver<AgentState>,
    /// Reaches the other nodes; every request that goes there is a session of its own.
    client: Arc<Client>,
    /// How many such sessions there have been.
    sessions: Arc<AtomicU64>,
}

impl Face {
    /// A client's session with the rest of the cluster, for one request.
    fn session(&self, deadline: Duration) -> Client {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let mut client = self.client.sibling(number);
        client.set_timeout(deadline);
        client
    }
}

/// A face that is served. Dropping it ends it.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Starts serving a node on `listen` (`HOST:PORT`). What others serve is asked of them through `client`.
    ///
    /// # Errors
    /// Says why nobody can listen there.
    pub async fn start(
        listen: &str,
        door: &Door,
        node: NodeHandle,
        agent: watch::Receiver<AgentState>,
        client: Client,
    ) -> Result<Self, ServerError> {
        let face = Face {
            node,
            agent,
            client: Arc::new(client),
            sessions: Arc::default(),
        };
        let address = server::resolve(listen).await?;
        let listener = Listener::bind(address, Speaks::Http, door).await;
        let listener = listener.map_err(|error| ServerError::from_io(listen, error))?;
        let address = listener.address();
        let head_time_max = door.limits.handshake_timeout;
        let routes = routes(face, door.clone());
        let task = tokio::spawn(listener::serve(listener, head_time_max, routes));
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn routes(face: Face, door: Door) -> Router {
    let keys = get(keys::read).put(keys::write).delete(keys::delete);
    Router::new()
        .route("/kv/{*key}", keys)
        .route("/info", get(standing::info))
        .route("/metrics", get(standing::metrics))
        .route_layer(middleware::from_fn_with_state(door, admit))
        .route("/healthz", get(standing::health))
        .route("/readyz", get(standing::readiness))
        .fallback(async || refused(StatusCode::NOT_FOUND, "no-such-path", PATHS))
        .method_not_allowed_fallback(async || {
            refused(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", PATHS)
        })
        .layer(middleware::map_response(async |answer: Response| {
            hold_room(answer, Body::new)
        }))
        .layer(DefaultBodyLimit::max(VALUE_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIME_MAX,
        ))
        .with_state(face)
}

/// Lets those through who may come, before anything of the body has been read.
async fn admit(
    State(door): State<Door>,
    Extension(came): Extension<Came>,
    request: Request,
    next: Next,
) -> Response {
    let authorization = request.headers().get(AUTHORIZATION);
    let authorization = authorization.map(HeaderValue::as_bytes);
    let admitted = door
        .security
        .admit(Admits::Clients, came.caller, authorization);
    match admitted {
        Ok(_) => next.run(request).await,
        Err(denied) => {
            let count = denied.count();
            door.counters.add(count);
            let (status, error) = match count {
                Count::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
                _ => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            };
            refused(status, error, &denied.to_string())
        }
    }
}

const PATHS: &str =
    "there are GET, PUT and DELETE of /kv/KEY, and GET of /info, /healthz, /readyz and /metrics";

/// Something that definitely did not happen.
fn refused(status: StatusCode, error: &str, message: &str) -> Response {
    ended(status, "fail", error, message)
}

fn ended(status: StatusCode, outcome: &str, error: &str, message: &str) -> Response {
    let body = json!({ "outcome": outcome, "error": error, "message": message });
    as_json(status, &body)
}

fn as_json(status: StatusCode, body: &Value) -> Response {
    let kind = [("content-type", "application/json")];
    (status, kind, format!("{body}\n")).into_response()
}
