//! Makes a failing run small: the fewest faults, operations, clients and keys with which a guarantee still breaks.
//!
//! ```text
//! a run that fails ──► faults left out ──► its operations as a script ──► delta debugging ──► small, rounded, in a file
//! ```
//!
//! Every smaller scenario is written, read back and run: whatever is kept reproduces by its file alone. To leave something
//! out shifts all that comes after it, so a few neighbouring seeds are tried, too; the one that failed goes into the file.
//! `shrink/smaller.rs` proposes and `shrink/ddmin.rs` chooses; this file tries.

mod ddmin;
mod smaller;

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use checker::{Guarantee, Verdict};
use kv_core::Fencing;

use crate::error::Error;
use crate::play::{Failure, Played};
use crate::runner::{SeedReport, run_seed};
use crate::scenario::{Expectations, Expected, Scenario, fencing_name};
use crate::world::Stage;

pub use ddmin::minimise;

/// How many seeds are tried for a smaller scenario, the one that failed last first.
const NEIGHBOURS: u64 = 4;
/// How often everything is gone through. Each time is cheaper than the one before.
const ROUNDS_MAX: usize = 4;

/// How to shrink.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What must stay violated; the first that is, if none is named: one that the scenario expects to be, if there is.
    pub guarantee: Option<Guarantee>,
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

/// How large a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Faults.
    pub faults: usize,
    /// Operations of the clients; of a random workload, those of its run.
    pub operations: usize,
    /// Clients.
    pub clients: u32,
    /// Keys.
    pub keys: u32,
}

/// A small scenario that fails by itself.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It, with its seed, and with the violation as what it expects.
    pub scenario: Scenario,
    /// The seed with which it fails.
    pub seed: u64,
    /// What breaks.
    pub guarantee: Guarantee,
    /// Why that breaks, in one sentence.
    pub why: String,
    /// How large the run was at first.
    pub before: Size,
    /// How large it is now.
    pub after: Size,
    /// How many runs that took.
    pub runs: u64,
    origin: String,
}

impl Shrunk {
    /// The file: where it comes from, how to run it, and the scenario. `address` is what the commands call the file.
    #[must_use]
    pub fn file(&self, address: &str) -> String {
        let (before, after) = (self.before, self.after);
        let run = format!(
            "{address} --seed {} --fencing {}",
            self.seed,
            fencing_name(self.scenario.fencing())
        );
        format!(
            "# Shrunk from {}: from {before}\n# to {after}. It still violates {}:\n# {}.\n#\n# cargo sim run {run}\n\
             # cargo sim replay {run}\n{}",
            self.origin,
            self.guarantee,
            self.why.replace('\n', " ").trim_end_matches('.'),
            self.scenario.to_toml()
        )
    }

    /// What happens in it, without times and seed: two failures of one form are likely one bug.
    #[must_use]
    pub fn form(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for fault in &self.scenario.faults {
            parts.push(fault.action.to_string());
        }
        for step in &self.scenario.workload.script {
            parts.push(format!("c{} {}", step.client, step.operation()));
        }
        parts.join("; ")
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            faults,
            operations,
            clients,
            keys,
        } = self;
        write!(
            f,
            "faults {faults}, operations {operations}, clients {clients}, keys {keys}"
        )
    }
}

/// Shrinks the run of that seed.
///
/// # Errors
/// When nothing is violated in it.
pub fn shrink(
    stage: &dyn Stage,
    scenario: &Scenario,
    seed: u64,
    options: Options,
    progress: &dyn Fn(Progress),
) -> Result<Shrunk, Error> {
    let scenario = &*Arc::new(scenario.clone()).drawn(seed);
    let run = run_seed(stage, &Arc::new(scenario.clone()), seed);
    let Some(guarantee) = choose(scenario, &run.0, options.guarantee) else {
        return Err(Error::NothingToShrink {
            address: scenario.address.clone(),
            seed,
            fencing: fencing_name(scenario.fencing()),
            guarantee: options.guarantee.map_or("anything", Guarantee::name),
        });
    };
    let mut shrinker = Shrinker {
        stage,
        guarantee,
        runs_max: options.runs_max,
        progress,
        known: run.0.failures.iter().map(discriminant).collect(),
        best: scenario.clone(),
        seed,
        runs: 1,
        last: run,
    };
    let before = shrinker.size();
    shrinker.reduce();
    Ok(shrinker.finish(scenario, seed, before))
}

/// What to keep violated.
fn choose(
    scenario: &Scenario,
    report: &SeedReport,
    wanted: Option<Guarantee>,
) -> Option<Guarantee> {
    let violated =
        |guarantee: &Guarantee| verdict(report, *guarantee).is_some_and(Verdict::is_violated);
    let expected = |guarantee: &Guarantee| {
        scenario.expect.of(scenario.fencing(), *guarantee) == Expected::Violated
    };
    let mut all: Vec<Guarantee> = Guarantee::ALL.into_iter().filter(violated).collect();
    // A violation that clients see tells more than one that only logs show: the last ones in the list.
    all.sort_by_key(|guarantee| (!expected(guarantee), *guarantee != Guarantee::Linearizable));
    match wanted {
        Some(wanted) => all.contains(&wanted).then_some(wanted),
        None => all.first().copied(),
    }
}

fn verdict(report: &SeedReport, guarantee: Guarantee) -> Option<&Verdict> {
    let mut verdicts = report.verdicts.iter();
    let found = verdicts.find(|(judged, _)| *judged == guarantee);
    found.map(|(_, verdict)| verdict)
}

struct Shrinker<'a> {
    stage: &'a dyn Stage,
    guarantee: Guarantee,
    runs_max: u64,
    progress: &'a dyn Fn(Progress),
    /// The kinds of failure that the first run had, too.
    known: Vec<Discriminant<Failure>>,
    /// The smallest scenario so far, its seed, and its run.
    best: Scenario,
    seed: u64,
    last: (SeedReport, Played),
    runs: u64,
}

impl Shrinker<'_> {
    fn reduce(&mut self) {
        self.drop_faults();
        let pinned = smaller::pinned(&self.best, &self.last.1);
        self.attempt(&pinned);
        let scripted = smaller::scripted(&self.best, &self.last.1);
        if !self.attempt(&scripted) {
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
            if self.attempt(&rounded) {
                break;
            }
        }
    }

    /// Runs a smaller scenario with a few seeds, and takes it over if the guarantee still breaks.
    fn attempt(&mut self, candidate: &Scenario) -> bool {
        let (id, address) = (&candidate.id, &candidate.address);
        let Ok(candidate) = Scenario::parse(id, address, &candidate.to_toml()) else {
            return false;
        };
        if candidate == self.best {
            return false;
        }
        let candidate = Arc::new(candidate);
        for neighbour in 0..NEIGHBOURS {
            if self.runs >= self.runs_max {
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
            (self.progress)(Progress { runs, size });
            if is_smaller {
                return true;
            }
        }
        false
    }

    /// Whether the guarantee breaks, and nothing fails that did not fail at first.
    fn still(&self, report: &SeedReport) -> bool {
        let mut failures = report.failures.iter();
        failures.all(|failure| self.known.contains(&discriminant(failure)))
            && verdict(report, self.guarantee).is_some_and(Verdict::is_violated)
    }

    fn size(&self) -> Size {
        let workload = &self.best.workload;
        let scripted = smaller::scripted(&self.best, &self.last.1);
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
        let verdict = verdict(&self.last.0, self.guarantee);
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
                candidate.workload.min_ok = 0;
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
        let why = match verdict(&self.last.0, self.guarantee) {
            Some(Verdict::Violated(evidence)) => evidence.why.clone(),
            _ => unreachable!("only what violates the guarantee is taken over"),
        };
        let broken = self
            .last
            .0
            .verdicts
            .iter()
            .filter(|(_, verdict)| !verdict.holds());
        let mut expected: BTreeMap<Guarantee, Expected> = broken
            .map(|(guarantee, _)| (*guarantee, Expected::Any))
            .collect();
        expected.insert(self.guarantee, Expected::Violated);
        let mut expect = Expectations::default();
        match fencing {
            Fencing::Epoch => expect.epoch = expected,
            Fencing::None => expect.none = expected,
        }
        let mut scenario = self.best;
        (scenario.seed, scenario.expect) = (Some(self.seed), expect);
        Shrunk {
            scenario,
            seed: self.seed,
            guarantee: self.guarantee,
            why,
            before,
            after,
            runs: self.runs,
            origin: format!(
                "{}, seed {from_seed}, fencing {}",
                from.address,
                fencing_name(fencing)
            ),
        }
    }
}
