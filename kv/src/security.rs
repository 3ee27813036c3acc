//! Who may do what at a node, and how that is shown: certificates and tokens.
//!
//! There are two kinds of callers. **Clients** read and write. **Peers** are the other nodes of the cluster; only they may send what members
//! say to each other, so that no client can ever send a `Prepare`. A peer shows a certificate of `peer_ca` that names its node (the
//! URI `kv://node/3` among its alternative names), or the peers' token; a client shows a certificate of `client_ca`, or one
//! of the clients' tokens. A peer may do what a client may.
//!
//! What is not asked for is open to everybody: that is for addresses that only this machine can reach. Everything is read once, at
//! the start. No secret is ever part of a message, of an error, or of what `Debug` shows.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use kv_core::NodeId;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

use crate::access::Access;
use crate::door::{Caller, Count};
use crate::net::Admits;

mod certificates;
mod client;
mod error;
mod tls;
mod tokens;

pub use certificates::{NODE_URI, node_uri};
pub use client::{ClientFiles, client_access};
pub use error::SecurityError;
use tls::Server;
use tokens::Tokens;

/// The files that say who may come in, as far as they are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityFiles {
    /// The node's certificate, with those between it and its CA, in PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<PathBuf>,
    /// The CA of the clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// The CA of the nodes' certificates.
    pub peer_ca: Option<PathBuf>,
    /// The clients' tokens, one a line.
    pub client_tokens: Option<PathBuf>,
    /// The peers' tokens: the first is the one that this node shows.
    pub peer_token: Option<PathBuf>,
}

/// Who may do what at a node.
#[derive(Default)]
pub struct Security {
    server: Option<Server>,
    client_tokens: Option<Tokens>,
    peer_tokens: Option<Tokens>,
    asks_clients: bool,
    peers: Peers,
}

/// Who may speak as a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Peers {
    /// Everybody.
    #[default]
    Anyone,
    /// Who can show it.
    Shown,
    /// Nobody: the node is alone.
    Nobody,
}

/// What was loaded: who may come in, how the node shows itself to others, and what an operator should know.
#[derive(Debug)]
pub struct Loaded {
    /// Who may come in.
    pub security: Arc<Security>,
    /// How the node shows itself to the other nodes.
    pub access: Access,
    /// What works and should not be so, a line each.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Security {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Security")
            .field("tls", &self.server.is_some())
            .field("asks_clients", &self.asks_clients)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

/// Why somebody was refused. It says what to show, never what was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A client showed nothing.
    #[error(
        "this node wants to know who asks: show a token (--token-file FILE) or a client's certificate (--tls-cert FILE --tls-key FILE)"
    )]
    NothingShown,
    /// The token is not one of those that are known.
    #[error("the token is none that this node knows")]
    WrongToken,
    /// Somebody who has not shown that it is a peer wants to speak as one.
    #[error(
        "only members of the cluster may do this: show a node's certificate or the peers' token"
    )]
    NoPeer,
    /// A client wants to speak as a peer.
    #[error("clients may not do this: it is for members of the cluster only")]
    OnlyClient,
}

impl Denied {
    /// As what it counts.
    pub(crate) fn count(self) -> Count {
        match self {
            Self::NothingShown | Self::WrongToken | Self::NoPeer => Count::Unauthenticated,
            Self::OnlyClient => Count::Forbidden,
        }
    }
}

impl Security {
    /// Reads the files of a node and checks that they go together. A node that is `alone` has no peers to let in.
    ///
    /// # Errors
    /// One line that names the file, what is wrong with it, and what to do.
    pub fn load(files: &SecurityFiles, node: NodeId, alone: bool) -> Result<Loaded, SecurityError> {
        let mut warnings = Vec::new();
        let client_tokens = Tokens::read(files.client_tokens.as_deref(), &mut warnings)?;
        let peer_tokens = Tokens::read(files.peer_token.as_deref(), &mut warnings)?;
        let (server, mut access) = tls::load(files, node, &mut warnings)?;
        access.bearer = peer_tokens.as_ref().map(Tokens::bearer);
        let asks_clients = files.client_ca.is_some() || client_tokens.is_some();
        let peers = match files.peer_ca.is_some() || peer_tokens.is_some() {
            true => Peers::Shown,
            false if alone && asks_clients => Peers::Nobody,
            false => Peers::Anyone,
        };
        let security = Arc::new(Self {
            server,
            client_tokens,
            peer_tokens,
            asks_clients,
            peers,
        });
        Ok(Loaded {
            security,
            access,
            warnings,
        })
    }

    /// How to speak TLS on a port with these protocols (ALPN); nothing where it is plain text. Whoever connects may show a certificate;
    /// [`caller`](Self::caller) says whose it is.
    #[must_use]
    pub fn server_config(&self, protocols: Vec<Vec<u8>>) -> Option<Arc<ServerConfig>> {
        let mut config = self.server.as_ref()?.config.clone();
        config.alpn_protocols = protocols;
        Some(Arc::new(config))
    }

    /// Whom the certificates name that a connection has shown; TLS has verified that they are its own.
    #[must_use]
    pub fn caller(&self, shown: Option<&[CertificateDer<'_>]>) -> Caller {
        let (Some(server), Some([own, others @ ..])) = (&self.server, shown) else {
            return Caller::Anyone;
        };
        let is_of = |ca: &Option<Arc<dyn ClientCertVerifier>>| {
            ca.as_ref()
                .is_some_and(|ca| ca.verify_client_cert(own, others, UnixTime::now()).is_ok())
        };
        match certificates::node_of(own) {
            Some(node) if is_of(&server.peers) => Caller::Peer(Some(node)),
            _ if is_of(&server.clients) => Caller::Client,
            _ => Caller::Anyone,
        }
    }

    /// Who makes a request over a connection that has `shown` a certificate, with this `Authorization`, if that one may.
    ///
    /// # Errors
    /// Says what has to be shown.
    pub fn admit(
        &self,
        to: Admits,
        shown: Caller,
        authorization: Option<&[u8]>,
    ) -> Result<Caller, Denied> {
        let token = authorization.and_then(|text| text.strip_prefix(b"Bearer "));
        let knows = |tokens: &Option<Tokens>| match (tokens, token) {
            (Some(tokens), Some(token)) => tokens.hold(token),
            _ => false,
        };
        let caller = match shown {
            Caller::Anyone if knows(&self.peer_tokens) => Caller::Peer(None),
            Caller::Client if knows(&self.peer_tokens) => Caller::Peer(None),
            Caller::Anyone if knows(&self.client_tokens) => Caller::Client,
            shown => shown,
        };
        let wrong = token.is_some().then_some(Denied::WrongToken);
        match (to, caller) {
            (_, Caller::Peer(_)) | (Admits::Clients, Caller::Client) => Ok(caller),
            (Admits::Clients, Caller::Anyone) if !self.asks_clients => Ok(caller),
            (Admits::Clients, Caller::Anyone) => Err(wrong.unwrap_or(Denied::NothingShown)),
            (Admits::Peers, _) if self.peers == Peers::Anyone => Ok(caller),
            (Admits::Peers, Caller::Client) => Err(Denied::OnlyClient),
            (Admits::Peers, Caller::Anyone) => Err(wrong.unwrap_or(Denied::NoPeer)),
        }
    }
}
