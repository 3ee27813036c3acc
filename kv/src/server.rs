//! The gRPC face of a node: two services on one port, in front of a [`NodeHandle`].
//!
//! What arrives is checked against the limits here, so that the node behind sees valid requests only, each with a
//! deadline. A request that outlives the server is cut off, and its client has to assume that it may have happened.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server as Tonic;

use crate::environment::Deliver;
use crate::error::ServerError;
use crate::handle::NodeHandle;
use crate::wire::MESSAGE_BYTES_MAX;
use crate::wire::proto::kv_server::KvServer;
use crate::wire::proto::peer_server::PeerServer;

mod kv;
mod many;
mod peer;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

use kv::KvService;
use peer::PeerService;

/// How long a request may take whose client says nothing about it.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// How long a request may take at most, whatever its client says.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// How often an idle connection is asked whether its other end lives, and how long that may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How much of one stream may be on its way unread, in bytes: one full batch of entries fits.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// How much of one connection may be on its way unread, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A server that runs. Dropping it ends it: nothing new is accepted, and what waits for an answer is cut off.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    ends: mpsc::Receiver<ServerEnd>,
}

/// Why a server wants its node to end.
#[derive(Debug)]
pub enum ServerEnd {
    /// A client asked for it, was allowed to, and has been answered.
    Killed,
    /// It cannot serve any longer.
    Failed(ServerError),
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server wants its node to end. Cancel-safe.
    pub async fn ended(&mut self) -> ServerEnd {
        match self.ends.recv().await {
            Some(end) => end,
            None => std::future::pending().await, // The server was told to stop: nobody waits for it.
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
    }
}

/// Starts serving a node on `listen` (`HOST:PORT`): clients' requests go to `handle`, members' messages to `deliver`.
///
/// # Errors
/// Says why nobody can listen there. In the simulator, where listening takes time, that comes through
/// [`Server::ended`] instead.
pub async fn serve(
    listen: &str,
    handle: NodeHandle,
    deliver: Deliver,
    allow_kill: bool,
) -> Result<Server, ServerError> {
    let address = resolve(listen).await?;
    let (stopping, stop) = watch::channel(false);
    let (ended, ends) = mpsc::channel(2);
    let peers = handle.clone();
    let kv = KvService::new(handle, allow_kill, ended.clone(), stop.clone());
    let peer = PeerService::new(peers, deliver, stop.clone());
    let serving = Tonic::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(KvServer::new(kv).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(PeerServer::new(peer).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_shutdown(address, stopped(stop));
    let mut serving: Pin<Box<_>> = Box::pin(serving);
    // A real socket is bound in the first poll, so that an address in use is known before the node starts.
    if let Some(Err(error)) = (&mut serving).now_or_never() {
        return Err(broken(listen, error));
    }
    let listen = listen.to_owned();
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            let end = ServerEnd::Failed(broken(&listen, error));
            let _ = ended.try_send(end); // Full or closed: the node ends anyway.
        }
    });
    Ok(Server {
        address,
        stopping,
        ends,
    })
}

/// Completes when the server is told to stop, or its owner is gone.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn resolve(listen: &str) -> Result<SocketAddr, ServerError> {
    let refused = || ServerError::Address {
        listen: listen.to_owned(),
    };
    let mut addresses = tokio::net::lookup_host(listen)
        .await
        .map_err(|_| refused())?;
    addresses.next().ok_or_else(refused)
}

/// Finds what the operating system said in a chain of errors.
fn broken(listen: &str, error: tonic::transport::Error) -> ServerError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return ServerError::from_io(listen, io.kind().into());
        }
        cause = current.source();
    }
    ServerError::Broken {
        listen: listen.to_owned(),
        source: error,
    }
}
