//! Accepts connections and serves HTTP/1.1 on them, within limits: no more connections than so many, and no time for whoever is slow to
//! say what it wants.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::error::ServerError;

/// How long to wait when no connection can be accepted: often there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What a face bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections there are at most; more are closed at once.
    pub connections_max: usize,
    /// How long the head of a request may take to arrive, and how long a connection may be idle.
    pub head_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head_time_max: Duration::from_secs(10),
        }
    }
}

pub(super) async fn bind(listen: &str) -> Result<TcpListener, ServerError> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|source| ServerError::from_io(listen, source))
}

/// Until the task is aborted; its connections go with it.
pub(super) async fn serve(listener: TcpListener, limits: Limits, routes: Router) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue; // Closed at once: whoever asks may come again.
        };
        let serving = serve_one(stream, limits, routes.clone());
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

async fn serve_one(stream: TcpStream, limits: Limits, routes: Router) {
    let _ = stream.set_nodelay(true); // It only costs time where that fails.
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A client that says nonsense, or goes away, has nobody to be told.
    let _ = serving.await;
}
