//! The folder of a run: `OUT/NAME/FENCING/SEED/` with everything needed to judge it again or to run it again.
//!
//! It is written under another name and renamed when it is complete, so that nobody ever finds half of it. A folder that
//! is there tells of the latest run of its seed: it goes when a later run of that seed is not worth keeping.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Error;
use crate::play::Played;
use crate::runner::SeedReport;
use crate::scenario::Scenario;

/// Where the folder of a run is.
#[must_use]
pub fn path(out: &Path, scenario: &Scenario, seed: u64) -> PathBuf {
    let name = Path::new(&scenario.id)
        .file_name()
        .unwrap_or("scenario".as_ref());
    out.join(name)
        .join(scenario.fencing().name())
        .join(seed.to_string())
}

/// Writes the folder of a run, in place of an older one. Returns where it is.
///
/// # Errors
/// When something cannot be written.
pub fn write(
    out: &Path,
    scenario: &Scenario,
    report: &SeedReport,
    played: &Played,
    again: &Again,
) -> Result<PathBuf, Error> {
    let folder = path(out, scenario, report.seed);
    let unwritable = |source| Error::Unwritable {
        path: folder.clone(),
        source,
    };
    let parent = folder.parent().unwrap_or(out);
    fs::create_dir_all(parent).map_err(unwritable)?;
    let unfinished = parent.join(format!(".{}.{}", report.seed, std::process::id()));
    let written = fill(&unfinished, scenario, report, played, again)
        .and_then(|()| replace(&unfinished, &folder));
    if let Err(source) = written {
        let _ = fs::remove_dir_all(&unfinished); // The first error is the one that matters.
        return Err(unwritable(source));
    }
    Ok(folder)
}

/// Removes the folder of an earlier run of that seed: it tells what is no longer so.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(out: &Path, scenario: &Scenario, seed: u64) -> Result<(), Error> {
    let folder = path(out, scenario, seed);
    match fs::remove_dir_all(&folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Unwritable {
            path: folder,
            source,
        }),
        _ => Ok(()),
    }
}

fn replace(unfinished: &Path, folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(unfinished, folder)
}

fn fill(
    folder: &Path,
    scenario: &Scenario,
    report: &SeedReport,
    played: &Played,
    again: &Again,
) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir(folder)?;
    let mut itself = scenario.clone();
    itself.seed = Some(report.seed);
    fs::write(folder.join("scenario.toml"), itself.to_toml())?;
    lines(&folder.join("history.jsonl"), &played.history)?;
    lines(&folder.join("events.jsonl"), &played.events)?;
    for (name, bytes) in &played.left {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, bytes)?;
    }
    let mut verdict = serde_json::to_string_pretty(&Judged::new(scenario, report, again))?;
    verdict.push('\n');
    fs::write(folder.join("verdict.json"), verdict)
}

fn lines<T: Serialize>(path: &Path, items: &[T]) -> io::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for item in items {
        serde_json::to_writer(&mut file, item)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// `verdict.json`.
#[derive(Serialize)]
struct Judged<'a> {
    scenario: &'a str,
    fencing: &'static str,
    seed: u64,
    ok_reads: u64,
    ok_writes: u64,
    failures: Vec<String>,
    guarantees: Vec<JudgedGuarantee<'a>>,
    replay: String,
}

#[derive(Serialize)]
struct JudgedGuarantee<'a> {
    guarantee: checker::Guarantee,
    expected: &'static str,
    #[serde(flatten)]
    verdict: &'a checker::Verdict,
}

impl<'a> Judged<'a> {
    fn new(scenario: &'a Scenario, report: &'a SeedReport, again: &Again) -> Self {
        let fencing = scenario.fencing();
        let judged =
            |(guarantee, verdict): &'a (checker::Guarantee, checker::Verdict)| JudgedGuarantee {
                guarantee: *guarantee,
                expected: scenario.expect.of(fencing, *guarantee).word(),
                verdict,
            };
        Self {
            scenario: &scenario.id,
            fencing: fencing.name(),
            seed: report.seed,
            ok_reads: report.ok_reads,
            ok_writes: report.ok_writes,
            failures: report.failures.iter().map(ToString::to_string).collect(),
            guarantees: report.verdicts.iter().map(judged).collect(),
            replay: again.command(scenario, report.seed),
        }
    }
}

/// How a run is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is run again from its seed.
    Replayed,
    /// It cannot be repeated: what is kept of it, in this folder of runs, is judged again.
    Judged(PathBuf),
}

impl Again {
    /// The one command for it.
    #[must_use]
    pub fn command(&self, scenario: &Scenario, seed: u64) -> String {
        match self {
            Self::Replayed => replay_command(scenario, seed),
            Self::Judged(out) => {
                let history = path(out, scenario, seed).join("history.jsonl");
                format!("cargo checker check {}", history.display())
            }
        }
    }
}

/// The one command that shows a run again.
#[must_use]
pub fn replay_command(scenario: &Scenario, seed: u64) -> String {
    let fencing = scenario.fencing().name();
    format!(
        "cargo sim replay {} --seed {seed} --fencing {fencing}",
        scenario.address
    )
}
