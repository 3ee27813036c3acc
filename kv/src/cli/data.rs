//! `kv data` and `kv repair`: a node's folder while the node is down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use kv::data_folder;
use kv::engine::{self, EngineKind};
use kv::fs::FileSystem;
use kv::fs::os::OsFileSystem;
use kv::repair::{Repaired, Source, repair};
use kv::store;
use kv::wal::inspection::inspect;
use kv::wholeness;
use serde_json::json;

use super::arguments::Credentials;
use super::{CliError, Exit, arguments, say, show};

/// Look at the data folder of a node that is down, or change its engine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv data stat ./data
  kv data migrate --to rocksdb ./data

The node must be down. A migration that is interrupted leaves the folder with the old engine or the
new one, complete either way.")]
pub(super) struct Data {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what the folder holds: engine, checkpoint, log, sizes
    Stat(Folder),
    /// Keep the data in another engine
    Migrate {
        /// The engine: memory, redb, sled, or rocksdb where the program was built with it.
        #[arg(long, value_name = "ENGINE")]
        to: EngineKind,
        #[command(flatten)]
        folder: Folder,
    },
}

#[derive(Debug, Args)]
struct Folder {
    /// The data folder of a node, or the folder that `kv serve --data` was given.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Opens a folder that is there; makes none.
pub(super) fn open(folder: &Path) -> Result<Arc<dyn FileSystem>, CliError> {
    let below = folder.join("node");
    let folder = if below.is_dir() { &below } else { folder };
    match folder.is_dir() {
        true => Ok(Arc::new(
            OsFileSystem::open(folder).map_err(CliError::Data)?,
        )),
        false => Err(CliError::NoFolder {
            folder: folder.display().to_string(),
        }),
    }
}

impl Data {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        match self.command {
            Command::Stat(folder) => stat(&folder).await,
            Command::Migrate { to, folder } => migrate(to, &folder).await,
        }
    }
}

async fn stat(folder: &Folder) -> Result<Exit, CliError> {
    let files = open(&folder.folder)?;
    let (_claim, node) = data_folder::claim_as_owner(files.as_ref()).await?;
    let Some(generation) = wholeness::check(files.as_ref())? else {
        let folder = files.describe();
        return Err(CliError::NoEngine { folder });
    };
    let options = engine::Options::default();
    let (position, engine_bytes) = store::inspect(&files, generation, options)?;
    let checkpoint = position.names.end();
    let log = inspect(files.as_ref(), &mut |_, _, _| {})?;
    let log_bytes: u64 = log.files.iter().map(|(_, bytes)| bytes).sum();
    let replayed = log.end.offset.0.saturating_sub(checkpoint.offset.0);
    let (kind, log_files) = (generation.kind, log.files.len());
    say(&match folder.json {
        true => json!({
            "node": node.0,
            "engine": kind.name(),
            "engine_bytes": engine_bytes,
            "checkpoint": show::version(checkpoint),
            "log_files": log_files,
            "log_bytes": log_bytes,
            "log_first": log.first.0,
            "log_end": show::version(log.end),
            "replayed_at_start": replayed,
            "promised": log.promised.0,
            "suspect": log.suspect.is_some() || log.damaged.is_some(),
        })
        .to_string(),
        false => format!(
            "node        {node}\n\
             engine      {kind}, {engine_bytes} bytes\n\
             checkpoint  {checkpoint}\n\
             log         {log_files} files of {log_bytes} bytes, from offset {} to {}; a start replays {replayed} entries\n\
             promise     {}{}",
            log.first,
            log.end,
            log.promised,
            match log.suspect.is_some() || log.damaged.is_some() {
                true =>
                    "\nsuspect     its disk may have lost what it had synced; it takes part in no election until its peers have repaired it",
                false => "",
            }
        ),
    });
    Ok(Exit::Done)
}

async fn migrate(to: EngineKind, folder: &Folder) -> Result<Exit, CliError> {
    let files = open(&folder.folder)?;
    let (_claim, _) = data_folder::claim_as_owner(files.as_ref()).await?;
    let none = || CliError::NoEngine {
        folder: files.describe(),
    };
    let held = wholeness::check(files.as_ref())?.ok_or_else(none)?;
    if held.kind == to {
        say(&match folder.json {
            true => json!({ "engine": to.name(), "pairs": 0 }).to_string(),
            false => format!("the folder holds engine {to} already"),
        });
        return Ok(Exit::Done);
    }
    let done = store::migrate(&files, to, engine::Options::default()).await?;
    let done = done.ok_or_else(none)?;
    say(&match folder.json {
        true => json!({ "engine": to.name(), "pairs": done.pairs }).to_string(),
        false => format!(
            "{} pairs went from {} to {to}; start the node with `--engine {to}`",
            done.pairs, done.from.kind
        ),
    });
    Ok(Exit::Done)
}

/// Take everything from a peer, for a node whose log or engine is damaged.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kv repair --from 127.0.0.1:7002 ./data

The node must be down, and the peer must be a member of its shard. What was damaged is kept aside in the
folder. The node then comes up as one that takes no part in elections until the writer of its shard has
given it all that it can have lost: what it had promised and acknowledged, nobody knows any more.")]
pub(super) struct Repair {
    /// A member of the same shard, up and running.
    #[arg(long, value_name = "HOST:PORT", value_parser = arguments::address)]
    from: String,
    /// The engine to keep the data in, if it is to be another one.
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    /// How long to wait for the peer to answer, such as `5s` or `300ms`.
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, default_value = "5s")]
    timeout: Duration,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    credentials: Credentials,
}

impl Repair {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let files = open(&self.folder.folder)?;
        let options = engine::Options::default();
        let source = Source {
            address: self.from.clone(),
            timeout: self.timeout,
            access: self.credentials.load()?,
        };
        let done = repair(&files, &source, self.engine, options).await?;
        say(&match self.folder.json {
            true => as_json(&done),
            false => in_words(&done, &self.from),
        });
        Ok(Exit::Done)
    }
}

fn as_json(done: &Repaired) -> String {
    json!({
        "node": done.node.0,
        "shard": done.shard.0,
        "at": show::version(done.at),
        "bytes": done.bytes,
        "aside": done.aside,
    })
    .to_string()
}

fn in_words(done: &Repaired, from: &str) -> String {
    format!(
        "{} has everything up to {} from {from} ({} bytes); the old files are kept as {}.\n\
         Start it: its shard's writer gives it the rest, and until then it takes part in no election.",
        done.node,
        done.at,
        done.bytes,
        match done.aside.is_empty() {
            true => "nothing: there were none".to_owned(),
            false => done.aside.join(", "),
        }
    )
}
