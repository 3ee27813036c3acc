//! The links to the other members over gRPC: production's [`Transport`].
//!
//! A link is one bounded queue and one stream a peer. What does not fit into the queue is dropped, and so is what is in
//! it when the peer cannot be reached: it would be stale by the time it arrives, and the protocol repeats what matters.
//! What arrives here comes in through the server's `Peer` service, on streams that the others opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream;
use kv_core::{Message, NodeId};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::metadata::MetadataValue;

use crate::access::{Access, CLUSTER_HEADER, because, cluster_name};
use crate::backoff::Backoff;
use crate::environment::{Deliver, Transport};
use crate::wire::proto::Envelope;
use crate::wire::proto::peer_client::PeerClient;
use crate::wire::{MESSAGE_BYTES_MAX, envelope_to_proto};

/// The most messages that wait for one peer.
const QUEUE_MESSAGES_MAX: usize = 256;

/// The most messages that are handed to the connection but not yet written.
const STREAM_MESSAGES_MAX: usize = 4;

/// The first and the longest wait before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often an idle link is asked whether its other end lives, and how long that may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// A stream that takes no message for so long is given up and made anew, whatever its connection says of itself. Of a hundred runs with
/// real processes, three had a member that was started again and never heard from: its link hung, alive and without an error.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// Links to the other members. Dropping it closes them.
#[derive(Debug)]
pub struct GrpcTransport {
    node: NodeId,
    access: Access,
    cluster: watch::Sender<Option<u64>>,
    peers: Mutex<Peers>,
}

#[derive(Debug)]
struct Peers {
    links: BTreeMap<NodeId, PeerLink>,
    rng: StdRng,
}

#[derive(Debug)]
struct PeerLink {
    queue: mpsc::Sender<Message>,
    address: watch::Sender<String>,
}

impl GrpcTransport {
    /// The links of `node`; the jitter of reconnecting comes from `seed`.
    #[must_use]
    pub fn new(node: NodeId, seed: u64) -> Arc<Self> {
        Self::with_access(node, seed, Access::default())
    }

    /// The same, for a node that shows the others who it is.
    #[must_use]
    pub fn with_access(node: NodeId, seed: u64, access: Access) -> Arc<Self> {
        let peers = Peers {
            links: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
        };
        Arc::new(Self {
            node,
            access,
            cluster: watch::channel(None).0,
            peers: Mutex::new(peers),
        })
    }
}

impl Transport for GrpcTransport {
    /// Does nothing: the server hands incoming messages to the same `deliver`.
    fn listen(&self, _deliver: Deliver) {}

    fn join(&self, cluster: u64) {
        self.cluster.send_replace(Some(cluster));
    }

    fn reach(&self, addresses: &BTreeMap<NodeId, String>) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.links.retain(|peer, _| addresses.contains_key(peer));
        for (peer, address) in addresses.iter().filter(|(peer, _)| **peer != self.node) {
            if let Some(link) = peers.links.get(peer) {
                link.address.send_if_modified(|known| {
                    let moved = known != address;
                    known.clone_from(address);
                    moved
                });
            } else {
                let (queue, messages) = mpsc::channel(QUEUE_MESSAGES_MAX);
                let (sender, receiver) = watch::channel(address.clone());
                let link = Link {
                    from: self.node,
                    to: *peer,
                    messages,
                    address: receiver,
                    access: self.access.clone(),
                    cluster: self.cluster.subscribe(),
                    trouble: None,
                    rng: StdRng::seed_from_u64(peers.rng.random()),
                };
                tokio::spawn(link.run());
                let address = sender;
                peers.links.insert(*peer, PeerLink { queue, address });
            }
        }
    }

    fn send(&self, to: NodeId, message: Message) {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = peers.links.get(&to) {
            let _ = link.queue.try_send(message); // Full: dropped, as the contract allows.
        }
    }
}

/// How a stretch of a link's life ended.
enum Stretch {
    /// Connect again, at once: the peer has moved.
    Moved,
    /// Connect again, after a while.
    Lost,
    /// As `Lost`, and nobody else has said why.
    Stalled,
    /// The transport is gone.
    Closed,
}

/// One link, from the side of its task.
struct Link {
    from: NodeId,
    to: NodeId,
    messages: mpsc::Receiver<Message>,
    address: watch::Receiver<String>,
    access: Access,
    cluster: watch::Receiver<Option<u64>>,
    /// What was wrong last, so that each trouble is told once.
    trouble: Option<String>,
    rng: StdRng,
}

impl Link {
    async fn run(mut self) {
        let (first, max) = BACKOFF;
        let mut backoff = Backoff::new(first, max);
        loop {
            let address = self.address.borrow_and_update().clone();
            let stretch = match self.connect(&address).await {
                Ok(peer) => {
                    tracing::debug!(to = %self.to, %address, "a link to another node is made");
                    backoff.reset();
                    self.forward(peer).await
                }
                Err(trouble) => {
                    self.tell(trouble);
                    Stretch::Lost
                }
            };
            match stretch {
                Stretch::Moved => {}
                Stretch::Closed => {
                    tracing::debug!(to = %self.to, "a link to another node is given up");
                    return;
                }
                Stretch::Lost | Stretch::Stalled => {
                    let wait = backoff.draw(&mut self.rng);
                    if !self.pause(wait).await {
                        return;
                    }
                }
            }
        }
    }

    async fn connect(
        &self,
        address: &str,
    ) -> Result<PeerClient<tonic::transport::Channel>, String> {
        let endpoint = self.access.endpoint(address).map_err(|e| because(&e))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let connecting = timeout(CONNECT_TIMEOUT, endpoint.connect());
        let connected = connecting
            .await
            .map_err(|_| "it does not answer".to_owned())?;
        let channel = connected.map_err(|error| because(&error))?;
        Ok(PeerClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Tells what is wrong with this link, once.
    fn tell(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            let address = self.address.borrow().clone();
            tracing::warn!(to = %self.to, %address, %trouble, "a link to another node is down");
            self.trouble = Some(trouble);
        }
    }

    /// Hands messages to the stream for as long as it holds.
    async fn forward(&mut self, mut peer: PeerClient<tonic::transport::Channel>) -> Stretch {
        let (written, unwritten) = mpsc::channel::<Envelope>(STREAM_MESSAGES_MAX);
        let envelopes = stream::unfold(unwritten, |mut unwritten| async {
            let envelope = unwritten.recv().await?;
            Some((envelope, unwritten))
        });
        let mut request = self.access.request(envelopes);
        let cluster = *self.cluster.borrow();
        if let Some(cluster) = cluster
            && let Ok(name) = MetadataValue::try_from(cluster_name(cluster))
        {
            request.metadata_mut().insert(CLUSTER_HEADER, name);
        }
        let call = peer.deliver(request);
        let mut call = std::pin::pin!(call);
        loop {
            let next = async {
                let place = match timeout(STALLED_AFTER, written.reserve()).await {
                    Ok(Ok(place)) => place,
                    Ok(Err(_)) => return Some(Stretch::Lost),
                    Err(_) => return Some(Stretch::Stalled),
                };
                let Some(message) = self.messages.recv().await else {
                    return Some(Stretch::Closed);
                };
                place.send(envelope_to_proto(self.from, self.to, &message));
                None
            };
            tokio::select! {
                biased;
                ended = &mut call => {
                    match ended {
                        Ok(_) => self.trouble = None,
                        Err(status) => self.tell(status.message().to_owned()),
                    }
                    return Stretch::Lost;
                }
                moved = self.address.changed() => {
                    return if moved.is_ok() { Stretch::Moved } else { Stretch::Closed };
                }
                stretch = next => match stretch {
                    Some(Stretch::Stalled) => {
                        self.tell("it takes no messages".to_owned());
                        return Stretch::Lost;
                    }
                    Some(stretch) => return stretch,
                    None => {}
                },
            }
        }
    }

    /// Waits, dropping what comes in meanwhile; says whether the transport is still there.
    async fn pause(&mut self, wait: Duration) -> bool {
        let mut over = std::pin::pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                biased;
                () = &mut over => return true,
                moved = self.address.changed() => return moved.is_ok(),
                message = self.messages.recv() => if message.is_none() {
                    return false;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream::BoxStream;
    use kv_core::{Body, Epoch, Offset};
    use tonic::{Request, Response, Status, Streaming};

    use super::*;
    use crate::wire::proto::peer_server::{Peer, PeerServer};
    use crate::wire::proto::{Chunk, DeliverReply, DownloadRequest};

    /// It answers every ping, takes every call, and never reads what comes.
    struct Deaf(mpsc::UnboundedSender<()>);

    #[tonic::async_trait]
    impl Peer for Deaf {
        type DownloadStream = BoxStream<'static, Result<Chunk, Status>>;

        async fn download(
            &self,
            _request: Request<DownloadRequest>,
        ) -> Result<Response<Self::DownloadStream>, Status> {
            Err(Status::unimplemented("there is nothing"))
        }

        async fn deliver(
            &self,
            request: Request<Streaming<Envelope>>,
        ) -> Result<Response<DeliverReply>, Status> {
            let _ = self.0.send(());
            let _unread = request;
            std::future::pending().await
        }
    }

    /// A link hung for the rest of a run, though its connection was well: nobody heard from the member at its end again.
    #[tokio::test]
    async fn a_stream_that_takes_no_messages_is_made_anew() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (called, mut calls) = mpsc::unbounded_channel();
        let server = tonic::transport::Server::builder().add_service(PeerServer::new(Deaf(called)));
        tokio::spawn(server.serve(address));
        let transport = GrpcTransport::new(NodeId(1), 7);
        transport.reach(&BTreeMap::from([(NodeId(2), address.to_string())]));
        let talking = async {
            loop {
                let body = Body::Commit { upto: Offset(1) };
                let message = Message {
                    epoch: Epoch(1),
                    body,
                };
                transport.send(NodeId(2), message);
                tokio::task::yield_now().await;
            }
        };
        let heard_twice = async {
            calls.recv().await.unwrap();
            calls.recv().await.unwrap();
        };
        tokio::select! {
            () = talking => {}
            heard = timeout(Duration::from_secs(60), heard_twice) => heard.unwrap(),
        }
    }
}
