//! The arguments that several commands share, and how they are read.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use kv::client::{Client, ClientOptions, ReplicaChoice};
use kv::error::Fail;
use kv::wire::{check_key, check_value};
use kv_core::NodeId;

/// Whom to ask, and how long to wait.
#[derive(Clone, Debug, Args)]
pub(super) struct Target {
    /// A node of the cluster; any will do. Give it several times, to go on when one of them is down.
    #[arg(long = "node", value_name = "HOST:PORT", value_parser = address, default_value = "127.0.0.1:7001")]
    pub(super) nodes: Vec<String>,
    /// How long to try at most, such as `5s` or `300ms`.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(super) timeout: Duration,
    /// Print the result as one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Target {
    /// A client that knows the cluster.
    pub(super) async fn connect(&self, replica: ReplicaChoice) -> Result<Client, Fail> {
        let options = ClientOptions {
            replica,
            ..self.options()
        };
        Client::connect(self.nodes.clone(), options).await
    }

    /// What can be chosen about a client, as far as it is said here.
    pub(super) fn options(&self) -> ClientOptions {
        ClientOptions {
            timeout: self.timeout,
            seed: seed(),
            ..ClientOptions::default()
        }
    }
}

/// How much a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    /// The writer answers at once, unchecked: may be stale during a failover
    Local,
    /// The writer answers while its lease holds: never stale, as long as clocks drift little
    Lease,
    /// The writer asks the others first whether it still is the writer: never stale
    Quorum,
    /// Any replica answers: may be stale, but never older than what this client has seen
    Replica,
}

impl From<Level> for kv_core::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Local => Self::Local,
            Level::Lease => Self::Lease,
            Level::Quorum => Self::Quorum,
            Level::Replica => Self::Replica,
        }
    }
}

/// Reads a key: 1 to 4096 bytes.
pub(super) fn key(text: &str) -> Result<Bytes, String> {
    check_key(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

/// Reads a value: up to 1 MiB.
pub(super) fn value(text: &str) -> Result<Bytes, String> {
    check_value(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

/// Reads `HOST:PORT`.
pub(super) fn address(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| {
        let host_is_plain = host.starts_with('[') && host.ends_with(']')
            || host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        !host.is_empty() && host_is_plain && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT, such as 127.0.0.1:7001".to_owned())
    }
}

/// Reads a time such as `5s`, `300ms` or `2m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time between 1ms and 1h, such as 300ms, 5s or 2m".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit_ms = match text.get(digits.len()..) {
        Some("ms") => 1,
        Some("s") => 1000,
        Some("m") => 60_000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(unit_ms).ok_or_else(wrong)?;
    if (1..=3_600_000).contains(&ms) {
        Ok(Duration::from_millis(ms))
    } else {
        Err(wrong())
    }
}

/// Reads a node's number, with or without the `n` that it is printed with.
pub(super) fn node_id(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix('n').unwrap_or(text);
    match number.parse() {
        Ok(id @ 1..) => Ok(NodeId(id)),
        _ => Err("expected the number of a node, from 1, such as 3 or n3".to_owned()),
    }
}

/// A seed that differs from run to run: the standard library seeds its hashers from the operating system.
pub(super) fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for good in [
            "127.0.0.1:7001",
            "localhost:1",
            "[::1]:7001",
            "my-node.lan:65535",
        ] {
            assert_eq!(address(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "7001",
            "localhost",
            ":7001",
            "a:0",
            "a:65536",
            "a:b",
            "http://a:1",
            "a b:1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "5",
            "0s",
            "s",
            "-1s",
            "1h",
            "1.5s",
            "61m",
            "99999999999999999999s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_are_numbered_from_one() {
        assert_eq!(node_id("3"), Ok(NodeId(3)));
        assert_eq!(node_id("n3"), Ok(NodeId(3)));
        assert!(node_id("0").is_err() && node_id("nn1").is_err() && node_id("").is_err());
    }
}
