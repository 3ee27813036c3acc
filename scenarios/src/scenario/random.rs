//! `random = { faults = 8, quiet = "6s" }`: a scenario that each seed draws anew.
//!
//! Swarm testing (Groce, Zhang, Eide, Chen, Regehr, "Swarm testing", ISSTA 2012): each seed first turns on a random
//! subset of the kinds of faults, and only then draws from those. A run with few kinds goes deeper into each than one in
//! which everything happens a little, and what one kind would hide another run shows. The shape of the cluster and the
//! workload are drawn as well. What comes out is a plain scenario, which can be kept, replayed and shrunk as any other.

use std::sync::Arc;
use std::time::Duration;

use kv::config::ClusterConfig;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::{
    Action, Count, Counted, DiskFault, Disturbance, End, Fault, Group, Kind, Levels, Mix, Scenario,
    Start, Target, Trigger, Turn,
};
use crate::seed::stream;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    /// How many faults at most.
    pub faults: u32,
    /// How long before the end of the workload nothing is wrong any more.
    pub quiet: Duration,
}

/// N and Q, the usual one more often.
const SHAPES: [(usize, usize); 9] = [
    (1, 1),
    (2, 2),
    (3, 1),
    (3, 2),
    (3, 2),
    (3, 2),
    (3, 3),
    (4, 3),
    (5, 3),
];
/// The most nodes of a drawn cluster.
const NODES_MAX: usize = 8;
/// A drawn clock stays within the bound that leases allow for, so that everything has to hold.
const DRIFT_PPM_MAX: i64 = 9_000;
/// What a drawn disk does wrong: what any store survives wherever it happens. Lies are survived by nobody, and damage only by
/// shards of which most are whole.
const DISK_FAULTS: [DiskFault; 3] = [DiskFault::FailedFsync, DiskFault::Full, DiskFault::TornTail];
/// A fault that waits for the clients waits for so many of their operations at most.
const OK_COUNT_MAX: u64 = 300;
/// No fault begins earlier, and none is shorter than half of it.
const SECOND_MS: u64 = 1_000;
/// No fault lasts longer.
const LASTS_MS_MAX: u64 = 9_000;

impl Scenario {
    /// The plain scenario that a seed draws from this one; itself, if nothing is left to chance.
    #[must_use]
    pub fn drawn(self: &Arc<Self>, seed: u64) -> Arc<Self> {
        let Some(random) = self.random else {
            return self.clone();
        };
        let mut rng = stream(seed, "scenario", 0);
        let mut drawn = Self::clone(self);
        drawn.random = None;
        let (n, q) = *SHAPES.choose(&mut rng).expect("there are shapes");
        let shards_max = u16::try_from((NODES_MAX / n).clamp(1, 3)).expect("three at most");
        let shards = rng.random_range(1..=shards_max);
        let fencing = self.fencing();
        drawn.cluster.config =
            ClusterConfig::new(shards, n, q, None, fencing).expect("every shape is valid");
        drawn.cluster.nodes = shards * u16::try_from(n).expect("five at most");
        drawn.draw_workload(&mut rng);
        let mut draw = Draw {
            latest_ms: millis(self.workload.duration.saturating_sub(random.quiet)),
            shards,
            n: u16::try_from(n).expect("five at most"),
            nodes: drawn.cluster.nodes,
            rng: &mut rng,
        };
        let mut kinds: Vec<Kind> = Kind::ALL.to_vec();
        kinds.retain(|_| draw.rng.random_bool(0.4));
        if kinds.is_empty() {
            kinds.push(*Kind::ALL.choose(draw.rng).expect("there are kinds"));
        }
        let count = draw.rng.random_range(1..=random.faults);
        for _ in 0..count {
            let fault = draw.fault(&kinds);
            if !drawn.faults.contains(&fault) {
                drawn.faults.push(fault); // The same one twice would add nothing.
            }
        }
        Arc::new(drawn)
    }

    fn draw_workload(&mut self, rng: &mut StdRng) {
        let workload = &mut self.workload;
        workload.clients = rng.random_range(4..=10);
        workload.keys = *[1, 2, 5, 16, 40].choose(rng).expect("there are some");
        workload.ops_per_second = f64::from(rng.random_range(20..=40_u32)) / 10.0;
        workload.mix = Mix {
            get: rng.random_range(20..=70),
            set: rng.random_range(20..=70),
            delete: rng.random_range(0..=20),
        };
        workload.levels = Levels {
            lease: rng.random_range(1..=60),
            quorum: rng.random_range(0..=40),
            local: 0,
            replica: rng.random_range(0..=40),
        };
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Draws single faults.
struct Draw<'a> {
    /// When everything is over.
    latest_ms: u64,
    shards: u16,
    n: u16,
    nodes: u16,
    rng: &'a mut StdRng,
}

impl Draw<'_> {
    fn fault(&mut self, kinds: &[Kind]) -> Fault {
        let kind = *kinds.choose(self.rng).expect("some kind is on");
        let action = self.action(kind);
        let at = self.rng.random_range(SECOND_MS..self.latest_ms - SECOND_MS);
        let lasts = self.rng.random_range(SECOND_MS / 2..=LASTS_MS_MAX);
        let start = self.start(at);
        let is_elector = |target: &Target| matches!(target, Target::Elector(_));
        let mut targets = action.groups().into_iter().flat_map(|group| &group.0);
        // A disk waits for somebody to use it, which may take until it is too late.
        let is_sure = matches!(start, Start::At(_))
            && !targets.any(is_elector)
            && !matches!(action, Action::Disk { .. });
        let (latest, end) = match (kind.is_of_a_moment(), is_sure) {
            (true, true) => (None, End::WithTheWorkload),
            (true, false) => (Some(self.latest_ms), End::WithTheWorkload),
            (false, true) => {
                let end = (at + lasts).min(self.latest_ms);
                (None, End::Until(Duration::from_millis(end)))
            }
            (false, false) => {
                let lasts = lasts.min(self.latest_ms - at - 1);
                let end = End::For(Duration::from_millis(lasts));
                (Some(self.latest_ms - lasts), end)
            }
        };
        Fault {
            start,
            latest: latest.map(Duration::from_millis),
            action,
            end,
        }
    }

    /// Mostly at that time; now and then when something happens, if it ever does.
    fn start(&mut self, at_ms: u64) -> Start {
        let shard = self.shard();
        match self.rng.random_range(0..10) {
            0 | 1 if self.n > 1 => {
                let (turn, ..) = *Turn::ALL.choose(self.rng).expect("there are turns");
                Start::When(Trigger { shard, turn })
            }
            2 => {
                let (what, _) = *Counted::ALL.choose(self.rng).expect("there are some");
                let count = self.rng.random_range(1..=OK_COUNT_MAX);
                Start::After(Count { count, what })
            }
            _ => Start::At(Duration::from_millis(at_ms)),
        }
    }

    fn action(&mut self, kind: Kind) -> Action {
        match kind {
            Kind::Partition => self.partition(),
            Kind::Network => Action::Network {
                disturbance: Disturbance {
                    lose: self.chance(30),
                    duplicate: self.chance(20),
                    reorder: self.chance(40),
                    delay: Duration::from_millis(self.rng.random_range(1..=150)),
                },
                from: self.rng.random_bool(0.5).then(|| self.group()),
                to: self.rng.random_bool(0.5).then(|| Group(vec![Target::All])),
            },
            Kind::PowerLoss => Action::PowerLoss(self.group()),
            Kind::Kill => Action::Kill(self.process()),
            Kind::Restart => Action::Restart(self.group()),
            Kind::Pause => Action::Pause(self.process()),
            Kind::SessionLoss => Action::SessionLoss(self.group()),
            Kind::Clock => Action::Clock {
                nodes: self.group(),
                offset: Duration::from_millis(self.rng.random_range(1..=10_000)),
                drift_ppm: self.rng.random_range(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX),
            },
            Kind::SlowDisk => Action::SlowDisk {
                nodes: self.group(),
                delay: Duration::from_millis(self.rng.random_range(5..=300)),
            },
            Kind::Disk => Action::Disk {
                nodes: self.group(),
                fault: *DISK_FAULTS.choose(self.rng).expect("there are some"),
            },
        }
    }

    fn partition(&mut self) -> Action {
        let shard = self.shard();
        let group = self.group();
        match self.rng.random_range(0..8) {
            5 if self.n > 3 => Action::Ring(Group(vec![Target::Shard(shard)])),
            5 | 6 if self.nodes > 3 => Action::Ring(Group(vec![Target::All])),
            7 => Action::Isolate {
                group,
                from: Some(Group(vec![Target::Shard(shard), Target::Clients])),
            },
            0 => Action::Isolate { group, from: None },
            1 => Action::Isolate {
                group,
                from: Some(Group(vec![Target::Coordination])),
            },
            2 if self.n >= 3 => Action::Split(vec![
                Group(vec![Target::Majority(shard)]),
                Group(vec![Target::Minority(shard), Target::Coordination]),
            ]),
            2 | 3 => {
                let everyone = Group(match self.rng.random_range(0..3) {
                    0 => vec![Target::Coordination],
                    1 => vec![Target::All, Target::Coordination],
                    _ => vec![Target::All],
                });
                let (from, to) = match self.rng.random_bool(0.5) {
                    true => (group, everyone),
                    false => (everyone, group),
                };
                Action::OneWay { from, to: Some(to) }
            }
            _ => Action::Bridge(group),
        }
    }

    /// A probability of at most so many percent.
    fn chance(&mut self, percent_max: u32) -> f64 {
        f64::from(self.rng.random_range(0..=percent_max)) / 100.0
    }

    fn shard(&mut self) -> u16 {
        self.rng.random_range(0..self.shards)
    }

    /// Nodes, or now and then the coordination service.
    fn process(&mut self) -> Group {
        match self.rng.random_bool(0.15) {
            true => Group(vec![Target::Coordination]),
            false => self.group(),
        }
    }

    /// One target, now and then two.
    fn group(&mut self) -> Group {
        let mut targets = vec![self.target()];
        if self.rng.random_bool(0.1) {
            let second = self.target();
            targets.retain(|target| *target != second);
            targets.push(second);
        }
        Group(targets)
    }

    fn target(&mut self) -> Target {
        let shard = self.shard();
        match self.rng.random_range(0..12) {
            0..=3 => Target::Writer(shard),
            4 | 5 if self.n > 1 => Target::Replica(shard, self.rng.random_range(0..self.n - 1)),
            6 => Target::Shard(shard),
            7 => Target::Majority(shard),
            8 => Target::Node(self.rng.random_range(1..=self.nodes)),
            9 if self.n > 1 => Target::Elector(shard),
            10 if self.n > 2 => Target::Minority(shard),
            11 => Target::Any,
            _ => Target::AnyOf(shard),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_drawn_is_a_valid_scenario_and_the_same_for_the_same_seed() {
        let text = "name = \"x\"\nrandom = { faults = 8, quiet = \"6s\" }\n";
        let scenario = Arc::new(Scenario::parse("x", "x.toml", text).unwrap());
        let mut kinds = BTreeSet::new();
        let mut words = String::new();
        for seed in 0..300 {
            let drawn = scenario.drawn(seed);
            assert_eq!(drawn, scenario.drawn(seed));
            assert_eq!(drawn, drawn.drawn(seed + 1), "nothing is left to chance");
            let again = Scenario::parse("x", "x.toml", &drawn.to_toml()).unwrap();
            assert_eq!(again, *drawn, "{}", drawn.to_toml());
            words += &drawn.to_toml();
            for fault in &drawn.faults {
                kinds.insert(fault.action.kind());
                let over = match (fault.end, fault.latest) {
                    (End::Until(end), None) => end,
                    (End::For(lasting), Some(latest)) => latest + lasting,
                    (End::WithTheWorkload, latest) if fault.action.kind().is_of_a_moment() => {
                        latest.unwrap_or_default()
                    }
                    other => panic!("{other:?}"),
                };
                assert!(over <= Duration::from_secs(24), "{fault:?}");
            }
        }
        assert_eq!(kinds, Kind::ALL.into());
        for word in [
            "when = ",
            "after = ",
            "elector(",
            "ring = ",
            "minority(",
            "\"any\"",
            "failed-fsync",
            "\"full\"",
            "torn-tail",
        ] {
            assert!(words.contains(word), "{word} is never drawn");
        }
    }
}
