//! What can be wrong with one line of a scenario file: what is there, and what is allowed.

use checker::guarantee::UnknownGuarantee;
use kv::config::ConfigError;
use kv::engine::UnknownEngine;

use super::target::NoSuchTarget;

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Not TOML, an unknown or missing field, a value of the wrong shape.
    #[error("{message}")]
    Toml {
        /// What the parser said, in one line.
        message: String,
    },
    /// The shape of the cluster.
    #[error(transparent)]
    Cluster(#[from] ConfigError),
    /// An engine that nobody knows.
    #[error(transparent)]
    Engine(#[from] UnknownEngine),
    /// A number that is out of its range.
    #[error("{field} is {given}; allowed: {allowed}")]
    Range {
        /// The field.
        field: &'static str,
        /// What is there.
        given: String,
        /// What may be there.
        allowed: String,
    },
    /// A target that cannot exist in this cluster.
    #[error(transparent)]
    Target(#[from] NoSuchTarget),
    /// Too many or too few fields of a kind.
    #[error("{what} needs exactly one of {allowed}; it has {given}")]
    ExactlyOne {
        /// What needs one.
        what: &'static str,
        /// The fields that it has.
        given: String,
        /// The fields to choose from.
        allowed: String,
    },
    /// A field that makes no sense beside another.
    #[error("{field} {why}")]
    Contradiction {
        /// The field.
        field: &'static str,
        /// What it contradicts, and what to do.
        why: String,
    },
    /// An expectation about a guarantee that nobody judges.
    #[error(transparent)]
    Guarantee(#[from] UnknownGuarantee),
    /// An expectation that is none.
    #[error(
        "{guarantee} cannot be expected to be \"{given}\"; allowed: \"holds\", \"violated\", \"any\""
    )]
    Expectation {
        /// The guarantee.
        guarantee: String,
        /// What is there.
        given: String,
    },
}
