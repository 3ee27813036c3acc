//! The guarantees that this checker judges, by the names that scenario files and the command line use.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One guarantee. The docs of the module that judges it hold the exact rule.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// After a session's own write it never reads anything older ([`crate::sessions::read_your_writes`]).
    ReadYourWrites,
    /// The same, but only as long as one node stays the writer ([`crate::sessions::read_your_writes`]).
    ReadYourWritesStable,
    /// From read to read, a session never goes back ([`crate::sessions::monotonic_reads`]).
    MonotonicReads,
    /// A session's writes of a key take effect in its order ([`crate::sessions::write_order`]).
    MonotonicWrites,
    /// A session's write comes after what it had read ([`crate::sessions::write_order`]).
    WritesFollowReads,
    /// A quorum had synced and committed each write before its `ok` ([`crate::quorum::durability`]).
    QuorumDurability,
    /// Nothing is acknowledged while no quorum is connected ([`crate::quorum::connectivity`]).
    NoQuorumNoAck,
    /// After healing, every acknowledged write is still there ([`crate::quorum::lost_write`]).
    NoLostWrite,
    /// What failed is never seen ([`crate::phantom`]).
    NoPhantom,
    /// All members commit the same entries, and an epoch has one writer ([`crate::quorum::one_log`]).
    OneLog,
    /// After a silence all live members hold the same ([`crate::quorum::convergence`]).
    Convergence,
    /// After the last fault each shard takes writes again in time ([`crate::quorum::recovery`]).
    Recovery,
    /// Per key, some order of the operations explains every answer ([`crate::linearizable`]).
    Linearizable,
}

impl Guarantee {
    /// Every guarantee, in the order in which they are reported.
    pub const ALL: [Self; 13] = [
        Self::ReadYourWrites,
        Self::ReadYourWritesStable,
        Self::MonotonicReads,
        Self::MonotonicWrites,
        Self::WritesFollowReads,
        Self::QuorumDurability,
        Self::NoQuorumNoAck,
        Self::NoLostWrite,
        Self::NoPhantom,
        Self::OneLog,
        Self::Convergence,
        Self::Recovery,
        Self::Linearizable,
    ];

    /// The name in scenario files, verdicts and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadYourWrites => "read_your_writes",
            Self::ReadYourWritesStable => "read_your_writes_stable",
            Self::MonotonicReads => "monotonic_reads",
            Self::MonotonicWrites => "monotonic_writes",
            Self::WritesFollowReads => "writes_follow_reads",
            Self::QuorumDurability => "quorum_durability",
            Self::NoQuorumNoAck => "no_quorum_no_ack",
            Self::NoLostWrite => "no_lost_write",
            Self::NoPhantom => "no_phantom",
            Self::OneLog => "one_log",
            Self::Convergence => "convergence",
            Self::Recovery => "recovery",
            Self::Linearizable => "linearizable",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no guarantee; its message lists those that are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownGuarantee {
    /// The name as given.
    pub name: String,
}

impl std::error::Error for UnknownGuarantee {}

impl fmt::Display for UnknownGuarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Guarantee::ALL
            .iter()
            .map(|guarantee| guarantee.name())
            .collect();
        write!(
            f,
            "there is no guarantee \"{}\"; the guarantees are {}",
            self.name,
            names.join(", ")
        )
    }
}

impl FromStr for Guarantee {
    type Err = UnknownGuarantee;

    /// Accepts the name in snake_case or kebab-case.
    fn from_str(name: &str) -> Result<Self, UnknownGuarantee> {
        let snake = name.replace('-', "_");
        let found = Self::ALL
            .into_iter()
            .find(|guarantee| guarantee.name() == snake);
        found.ok_or_else(|| UnknownGuarantee {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_in_both_spellings() {
        for guarantee in Guarantee::ALL {
            assert_eq!(guarantee.name().parse(), Ok(guarantee));
            assert_eq!(guarantee.name().replace('_', "-").parse(), Ok(guarantee));
            assert_eq!(
                serde_json::to_string(&guarantee).unwrap(),
                format!("\"{guarantee}\"")
            );
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_allowed_ones() {
        let message = "serializable".parse::<Guarantee>().unwrap_err().to_string();
        assert!(
            message.contains("\"serializable\"") && message.contains("no_lost_write"),
            "{message}"
        );
    }
}
