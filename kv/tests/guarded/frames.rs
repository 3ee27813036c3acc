//! HTTP/2 by hand, for what no library would send: RFC 9113 frames, with headers as literals that are never indexed (RFC 7541).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection that says whatever it wants.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Connects, and does as if it were a client.
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        stream.set_write_timeout(patience).unwrap();
        let mut raw = Self(stream);
        raw.0.write_all(PREFACE).unwrap();
        raw.frame(SETTINGS, 0, 0, &[]);
        raw
    }

    /// Sends a frame; whether the other end has hung up shows later.
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        let _ = self.0.write_all(&bytes);
    }

    /// The head of a gRPC call.
    pub(crate) fn call(&mut self, stream: u32, path: &str) {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "node"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.push(0x10);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        self.frame(HEADERS, END_HEADERS, stream, &block);
    }

    /// A piece of a call's body.
    pub(crate) fn data(&mut self, stream: u32, payload: &[u8]) {
        self.frame(DATA, 0, stream, payload);
    }

    /// A whole message, the last of its call.
    pub(crate) fn message(&mut self, stream: u32, message: &[u8]) {
        self.frame(DATA, END_STREAM, stream, &framed(message));
    }

    /// A whole message, after which more may come.
    pub(crate) fn one_of_many(&mut self, stream: u32, message: &[u8]) {
        self.data(stream, &framed(message));
    }

    /// Reads until `until` has come by, or the other end hangs up; says which.
    pub(crate) fn hears(&mut self, until: &[u8]) -> bool {
        let mut heard: Vec<u8> = Vec::new();
        let mut part = [0; 16 * 1024];
        loop {
            match self.0.read(&mut part) {
                Ok(0) | Err(_) => return false,
                Ok(count) => heard.extend(&part[..count]),
            }
            if heard.windows(until.len()).any(|window| window == until) {
                return true;
            }
        }
    }
}

/// A message as gRPC sends it.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message);
    bytes
}
