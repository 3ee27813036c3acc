//! Many runs: each seed on a fresh thread, judged, and kept where something broke.
//!
//! What comes out depends on the seeds alone: reports are sorted by seed, and no thread's pace shows in them. A fresh
//! thread for each seed keeps what is random by thread (the order of hash maps) the same in every run of a seed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;

use checker::{Guarantee, History, Limits, Verdict};
use serde::Serialize;

use crate::error::Error;
use crate::folder::{self, Again};
use crate::play::{Failure, Played, script};
use crate::scenario::{Kind, Scenario};
use crate::world::Stage;

/// A scenario, under its protocol, with the seeds to run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// Its seeds.
    pub seeds: Vec<u64>,
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many seeds at once.
    pub jobs: usize,
    /// The folder for the runs that are kept; nowhere, where there is none.
    pub out: Option<PathBuf>,
    /// Whether to keep runs in which nothing broke, too.
    pub keep_all: bool,
    /// How a run is looked at again.
    pub again: Again,
}

/// What a seed came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// How many reads of the workload were answered.
    pub ok_reads: u64,
    /// How many writes of the workload were acknowledged.
    pub ok_writes: u64,
    /// Why the run shows nothing, or cannot be trusted.
    pub failures: Vec<Failure>,
    /// The verdict on every guarantee.
    pub verdicts: Vec<(Guarantee, Verdict)>,
}

impl SeedReport {
    /// Whether something broke, or nothing could be shown, so that the run is worth keeping.
    #[must_use]
    pub fn is_worth_keeping(&self) -> bool {
        !self.failures.is_empty() || self.verdicts.iter().any(|(_, verdict)| !verdict.holds())
    }

    /// The reads and writes that were answered `ok`.
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.ok_reads + self.ok_writes
    }
}

/// Plays and judges one seed on a fresh thread.
#[must_use]
pub fn run_seed(stage: &dyn Stage, scenario: &Arc<Scenario>, seed: u64) -> (SeedReport, Played) {
    quiet_panics();
    let scenario = &scenario.drawn(seed);
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(format!("{THREAD_PREFIX}{seed}"));
        let run = thread.spawn_scoped(scope, || {
            let run = || play_and_judge(stage, scenario, seed);
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panicked(seed))
        });
        let run = run.expect("the machine has room for one more thread");
        run.join().expect("a panic is caught inside")
    })
}

fn play_and_judge(stage: &dyn Stage, scenario: &Arc<Scenario>, seed: u64) -> (SeedReport, Played) {
    let played = stage.enact(scenario, seed, script(scenario, seed));
    let mut failures = played.failures.clone();
    let verdicts = match History::from_events(played.history.clone()) {
        Ok(history) => checker::check_all(
            &history,
            &played.events,
            &Guarantee::ALL,
            &Limits::default(),
        ),
        Err(error) => {
            failures.push(Failure::BadHistory {
                why: error.to_string(),
            });
            Vec::new()
        }
    };
    let (ok_reads, ok_writes) = (played.ok_reads, played.ok_writes);
    (
        SeedReport {
            seed,
            ok_reads,
            ok_writes,
            failures,
            verdicts,
        },
        played,
    )
}

fn panicked(seed: u64) -> (SeedReport, Played) {
    let message = LAST_PANIC.with(|last| last.borrow_mut().take());
    let message = message.unwrap_or_else(|| "without a message".to_owned());
    let failures = vec![Failure::Panicked { message }];
    let report = SeedReport {
        seed,
        ok_reads: 0,
        ok_writes: 0,
        failures,
        verdicts: Vec::new(),
    };
    (report, Played::default())
}

const THREAD_PREFIX: &str = "seed ";

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of a run belong into its report, not across the progress bar.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_run = thread::current()
                .name()
                .is_some_and(|name| name.starts_with(THREAD_PREFIX));
            if !is_run {
                return loud(panic);
            }
            let what = panic
                .payload_as_str()
                .unwrap_or("no text")
                .replace('\n', " ");
            let place = panic
                .location()
                .map_or(String::new(), |location| format!(" ({location})"));
            // The first panic is the cause; those of the clean-up after it are not.
            LAST_PANIC.with(|last| {
                last.borrow_mut().get_or_insert(format!("{what}{place}"));
            });
        }));
    });
}

/// Runs all seeds of all batches, as many at once as there are jobs, and calls `done` after each, on its thread.
///
/// Returns the reports by batch, each sorted by seed.
///
/// # Errors
/// When a folder cannot be written. Nothing half-written stays behind.
pub fn run_all(
    stage: &dyn Stage,
    batches: &[Batch],
    options: &Options,
    done: &(dyn Fn(&Scenario, u64, &Played) + Sync),
) -> Result<Vec<Vec<SeedReport>>, Error> {
    let work: Vec<(usize, u64)> = batches
        .iter()
        .enumerate()
        .flat_map(|(index, batch)| batch.seeds.iter().map(move |seed| (index, *seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(
        batches
            .iter()
            .map(|_| Vec::new())
            .collect::<Vec<Vec<SeedReport>>>(),
    );
    let trouble: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        while let Some((batch, seed)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scenario = &batches[*batch].scenario.drawn(*seed);
            let (report, played) = run_seed(stage, scenario, *seed);
            let kept = match report.failures.contains(&Failure::Interrupted) {
                true => Err(Error::Interrupted),
                false => keep(options, scenario, &report, &played),
            };
            if let Err(error) = kept {
                next.store(work.len(), Ordering::Relaxed); // The others stop, too.
                trouble
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
                return;
            }
            done(scenario, *seed, &played);
            results.lock().unwrap_or_else(PoisonError::into_inner)[*batch].push(report);
        }
    };
    thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, work.len().max(1)) {
            scope.spawn(worker);
        }
    });
    if let Some(error) = trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for reports in &mut results {
        reports.sort_by_key(|report| report.seed);
    }
    Ok(results)
}

fn keep(
    options: &Options,
    scenario: &Scenario,
    report: &SeedReport,
    played: &Played,
) -> Result<(), Error> {
    match &options.out {
        Some(out) if options.keep_all || report.is_worth_keeping() => {
            folder::write(out, scenario, report, played, &options.again).map(drop)
        }
        Some(out) => folder::remove(out, scenario, report.seed),
        None => Ok(()),
    }
}

/// Checks that the world can do everything that the scenarios ask for.
///
/// # Errors
/// Names the first fault that it cannot do.
pub fn check_supported(stage: &dyn Stage, batches: &[Batch]) -> Result<(), Error> {
    for batch in batches {
        check_playable(stage, &batch.scenario)?;
        let scenario = &batch.scenario;
        let (world, id) = (stage.name(), &scenario.id);
        let refused = |kind, reason| Error::Refused {
            world,
            kind,
            scenario: id.clone(),
            reason,
        };
        for kind in scenario.random.iter().flat_map(|_| Kind::ALL) {
            if let Some(reason) = stage.lacks(kind) {
                return Err(refused(kind, reason));
            }
        }
        for action in scenario.faults.iter().map(|fault| &fault.action) {
            let kind = action.kind();
            let lacks = stage.lacks(kind).or_else(|| stage.lacks_action(action));
            if let Some(reason) = lacks {
                return Err(refused(kind, reason));
            }
        }
    }
    Ok(())
}

/// Checks that the world can start the scenario's cluster, whatever happens to it then.
///
/// # Errors
/// Names what it cannot do.
pub fn check_playable(stage: &dyn Stage, scenario: &Scenario) -> Result<(), Error> {
    let (world, id) = (stage.name(), &scenario.id);
    let engine = scenario.cluster.engine;
    if let Some(reason) = stage.lacks_engine(engine) {
        return Err(Error::RefusedEngine {
            world,
            engine,
            scenario: id.clone(),
            reason,
        });
    }
    if let Some(reason) = stage.lacks_scenario(scenario) {
        return Err(Error::RefusedScenario {
            world,
            scenario: id.clone(),
            reason,
        });
    }
    Ok(())
}
