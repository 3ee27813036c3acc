//! The service that other members call: a stream of messages, each handed on or dropped.

use kv_core::NodeId;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::stopped;
use crate::environment::Deliver;
use crate::wire::proto::peer_server::Peer;
use crate::wire::{self, proto};

pub(super) struct PeerService {
    node: NodeId,
    deliver: Deliver,
    stop: watch::Receiver<bool>,
}

impl PeerService {
    pub(super) fn new(node: NodeId, deliver: Deliver, stop: watch::Receiver<bool>) -> Self {
        Self {
            node,
            deliver,
            stop,
        }
    }

    /// Hands a message on, if it is for this node.
    fn open(&self, envelope: proto::Envelope) -> Result<(), Status> {
        // A peer that cannot be understood is cut off: it sees why, and its operator, too.
        let (from, to, message) = wire::envelope_from_proto(envelope)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if to == self.node {
            (self.deliver)(from, message);
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn deliver(
        &self,
        request: Request<Streaming<proto::Envelope>>,
    ) -> Result<Response<proto::DeliverReply>, Status> {
        let mut envelopes = request.into_inner();
        let mut stop = std::pin::pin!(stopped(self.stop.clone()));
        loop {
            let envelope = tokio::select! {
                biased;
                () = &mut stop => return Err(Status::unavailable("the node is stopping")),
                envelope = envelopes.message() => envelope?,
            };
            match envelope {
                Some(envelope) => self.open(envelope)?,
                None => return Ok(Response::new(proto::DeliverReply {})),
            }
        }
    }
}
