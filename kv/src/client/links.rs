//! The connections of a client, and what one attempt over them came to.
//!
//! What a failure means for a write hangs on one question: was anything sent? Connecting and sending are two steps here,
//! so that it has an answer. Failing to connect is definite. Once the request has been handed to a connection nothing is
//! definite any more, whatever gRPC's status says (`Unavailable`, `Cancelled`, `DeadlineExceeded`: the request may have
//! been carried out all the same), but for two exceptions: the status codes with which a node refuses a request as such,
//! and "connection refused", which a kept connection reports when it was found closed and could not be made again: that
//! error comes from `connect` alone, before the request leaves.
//!
//! A connection that failed in any way is dropped, so that the next attempt over it starts with connecting. Clients that share their
//! connections share this, too: one of them connects, the others wait for it, and only the connection that failed is dropped.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kv_core::NodeId;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::stream::{RequestStream, Unanswered};
use super::trial::Trial;
use super::{Effect, Ended, effect};
use crate::access::{self, Access};
use crate::error::{Fail, Outcome, Unsure};
use crate::handle::Request;
use crate::wire::proto::kv_client::KvClient;
use crate::wire::{self, Info, MESSAGE_BYTES_MAX, proto};

/// How often an idle connection is asked whether its other end lives, and how long that may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The connections of a client. A clone shares them.
#[derive(Clone, Debug)]
pub(super) struct Links {
    kept: Arc<Mutex<BTreeMap<String, Place>>>,
    connect_each_time: bool,
    access: Access,
    streams: bool,
}

/// The connection to one address, once there is one. Whoever makes it holds the lock.
type Place = Arc<tokio::sync::Mutex<Option<Connection>>>;

#[derive(Clone, Debug)]
struct Connection {
    client: KvClient<Channel>,
    /// What requests go over, if they are no calls of their own.
    stream: Option<RequestStream>,
    /// Tells it from one that was made later.
    identity: Arc<()>,
}

impl Links {
    pub(super) fn new(connect_each_time: bool, streams: bool, access: Access) -> Self {
        Self {
            kept: Arc::default(),
            connect_each_time,
            streams,
            access,
        }
    }

    /// Sends a request to an address and waits for the reply.
    pub(super) async fn attempt(&self, address: &str, request: &Request, trial: &Trial) -> Ended {
        let mut connection = match self.connect(address, trial.attempt_time()).await {
            Ok(connection) => connection,
            Err(Fail::Rejected(status)) => return Ended::Rejected(status),
            Err(_) => return Ended::NotSent,
        };
        let time = match effect(request) {
            Effect::Read => trial.attempt_time(),
            Effect::Write if !trial.has_time() => return Ended::NotSent, // Connecting has used it up.
            Effect::Write => trial.time(), // It is not repeated, so it may take all the time there is.
        };
        let sent = async {
            match &connection.stream {
                Some(stream) => send_over(stream, address, request, time).await,
                None => {
                    let client = &mut connection.client;
                    call(client, &self.access, address, request, time).await
                }
            }
        };
        let ended = match tokio::time::timeout(time, sent).await {
            Ok(Ended::Replied(reply)) => return Ended::Replied(reply),
            Ok(ended) => ended,
            Err(_) => Ended::Lost(Unsure::Unanswered {
                address: address.to_owned(),
            }),
        };
        self.drop_failed(address, &connection).await;
        ended
    }

    /// Asks an address for its map and its status.
    pub(super) async fn info(
        &self,
        address: &str,
        timeout: Duration,
        digest: bool,
    ) -> Result<Info, Fail> {
        let unreachable = || Fail::Unreachable {
            tried: vec![address.to_owned()],
        };
        let mut connection = self.connect(address, timeout).await?;
        let asked = connection
            .client
            .info(self.access.request(proto::InfoRequest { digest }));
        let info = match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(reply)) => wire::info_from_proto(reply.into_inner()).map_err(Fail::from),
            Ok(Err(status)) => match classify(address, status) {
                Ended::Rejected(status) => Err(Fail::Rejected(status)),
                Ended::Lost(Unsure::Broken { status, .. }) => {
                    Err(untrusted(address, &status).unwrap_or_else(unreachable))
                }
                _ => Err(unreachable()),
            },
            Err(_) => Err(unreachable()),
        };
        if info.is_err() {
            self.drop_failed(address, &connection).await;
        }
        info
    }

    /// Asks the node at an address to stop.
    pub(super) async fn kill(&self, address: &str, timeout: Duration) -> Outcome<NodeId> {
        let mut connection = match self.connect(address, timeout).await {
            Ok(connection) => connection,
            Err(fail) => return Outcome::Fail(fail),
        };
        let asked = connection
            .client
            .kill(self.access.request(proto::KillRequest {}));
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(reply)) => Outcome::Ok(wire::kill_from_proto(reply.get_ref())),
            Ok(Err(status)) => match classify(address, status) {
                Ended::Rejected(status) => Outcome::Fail(Fail::Rejected(status)),
                Ended::Lost(reason) => Outcome::Info(reason),
                Ended::NotSent | Ended::Replied(_) => Outcome::Fail(Fail::Unreachable {
                    tried: vec![address.to_owned()],
                }),
            },
            Err(_) => Outcome::Info(Unsure::Unanswered {
                address: address.to_owned(),
            }),
        }
    }

    /// A connection to an address. If it could not be made, nothing was sent.
    async fn connect(&self, address: &str, timeout: Duration) -> Result<Connection, Fail> {
        let connected = self.connect_at(address, timeout);
        let connected = tokio::time::timeout(timeout, connected).await;
        connected.unwrap_or_else(|_| {
            Err(Fail::Unreachable {
                tried: vec![address.to_owned()],
            })
        })
    }

    async fn connect_at(&self, address: &str, timeout: Duration) -> Result<Connection, Fail> {
        let place = self.place(address);
        let mut place = place.lock().await;
        if self.connect_each_time {
            *place = None;
        }
        if let Some(connection) = &*place {
            return Ok(connection.clone());
        }
        let unreachable = || Fail::Unreachable {
            tried: vec![address.to_owned()],
        };
        let failed =
            |error: tonic::transport::Error| untrusted(address, &error).unwrap_or_else(unreachable);
        let endpoint = self.access.endpoint(address).map_err(failed)?;
        let endpoint = endpoint
            .connect_timeout(timeout)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE);
        let channel = endpoint.connect().await.map_err(failed)?;
        let client = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let stream = match self.streams {
            true => {
                let opened = RequestStream::open(client.clone(), &self.access).await;
                Some(opened.map_err(|status| refused(address, status))?)
            }
            false => None,
        };
        let connection = Connection {
            client,
            stream,
            identity: Arc::default(),
        };
        *place = Some(connection.clone());
        Ok(connection)
    }

    /// Where the connection to an address is kept.
    fn place(&self, address: &str) -> Place {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(address) {
            Some(place) => Arc::clone(place),
            None => Arc::clone(kept.entry(address.to_owned()).or_default()),
        }
    }

    /// Stops using a connection that failed, unless another one is in its place already.
    async fn drop_failed(&self, address: &str, failed: &Connection) {
        let place = self.place(address);
        let is_it = |kept: &mut Connection| Arc::ptr_eq(&kept.identity, &failed.identity);
        let _ = place.lock().await.take_if(is_it);
    }
}

/// How much of the time for an attempt the node gets, so that its answer can come back in it.
fn deadline_in(time: Duration) -> Duration {
    time.mul_f64(0.9)
}

/// Why a node has not taken a stream: nothing was sent over it.
fn refused(address: &str, status: Status) -> Fail {
    match classify(address, status) {
        Ended::Rejected(status) => Fail::Rejected(status),
        _ => Fail::Unreachable {
            tried: vec![address.to_owned()],
        },
    }
}

/// Sends a request as a call of its own.
async fn call(
    client: &mut KvClient<Channel>,
    access: &Access,
    address: &str,
    request: &Request,
    time: Duration,
) -> Ended {
    let deadline = deadline_in(time);
    let replied = match request.clone() {
        Request::Get { key, level, token } => {
            let request = wire::get_to_proto(key, level, token, deadline);
            let reply = client.get(access.request(request)).await;
            reply.map(|reply| wire::read_reply_from_proto(reply.into_inner()))
        }
        Request::Set { key, value } => {
            let request = wire::set_to_proto(key, value, deadline);
            let reply = client.set(access.request(request)).await;
            reply.map(|reply| wire::write_reply_from_proto(reply.into_inner()))
        }
        Request::Delete { key } => {
            let request = wire::delete_to_proto(key, deadline);
            let reply = client.delete(access.request(request)).await;
            reply.map(|reply| wire::write_reply_from_proto(reply.into_inner()))
        }
    };
    match replied {
        Ok(Ok(reply)) => Ended::Replied(reply),
        Ok(Err(error)) => broken(address, Status::internal(error.to_string())),
        Err(status) => classify(address, status),
    }
}

/// Sends a request over a stream.
async fn send_over(
    stream: &RequestStream,
    address: &str,
    request: &Request,
    time: Duration,
) -> Ended {
    let is_read = effect(request) == Effect::Read;
    let request = wire::many_request_to_proto(request.clone(), deadline_in(time));
    match stream.ask(request).await {
        Ok(reply) => match wire::many_reply_from_proto(is_read, reply) {
            Ok(Ok(reply)) => Ended::Replied(reply),
            Ok(Err(why)) => Ended::Rejected(Status::invalid_argument(why)),
            Err(error) => broken(address, Status::internal(error.to_string())),
        },
        Err(Unanswered::NotSent) => Ended::NotSent,
        Err(Unanswered::Broken) => broken(address, Status::unavailable("the stream broke")),
    }
}

/// What a status says about a request that was handed to a connection.
fn classify(address: &str, status: Status) -> Ended {
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Ended::Rejected(status),
        _ if was_refused(&status) => Ended::NotSent,
        _ => broken(address, status),
    }
}

fn broken(address: &str, status: Status) -> Ended {
    Ended::Lost(Unsure::Broken {
        address: address.to_owned(),
        status,
    })
}

/// What TLS says, if it was TLS that came to nothing.
fn untrusted(address: &str, error: &(dyn std::error::Error + 'static)) -> Option<Fail> {
    access::tls_trouble(error).map(|why| Fail::Untrusted {
        address: address.to_owned(),
        why,
    })
}

/// Whether the operating system refused the connection.
fn was_refused(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tonic::transport::Endpoint;

    use super::*;

    /// A kept connection that was found closed connects again by itself; that this failed has to be seen from the error.
    #[tokio::test]
    async fn a_refused_connection_is_told_from_one_that_broke() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut client = KvClient::new(endpoint.connect_lazy());
        let request = wire::delete_to_proto(Bytes::from_static(b"k"), Duration::from_secs(1));
        let refused = client.delete(request).await.unwrap_err();
        assert!(matches!(classify(&address, refused), Ended::NotSent));
        let broke = Status::from_error(io::Error::from(io::ErrorKind::ConnectionReset).into());
        assert!(matches!(classify(&address, broke), Ended::Lost(_)));
        assert!(matches!(
            classify(&address, Status::unavailable("connection refused")),
            Ended::Lost(_)
        ));
    }
}
