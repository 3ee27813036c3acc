//! What the nemesis does: when it starts, what it is, when it ends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::Length;
use super::disk::{self, DiskFault};
use super::target::Group;

/// One `[[fault]]` of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// When it fires.
    pub start: Start,
    /// Who has waited until then for its event, or for somebody to play its role, waits no longer, and the run counts all
    /// the same. Without it, a fault that never fires fails the run.
    pub latest: Option<Duration>,
    /// What it does.
    pub action: Action,
    /// When it heals. Whatever still lasts when the workload's duration is over heals then.
    pub end: End,
}

/// When a fault fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At that time.
    At(Duration),
    /// The first time, from the start of the workload on, that this happens in the cluster.
    When(Trigger),
    /// As soon as the clients have seen so much.
    After(Count),
}

/// When a fault heals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At that time.
    Until(Duration),
    /// So long after it fired.
    For(Duration),
    /// When the workload's duration is over; for a fault of a moment, at once.
    WithTheWorkload,
}

/// Something that happens inside the cluster: `writer(0) elected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Trigger {
    /// Whose writer, or election.
    pub shard: u16,
    /// What happens to it.
    pub turn: Turn,
}

/// What can happen to a writer, or on the way to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A node became the writer of a new epoch.
    Elected,
    /// A writer noticed that it is one no more.
    Demoted,
    /// A writer gave the role back by itself (R17).
    Released,
    /// A writer gave entries up (R9).
    RolledBack,
    /// Somebody holds the lock of the shard's elections.
    ElectionStarted,
}

impl Turn {
    pub(super) const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Elected, "writer", "elected"),
        (Self::Demoted, "writer", "demoted"),
        (Self::Released, "writer", "released"),
        (Self::RolledBack, "writer", "rolled back"),
        (Self::ElectionStarted, "election", "started"),
    ];
}

/// How much the clients have seen: `100 ok writes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Count {
    /// How many.
    pub count: u64,
    /// Of what.
    pub what: Counted,
}

/// What can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Acknowledged sets and deletes.
    Writes,
    /// Answered reads.
    Reads,
    /// Both.
    Operations,
}

impl Counted {
    pub(super) const ALL: [(Self, &'static str); 3] = [
        (Self::Writes, "writes"),
        (Self::Reads, "reads"),
        (Self::Operations, "operations"),
    ];
}

/// A text that is no trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownTrigger {
    /// After `when`.
    #[error(
        "unknown trigger \"{0}\"; allowed: \"writer(SHARD) elected\", \"writer(SHARD) demoted\", \
         \"writer(SHARD) released\", \"writer(SHARD) rolled back\", \"election(SHARD) started\""
    )]
    When(String),
    /// After `after`.
    #[error(
        "unknown count \"{0}\"; allowed: \"N ok writes\", \"N ok reads\", \"N ok operations\", such as \"100 ok writes\""
    )]
    After(String),
}

impl FromStr for Trigger {
    type Err = UnknownTrigger;

    fn from_str(text: &str) -> Result<Self, UnknownTrigger> {
        let parse = || {
            let (whose, rest) = text.trim().split_once('(')?;
            let (shard, turn) = rest.split_once(')')?;
            let named = (whose.trim(), turn.trim());
            let (turn, ..) = Turn::ALL
                .into_iter()
                .find(|(_, whose, name)| (*whose, *name) == named)?;
            let shard = shard.trim().parse().ok()?;
            Some(Self { shard, turn })
        };
        parse().ok_or_else(|| UnknownTrigger::When(text.to_owned()))
    }
}

impl TryFrom<String> for Trigger {
    type Error = UnknownTrigger;

    fn try_from(text: String) -> Result<Self, UnknownTrigger> {
        text.parse()
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Turn::ALL.iter().find(|(turn, ..)| *turn == self.turn);
        let (_, whose, name) = named.expect("every turn has a name");
        write!(f, "{whose}({}) {name}", self.shard)
    }
}

impl FromStr for Count {
    type Err = UnknownTrigger;

    fn from_str(text: &str) -> Result<Self, UnknownTrigger> {
        let parse = || {
            let words: Vec<&str> = text.split_whitespace().collect();
            let [count, "ok", what] = words.as_slice() else {
                return None;
            };
            let (what, _) = Counted::ALL.into_iter().find(|(_, name)| name == what)?;
            let count = count.parse().ok().filter(|count| *count > 0)?;
            Some(Self { count, what })
        };
        parse().ok_or_else(|| UnknownTrigger::After(text.to_owned()))
    }
}

impl TryFrom<String> for Count {
    type Error = UnknownTrigger;

    fn try_from(text: String) -> Result<Self, UnknownTrigger> {
        text.parse()
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Counted::ALL.iter().find(|(what, _)| *what == self.what);
        let (_, name) = name.expect("everything that is counted has a name");
        write!(f, "{} ok {name}", self.count)
    }
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Cuts a group from `from`, or from the rest of the store, both ways.
    Isolate {
        /// Whom.
        group: Group,
        /// From whom; from every other node and the coordination service, where nobody is named. Clients are cut off
        /// only by name.
        from: Option<Group>,
    },
    /// Cuts several groups from each other. Who is in none of them still reaches everybody.
    Split(Vec<Group>),
    /// Loses what goes one way.
    OneWay {
        /// The senders.
        from: Group,
        /// The receivers; every other node and the coordination service, where nobody is named.
        to: Option<Group>,
    },
    /// Cuts the other members of each shard into two halves that only the bridge still reaches.
    Bridge(Group),
    /// Puts the nodes of a group into a ring, in an order drawn from the seed: of each other, each reaches its two
    /// neighbours only. A majority may be there for everybody, and be another one for each.
    Ring(Group),
    /// Disturbs single messages between nodes.
    Network {
        /// How.
        disturbance: Disturbance,
        /// The senders; all nodes, where nobody is named.
        from: Option<Group>,
        /// The receivers; all nodes, where nobody is named.
        to: Option<Group>,
    },
    /// The power goes: what was not synced is lost. Power and node come back at the end.
    PowerLoss(Group),
    /// The process dies, what it wrote stays with the operating system. It starts again at the end.
    Kill(Group),
    /// The process dies and starts again at once.
    Restart(Group),
    /// The process stands still, as under SIGSTOP, and goes on at the end as if nothing had happened.
    Pause(Group),
    /// The session with the coordination service expires at once.
    SessionLoss(Group),
    /// The clock jumps forward and runs fast or slow.
    Clock {
        /// Whose.
        nodes: Group,
        /// How far it jumps.
        offset: Duration,
        /// How much faster it runs, in millionths; negative for slower. It runs right again at the end.
        drift_ppm: i64,
    },
    /// Every sync of the disk takes longer.
    SlowDisk {
        /// Whose.
        nodes: Group,
        /// By how much.
        delay: Duration,
    },
    /// The disk fails at the first chance.
    Disk {
        /// Whose.
        nodes: Group,
        /// How.
        fault: DiskFault,
    },
}

/// What happens to single messages. Probabilities are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disturbance {
    /// How probably a message is lost.
    pub lose: f64,
    /// How probably it arrives twice.
    pub duplicate: f64,
    /// How probably it is held back, so that later ones overtake it.
    pub reorder: f64,
    /// How much later it arrives, at most; drawn evenly for each message.
    pub delay: Duration,
}

/// A kind of fault, by the name of its field in a file; what a world can or cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Cuts links.
    Partition,
    /// Disturbs single messages.
    Network,
    /// Loses what was not synced.
    PowerLoss,
    /// Ends a process.
    Kill,
    /// Ends a process and starts it again.
    Restart,
    /// Stops a process for a while.
    Pause,
    /// Expires a session.
    SessionLoss,
    /// Bends a clock.
    Clock,
    /// Slows a disk down.
    SlowDisk,
    /// Breaks a disk.
    Disk,
}

impl Kind {
    /// All kinds, in the order in which messages list them.
    pub const ALL: [Self; 10] = [
        Self::Partition,
        Self::Network,
        Self::PowerLoss,
        Self::Kill,
        Self::Restart,
        Self::Pause,
        Self::SessionLoss,
        Self::Clock,
        Self::SlowDisk,
        Self::Disk,
    ];

    /// The name of its field in a scenario file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Network => "network",
            Self::PowerLoss => "power_loss",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::SessionLoss => "session_loss",
            Self::Clock => "clock",
            Self::SlowDisk => "slow_disk",
            Self::Disk => "disk",
        }
    }

    /// Whether it is over in the moment in which it happens, so that it can have no end.
    #[must_use]
    pub fn is_of_a_moment(self) -> bool {
        matches!(self, Self::Restart | Self::SessionLoss)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Action {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Isolate { .. }
            | Self::Split(_)
            | Self::OneWay { .. }
            | Self::Bridge(_)
            | Self::Ring(_) => Kind::Partition,
            Self::Network { .. } => Kind::Network,
            Self::PowerLoss(_) => Kind::PowerLoss,
            Self::Kill(_) => Kind::Kill,
            Self::Restart(_) => Kind::Restart,
            Self::Pause(_) => Kind::Pause,
            Self::SessionLoss(_) => Kind::SessionLoss,
            Self::Clock { .. } => Kind::Clock,
            Self::SlowDisk { .. } => Kind::SlowDisk,
            Self::Disk { .. } => Kind::Disk,
        }
    }

    /// Every group that it names.
    #[must_use]
    pub fn groups(&self) -> Vec<&Group> {
        match self {
            Self::Isolate { group, from } => std::iter::once(group).chain(from).collect(),
            Self::Split(groups) => groups.iter().collect(),
            Self::OneWay { from, to } => std::iter::once(from).chain(to).collect(),
            Self::Network { from, to, .. } => from.iter().chain(to).collect(),
            Self::Bridge(group)
            | Self::Ring(group)
            | Self::PowerLoss(group)
            | Self::Kill(group)
            | Self::Restart(group)
            | Self::Pause(group)
            | Self::SessionLoss(group)
            | Self::Clock { nodes: group, .. }
            | Self::SlowDisk { nodes: group, .. }
            | Self::Disk { nodes: group, .. } => vec![group],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = |group: &Option<Group>| match group {
            Some(group) => group.to_string(),
            None => "the other nodes and coordination".to_owned(),
        };
        match self {
            Self::Isolate { group, from } => {
                write!(f, "{group} is cut off from {}", others(from))
            }
            Self::Split(groups) => {
                let groups: Vec<String> = groups.iter().map(|group| format!("[{group}]")).collect();
                write!(f, "the network splits into {}", groups.join(" and "))
            }
            Self::OneWay { from, to } => {
                write!(f, "what {from} sends to {} is lost", others(to))
            }
            Self::Bridge(group) => {
                write!(
                    f,
                    "the network splits in two halves that only {group} still reaches"
                )
            }
            Self::Ring(group) => {
                write!(
                    f,
                    "each of {group} reaches only two others of them, in a ring"
                )
            }
            Self::Network {
                disturbance,
                from,
                to,
            } => {
                let nodes = |group: &Option<Group>| {
                    group.as_ref().map_or("all".to_owned(), ToString::to_string)
                };
                let (from, to) = (nodes(from), nodes(to));
                write!(f, "messages from {from} to {to}: {disturbance}")
            }
            Self::PowerLoss(group) => write!(f, "{group} loses power"),
            Self::Kill(group) => write!(f, "{group} is killed"),
            Self::Restart(group) => write!(f, "{group} is killed and starts again"),
            Self::Pause(group) => write!(f, "{group} stands still"),
            Self::SessionLoss(group) => {
                write!(f, "{group} loses the session with the coordination service")
            }
            Self::Clock {
                nodes,
                offset,
                drift_ppm,
            } => {
                let offset = Length(*offset);
                write!(
                    f,
                    "the clock of {nodes} jumps by {offset} and drifts by {drift_ppm} ppm"
                )
            }
            Self::SlowDisk { nodes, delay } => {
                write!(f, "each sync of {nodes} takes {} longer", Length(*delay))
            }
            Self::Disk { nodes, fault } => f.write_str(&disk::describe(nodes, *fault)),
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (name, rate) in [
            ("lost", self.lose),
            ("doubled", self.duplicate),
            ("held back", self.reorder),
        ] {
            if rate > 0.0 {
                parts.push(format!("{}% {name}", rate * 100.0));
            }
        }
        if !self.delay.is_zero() {
            parts.push(format!("up to {} late", Length(self.delay)));
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_read_as_they_are_written() {
        for text in [
            "writer(0) elected",
            "writer(1) demoted",
            "writer(0) released",
            "writer(0) rolled back",
            "election(1) started",
        ] {
            assert_eq!(text.parse::<Trigger>().unwrap().to_string(), text);
        }
        for text in ["100 ok writes", "1 ok reads", "7 ok operations"] {
            assert_eq!(text.parse::<Count>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_trigger_is_refused() {
        for text in [
            "writer(0)",
            "writer(0) dies",
            "writer(0) started",
            "election(0) elected",
            "replica(0, 1) elected",
            "writer(x) elected",
        ] {
            assert!(text.parse::<Trigger>().is_err(), "{text}");
        }
        for text in [
            "ok writes",
            "0 ok writes",
            "ten ok writes",
            "100 writes",
            "100 ok tries",
        ] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
    }
}
