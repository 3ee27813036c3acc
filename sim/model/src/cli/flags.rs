//! What is to be explored, as flags: a preset, and what differs from it.

use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kv_core::Fencing;

use crate::bounds::Bounds;
use crate::error::Error;
use crate::exploration::{Order, Plan};
use crate::ledger::Promise;
use crate::watch::Goal;

/// The flags that both commands have.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Where to start from; the other flags override it.
    #[arg(long, value_enum, default_value = "quick")]
    preset: Preset,
    /// Which protocol.
    #[arg(long, value_enum, default_value = "epoch")]
    fencing: FencingFlag,
    /// N: the voters, 1 to 5.
    #[arg(long, value_name = "COUNT")]
    replicas: Option<u8>,
    /// Q: the voters that must have a write before it is acknowledged.
    #[arg(long, value_name = "Q")]
    quorum: Option<u8>,
    /// Writes by clients, each with a value of its own, 1 to 8.
    #[arg(long, value_name = "COUNT")]
    writes: Option<u8>,
    /// The highest epoch: each election and each rollback takes one.
    #[arg(long, value_name = "COUNT")]
    epochs: Option<u8>,
    /// Members that crash and restart.
    #[arg(long, value_name = "COUNT")]
    crashes: Option<u8>,
    /// Sessions that the coordination service ends.
    #[arg(long, value_name = "COUNT")]
    lost_sessions: Option<u8>,
    /// Times that a writer asks for a rollback (R9).
    #[arg(long, value_name = "COUNT")]
    rollbacks: Option<u8>,
    /// Times that a writer gives its role back (R17).
    #[arg(long, value_name = "COUNT")]
    releases: Option<u8>,
    /// Times that a member considers an election by what it has seen before.
    #[arg(long, value_name = "COUNT")]
    retries: Option<u8>,
    /// Steps whose durable effects are not synced at once.
    #[arg(long, value_name = "COUNT")]
    slow_syncs: Option<u8>,
    /// `quorum` reads that take their time. (Reads that take none are tried in every state.)
    #[arg(long, value_name = "COUNT")]
    reads: Option<u8>,
    /// A session may end before the lease that belongs to it.
    #[arg(long)]
    bad_clocks: bool,
    /// Judge only this property, and stop when it is broken; may be repeated.
    #[arg(long = "property", value_name = "NAME")]
    properties: Vec<String>,
    /// Keep states apart that differ only in what makes no difference.
    #[arg(long)]
    no_reduction: bool,
    /// Keep states apart that differ in the names of the members only.
    #[arg(long)]
    no_symmetry: bool,
    /// Threads [default: one a core; one under `none`, where a violation is near].
    #[arg(long, value_name = "COUNT")]
    threads: Option<u64>,
    /// Give up after this long: 90s, 10m, 2h.
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// What CI explores: three voters, Q = 2, two writes, three epochs, a lost session, a crash, a rollback.
    Quick,
    /// The same with a second lost session, then with a second crash, then with four voters and Q = 2 and Q = 3.
    Deep,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FencingFlag {
    /// Fenced by epochs: every property holds.
    Epoch,
    /// The plain design, which the course starts from.
    None,
}

impl From<FencingFlag> for Fencing {
    fn from(flag: FencingFlag) -> Self {
        match flag {
            FencingFlag::Epoch => Self::Epoch,
            FencingFlag::None => Self::None,
        }
    }
}

/// The most threads.
const THREADS_MAX: u64 = 1024;

impl Flags {
    /// What is to be explored, one after the other.
    pub(super) fn plans(&self) -> Result<Vec<Plan>, Error> {
        let presets = match self.preset {
            Preset::Quick => vec![Bounds::QUICK],
            Preset::Deep => Bounds::DEEP.to_vec(),
        };
        let mut plans: Vec<Plan> = Vec::new();
        for preset in presets {
            let bounds = self.over(preset);
            bounds.check()?;
            if plans.iter().all(|known| known.bounds != bounds) {
                plans.push(self.plan(bounds)?);
            }
        }
        Ok(plans)
    }

    /// Whether everything that can be reached must be: where a preset is explored as it is, and its promises have to hold.
    pub(super) fn demands_all(&self) -> bool {
        let is_preset = self.over(Bounds::QUICK) == Bounds::QUICK;
        is_preset && matches!(self.fencing, FencingFlag::Epoch)
    }

    fn over(&self, preset: Bounds) -> Bounds {
        Bounds {
            replicas: self.replicas.unwrap_or(preset.replicas),
            quorum: self.quorum.unwrap_or(preset.quorum),
            fencing: self.fencing.into(),
            writes: self.writes.unwrap_or(preset.writes),
            epochs: self.epochs.unwrap_or(preset.epochs),
            crashes: self.crashes.unwrap_or(preset.crashes),
            lost_sessions: self.lost_sessions.unwrap_or(preset.lost_sessions),
            rollbacks: self.rollbacks.unwrap_or(preset.rollbacks),
            releases: self.releases.unwrap_or(preset.releases),
            retries: self.retries.unwrap_or(preset.retries),
            slow_syncs: self.slow_syncs.unwrap_or(preset.slow_syncs),
            reads: self.reads.unwrap_or(preset.reads),
            reduces: preset.reduces && !self.no_reduction,
            symmetric: preset.symmetric && !self.no_symmetry,
            bad_clocks: preset.bad_clocks || self.bad_clocks,
        }
    }

    fn plan(&self, bounds: Bounds) -> Result<Plan, Error> {
        let named = self.properties.iter().map(|name| name.parse());
        let named: Vec<Promise> = named.collect::<Result<_, _>>()?;
        let all = Promise::ALL.to_vec();
        let (judged, goal) = match (named.is_empty(), bounds.fencing) {
            (false, _) => (named.clone(), Goal::Each(named)),
            (true, Fencing::Epoch) => (all.clone(), Goal::Any(all)),
            (true, Fencing::None) => (all, Goal::Each(vec![Promise::NoLostWrite])),
        };
        let order = match bounds.fencing {
            Fencing::Epoch => Order::DepthFirst,
            Fencing::None => Order::BreadthFirst,
        };
        Ok(Plan {
            bounds,
            judged,
            goal,
            order,
            threads: self.threads(bounds.fencing)?,
            timeout: self.timeout.as_deref().map(time).transpose()?,
        })
    }

    fn threads(&self, fencing: Fencing) -> Result<usize, Error> {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        let default = match fencing {
            Fencing::Epoch => cores,
            Fencing::None => 1,
        };
        match self.threads {
            None => Ok(default),
            Some(given) if (1..=THREADS_MAX).contains(&given) => {
                Ok(usize::try_from(given).unwrap_or(default))
            }
            Some(given) => Err(Error::OutOfRange {
                bound: "threads",
                given,
                least: 1,
                most: THREADS_MAX,
            }),
        }
    }
}

/// A time with its unit; seconds, where there is none.
fn time(text: &str) -> Result<Duration, Error> {
    let not_a_time = || Error::NotATime {
        text: text.to_owned(),
    };
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let seconds: u64 = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(not_a_time()),
    };
    let count: u64 = digits.parse().map_err(|_| not_a_time())?;
    let seconds = count.checked_mul(seconds).filter(|seconds| *seconds > 0);
    Ok(Duration::from_secs(seconds.ok_or_else(not_a_time)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(time("90").unwrap(), Duration::from_secs(90));
        assert_eq!(time("10m").unwrap(), Duration::from_secs(600));
        assert_eq!(time("2h").unwrap(), Duration::from_secs(7200));
        for bad in [
            "",
            "s",
            "0s",
            "-1s",
            "1.5h",
            "10 m",
            "3d",
            "99999999999999999999h",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
