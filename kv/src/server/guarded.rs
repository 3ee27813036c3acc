//! Serves those who may come in, as many as there are places for.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream;
use tokio::sync::watch;
use tonic::transport::Server as Tonic;

use super::{DEADLINE_MAX, KvService, PeerService, Serving, health, stopped};
use crate::door::Door;
use crate::error::ServerError;
use crate::net::{Gate, Listener, Speaks};
use crate::wire::MESSAGE_BYTES_MAX;
use crate::wire::proto::kv_server::KvServer;
use crate::wire::proto::peer_server::PeerServer;

/// How often an idle connection is asked whether its other end lives, and how long that may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How much of one stream may be on its way unread, in bytes: one full batch of entries fits.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// How much of one connection may be on its way unread, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// How large the head of a request may be, in bytes.
const HEAD_BYTES_MAX: u32 = 16 * 1024;

/// How long a request may take beside what the node itself may take with it: to arrive, and for its answer.
const TRAVEL_TIME_MAX: Duration = Duration::from_secs(5);

/// No client's request takes longer, whatever it says: its body has to arrive within that, too.
pub(crate) const REQUEST_TIME_MAX: Duration = DEADLINE_MAX.saturating_add(TRAVEL_TIME_MAX);

pub(super) async fn serving(
    address: SocketAddr,
    listen: &str,
    kv: KvService,
    peer: PeerService,
    door: &Door,
    stop: watch::Receiver<bool>,
) -> Result<(SocketAddr, Serving), ServerError> {
    let listener = Listener::bind(address, Speaks::Grpc, door).await;
    let listener = listener.map_err(|error| ServerError::from_io(listen, error))?;
    let address = listener.address();
    let connections = stream::unfold(listener, |mut listener| async {
        let connection = listener.accept().await?;
        Some((Ok::<_, std::io::Error>(connection), listener))
    });
    let health = health::health(kv.handle.clone(), stop.clone());
    let kv = KvServer::new(kv).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let peer = PeerServer::new(peer).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let serving = Tonic::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(door.limits.requests_per_connection)
        .http2_max_header_list_size(HEAD_BYTES_MAX)
        .add_service(Gate::for_clients(kv, door, REQUEST_TIME_MAX))
        .add_service(Gate::for_clients(
            health::reflection(),
            door,
            TRAVEL_TIME_MAX,
        ))
        .add_service(health)
        .add_service(Gate::for_peers(peer, door))
        .serve_with_incoming_shutdown(connections, stopped(stop));
    Ok((address, Box::pin(serving)))
}
