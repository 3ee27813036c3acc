//! Serves whoever comes: for builds without a real network, such as the simulated one, whose connections have neither limits nor TLS.

use std::net::SocketAddr;
use std::pin::Pin;

use futures::FutureExt as _;
use tokio::sync::watch;
use tonic::transport::Server as Tonic;

use super::{KvService, PeerService, Serving, broken, stopped};
use crate::door::Door;
use crate::error::ServerError;
use crate::wire::MESSAGE_BYTES_MAX;
use crate::wire::proto::kv_server::KvServer;
use crate::wire::proto::peer_server::PeerServer;

pub(super) async fn serving(
    address: SocketAddr,
    listen: &str,
    kv: KvService,
    peer: PeerService,
    _door: &Door,
    stop: watch::Receiver<bool>,
) -> Result<(SocketAddr, Serving), ServerError> {
    let serving = Tonic::builder()
        .add_service(KvServer::new(kv).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(PeerServer::new(peer).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_shutdown(address, stopped(stop));
    let mut serving: Pin<Box<_>> = Box::pin(serving);
    // A real socket is bound in the first poll, so that an address in use is known before the node starts.
    if let Some(Err(error)) = (&mut serving).now_or_never() {
        return Err(broken(listen, error));
    }
    Ok((address, serving))
}
