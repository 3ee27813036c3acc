//! Lets requests through to a service: who may, and how long they may take.
//!
//! It looks at the head of a request, before anything of its body has been read: a stranger makes the node buffer nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::connection::Came;
use crate::door::{Caller, Count, Door};
use crate::handle::Room;

/// Whom a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Clients, and members of the cluster.
    Clients,
    /// Members of the cluster only.
    Peers,
}

/// A service behind a gate.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    service: S,
    door: Arc<Door>,
    admits: Admits,
    /// How long a request may take, from its head to the head of its answer.
    deadline: Option<Duration>,
}

impl<S> Gate<S> {
    /// Lets clients through to a service; each of their requests is over within the deadline.
    pub fn for_clients(service: S, door: &Door, deadline: Duration) -> Self {
        Self {
            service,
            door: Arc::new(door.clone()),
            admits: Admits::Clients,
            deadline: Some(deadline),
        }
    }

    /// Lets members of the cluster through to a service. Their streams last as long as the link does.
    pub fn for_peers(service: S, door: &Door) -> Self {
        Self {
            service,
            door: Arc::new(door.clone()),
            admits: Admits::Peers,
            deadline: None,
        }
    }

    /// Who makes a request, if that one may.
    fn admit(&self, request: &http::Request<Body>) -> Result<Caller, Status> {
        let came = request.extensions().get::<Came>();
        let shown = came.map_or(Caller::Anyone, |came| came.caller);
        let token = request.headers().get(http::header::AUTHORIZATION);
        let admitted =
            self.door
                .security
                .admit(self.admits, shown, token.map(http::HeaderValue::as_bytes));
        admitted.map_err(|denied| {
            self.door.counters.add(denied.count());
            if self.admits == Admits::Peers {
                let from = came.map(|came| came.address.to_string());
                let from = from.unwrap_or_default();
                tracing::warn!(%from, %denied, "refused somebody who wanted to speak as a member");
            }
            denied.into()
        })
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match self.admit(&request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(status) => return std::future::ready(Ok(status.into_http())).boxed(),
        }
        let answer = self
            .service
            .call(request)
            .map(|answer| answer.map(|answer| hold_room(answer, Body::new)));
        let Some(deadline) = self.deadline else {
            return answer.boxed();
        };
        async move {
            match tokio::time::timeout(deadline, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    let late = Status::deadline_exceeded("the request took too long to arrive");
                    Ok(late.into_http())
                }
            }
        }
        .boxed()
    }
}

/// Keeps the room that an answer has taken until the last of its bytes has been handed over.
pub(crate) fn hold_room<B>(
    mut answer: http::Response<B>,
    body_of: impl FnOnce(Held<B>) -> B,
) -> http::Response<B> {
    match answer.extensions_mut().remove::<Room>() {
        Some(room) => answer.map(|body| body_of(Held { body, _room: room })),
        None => answer,
    }
}

/// The body of an answer that takes room.
pub(crate) struct Held<B> {
    body: B,
    _room: Room,
}

impl<B: http_body::Body + Unpin> http_body::Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl From<crate::security::Denied> for Status {
    fn from(denied: crate::security::Denied) -> Self {
        match denied.count() {
            Count::Forbidden => Self::permission_denied(denied.to_string()),
            _ => Self::unauthenticated(denied.to_string()),
        }
    }
}
