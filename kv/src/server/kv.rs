//! The service that clients call.

use std::time::Duration;

use futures::stream::BoxStream;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::{DEADLINE_DEFAULT, DEADLINE_MAX, ServerEnd, many, stopped};
use crate::handle::{self, Answer, Answered, NodeHandle, Refusal, Room};
use crate::wire::proto::kv_server::Kv;
use crate::wire::{self, Info, Reply, WireError, proto};

/// How long after its answer a killed node goes on, so that the answer gets out.
const KILL_DELAY: Duration = Duration::from_millis(50);

/// How long a node may take to say how it is.
const STATUS_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct KvService {
    pub(super) handle: NodeHandle,
    allow_kill: bool,
    ended: mpsc::Sender<ServerEnd>,
    stop: watch::Receiver<bool>,
}

impl KvService {
    pub(super) fn new(
        handle: NodeHandle,
        allow_kill: bool,
        ended: mpsc::Sender<ServerEnd>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            handle,
            allow_kill,
            ended,
            stop,
        }
    }

    /// Hands a request to the node and waits for its answer, unless the server stops first.
    async fn ask(
        &self,
        request: handle::Request,
        deadline: Option<Duration>,
    ) -> Result<(Reply, Option<Room>), Status> {
        tokio::select! {
            biased;
            reply = self.reply(request, deadline) => Ok(reply),
            () = self.stopped() => Err(stopping()),
        }
    }

    /// Hands a request to the node and waits for its answer, which may take room until it has gone out.
    pub(super) async fn reply(
        &self,
        request: handle::Request,
        deadline: Option<Duration>,
    ) -> (Reply, Option<Room>) {
        let deadline = deadline.unwrap_or(DEADLINE_DEFAULT).min(DEADLINE_MAX);
        let Answered { answer, room } = self.handle.request(request, deadline).await;
        let reply = Reply {
            node: self.handle.node,
            address: self.writer_address(&answer),
            answer,
        };
        (reply, room)
    }

    /// Completes when the server stops.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        stopped(self.stop.clone())
    }

    /// Saves a client that is sent elsewhere the question where that is.
    fn writer_address(&self, answer: &Answer) -> Option<String> {
        match answer {
            Answer::Refused(Refusal::Moved {
                writer: Some(writer),
                ..
            }) => self.handle.cluster().nodes.get(writer).cloned(),
            _ => None,
        }
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    type ManyStream = BoxStream<'static, Result<proto::ManyReply, Status>>;

    async fn many(
        &self,
        request: Request<Streaming<proto::ManyRequest>>,
    ) -> Result<Response<Self::ManyStream>, Status> {
        let replies = many::replies(self.clone(), request.into_inner());
        Ok(Response::new(Box::pin(replies)))
    }

    async fn get(
        &self,
        request: Request<proto::GetRequest>,
    ) -> Result<Response<proto::ReadReply>, Status> {
        let (request, deadline) =
            wire::get_from_proto(request.into_inner()).map_err(invalid_argument)?;
        let (reply, room) = self.ask(request, deadline).await?;
        let reply = wire::read_reply_to_proto(reply).map_err(internal)?;
        let mut response = Response::new(reply);
        if let Some(room) = room {
            response.extensions_mut().insert(room); // The gate holds it until the answer has gone out.
        }
        Ok(response)
    }

    async fn set(
        &self,
        request: Request<proto::SetRequest>,
    ) -> Result<Response<proto::WriteReply>, Status> {
        let (request, deadline) =
            wire::set_from_proto(request.into_inner()).map_err(invalid_argument)?;
        let (reply, _) = self.ask(request, deadline).await?;
        let reply = wire::write_reply_to_proto(reply).map_err(internal)?;
        Ok(Response::new(reply))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::WriteReply>, Status> {
        let (request, deadline) =
            wire::delete_from_proto(request.into_inner()).map_err(invalid_argument)?;
        let (reply, _) = self.ask(request, deadline).await?;
        let reply = wire::write_reply_to_proto(reply).map_err(internal)?;
        Ok(Response::new(reply))
    }

    async fn info(
        &self,
        request: Request<proto::InfoRequest>,
    ) -> Result<Response<proto::InfoReply>, Status> {
        let digest = request.into_inner().digest;
        let status = tokio::time::timeout(STATUS_DEADLINE, self.handle.status(digest));
        let status = tokio::select! {
            biased;
            status = status => status.ok().flatten(),
            () = stopped(self.stop.clone()) => return Err(stopping()),
        };
        let cluster = self.handle.cluster();
        Ok(Response::new(wire::info_to_proto(&Info {
            cluster,
            status,
        })))
    }

    async fn kill(
        &self,
        _request: Request<proto::KillRequest>,
    ) -> Result<Response<proto::KillReply>, Status> {
        if !self.allow_kill {
            return Err(Status::permission_denied(
                "this node may not be killed by clients; it was started without --allow-kill",
            ));
        }
        let ended = self.ended.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KILL_DELAY).await;
            let _ = ended.try_send(ServerEnd::Killed); // Full or closed: it ends already.
        });
        Ok(Response::new(wire::kill_to_proto(self.handle.node)))
    }
}

fn invalid_argument(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn internal(error: WireError) -> Status {
    Status::internal(error.to_string())
}

fn stopping() -> Status {
    Status::unavailable("the node is stopping")
}
