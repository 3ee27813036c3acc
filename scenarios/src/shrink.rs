//! Makes a failing run small: the fewest faults, operations, clients and keys with which it still fails the same way.
//!
//! ```text
//! a run that fails ──► faults left out ──► its operations as a script ──► delta debugging ──► small, rounded, in a file
//! ```
//!
//! Every smaller scenario is written, read back and run: whatever is kept reproduces by its file alone. To leave something
//! out shifts all that comes after it, so a few neighbouring seeds are tried, too; the one that failed goes into the file.
//! Times are rounded before a scenario is tried and never after, so that the file that a person reads is the one that failed.
//! `shrink/smaller.rs` proposes and `shrink/ddmin.rs` chooses; this file tries.

mod ddmin;
mod shrunk;
mod smaller;
mod symptom;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use kv_core::Fencing;

use crate::error::Error;
use crate::play::{Failure, Played};
use crate::runner::{SeedReport, run_seed};
use crate::scenario::{Expected, Scenario};
use crate::world::Stage;

use self::symptom::verdict;

pub use ddmin::minimise;
pub use shrunk::{Shrunk, Size};
pub use symptom::Symptom;

/// How many seeds are tried for a smaller scenario, the one that failed last first.
const NEIGHBOURS: u64 = 4;
/// How many for one that differs only by its times being round.
const NEIGHBOURS_OF_ROUND: u64 = 16;
/// To what the times of a run are rounded, until it still fails.
const UNITS: [Duration; 2] = [Duration::from_millis(1), Duration::from_micros(1)];
/// How often everything is gone through. Each time is cheaper than the one before.
const ROUNDS_MAX: usize = 4;

/// How to shrink.
#[derive(Clone, Debug)]
pub struct Options {
    /// What must stay; the most telling of what the run shows, if nothing is named.
    pub symptom: Option<Symptom>,
    /// The most runs.
    pub runs_max: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs so far.
    pub runs: u64,
    /// What the smallest scenario has.
    pub size: Size,
}

/// Shrinks the run of that seed. `progress` is told after each run, and says whether to go on: what is smallest by then is
/// what comes out.
///
/// # Errors
/// When the run does not show what must stay.
pub fn shrink(
    stage: &dyn Stage,
    scenario: &Scenario,
    seed: u64,
    options: Options,
    progress: &dyn Fn(Progress) -> ControlFlow<()>,
) -> Result<Shrunk, Error> {
    let scenario = &*Arc::new(scenario.clone()).drawn(seed);
    let run = run_seed(stage, &Arc::new(scenario.clone()), seed);
    let shown = match options.symptom.clone() {
        Some(symptom) => symptom.why(&run.0).is_some().then_some(symptom),
        None => Symptom::of(scenario, &run.0),
    };
    let Some(symptom) = shown else {
        let wanted = options.symptom.as_ref().map(Symptom::name);
        return Err(Error::NothingToShrink {
            address: scenario.address.clone(),
            seed,
            fencing: scenario.fencing().name(),
            guarantee: wanted.unwrap_or_else(|| "anything".to_owned()),
        });
    };
    let mut best = scenario.clone();
    best.expect = symptom.expected(scenario.fencing());
    best.workload.min_ok = 0; // Fewer operations are what is wanted.
    let mut shrinker = Shrinker {
        stage,
        symptom,
        runs_max: options.runs_max,
        progress,
        known: run.0.failures.iter().map(Failure::name).collect(),
        best,
        seed,
        runs: 1,
        last: run,
        is_stopped: false,
    };
    let before = shrinker.size();
    shrinker.reduce();
    Ok(shrinker.finish(scenario, seed, before))
}

struct Shrinker<'a> {
    stage: &'a dyn Stage,
    symptom: Symptom,
    runs_max: u64,
    progress: &'a dyn Fn(Progress) -> ControlFlow<()>,
    /// The names of the failures that the first run had, too.
    known: BTreeSet<String>,
    /// The smallest scenario so far, its seed, and its run.
    best: Scenario,
    seed: u64,
    last: (SeedReport, Played),
    runs: u64,
    is_stopped: bool,
}

impl Shrinker<'_> {
    fn reduce(&mut self) {
        self.drop_faults();
        // A microsecond is as good as the time itself, for the few failures that a millisecond undoes.
        let _ = UNITS.into_iter().any(|unit| {
            let pinned = smaller::pinned(&self.best, &self.last.1, unit);
            self.attempt(&pinned)
        });
        let is_scripted = UNITS.into_iter().any(|unit| {
            let scripted = smaller::scripted(&self.best, &self.last.1, unit);
            // A run that panicked left no operations behind.
            !scripted.workload.script.is_empty() && self.attempt(&scripted)
        });
        if !is_scripted {
            self.reduce_numbers();
        }
        for _ in 0..ROUNDS_MAX {
            let before = self.best.clone();
            self.drop_steps();
            self.drop_faults();
            self.simplify();
            self.shorten();
            if self.best == before {
                break;
            }
        }
        for ms in [500, 100, 10, 1] {
            let rounded = smaller::rounded(&self.best, Duration::from_millis(ms));
            if self.attempt_with(&rounded, NEIGHBOURS_OF_ROUND) {
                break;
            }
        }
    }

    /// Runs a smaller scenario with a few seeds, and takes it over if it still shows the symptom.
    fn attempt(&mut self, candidate: &Scenario) -> bool {
        self.attempt_with(candidate, NEIGHBOURS)
    }

    fn attempt_with(&mut self, candidate: &Scenario, seeds: u64) -> bool {
        let (id, address) = (&candidate.id, &candidate.address);
        let Ok(candidate) = Scenario::parse(id, address, &candidate.to_toml()) else {
            return false;
        };
        if candidate == self.best {
            return false;
        }
        let candidate = Arc::new(candidate);
        for neighbour in 0..seeds {
            if self.runs >= self.runs_max || self.is_stopped {
                return false;
            }
            let seed = self.seed.wrapping_add(neighbour);
            let run = run_seed(self.stage, &candidate, seed);
            self.runs += 1;
            let (is_smaller, runs) = (self.still(&run.0), self.runs);
            if is_smaller {
                self.best = (*candidate).clone();
                self.seed = seed;
                self.last = run;
            }
            let size = self.size();
            self.is_stopped |= (self.progress)(Progress { runs, size }).is_break();
            if is_smaller {
                return true;
            }
        }
        false
    }

    /// Whether it shows the symptom, and nothing fails that did not fail at first.
    fn still(&self, report: &SeedReport) -> bool {
        let mut failures = report.failures.iter();
        failures.all(|failure| self.known.contains(&failure.name()))
            && self.symptom.why(report).is_some()
    }

    fn size(&self) -> Size {
        let workload = &self.best.workload;
        let scripted = smaller::scripted(&self.best, &self.last.1, UNITS[0]);
        Size {
            faults: self.best.faults.len(),
            operations: match workload.script.len() {
                0 => scripted.workload.script.len(),
                steps => steps,
            },
            clients: workload.clients,
            keys: workload.keys,
        }
    }

    fn drop_faults(&mut self) {
        let start = self.best.faults.clone();
        minimise(&start, |faults| {
            let mut candidate = self.best.clone();
            candidate.faults = faults.to_vec();
            self.attempt(&candidate)
        });
    }

    fn drop_steps(&mut self) {
        let verdict = match &self.symptom {
            Symptom::Violated(guarantee) => verdict(&self.last.0, *guarantee),
            Symptom::Unknown(_) | Symptom::Failed(_) => None,
        };
        let about = verdict.and_then(|verdict| smaller::about_the_evidence(&self.best, verdict));
        if let Some(candidate) = about {
            self.attempt(&candidate);
        }
        let start = self.best.workload.script.clone();
        minimise(&start, |steps| {
            let mut candidate = self.best.clone();
            candidate.workload.script = steps.to_vec();
            !steps.is_empty() && self.attempt(&candidate)
        });
    }

    /// Fewer shards, nodes, clients and keys.
    fn simplify(&mut self) {
        let shards = self.best.cluster.config.shards;
        for shard in (0..shards).filter(|_| shards > 1) {
            let candidate = smaller::only_shard(&self.best, shard);
            if self.attempt(&candidate) {
                break;
            }
        }
        let candidate = smaller::without_idle(&self.best);
        self.attempt(&candidate);
        if !self.best.workload.script.is_empty() {
            for keys_too in [true, false] {
                let candidate = smaller::renumbered(&self.best, keys_too);
                if self.attempt(&candidate) {
                    break;
                }
            }
        }
    }

    /// Shorter faults, a shorter workload, and less waiting at its start.
    fn shorten(&mut self) {
        let candidate = smaller::earlier(&self.best);
        self.attempt(&candidate);
        for duration in smaller::durations(&self.best) {
            let candidate = smaller::lasting(&self.best, duration);
            if self.attempt(&candidate) {
                break;
            }
        }
        for index in 0..self.best.faults.len() {
            while let Some(candidate) = smaller::shorter_fault(&self.best, index) {
                if !self.attempt(&candidate) {
                    break;
                }
            }
        }
    }

    /// Fewer clients and keys at random, where a script does not reproduce it.
    fn reduce_numbers(&mut self) {
        for halve in [
            (|scenario| scenario.workload.clients /= 2) as fn(&mut Scenario),
            |scenario| scenario.workload.keys /= 2,
        ] {
            loop {
                let mut candidate = self.best.clone();
                halve(&mut candidate);
                if !self.attempt(&candidate) {
                    break;
                }
            }
        }
    }

    fn finish(self, from: &Scenario, from_seed: u64, before: Size) -> Shrunk {
        let after = self.size();
        let fencing = from.fencing();
        let why = self.symptom.why(&self.last.0);
        let why = why.expect("only what shows the symptom is taken over");
        let mut scenario = self.best;
        scenario.seed = Some(self.seed);
        let expected = match fencing {
            Fencing::Epoch => &mut scenario.expect.epoch,
            Fencing::None => &mut scenario.expect.none,
        };
        for (guarantee, _) in self.last.0.verdicts.iter().filter(|(_, it)| !it.holds()) {
            expected.entry(*guarantee).or_insert(Expected::Any);
        }
        Shrunk {
            scenario,
            seed: self.seed,
            symptom: self.symptom,
            why,
            before,
            after,
            runs: self.runs,
            is_finished: !self.is_stopped,
            origin: format!(
                "{}, seed {from_seed}, fencing {}",
                from.address,
                fencing.name()
            ),
        }
    }
}
