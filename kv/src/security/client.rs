//! What a client shows, and whom it trusts.

use std::path::PathBuf;

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::certificates::{check_time, read_certificates, read_key};
use super::error::SecurityError;
use super::tokens::Tokens;
use crate::access::Access;

/// The files of a client, as far as it has any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The CA of the nodes' certificates. With it, everything goes over TLS.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The client's token.
    pub token: Option<PathBuf>,
}

/// Reads the files of a client, with what its user should know of them.
///
/// # Errors
/// One line that names the file, what is wrong with it, and what to do.
pub fn client_access(files: &ClientFiles) -> Result<(Access, Vec<String>), SecurityError> {
    let mut warnings = Vec::new();
    let tokens = Tokens::read(files.token.as_deref(), &mut warnings)?;
    let tls = match &files.ca {
        None => None,
        Some(ca) => {
            let (pem, _) = read_certificates("certificate of a CA", ca)?;
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            if let Some((cert, key)) = &files.identity {
                let (cert_pem, chain) = read_certificates("certificate", cert)?;
                let (key_pem, _) = read_key(key, &mut warnings)?;
                for own in chain.iter().take(1) {
                    check_time(own, cert)?;
                }
                tls = tls.identity(Identity::from_pem(cert_pem, key_pem));
            }
            Some(tls)
        }
    };
    let access = Access {
        tls,
        bearer: tokens.as_ref().map(Tokens::bearer),
        source: None,
    };
    Ok((access, warnings))
}
