//! TLS of a node: as a server, and as a client of the other nodes.

use std::path::Path;
use std::sync::Arc;

use kv_core::NodeId;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::SecurityFiles;
use super::certificates::{check_time, node_of, read_certificates, read_key};
use super::error::SecurityError;
use crate::access::Access;

/// TLS as a server.
pub(super) struct Server {
    pub(super) config: ServerConfig,
    /// Whether a certificate is of the peers' CA.
    pub(super) peers: Option<Arc<dyn ClientCertVerifier>>,
    /// Whether it is of the clients' CA.
    pub(super) clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// A CA that others' certificates are held against.
struct Authority<'a> {
    path: &'a Path,
    pem: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

impl<'a> Authority<'a> {
    fn read(path: &'a Path) -> Result<Self, SecurityError> {
        let (pem, certificates) = read_certificates("certificate of a CA", path)?;
        Ok(Self {
            path,
            pem,
            certificates,
        })
    }
}

/// Reads what is there; nothing of it where there is no certificate of the node's own.
pub(super) fn load(
    files: &SecurityFiles,
    node: NodeId,
    warnings: &mut Vec<String>,
) -> Result<(Option<Server>, Access), SecurityError> {
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
        return Ok((None, Access::default()));
    };
    let (cert_pem, chain) = read_certificates("certificate", cert)?;
    let (key_pem, private_key) = read_key(key, warnings)?;
    let own = chain.first().ok_or_else(|| SecurityError::NoPem {
        what: "certificate",
        file: cert.display().to_string(),
    })?;
    check_time(own, cert)?;
    if files.peer_ca.is_some() && node_of(own) != Some(node) {
        return Err(SecurityError::OtherNode {
            file: cert.display().to_string(),
            node: node.0,
            found: node_of(own),
        });
    }
    let peer_ca = files.peer_ca.as_deref().map(Authority::read).transpose()?;
    let client_ca = files
        .client_ca
        .as_deref()
        .map(Authority::read)
        .transpose()?;
    let all: Vec<&Authority<'_>> = peer_ca.iter().chain(&client_ca).collect();
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| unusable(cert, source))?;
    let builder = match verifier(&all)? {
        Some(anybody) => builder.with_client_cert_verifier(anybody),
        None => builder.with_no_client_auth(),
    };
    let config = builder
        .with_single_cert(chain, private_key)
        .map_err(|source| SecurityError::OtherKey {
            file: cert.display().to_string(),
            key: key.display().to_string(),
            source,
        })?;
    let tls = ClientTlsConfig::new()
        .identity(Identity::from_pem(&cert_pem, &key_pem))
        .ca_certificates(peer_ca.iter().map(|ca| Certificate::from_pem(&ca.pem)));
    let access = Access {
        tls: Some(tls),
        bearer: None,
        source: None,
    };
    let server = Server {
        config,
        peers: verifier(&peer_ca.iter().collect::<Vec<_>>())?,
        clients: verifier(&client_ca.iter().collect::<Vec<_>>())?,
    };
    Ok((Some(server), access))
}

/// Verifies that somebody's certificate is of one of these CAs; nothing without any. Whoever shows no certificate may still come in:
/// what is asked of it then is decided with each request.
fn verifier(
    authorities: &[&Authority<'_>],
) -> Result<Option<Arc<dyn ClientCertVerifier>>, SecurityError> {
    let mut roots = RootCertStore::empty();
    let mut path = None;
    for authority in authorities {
        path = Some(authority.path);
        for certificate in &authority.certificates {
            roots
                .add(certificate.clone())
                .map_err(|source| unusable(authority.path, source))?;
        }
    }
    let Some(path) = path else {
        return Ok(None);
    };
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map(Some)
        .map_err(|error| unusable(path, rustls::Error::General(error.to_string())))
}

fn unusable(path: &Path, source: rustls::Error) -> SecurityError {
    SecurityError::Certificate {
        file: path.display().to_string(),
        source,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
