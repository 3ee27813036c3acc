//! The service that other members call: a stream of messages, each handed on or dropped.

use futures::stream::{self, BoxStream, Stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::stopped;
use crate::access::{CLUSTER_HEADER, cluster_name};
use crate::door::Caller;
use crate::environment::Deliver;
use crate::handle::{NodeHandle, OfferedSnapshot};
use crate::store::snapshot;
use crate::wire::proto::peer_server::Peer;
use crate::wire::{self, proto};

pub(super) struct PeerService {
    handle: NodeHandle,
    deliver: Deliver,
    stop: watch::Receiver<bool>,
}

impl PeerService {
    pub(super) fn new(handle: NodeHandle, deliver: Deliver, stop: watch::Receiver<bool>) -> Self {
        Self {
            handle,
            deliver,
            stop,
        }
    }

    /// Refuses a node of another cluster: its epochs and offsets mean something else there, and addresses change hands.
    fn check_cluster<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let (Some(own), Some(other)) = (
            self.handle.cluster_id(),
            request.metadata().get(CLUSTER_HEADER),
        ) else {
            return Ok(()); // One of them does not know yet.
        };
        let own = cluster_name(own);
        if other.as_bytes() == own.as_bytes() {
            return Ok(());
        }
        let other = other.to_str().unwrap_or("?");
        let why = format!(
            "this node is of cluster {own}, and a node of cluster {other} wants to speak with it"
        );
        tracing::warn!("refused a peer: {why}");
        Err(Status::failed_precondition(why))
    }

    /// Hands a message on, if it is for this node.
    fn open(&self, caller: Caller, envelope: proto::Envelope) -> Result<(), Status> {
        // A peer that cannot be understood is cut off: it sees why, and its operator, too.
        let (from, to, message) = wire::envelope_from_proto(envelope)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Caller::Peer(Some(node)) = caller
            && node != from
        {
            let who = format!(
                "the certificate is that of {node}, and the message says that it is from {from}"
            );
            tracing::warn!("cut a peer off: {who}");
            return Err(Status::permission_denied(who));
        }
        if to == self.handle.node {
            (self.deliver)(from, message);
        }
        Ok(())
    }
}

/// Who calls; anyone, where no door stands before the server.
fn caller<T>(request: &Request<T>) -> Caller {
    let caller = request.extensions().get::<Caller>();
    caller.copied().unwrap_or_default()
}

/// Reads a snapshot part by part.
fn parts(offered: OfferedSnapshot) -> impl Stream<Item = Result<proto::Chunk, Status>> {
    stream::unfold(Some((offered, 0)), |state| async {
        let (offered, position) = state?;
        let bytes = match snapshot::chunk(offered.file.as_ref(), position) {
            Ok(bytes) if bytes.is_empty() => return None,
            Ok(bytes) => bytes,
            Err(error) => return Some((Err(Status::data_loss(error.to_string())), None)),
        };
        let next = position + bytes.len() as u64;
        let chunk = wire::Chunk {
            at: offered.at,
            position,
            crc: crc32fast::hash(&bytes),
            bytes,
        };
        Some((Ok(wire::chunk_to_proto(chunk)), Some((offered, next))))
    })
}

#[tonic::async_trait]
impl Peer for PeerService {
    type DownloadStream = BoxStream<'static, Result<proto::Chunk, Status>>;

    async fn download(
        &self,
        request: Request<proto::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        self.check_cluster(&request)?;
        let offered = tokio::select! {
            biased;
            () = stopped(self.stop.clone()) => None,
            offered = self.handle.snapshot() => offered,
        };
        let offered = offered.ok_or_else(|| Status::unavailable("the node is stopping"))?;
        Ok(Response::new(Box::pin(parts(offered))))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<proto::Envelope>>,
    ) -> Result<Response<proto::DeliverReply>, Status> {
        self.check_cluster(&request)?;
        let caller = caller(&request);
        let mut envelopes = request.into_inner();
        let mut stop = std::pin::pin!(stopped(self.stop.clone()));
        loop {
            let envelope = tokio::select! {
                biased;
                () = &mut stop => return Err(Status::unavailable("the node is stopping")),
                envelope = envelopes.message() => envelope?,
            };
            match envelope {
                Some(envelope) => self.open(caller, envelope)?,
                None => return Ok(Response::new(proto::DeliverReply {})),
            }
        }
    }
}
