//! Certificates and keys: how they are read, and what they say about whom.

use std::io;
use std::path::Path;

use kv_core::NodeId;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::error::SecurityError;

/// No file of certificates, keys or tokens is larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How the alternative name of a node's certificate begins; its number follows.
pub const NODE_URI: &str = "kv://node/";

/// The alternative name, a URI, by which a certificate is that of a node.
#[must_use]
pub fn node_uri(node: NodeId) -> String {
    format!("{NODE_URI}{}", node.0)
}

/// Reads a file, within reason.
pub(super) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, SecurityError> {
    let failed = |source| SecurityError::Read {
        what,
        file: path.display().to_string(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    std::fs::read(path).map_err(failed)
}

/// Secrets are for their owner: says so where the system lets others read them.
pub(super) fn warn_if_others_can_read(path: &Path, warnings: &mut Vec<String>) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path).map(|about| about.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o077 != 0) {
            let file = path.display();
            warnings.push(format!(
                "others than its owner can read or write {file}, which is secret; `chmod 600 {file}` mends it"
            ));
        }
    }
}

/// Reads the certificates of a file, in their order.
pub(super) fn read_certificates(
    what: &'static str,
    path: &Path,
) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), SecurityError> {
    let pem = read(what, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok((pem, found)),
        _ => Err(SecurityError::NoPem {
            what,
            file: path.display().to_string(),
        }),
    }
}

/// Reads a private key.
pub(super) fn read_key(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<(Vec<u8>, PrivateKeyDer<'static>), SecurityError> {
    let pem = read("the private key", path)?;
    warn_if_others_can_read(path, warnings);
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Ok((pem, key)),
        Err(_) => Err(SecurityError::NoPem {
            what: "private key",
            file: path.display().to_string(),
        }),
    }
}

/// Checks that a certificate is valid now.
pub(super) fn check_time(
    certificate: &CertificateDer<'_>,
    path: &Path,
) -> Result<(), SecurityError> {
    let file = path.display().to_string();
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        let source = rustls::CertificateError::BadEncoding.into();
        return Err(SecurityError::Certificate { file, source });
    };
    let (validity, now) = (parsed.validity(), ASN1Time::now());
    if now < validity.not_before {
        let at = validity.not_before.to_string();
        return Err(SecurityError::NotYet { file, at });
    }
    if now > validity.not_after {
        let at = validity.not_after.to_string();
        return Err(SecurityError::Expired { file, at });
    }
    Ok(())
}

/// The node that a certificate names, if it names exactly one.
pub(super) fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut nodes = names.value.general_names.iter().filter_map(|name| {
        let GeneralName::URI(uri) = name else {
            return None;
        };
        let number = uri.strip_prefix(NODE_URI)?;
        let number = number.parse().ok().filter(|number| *number > 0);
        number.map(NodeId)
    });
    let node = nodes.next();
    node.filter(|_| nodes.next().is_none())
}
