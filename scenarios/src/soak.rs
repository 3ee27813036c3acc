//! Fresh random seeds without end, and what they find.
//!
//! ```text
//! DIR/version.json                                which program wrote the folder: another one refuses it
//! DIR/found/NAME-FENCING-SEED-COMMIT/finding.json what broke
//!                                   /scenario.toml the scenario with its seed
//!                                   /shrunk.toml   the same failure, small (the first few of each kind)
//! ```
//!
//! Every finding is complete when it appears, so a soak may be killed at any time. Nothing grows with the number of runs:
//! what is remembered is a count for each kind of failure. `soak/folder.rs` reads and writes such a folder, and
//! `soak/merge.rs` joins those of several machines.

mod folder;
mod merge;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use checker::Verdict;

use crate::error::Error;
use crate::runner::{SeedReport, run_seed};
use crate::scenario::{Expected, Scenario};
use crate::shrink::{self, Symptom, shrink};
use crate::world::Stage;

pub use folder::{Finding, NoSoak, open};
pub use merge::{Kind, merge, table, write_joined};

/// How many failures of one kind are shrunk: more tell nothing new.
const SHRUNK_MAX: u64 = 3;
/// How many runs a failure may take to shrink.
const SHRINK_RUNS_MAX: u64 = 1000;

/// What to run, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenarios, each under its protocol.
    pub scenarios: Vec<Arc<Scenario>>,
    /// The first seed; the others count up from it.
    pub start: u64,
    /// Which part of the seeds: the one of that index among so many.
    pub shard: (u64, u64),
    /// The most runs; without end, if nothing is said.
    pub runs_max: Option<u64>,
    /// How many at once.
    pub jobs: usize,
    /// Which runs are kept.
    pub keep: Keep,
    /// Where findings go.
    pub out: PathBuf,
    /// The commit of the program.
    pub commit: String,
}

/// Which runs are worth keeping. One that fails by itself always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those in which something breaks, or cannot be judged, that the scenario expects to hold.
    Unexpected,
    /// Those in which anything breaks, expected or not, as well.
    Violated,
}

/// A word that says nothing about what to keep.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("allowed: unexpected, violated")]
pub struct NoKeep;

impl FromStr for Keep {
    type Err = NoKeep;

    fn from_str(word: &str) -> Result<Self, NoKeep> {
        match word {
            "unexpected" => Ok(Self::Unexpected),
            "violated" => Ok(Self::Violated),
            _ => Err(NoKeep),
        }
    }
}

/// What came out so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Runs that were kept.
    pub found: u64,
    /// The lowest and the highest seed that were run.
    pub seeds: Option<(u64, u64)>,
    /// How many were kept of each scenario and kind of failure.
    pub kinds: BTreeMap<(String, String), u64>,
}

/// Runs until `stop` says so or the plan's runs are done. What runs at that moment is finished, and what is being shrunk
/// is kept as small as it is by then.
///
/// # Errors
/// When the folder is of another version, or cannot be written.
pub fn soak(
    stage: &dyn Stage,
    plan: &Plan,
    stop: &(dyn Fn() -> bool + Sync),
    progress: &(dyn Fn(&Tally) + Sync),
) -> Result<Tally, Error> {
    open(&plan.out)?;
    let (next, broken) = (AtomicU64::new(0), AtomicBool::new(false));
    let stop = || broken.load(Ordering::Relaxed) || stop();
    let soak = Soak {
        stage,
        plan,
        stop: &stop,
        kinds: Mutex::default(),
        tally: Mutex::default(),
    };
    let trouble: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        while !stop() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if plan.runs_max.is_some_and(|most| number >= most) {
                return;
            }
            match soak.run(number) {
                Ok(()) => progress(&locked(&soak.tally)),
                Err(error) => {
                    broken.store(true, Ordering::Relaxed);
                    locked(&trouble).get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(worker);
        }
    });
    let tally = locked(&soak.tally).clone();
    let trouble = locked(&trouble).take();
    trouble.map_or(Ok(tally), Err)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Soak<'a> {
    stage: &'a dyn Stage,
    plan: &'a Plan,
    stop: &'a (dyn Fn() -> bool + Sync),
    /// How often each kind of failure began to be shrunk.
    kinds: Mutex<BTreeMap<(String, String), u64>>,
    tally: Mutex<Tally>,
}

impl Soak<'_> {
    fn run(&self, number: u64) -> Result<(), Error> {
        let count = self.plan.scenarios.len() as u64;
        let index = usize::try_from(number % count).unwrap_or(0);
        let scenario = &self.plan.scenarios[index];
        let (shard, shards) = self.plan.shard;
        let place = (number / count).wrapping_mul(shards).wrapping_add(shard);
        let seed = self.plan.start.wrapping_add(place);
        let (report, _) = run_seed(self.stage, scenario, seed);
        let symptom = worth_keeping(self.plan.keep, scenario, &report);
        if let Some(symptom) = &symptom {
            self.keep(scenario, &report, symptom)?;
        }
        let mut tally = locked(&self.tally);
        tally.runs += 1;
        let (low, high) = tally.seeds.unwrap_or((seed, seed));
        tally.seeds = Some((low.min(seed), high.max(seed)));
        if let Some(symptom) = symptom {
            tally.found += 1;
            let kind = (scenario.id.clone(), symptom.name());
            *tally.kinds.entry(kind).or_default() += 1;
        }
        Ok(())
    }

    fn keep(
        &self,
        scenario: &Scenario,
        report: &SeedReport,
        symptom: &Symptom,
    ) -> Result<(), Error> {
        let seed = report.seed;
        let shrunk = self.shrink(scenario, seed, symptom);
        let mut itself = scenario.clone();
        itself.seed = Some(seed);
        let finished = shrunk.as_ref().filter(|shrunk| shrunk.is_finished);
        let finding = Finding {
            scenario: scenario.id.clone(),
            fencing: scenario.fencing().name().to_owned(),
            seed,
            commit: self.plan.commit.clone(),
            what: symptom.name(),
            why: symptom.why(report).unwrap_or_default(),
            form: finished.map(shrink::Shrunk::form),
        };
        let folder = folder::found(&self.plan.out).join(finding.folder_name());
        let mut files = vec![
            ("scenario.toml", itself.to_toml()),
            (
                "finding.json",
                format!("{:#}\n", serde_json::json!(finding)),
            ),
        ];
        if let Some(shrunk) = &shrunk {
            // By its name alone: the folder is moved about and joined with others.
            files.push(("shrunk.toml", shrunk.file("shrunk.toml")));
        }
        folder::write(&folder, &files).map_err(|source| Error::Unwritable {
            path: folder.clone(),
            source,
        })
    }

    /// The failure, small: for the first few of a kind, and as far as there is time.
    fn shrink(&self, scenario: &Scenario, seed: u64, symptom: &Symptom) -> Option<shrink::Shrunk> {
        if !symptom.can_shrink() || (self.stop)() {
            return None;
        }
        let kind = (scenario.id.clone(), symptom.name());
        let before = {
            let mut kinds = locked(&self.kinds);
            let count = kinds.entry(kind).or_default();
            *count += 1;
            *count - 1
        };
        let options = shrink::Options {
            symptom: Some(symptom.clone()),
            runs_max: SHRINK_RUNS_MAX,
        };
        let go_on = |_| match (self.stop)() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let shrunk = || shrink(self.stage, scenario, seed, options, &go_on).ok();
        (before < SHRUNK_MAX).then(shrunk).flatten()
    }
}

/// What a run is kept for, if it is: a guarantee that breaks, else a run that fails by itself, else one that cannot be
/// judged.
fn worth_keeping(keep: Keep, scenario: &Scenario, report: &SeedReport) -> Option<Symptom> {
    let must_hold =
        |guarantee| scenario.expect.of(scenario.fencing(), guarantee) == Expected::Holds;
    let first = |counts: &dyn Fn(&Verdict, bool) -> bool| {
        let mut verdicts = report.verdicts.iter();
        let found = verdicts.find(|(guarantee, verdict)| counts(verdict, must_hold(*guarantee)));
        found.map(|(guarantee, _)| *guarantee)
    };
    let unexpected = first(&|verdict, must_hold| verdict.is_violated() && must_hold);
    let violated = || first(&|verdict, _| verdict.is_violated() && keep == Keep::Violated);
    let unknown = || first(&|verdict, must_hold| verdict.is_unknown() && must_hold);
    let broken = unexpected.or_else(violated).map(Symptom::Violated);
    broken
        .or_else(|| report.failures.first().cloned().map(Symptom::Failed))
        .or_else(|| unknown().map(Symptom::Unknown))
}
