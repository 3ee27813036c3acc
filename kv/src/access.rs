//! How a client, or a node that calls another one, shows who it is and whom it trusts.
//!
//! By default in plain text and without a name. With the feature `net` there may be TLS, a certificate of one's own, and a token.

use std::fmt;
#[cfg(feature = "net")]
use std::net::IpAddr;

use tonic::metadata::{Ascii, MetadataValue};
#[cfg(feature = "net")]
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;

/// The name of the metadata that says of which cluster a calling node is: 16 hexadecimal digits.
pub const CLUSTER_HEADER: &str = "kv-cluster";

/// A cluster as that metadata names it.
#[must_use]
pub fn cluster_name(cluster: u64) -> String {
    format!("{cluster:016x}")
}

/// An error in full, from what happened to why.
pub(crate) fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// What TLS says, if it is TLS that failed somewhere in a chain of errors.
pub(crate) fn tls_trouble(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    #[cfg(feature = "net")]
    {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(tls) = error.downcast_ref::<tokio_rustls::rustls::Error>() {
                return Some(tls.to_string());
            }
            let io = error.downcast_ref::<std::io::Error>();
            let inner = io.and_then(std::io::Error::get_ref);
            if let Some(tls) =
                inner.and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>())
            {
                return Some(tls.to_string());
            }
            cause = error.source();
        }
    }
    let _ = error;
    None
}

/// How to show who one is.
#[derive(Clone, Default)]
pub struct Access {
    #[cfg(feature = "net")]
    pub(crate) tls: Option<ClientTlsConfig>,
    pub(crate) bearer: Option<MetadataValue<Ascii>>,
    #[cfg(feature = "net")]
    pub(crate) source: Option<IpAddr>,
}

impl fmt::Debug for Access {
    /// Whether, not what: a token is secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "net")]
        let is_tls = self.tls.is_some();
        #[cfg(not(feature = "net"))]
        let is_tls = false;
        out.debug_struct("Access")
            .field("tls", &is_tls)
            .field("token", &self.bearer.is_some())
            .finish()
    }
}

impl Access {
    /// The same, whose connections come from that address of this machine; the system chooses where there is none.
    #[cfg(feature = "net")]
    #[must_use]
    pub fn from_source(self, source: Option<IpAddr>) -> Self {
        Self { source, ..self }
    }

    /// How to connect to an address, `HOST:PORT`.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Endpoint, tonic::transport::Error> {
        let endpoint = self.destination(address)?;
        #[cfg(feature = "net")]
        let endpoint = endpoint.local_address(self.source);
        Ok(endpoint)
    }

    fn destination(&self, address: &str) -> Result<Endpoint, tonic::transport::Error> {
        #[cfg(feature = "net")]
        if let Some(tls) = &self.tls {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let name = host.trim_start_matches('[').trim_end_matches(']');
            let tls = tls.clone().domain_name(name);
            return Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls);
        }
        Endpoint::from_shared(format!("http://{address}"))
    }

    /// A request with the token, if there is one.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(bearer) = &self.bearer {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", bearer.clone());
        }
        request
    }
}
