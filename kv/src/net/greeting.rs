//! The first moments of a connection: TLS, if the door wants it, and the first bytes of what it speaks.
//!
//! Whoever says nothing, or something else, goes before anything of the node has looked at it. All of it is under one
//! deadline, which the listener sets.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::connection::{Came, Stream};
use crate::door::Caller;
use crate::security::Security;

/// What a client of HTTP/2 says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client of HTTP/1.1 is told at the gRPC port: it understands that, where it would not understand being hung up on.
const NO_GRPC: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 50\r\n\
    connection: close\r\n\r\nthis port speaks gRPC; HTTP has a port of its own\n";

/// The first byte of a TLS record that begins a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// gRPC: HTTP/2, from its first byte on.
    Grpc,
    /// HTTP/1.1 or HTTP/2.
    Http,
}

impl Speaks {
    /// What TLS says of it (ALPN).
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Grpc => vec![b"h2".to_vec()],
            Self::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// What greets the connections of one port.
#[derive(Clone)]
pub(super) struct Greeter {
    speaks: Speaks,
    security: Arc<Security>,
    tls: Option<TlsAcceptor>,
}

/// A connection that has spoken.
pub(super) struct Greeted {
    pub(super) stream: Stream,
    pub(super) first: Bytes,
    pub(super) came: Came,
}

impl Greeter {
    pub(super) fn new(speaks: Speaks, security: Arc<Security>) -> Self {
        let tls = security.server_config(speaks.protocols());
        Self {
            speaks,
            tls: tls.map(TlsAcceptor::from),
            security,
        }
    }

    /// Goes through the first moments; nothing where what came makes no sense.
    pub(super) async fn greet(self, tcp: TcpStream, address: SocketAddr) -> Option<Greeted> {
        let mut first_byte = [0];
        if tcp.peek(&mut first_byte).await.ok()? == 0 {
            return None;
        }
        let is_tls = first_byte == [TLS_HANDSHAKE];
        let (mut stream, caller) = match self.tls {
            Some(acceptor) if is_tls => {
                let tls = acceptor.accept(tcp).await.ok()?;
                let caller = self.security.caller(tls.get_ref().1.peer_certificates());
                (Stream::Tls(Box::new(tls)), caller)
            }
            None if !is_tls => (Stream::Plain(tcp), Caller::Anyone),
            Some(_) | None => return None,
        };
        let first = match self.speaks {
            Speaks::Grpc => preface(&mut stream).await?,
            Speaks::Http => Bytes::new(),
        };
        Some(Greeted {
            stream,
            first,
            came: Came { caller, address },
        })
    }
}

/// Reads the preface of HTTP/2, as far as what comes is one.
async fn preface(stream: &mut Stream) -> Option<Bytes> {
    let mut first = vec![0; PREFACE.len()];
    let mut count = 0;
    while count < first.len() {
        match stream.read(first.get_mut(count..)?).await.ok()? {
            0 => return None,
            more => count += more,
        }
        if first.get(..count) != PREFACE.get(..count) {
            if looks_like_http(first.get(..count)?) {
                let _ = stream.write_all(NO_GRPC).await; // It may have gone.
                let _ = stream.shutdown().await;
            }
            return None;
        }
    }
    Some(first.into())
}

fn looks_like_http(first: &[u8]) -> bool {
    let methods: [&[u8]; 7] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
    ];
    methods.iter().any(|method| first.starts_with(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_of_http_is_told_has_the_length_that_it_says() {
        let text = std::str::from_utf8(NO_GRPC).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
