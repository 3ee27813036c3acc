//! The shape of a cluster, as several commands ask for it.

use clap::{Args, ValueEnum};

/// What every shard of a cluster is like.
#[derive(Clone, Debug, Args)]
pub(super) struct Shape {
    /// N: how many nodes a shard has, the writer included [default: 3; 1 for a node that is alone].
    #[arg(long, value_name = "NUMBER")]
    pub(super) replication_factor: Option<usize>,
    /// Q: how many nodes must have a write before it is acknowledged [default: a majority].
    #[arg(long, value_name = "NUMBER")]
    pub(super) write_quorum: Option<usize>,
    /// Which protocol the shards run [default: epoch].
    #[arg(long, value_enum)]
    pub(super) fencing: Option<Fencing>,
}

/// Which protocol runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Fencing {
    /// A new writer first makes sure that the old one can acknowledge nothing any more
    Epoch,
    /// The plain protocol: the old writer serves until it notices
    None,
}
