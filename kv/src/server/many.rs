//! Many requests on one stream: each is answered when it is, whatever became of those before it.
//!
//! A call of its own costs a request more than its way through the store does: headers, a task, and frames for each. On a stream a request
//! is a message, and messages that are ready together leave together.

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, Stream};
use tonic::{Status, Streaming};

use super::kv::KvService;
use crate::handle::{Request, Room};
use crate::wire::{self, proto};

/// How many requests of one stream may be under way; the next ones wait in the connection.
const UNDER_WAY_MAX: usize = 1024;

/// One stream, from the side of the node.
struct Requests {
    service: KvService,
    incoming: Streaming<proto::ManyRequest>,
    /// Each reply with the room that it takes until it has been handed over. What the stream still holds of it then is bounded by its
    /// window.
    under_way: FuturesUnordered<BoxFuture<'static, (proto::ManyReply, Option<Room>)>>,
    /// Nothing more comes in.
    is_over: bool,
}

/// The replies to a stream of requests. It ends when the requests have, and all are answered.
pub(super) fn replies(
    service: KvService,
    incoming: Streaming<proto::ManyRequest>,
) -> impl Stream<Item = Result<proto::ManyReply, Status>> {
    let stop = service.stopped();
    let requests = Requests {
        service,
        incoming,
        under_way: FuturesUnordered::new(),
        is_over: false,
    };
    // What is unanswered when the server stops is cut off, as a call would be.
    stream::unfold(requests, Requests::next).take_until(stop)
}

impl Requests {
    async fn next(mut self) -> Option<(Result<proto::ManyReply, Status>, Self)> {
        loop {
            let takes_more = !self.is_over && self.under_way.len() < UNDER_WAY_MAX;
            tokio::select! {
                biased;
                Some((reply, _room)) = self.under_way.next(), if !self.under_way.is_empty() => {
                    return Some((Ok(reply), self));
                }
                request = self.incoming.message(), if takes_more => match request {
                    Ok(Some(request)) => self.begin(request),
                    Ok(None) => self.is_over = true,
                    Err(status) => {
                        self.is_over = true; // Its end is over, so nobody reads what is under way.
                        self.under_way.clear();
                        return Some((Err(status), self));
                    }
                },
                else => return None,
            }
        }
    }

    fn begin(&mut self, request: proto::ManyRequest) {
        let service = self.service.clone();
        self.under_way.push(Box::pin(async move {
            let number = request.number;
            let reply = match wire::many_request_from_proto(request) {
                Ok((request, deadline)) => {
                    let is_read = matches!(request, Request::Get { .. });
                    let (reply, room) = service.reply(request, deadline).await;
                    wire::many_reply_to_proto(number, is_read, reply).map(|reply| (reply, room))
                }
                Err(error) => Err(error),
            };
            reply.unwrap_or_else(|error| (wire::many_rejected_to_proto(number, &error), None))
        }));
    }
}
