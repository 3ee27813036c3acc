//! Serves HTTP/1.1 and HTTP/2 on the connections that a door lets in.
//!
//! Who says half a request is cut off after the time that the door gives to first moments, and so is who says nothing on a connection
//! that is kept.

use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;

use crate::net::{Connection, Listener};

/// How often an idle connection of HTTP/2 is asked whether its other end lives, and how long that may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Until the task is aborted; its connections go with it.
pub(super) async fn serve(mut listener: Listener, head_time_max: Duration, routes: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            connection = listener.accept() => match connection {
                Some(connection) => {
                    connections.spawn(serve_one(connection, head_time_max, routes.clone()));
                }
                None => return,
            },
        }
    }
}

async fn serve_one(connection: Connection, head_time_max: Duration, routes: Router) {
    let routes = routes.layer(Extension(connection.came()));
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    let service = TowerToHyperService::new(routes);
    // A client that says nonsense, or goes away, has nobody to be told.
    let _ = builder
        .serve_connection(TokioIo::new(connection), service)
        .await;
}
