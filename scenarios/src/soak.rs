//! Fresh random seeds without end, and what they find.
//!
//! ```text
//! DIR/version.json                         which program wrote the folder: another one refuses it
//! DIR/found/NAME-FENCING-SEED/finding.json what broke, at which commit
//!                            /scenario.toml the scenario with its seed
//!                            /shrunk.toml   the same failure, small (the first few of each kind)
//! ```
//!
//! Every finding is complete when it appears, so a soak may be killed at any time. Nothing grows with the number of runs:
//! what is remembered is a count for each kind of failure. `soak/merge.rs` joins the folders of several machines.

mod merge;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use checker::{Guarantee, Verdict};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::runner::{SeedReport, run_seed};
use crate::scenario::{Expected, Scenario, fencing_name};
use crate::shrink::{self, shrink};
use crate::world::Stage;

pub use merge::{Kind, merge, table};

/// The layout of a folder; it changes with every change of a file in it.
const FORMAT: u32 = 1;
/// How many failures of one kind are shrunk: more tell nothing new.
const SHRUNK_MAX: u64 = 3;
/// How many runs a failure may take to shrink.
const SHRINK_RUNS_MAX: u64 = 1000;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoSoak {
    /// It is none.
    #[error("{} is no folder of a soak: it has no version.json; name a folder that `cargo sim soak --out` wrote", folder.display())]
    NoVersion {
        /// The folder.
        folder: PathBuf,
    },
    /// Another program wrote it.
    #[error("{} was written by version {found} and this is {known}; use the program that wrote it, or another folder", folder.display())]
    OtherVersion {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: String,
        /// Ours.
        known: String,
    },
    /// A file in it is damaged.
    #[error("{}: {why}; remove what is damaged and try again", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// `version.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Version {
    format: u32,
    program: String,
}

impl Version {
    fn ours() -> Self {
        Self {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn name(&self) -> String {
        format!("{} (format {})", self.program, self.format)
    }
}

/// `finding.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The scenario.
    pub scenario: String,
    /// The protocol.
    pub fencing: String,
    /// The seed.
    pub seed: u64,
    /// The commit of the program.
    pub commit: String,
    /// The guarantee, or the kind of failure.
    pub what: String,
    /// Why it broke.
    pub why: String,
    /// What happens in the shrunk scenario, without times; nothing, where it was not shrunk.
    pub form: Option<String>,
}

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
    /// Where findings go.
    pub out: PathBuf,
    /// The commit of the program.
    pub commit: String,
}

/// What came out so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Runs in which something failed.
    pub found: u64,
}

/// Runs until `stop` is set or the plan's runs are done.
///
/// # Errors
/// When the folder is of another version, or cannot be written.
pub fn soak(
    stage: &dyn Stage,
    plan: &Plan,
    stop: &(dyn Fn() -> bool + Sync),
    progress: &(dyn Fn(Tally) + Sync),
) -> Result<Tally, Error> {
    open(&plan.out)?;
    let soak = Soak {
        stage,
        plan,
        kinds: Mutex::default(),
        tally: Mutex::default(),
    };
    let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let trouble: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        while !stopped.load(Ordering::Relaxed) && !stop() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if plan.runs_max.is_some_and(|most| number >= most) {
                return;
            }
            match soak.run(number) {
                Ok(tally) => progress(tally),
                Err(error) => {
                    stopped.store(true, Ordering::Relaxed);
                    let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
                    trouble.get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(worker);
        }
    });
    match trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(soak
            .tally
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)),
    }
}

struct Soak<'a> {
    stage: &'a dyn Stage,
    plan: &'a Plan,
    /// How often each kind of failure was found.
    kinds: Mutex<BTreeMap<(String, String), u64>>,
    tally: Mutex<Tally>,
}

impl Soak<'_> {
    fn run(&self, number: u64) -> Result<Tally, Error> {
        let count = self.plan.scenarios.len() as u64;
        let index = usize::try_from(number % count).unwrap_or(0);
        let scenario = &self.plan.scenarios[index];
        let (shard, shards) = self.plan.shard;
        let place = (number / count).wrapping_mul(shards).wrapping_add(shard);
        let seed = self.plan.start.wrapping_add(place);
        let (report, _) = run_seed(self.stage, scenario, seed);
        let wrong = wrong(scenario, &report);
        if let Some((guarantee, what, why)) = &wrong {
            self.keep(scenario, seed, *guarantee, what, why)?;
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.runs += 1;
        tally.found += u64::from(wrong.is_some());
        Ok(*tally)
    }

    fn keep(
        &self,
        scenario: &Scenario,
        seed: u64,
        guarantee: Option<Guarantee>,
        what: &str,
        why: &str,
    ) -> Result<(), Error> {
        let kind = (scenario.id.clone(), what.to_owned());
        let seen = {
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = kinds.entry(kind).or_default();
            *seen += 1;
            *seen
        };
        let options = shrink::Options {
            guarantee,
            runs_max: SHRINK_RUNS_MAX,
        };
        let shrunk = (guarantee.is_some() && seen <= SHRUNK_MAX)
            .then(|| shrink(self.stage, scenario, seed, options, &|_| {}).ok())
            .flatten();
        let mut itself = scenario.clone();
        itself.seed = Some(seed);
        let fencing = fencing_name(scenario.fencing());
        let finding = Finding {
            scenario: scenario.id.clone(),
            fencing: fencing.to_owned(),
            seed,
            commit: self.plan.commit.clone(),
            what: what.to_owned(),
            why: why.to_owned(),
            form: shrunk.as_ref().map(shrink::Shrunk::form),
        };
        let folder = self.plan.out.join("found");
        let folder = folder.join(format!("{}-{fencing}-{seed}", scenario.id));
        let mut files = vec![
            ("scenario.toml", itself.to_toml()),
            (
                "finding.json",
                format!("{:#}\n", serde_json::json!(finding)),
            ),
        ];
        if let Some(shrunk) = &shrunk {
            let address = folder.join("shrunk.toml").display().to_string();
            files.push(("shrunk.toml", shrunk.file(&address)));
        }
        write(&folder, &files).map_err(|source| Error::Unwritable {
            path: folder.clone(),
            source,
        })
    }
}

/// What is not as the scenario expects: the guarantee, if it is one that is violated, a name for it, and why.
fn wrong(scenario: &Scenario, report: &SeedReport) -> Option<(Option<Guarantee>, String, String)> {
    let must_hold =
        |guarantee: Guarantee| scenario.expect.of(scenario.fencing(), guarantee) == Expected::Holds;
    let mut unknown = None;
    for (guarantee, verdict) in report.verdicts.iter().filter(|(name, _)| must_hold(*name)) {
        match verdict {
            Verdict::Violated(evidence) => {
                let what = guarantee.name().to_owned();
                return Some((Some(*guarantee), what, evidence.why.clone()));
            }
            Verdict::Unknown(reason) => {
                let what = format!("{guarantee} unknown");
                unknown.get_or_insert((None, what, reason.to_string()));
            }
            Verdict::Holds => {}
        }
    }
    let failed = report.failures.first().map(|failure| {
        let why = failure.to_string();
        (None, "the run failed".to_owned(), why)
    });
    failed.or(unknown)
}

/// Makes the folder of a soak, or goes on with one of this version.
fn open(folder: &Path) -> Result<(), Error> {
    let file = folder.join("version.json");
    if file.exists() {
        return Ok(check_version(folder)?);
    }
    let text = format!("{:#}\n", serde_json::json!(Version::ours()));
    let made = fs::create_dir_all(folder).and_then(|()| fs::write(&file, text));
    made.map_err(|source| Error::Unwritable { path: file, source })
}

/// Refuses a folder that another program wrote.
fn check_version(folder: &Path) -> Result<(), NoSoak> {
    let file = folder.join("version.json");
    let Ok(text) = fs::read_to_string(&file) else {
        let folder = folder.to_owned();
        return Err(NoSoak::NoVersion { folder });
    };
    let found: Version = read(&file, &text)?;
    let ours = Version::ours();
    if (found.format, &found.program) != (ours.format, &ours.program) {
        return Err(NoSoak::OtherVersion {
            folder: folder.to_owned(),
            found: found.name(),
            known: ours.name(),
        });
    }
    Ok(())
}

fn read<T: for<'a> Deserialize<'a>>(file: &Path, text: &str) -> Result<T, NoSoak> {
    serde_json::from_str(text).map_err(|error| NoSoak::Damaged {
        file: file.to_owned(),
        why: error.to_string(),
    })
}

/// Writes a folder under another name and renames it when it is complete.
fn write(folder: &Path, files: &[(&str, String)]) -> io::Result<()> {
    let unfinished = folder.with_extension(format!("{}.unfinished", std::process::id()));
    fs::create_dir_all(&unfinished)?;
    for (name, text) in files {
        fs::write(unfinished.join(name), text)?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&unfinished, folder)
}
