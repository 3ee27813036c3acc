//! `kv get`, `kv set` and `kv delete`.

use std::io::Read as _;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use kv::client::ReplicaChoice;
use kv::error::{Fail, Outcome};
use kv::wire::check_value;
use kv_core::NodeId;
use kv_core::limits::VALUE_BYTES_MAX;

use super::arguments::{self, Level, Target};
use super::{CliError, Exit, show};

/// Read a key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv get greeting
  kv get greeting --level quorum
  kv get greeting --replica n3 --verbose   what does node 3 know?
  kv get greeting --node 127.0.0.1:7002 --json

Exit codes: 0 found; 1 not found, or no answer; 2 wrong usage.")]
pub(super) struct Get {
    /// The key: 1 to 4096 bytes.
    #[arg(value_parser = arguments::key)]
    key: Bytes,
    /// How much the read promises [default: lease].
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// Read at level `replica`, from this node instead of a random one.
    #[arg(long, value_name = "NODE", value_parser = arguments::node_id)]
    replica: Option<NodeId>,
    /// Say on stderr who answered, and the value's version.
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    target: Target,
}

impl Get {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let json = self.target.json;
        let (choice, level) = match (self.replica, self.level) {
            (None, level) => (ReplicaChoice::Random, level.unwrap_or(Level::Lease)),
            (Some(node), None | Some(Level::Replica)) => {
                (ReplicaChoice::Node(node), Level::Replica)
            }
            (Some(_), Some(_)) => return Err(CliError::ReplicaLevel),
        };
        let access = self.target.credentials.load()?;
        let outcome = match self.target.connect(choice, &access).await {
            Ok(mut client) => client.get(self.key.clone(), level.into()).await,
            Err(fail) => Outcome::Fail(fail),
        };
        Ok(show::read(&self.key, outcome, json, self.verbose))
    }
}

/// Give a key a value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv set greeting hello
  kv set greeting 'hello, world' --node 127.0.0.1:7002
  kv set picture --file cat.png
  date | kv set now --file -

`ok` means that the value is on a write quorum of nodes. Exit codes: 0 written; 1 definitely not
written; 2 wrong usage; 3 nobody knows (read the key before you write it again).")]
pub(super) struct Set {
    /// The key: 1 to 4096 bytes.
    #[arg(value_parser = arguments::key)]
    key: Bytes,
    /// The value: up to 1 MiB.
    #[arg(value_parser = arguments::value, required_unless_present = "file")]
    value: Option<Bytes>,
    /// Take the value from a file; `-` is stdin.
    #[arg(long, value_name = "PATH", conflicts_with = "value")]
    file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl Set {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let value = match (self.value, &self.file) {
            (Some(value), _) => value,
            (None, Some(path)) => read_file(path)?,
            (None, None) => Bytes::new(),
        };
        let json = self.target.json;
        let access = self.target.credentials.load()?;
        let outcome = match self.target.connect(ReplicaChoice::Random, &access).await {
            Ok(mut client) => client.set(self.key.clone(), value).await,
            Err(fail) => Outcome::Fail(fail),
        };
        Ok(show::write(&self.key, outcome, json))
    }
}

/// Take a key away.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kv delete greeting

Deleting a key that is not there is a write like any other. Exit codes are those of `kv set`.")]
pub(super) struct Delete {
    /// The key: 1 to 4096 bytes.
    #[arg(value_parser = arguments::key)]
    key: Bytes,
    #[command(flatten)]
    target: Target,
}

impl Delete {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let json = self.target.json;
        let access = self.target.credentials.load()?;
        let outcome = match self.target.connect(ReplicaChoice::Random, &access).await {
            Ok(mut client) => client.delete(self.key.clone()).await,
            Err(fail) => Outcome::Fail(fail),
        };
        Ok(show::write(&self.key, outcome, json))
    }
}

/// Reads all of a value, within reason: how much too large it is should be told right, but not at any price.
fn read_file(path: &PathBuf) -> Result<Bytes, CliError> {
    let failed = |source| CliError::Value {
        path: path.display().to_string(),
        source,
    };
    let limit = 64 * VALUE_BYTES_MAX as u64;
    let mut value = Vec::new();
    if path.as_os_str() == "-" {
        let taken = std::io::stdin().lock().take(limit).read_to_end(&mut value);
        taken.map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut value).map_err(failed)?;
    }
    check_value(&value).map_err(Fail::from)?;
    Ok(value.into())
}
