//! What must be said about who may come in, and how much: nobody opens a node to the world by accident.

use std::net::IpAddr;
use std::time::Duration;

use kv::door::Limits;
use kv::quantity::{Length, Size};
use kv::security::SecurityFiles;

use super::sections::{AuthSection, CoordinationKind, LimitsSection, TlsSection};
use super::{Settings, SettingsError};

const HANDSHAKE_MIN: Duration = Duration::from_millis(100);
const HANDSHAKE_MAX: Duration = Duration::from_secs(60);
const COUNT_MAX: usize = 1_000_000;
/// Room for one request of the largest size, at least.
const REQUEST_BYTES_MIN: Size = Size(2 * 1024 * 1024);
const REQUEST_BYTES_MAX: Size = Size(1024 * 1024 * 1024 * 1024);

impl Settings {
    /// Whether no other node is to be expected.
    pub(super) fn is_alone(&self) -> bool {
        self.coordination.kind == CoordinationKind::Embedded
    }

    /// The files that say who may come in, if they go together.
    pub(super) fn checked_security(&self) -> Result<SecurityFiles, SettingsError> {
        let TlsSection {
            cert,
            key,
            client_ca,
            peer_ca,
        } = self.tls.clone();
        let AuthSection {
            client_tokens_file,
            peer_token_file,
            insecure: _,
        } = self.auth.clone();
        let missing = |key, what| SettingsError::Missing {
            file: self.file(),
            key,
            what,
        };
        match (&cert, &key) {
            (Some(_), None) => return Err(missing("tls.key", "tls.cert needs its private key")),
            (None, Some(_)) => return Err(missing("tls.cert", "tls.key is of no use without it")),
            (None, None) if client_ca.is_some() || peer_ca.is_some() => {
                let what = "without it there is no TLS, in which others could show certificates";
                return Err(missing("tls.cert", what));
            }
            _ => {}
        }
        if cert.is_some() && peer_ca.is_none() && !self.is_alone() {
            let what =
                "it says whose certificates the other nodes have, which they show each other";
            return Err(missing("tls.peer_ca", what));
        }
        let asks_clients = client_ca.is_some() || client_tokens_file.is_some();
        let asks_peers = peer_ca.is_some() || peer_token_file.is_some();
        if asks_clients && !asks_peers && !self.is_alone() {
            let what = "clients have to show who they are, but anybody could come as a member of the cluster; set it, or tls.peer_ca";
            return Err(missing("auth.peer_token_file", what));
        }
        self.check_open("node.listen", &self.node.listen, asks_clients, asks_peers)?;
        if let Some(http) = &self.http.listen {
            self.check_open("http.listen", http, asks_clients, true)?;
        }
        Ok(SecurityFiles {
            cert,
            key,
            client_ca,
            peer_ca,
            client_tokens: client_tokens_file,
            peer_token: peer_token_file,
        })
    }

    /// What listens for more than this machine speaks TLS and asks who comes, unless the operator wants it otherwise.
    fn check_open(
        &self,
        key: &'static str,
        address: &str,
        asks_clients: bool,
        asks_peers: bool,
    ) -> Result<(), SettingsError> {
        if self.auth.insecure || is_loopback(address) {
            return Ok(());
        }
        let missing = if self.tls.cert.is_none() {
            "it would be plain text; set tls.cert and tls.key"
        } else if !asks_clients {
            "any client could come; set tls.client_ca or auth.client_tokens_file"
        } else if !asks_peers && !self.is_alone() {
            "anybody could come as a member of the cluster; set tls.peer_ca or auth.peer_token_file"
        } else {
            return Ok(());
        };
        Err(SettingsError::Open {
            file: self.file(),
            key,
            address: address.to_owned(),
            missing,
        })
    }

    pub(super) fn checked_limits(&self) -> Result<Limits, SettingsError> {
        let LimitsSection {
            connections,
            handshakes,
            handshake_timeout,
            requests_per_connection,
            requests,
            request_bytes,
        } = self.limits.clone();
        for (key, count) in [
            ("limits.connections", connections),
            ("limits.handshakes", handshakes),
            (
                "limits.requests_per_connection",
                requests_per_connection as usize,
            ),
            ("limits.requests", requests),
        ] {
            if !(1..=COUNT_MAX).contains(&count) {
                return Err(self.wrong(key, count, format!("1 to {COUNT_MAX}")));
            }
        }
        if !(HANDSHAKE_MIN..=HANDSHAKE_MAX).contains(&handshake_timeout.0) {
            let allowed = format!("{} to {}", Length(HANDSHAKE_MIN), Length(HANDSHAKE_MAX));
            return Err(self.wrong("limits.handshake_timeout", handshake_timeout, allowed));
        }
        if !(REQUEST_BYTES_MIN..=REQUEST_BYTES_MAX).contains(&request_bytes) {
            let allowed = format!("{REQUEST_BYTES_MIN} to {REQUEST_BYTES_MAX}");
            return Err(self.wrong("limits.request_bytes", request_bytes, allowed));
        }
        Ok(Limits {
            connections,
            handshakes,
            handshake_timeout: handshake_timeout.0,
            requests_per_connection,
            requests,
            request_bytes: request_bytes.0,
        })
    }
}

/// Whether only this machine can reach an address, `HOST:PORT`, as far as its text tells.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_reaches_loopback() {
        for inside in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"] {
            assert!(is_loopback(inside), "{inside}");
        }
        for outside in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "localhost.example.org:1",
            "node-1:1",
        ] {
            assert!(!is_loopback(outside), "{outside}");
        }
    }
}
