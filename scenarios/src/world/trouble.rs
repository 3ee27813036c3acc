//! Why nothing was started: what this machine lacks, or what stands in the way, each in one line with what to do.

use std::io;
use std::path::PathBuf;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The store's program.
    #[error("the store is not built: there is no {}; run `cargo build --release -p kv`, or name one with --kv FILE", path.display())]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The service of the cluster.
    #[error(
        "ZooKeeper is not installed ({missing}); run `apt-get install zookeeper default-jre-headless`, or name the folder with its jars with --zookeeper DIR"
    )]
    NoZooKeeper {
        /// What there is none of.
        missing: String,
    },
    /// What an earlier run has left, without anybody who would take it away.
    #[error(
        "a cluster of an earlier run is still there ({what}); remove it with `cargo scenarios down`"
    )]
    Leftover {
        /// The folder, or the containers.
        what: String,
    },
    /// No address for a cluster.
    #[error(
        "no addresses are free for a cluster: on {address}, {source}; see who listens there with `ss -ltnp`, or stop other clusters with `cargo scenarios down`"
    )]
    NoAddress {
        /// The last that was tried.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Something of the operating system.
    #[error("cannot use {}: {source}; make room, or see who may write there", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program that cannot be started.
    #[error("cannot start {program}: {source}")]
    NotStarted {
        /// Which.
        program: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The engine of containers.
    #[error("{what}; {remedy}")]
    Docker {
        /// What it said or lacks.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A world whose clusters nobody can play with.
    #[error("the world {world} has no cluster to play with; name --world local or docker")]
    NothingToKeep {
        /// The world.
        world: &'static str,
    },
    /// A cluster that did not come up.
    #[error("{what} did not come up: {why}")]
    NotUp {
        /// Who.
        what: String,
        /// The last that it said.
        why: String,
    },
}
