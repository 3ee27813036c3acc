//! The command line: what can be asked for, and how it ends.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done; 1 failed, or the key is not there; 2 wrong usage;
//! 3 nobody knows whether the write happened.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kv::config::ConfigError;
use kv::coordination::embedded::{Broken, OpenError};
use kv::coordination::zookeeper::IdentityError;
use kv::data_folder::DataFolderError;
use kv::error::{Fail, NodeError};
use kv::repair::RepairError;
use kv::store::StoreError;
use kv::wal::WalError;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};

mod arguments;
mod certs;
mod cluster;
mod data;
mod events;
mod inspect;
mod load;
mod log;
mod repl;
mod requests;
mod serve;
mod settings;
mod shape;
mod show;
mod wal;
mod watch;
mod world;

/// A distributed key-value store that you can take apart.
#[derive(Debug, Parser)]
#[command(
    name = "kv",
    version,
    arg_required_else_help = true,
    after_help = "For a first try, start a cluster in one terminal:\n\n  \
        kv cluster\n\n\
        and talk to it from another one:\n\n  \
        kv set greeting hello\n  \
        kv get greeting\n  \
        kv info\n\n\
        Exit codes: 0 done; 1 failed, or the key is not there; 2 wrong usage;\n\
        3 nobody knows whether the write happened.\n\n\
        `kv help COMMAND` tells more about each command."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Cluster(cluster::Cluster),
    Get(requests::Get),
    Set(requests::Set),
    Delete(requests::Delete),
    Slot(inspect::Slot),
    Info(inspect::Info),
    Watch(watch::Watch),
    Kill(inspect::Kill),
    Repl(repl::Repl),
    Load(load::Load),
    Wal(wal::Wal),
    Data(data::Data),
    Repair(data::Repair),
    Certs(certs::Certs),
}

/// Runs a command to its end.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let ended = match arguments.command {
        Command::Serve(serve) => serve.run().await,
        Command::Cluster(cluster) => cluster.run().await,
        Command::Get(get) => get.run().await,
        Command::Set(set) => set.run().await,
        Command::Delete(delete) => delete.run().await,
        Command::Slot(slot) => slot.run().await,
        Command::Info(info) => info.run().await,
        Command::Watch(watch) => watch.run().await,
        Command::Kill(kill) => kill.run().await,
        Command::Repl(repl) => repl.run().await,
        Command::Load(load) => load.run().await,
        Command::Wal(wal) => wal.run(),
        Command::Data(data) => data.run().await,
        Command::Repair(repair) => repair.run().await,
        Command::Certs(certs) => certs.run(),
    };
    ended
        .unwrap_or_else(|error| {
            complain(&error.to_string(), error.hint());
            error.exit()
        })
        .into()
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done,
    Failed,
    Usage,
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Usage => Self::from(2),
            Exit::Unknown => Self::from(3),
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{count} nodes from port {base_port} on do not fit below port 65536")]
    Ports { base_port: u16, count: usize },
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("only reads of level `replica` can choose a replica")]
    ReplicaLevel,
    #[error("cannot use the data folder: {0}")]
    Data(std::io::Error),
    #[error(transparent)]
    Coordination(#[from] OpenError),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("cannot read the value from {path}: {source}")]
    Value {
        path: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Fail(#[from] Fail),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Certs(#[from] certs::CertsError),
    #[error(transparent)]
    Security(#[from] kv::security::SecurityError),
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error("{folder} is not there")]
    NoFolder { folder: String },
    #[error("{folder} has no engine yet: a node makes it at its first start")]
    NoEngine { folder: String },
    #[error("cannot write {path}: {source}")]
    Output {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "a value that is recorded begins with a number of {least} digits, which tells it from all others"
    )]
    RecordedValue { least: usize },
    #[error("the history cannot begin: key {key} could not be emptied ({why})")]
    NotEmptied { key: String, why: &'static str },
    #[error("no operation succeeded")]
    NothingSucceeded,
    #[error("a task of the program panicked; its message is above")]
    Panicked,
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] rustyline::error::ReadlineError),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::Ports { .. }
            | Self::Settings(_)
            | Self::Security(_)
            | Self::ReplicaLevel
            | Self::RecordedValue { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Ports { .. } => Some("choose a lower --base-port"),
            Self::RecordedValue { .. } => {
                Some("give --value-bytes at least as many, or leave --record out")
            }
            Self::NotEmptied { .. } | Self::NothingSucceeded => {
                Some("`kv info` shows which nodes are up, and whether every shard has a writer")
            }
            Self::ReplicaLevel => Some("leave --level out, or say --level replica"),
            Self::Fail(fail) => show::hint(fail),
            _ => None,
        }
    }
}

/// Prints a result. A reader that has gone away (`kv info | head`) is no error.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Says what went wrong, and what helps.
fn complain(error: &str, hint: Option<&str>) {
    eprintln!("error: {error}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}

/// Completes when the program is asked to stop: Ctrl-C, or SIGTERM where there is such a thing.
async fn signalled() {
    #[cfg(unix)]
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}
