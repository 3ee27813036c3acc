//! Why the files that say who may come in cannot be used.

use kv_core::NodeId;
use tokio_rustls::rustls;

/// Why the files that say who may come in cannot be used: which one, what is wrong, what to do. What is in them is never shown.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file cannot be read.
    #[error("cannot read {what} from {file}: {source}")]
    Read {
        /// What should be in it.
        what: &'static str,
        /// The file.
        file: String,
        /// What the file system said.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error(
        "{file} holds no {what} in PEM, which begins with -----BEGIN; `kv certs` makes some to try out"
    )]
    NoPem {
        /// What should be in it.
        what: &'static str,
        /// The file.
        file: String,
    },
    /// A certificate is damaged, or one of a kind that is not understood.
    #[error("the certificate in {file} cannot be used: {source}")]
    Certificate {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// A certificate is over.
    #[error("the certificate in {file} expired at {at}; replace it, and start again")]
    Expired {
        /// The file.
        file: String,
        /// When.
        at: String,
    },
    /// A certificate is for later.
    #[error(
        "the certificate in {file} is not valid before {at}; is the clock of this machine right?"
    )]
    NotYet {
        /// The file.
        file: String,
        /// From when on it is.
        at: String,
    },
    /// The key is not that of the certificate.
    #[error("the key in {key} does not belong to the certificate in {file}: {source}")]
    OtherKey {
        /// The file of the certificate.
        file: String,
        /// The file of the key.
        key: String,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The certificate names another node, or none.
    #[error(
        "the certificate in {file} names {}, and the other nodes would not take it for that of node {node}; it needs the alternative name URI:{}",
        found.map_or_else(|| "no node".to_owned(), |found| format!("node {}", found.0)),
        super::node_uri(NodeId(*node)),
    )]
    OtherNode {
        /// The file.
        file: String,
        /// The number of this node.
        node: u64,
        /// Whom it names.
        found: Option<NodeId>,
    },
    /// A token that could be guessed, or cannot be sent.
    #[error(
        "line {line} of {file} is no token: one has {min} to {max} letters, digits and signs of ASCII, without spaces",
        min = super::tokens::TOKEN_BYTES_MIN,
        max = super::tokens::TOKEN_BYTES_MAX,
    )]
    Token {
        /// The file.
        file: String,
        /// The line.
        line: usize,
    },
    /// No token at all.
    #[error(
        "{file} holds no token; write one a line, such as `head -c 32 /dev/urandom | base64` makes"
    )]
    NoToken {
        /// The file.
        file: String,
    },
}
