//! Whom a fault hits: roles, which are resolved to nodes at the moment the fault fires.
//!
//! A role outlives its holder: `writer(0)` is whoever is the writer of shard 0 right then, and the fault stays with
//! that node until it ends, whoever is the writer by then.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A role, or a place that is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The writer of the shard.
    Writer(u16),
    /// The replicas of the shard (all but the writer) in the order of their ids, counted from 0.
    Replica(u16, u16),
    /// Who runs the election of the shard's writer at the moment.
    Elector(u16),
    /// Every member of the shard.
    Shard(u16),
    /// More than half of the shard's members, drawn from the seed.
    Majority(u16),
    /// The members that `majority` of the same fault leaves.
    Minority(u16),
    /// One member of the shard, drawn from the seed.
    AnyOf(u16),
    /// One node of the cluster, drawn from the seed.
    Any,
    /// The node of that id; ids count from 1.
    Node(u16),
    /// Every node; not the coordination service, not the clients.
    All,
    /// The coordination service.
    Coordination,
    /// The machines of the clients.
    Clients,
}

/// What a target may be, for messages.
pub const TARGETS: &str = "writer(SHARD), replica(SHARD, INDEX), elector(SHARD), shard(SHARD), majority(SHARD), \
                           minority(SHARD), any(SHARD), any, node(ID), all, coordination, clients";

/// A text that is no target; its message lists those there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown target \"{0}\"; allowed: {TARGETS}")]
pub struct UnknownTarget(pub String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        parse(text).ok_or_else(|| UnknownTarget(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Target> {
    let (role, numbers) = match text.trim().split_once('(') {
        Some((role, rest)) => (role, rest.strip_suffix(')')?),
        None => (text.trim(), ""),
    };
    let numbers: Vec<u16> = if numbers.is_empty() {
        Vec::new()
    } else {
        let parsed = numbers.split(',').map(|number| number.trim().parse());
        parsed.collect::<Result<_, _>>().ok()?
    };
    Some(match (role.trim(), numbers.as_slice()) {
        ("writer", [shard]) => Target::Writer(*shard),
        ("replica", [shard, index]) => Target::Replica(*shard, *index),
        ("elector", [shard]) => Target::Elector(*shard),
        ("shard", [shard]) => Target::Shard(*shard),
        ("majority", [shard]) => Target::Majority(*shard),
        ("minority", [shard]) => Target::Minority(*shard),
        ("any", [shard]) => Target::AnyOf(*shard),
        ("any", []) => Target::Any,
        ("node", [id]) => Target::Node(*id),
        ("all", []) => Target::All,
        ("coordination", []) => Target::Coordination,
        ("clients", []) => Target::Clients,
        _ => return None,
    })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writer(shard) => write!(f, "writer({shard})"),
            Self::Replica(shard, index) => write!(f, "replica({shard}, {index})"),
            Self::Elector(shard) => write!(f, "elector({shard})"),
            Self::Shard(shard) => write!(f, "shard({shard})"),
            Self::Majority(shard) => write!(f, "majority({shard})"),
            Self::Minority(shard) => write!(f, "minority({shard})"),
            Self::AnyOf(shard) => write!(f, "any({shard})"),
            Self::Any => f.write_str("any"),
            Self::Node(id) => write!(f, "node({id})"),
            Self::All => f.write_str("all"),
            Self::Coordination => f.write_str("coordination"),
            Self::Clients => f.write_str("clients"),
        }
    }
}

/// Why a target cannot exist in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchTarget {
    /// The shard.
    #[error("{target} cannot exist: {}", shards_are(*shards))]
    Shard {
        /// The target.
        target: Target,
        /// How many shards there are.
        shards: u16,
    },
    /// The replica.
    #[error("{target} cannot exist: with replication_factor {replication_factor} a shard {}", replicas_are(*replication_factor))]
    Replica {
        /// The target.
        target: Target,
        /// N.
        replication_factor: usize,
    },
    /// The node.
    #[error("{target} cannot exist: the nodes are node(1) to node({nodes})")]
    Node {
        /// The target.
        target: Target,
        /// How many nodes there are.
        nodes: u16,
    },
    /// A place where only a node makes sense.
    #[error(
        "{target} is no node, and this fault hits nodes only; allowed: {TARGETS} without the last two"
    )]
    NotANode {
        /// The target.
        target: Target,
    },
    /// A place where only what runs on a server makes sense.
    #[error(
        "{target} is no node, and this fault hits nodes and coordination only; allowed: {TARGETS} without the last one"
    )]
    NotAServer {
        /// The target.
        target: Target,
    },
    /// An election that cannot take place.
    #[error("{target} cannot exist: with replication_factor 1 nobody is elected")]
    NoElection {
        /// The target.
        target: Target,
    },
    /// A minority of so few.
    #[error("{target} cannot exist: a majority of {replication_factor} is the whole shard")]
    NoMinority {
        /// The target.
        target: Target,
        /// N.
        replication_factor: usize,
    },
    /// Nobody at all.
    #[error("no target is named; allowed: {TARGETS}")]
    Nobody,
}

fn shards_are(shards: u16) -> String {
    match shards {
        1 => "the only shard is 0".to_owned(),
        _ => format!("the shards are 0 to {}", shards - 1),
    }
}

fn replicas_are(replication_factor: usize) -> String {
    match replication_factor {
        0 | 1 => "has a writer and no replica".to_owned(),
        2 => "has one replica, counted from 0".to_owned(),
        n => format!("has the replicas 0 to {}", n - 2),
    }
}

impl Target {
    /// Checks that the target can exist in a cluster of that shape.
    pub(super) fn check(
        self,
        shards: u16,
        replication_factor: usize,
        nodes: u16,
    ) -> Result<(), NoSuchTarget> {
        let target = self;
        match self {
            Self::Writer(shard)
            | Self::Replica(shard, _)
            | Self::Elector(shard)
            | Self::Shard(shard)
            | Self::Majority(shard)
            | Self::Minority(shard)
            | Self::AnyOf(shard)
                if shard >= shards =>
            {
                Err(NoSuchTarget::Shard { target, shards })
            }
            Self::Replica(_, index) if usize::from(index) + 1 >= replication_factor => {
                Err(NoSuchTarget::Replica {
                    target,
                    replication_factor,
                })
            }
            Self::Elector(_) if replication_factor < 2 => Err(NoSuchTarget::NoElection { target }),
            Self::Minority(_) if replication_factor < 3 => Err(NoSuchTarget::NoMinority {
                target,
                replication_factor,
            }),
            Self::Node(id) if id == 0 || id > nodes => Err(NoSuchTarget::Node { target, nodes }),
            _ => Ok(()),
        }
    }

    /// Whether it never stands for more than one place. The machines of the clients have no links among each other.
    pub(super) fn is_one_place(&self) -> bool {
        match self {
            Self::Writer(_)
            | Self::Replica(..)
            | Self::Elector(_)
            | Self::AnyOf(_)
            | Self::Any
            | Self::Node(_)
            | Self::Coordination
            | Self::Clients => true,
            Self::Shard(_) | Self::Majority(_) | Self::Minority(_) | Self::All => false,
        }
    }

    /// Whether it stands for nodes only.
    pub(super) fn is_node(self) -> bool {
        !matches!(self, Self::Coordination | Self::Clients)
    }
}

/// One or several targets, hit together. In a file: `"writer(0)"` or `["writer(0)", "clients"]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OneOrMore")]
pub struct Group(pub Vec<Target>);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a target such as \"writer(0)\", or a list of them"
)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl TryFrom<OneOrMore> for Group {
    type Error = UnknownTarget;

    fn try_from(texts: OneOrMore) -> Result<Self, UnknownTarget> {
        let texts = match texts {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        };
        let targets = texts.iter().map(|text| text.parse());
        targets.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, target) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{target}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_read_as_it_is_written() {
        for text in [
            "writer(0)",
            "replica(0, 1)",
            "elector(1)",
            "shard(1)",
            "majority(0)",
            "minority(1)",
            "any(0)",
            "any",
            "node(3)",
            "all",
            "coordination",
            "clients",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        assert_eq!("replica(0,1)".parse(), Ok(Target::Replica(0, 1)));
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_allowed_ones() {
        for text in [
            "",
            "leader(0)",
            "writer",
            "writer()",
            "writer(0",
            "writer(x)",
            "writer(-1)",
            "any(0,1)",
        ] {
            let refused = text.parse::<Target>().unwrap_err().to_string();
            assert!(refused.contains(&format!("\"{text}\"")), "{refused}");
            assert!(refused.contains("writer(SHARD)"), "{refused}");
        }
    }

    #[test]
    fn targets_exist_only_within_the_cluster() {
        let check = |text: &str| text.parse::<Target>().unwrap().check(2, 3, 6);
        for text in [
            "writer(1)",
            "replica(1,1)",
            "node(6)",
            "minority(0)",
            "clients",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let message = |text: &str| check(text).unwrap_err().to_string();
        assert_eq!(
            message("writer(7)"),
            "writer(7) cannot exist: the shards are 0 to 1"
        );
        assert_eq!(
            message("replica(0,2)"),
            "replica(0, 2) cannot exist: with replication_factor 3 a shard has the replicas 0 to 1"
        );
        assert_eq!(
            message("node(0)"),
            "node(0) cannot exist: the nodes are node(1) to node(6)"
        );
    }
}
