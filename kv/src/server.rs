//! The gRPC face of a node: two services on one port, in front of a [`NodeHandle`].
//!
//! What arrives is checked against the limits here, so that the node behind sees valid requests only, each with a
//! deadline. On a real network a [`Door`] stands before both. A request that outlives the server is cut off, and its client has to assume that it may have happened.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::door::Door;
use crate::environment::Deliver;
use crate::error::ServerError;
use crate::handle::NodeHandle;

mod kv;
mod many;
mod peer;

#[cfg(feature = "net")]
mod health;
#[cfg(feature = "net")]
#[path = "server/guarded.rs"]
mod network;
#[cfg(not(feature = "net"))]
#[path = "server/open.rs"]
mod network;
#[cfg(feature = "http")]
pub(crate) use network::REQUEST_TIME_MAX;

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

/// A server at work.
type Serving = Pin<Box<dyn Future<Output = Result<(), tonic::transport::Error>> + Send>>;

/// Starts serving a node on `listen` (`HOST:PORT`) behind a door: clients' requests go to `handle`, members' messages to `deliver`.
///
/// # Errors
/// Says why nobody can listen there. In the simulator, where listening takes time, that comes through
/// [`Server::ended`] instead.
pub async fn serve(
    listen: &str,
    handle: NodeHandle,
    deliver: Deliver,
    allow_kill: bool,
    door: &Door,
) -> Result<Server, ServerError> {
    let address = resolve(listen).await?;
    let (stopping, stop) = watch::channel(false);
    let (ended, ends) = mpsc::channel(2);
    let peers = handle.clone();
    let kv = KvService::new(handle, allow_kill, ended.clone(), stop.clone());
    let peer = PeerService::new(peers, deliver, stop.clone());
    let (address, serving) = network::serving(address, listen, kv, peer, door, stop).await?;
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

pub(crate) async fn resolve(listen: &str) -> Result<SocketAddr, ServerError> {
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
