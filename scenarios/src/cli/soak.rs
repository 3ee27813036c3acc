//! `cargo sim soak` and `cargo sim merge`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
use kv_core::Fencing;
use serde_json::json;

use super::{FencingFlag, print, runs_folder, stop, world};
use crate::error::Error;
use crate::runner::{Batch, check_supported};
use crate::scenario::{Length, Scenario};
use crate::soak::{self, Keep, Plan, Tally};
use crate::suite;

/// What to run for how long.
#[derive(Debug, Args)]
pub(super) struct SoakFlags {
    /// Scenarios of the suite or scenario files; without any, the whole suite.
    #[arg(value_name = "NAME|FILE")]
    scenarios: Vec<String>,
    /// How long, such as 1h; without it, until it is stopped with Ctrl-C. What was found by then is in the folder. A second
    /// Ctrl-C does not wait for the runs that have begun.
    #[arg(long = "for", value_name = "LENGTH")]
    length: Option<Length>,
    /// The most runs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Which part of the seeds, such as 3/16: the parts 0/16 to 15/16 of one --start share none.
    #[arg(long, value_name = "K/N", default_value = "0/1")]
    shard: Part,
    /// The first seed [default: a random one].
    #[arg(long, value_name = "N")]
    start: Option<u64>,
    /// Which protocol.
    #[arg(long, default_value = "epoch")]
    fencing: FencingFlag,
    /// Which runs are kept: those with something `unexpected` by their scenario, or all in which anything is `violated`.
    #[arg(long, value_name = "unexpected|violated", default_value = "unexpected")]
    keep: Keep,
    /// How many runs at once [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Where failures are kept [default: `runs/soak` in the repository].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What findings say of the program's commit [default: that of the repository in which it was built].
    #[arg(long, value_name = "ID")]
    commit: Option<String>,
}

/// What to join.
#[derive(Debug, Args)]
pub(super) struct MergeFlags {
    /// The folders of soaks.
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Writes what they found as one folder, too: a new one, which can itself be joined with others.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One part of several.
#[derive(Clone, Copy, Debug)]
struct Part {
    index: u64,
    count: u64,
}

/// A text that is no part.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this is no part; write its number from 0 on and how many there are, such as 3/16")]
struct NoPart;

impl FromStr for Part {
    type Err = NoPart;

    fn from_str(text: &str) -> Result<Self, NoPart> {
        let (index, count) = text.split_once('/').ok_or(NoPart)?;
        let index = index.trim().parse().map_err(|_| NoPart)?;
        let count = count.trim().parse().map_err(|_| NoPart)?;
        (index < count)
            .then_some(Self { index, count })
            .ok_or(NoPart)
    }
}

/// Soaks, and says what was found.
pub(super) fn run(flags: &SoakFlags) -> Result<ExitCode, Error> {
    let fencing = Fencing::from(flags.fencing);
    let named = flags.scenarios.iter().map(|name| suite::find(name));
    let scenarios: Vec<Scenario> = if flags.scenarios.is_empty() {
        suite::all()?
    } else {
        named.collect::<Result<_, _>>()?
    };
    let scenarios = scenarios
        .iter()
        .map(|scenario| scenario.under(fencing).into());
    let scenarios: Vec<Arc<Scenario>> = scenarios.collect();
    let stage = world::simulated()?;
    let batch = |scenario: &Arc<Scenario>| Batch {
        scenario: scenario.clone(),
        seeds: Vec::new(),
    };
    let batches: Vec<Batch> = scenarios.iter().map(batch).collect();
    check_supported(&*stage, &batches)?;
    // Far from the small seeds that everybody tries, and short enough to be typed.
    let start = flags.start.unwrap_or_else(|| fresh() >> 24);
    let cores = available_parallelism().map_or(1, std::num::NonZero::get);
    let plan = Plan {
        scenarios,
        start,
        shard: (flags.shard.index, flags.shard.count),
        runs_max: flags.runs,
        jobs: flags.jobs.map_or(cores, usize::from),
        keep: flags.keep,
        out: flags
            .out
            .clone()
            .unwrap_or_else(|| runs_folder().join("soak")),
        commit: flags.commit.clone().unwrap_or_else(commit),
    };
    soak::open(&plan.out)?; // Before anything is said: a folder of another version is a usage error.
    let asked = stop::requested().map_err(Error::NoSignals)?;
    let (index, count, out) = (flags.shard.index, flags.shard.count, plan.out.display());
    print(&format!(
        "soak: seeds from {start}, part {index}/{count}, into {out}\n"
    ));
    let bar = ProgressBar::new_spinner(); // On stderr, and only where a person looks.
    let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}");
    bar.set_style(style.expect("the template is right"));
    let is_over = || flags.length.is_some_and(|length| bar.elapsed() >= length.0);
    let stop = || asked.load(Ordering::Relaxed) || is_over();
    let tally = soak::soak(&*stage, &plan, &stop, &|tally| {
        bar.set_message(format!("{} runs, {} found", tally.runs, tally.found));
        bar.tick();
    });
    let elapsed = bar.elapsed();
    bar.finish_and_clear();
    let tally = tally?;
    print(&told(&tally, elapsed, &plan.out));
    Ok(ExitCode::from(u8::from(tally.found > 0)))
}

/// What came out, for people.
fn told(tally: &Tally, elapsed: Duration, out: &Path) -> String {
    let Tally {
        runs,
        found,
        seeds,
        kinds,
    } = tally;
    let elapsed = FormattedDuration(elapsed);
    let mut text = format!("{runs} runs in {elapsed}, {found} found");
    if let Some((low, high)) = seeds {
        text += &format!(", seeds {low} to {high}");
    }
    text += "\n";
    for ((scenario, what), count) in kinds {
        text += &format!("{count:>6}  {scenario:<28} {what}\n");
    }
    if *found > 0 {
        text += &format!("kept in {}\n", out.join("found").display());
    }
    text
}

/// A number that nobody chose: a soak is about runs that nobody has seen. Each `RandomState` has random keys.
fn fresh() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The commit of the repository that this program was built in.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]);
    let output = git.output().ok().filter(|output| output.status.success());
    let commit = output.and_then(|output| String::from_utf8(output.stdout).ok());
    commit.map_or("unknown".to_owned(), |commit| commit.trim().to_owned())
}

/// Joins folders, and prints one line for each kind of failure.
pub(super) fn merge(flags: &MergeFlags) -> Result<ExitCode, Error> {
    let kinds = match &flags.out {
        None => soak::merge(&flags.folders)?,
        Some(out) => {
            soak::write_joined(&flags.folders, out)?;
            soak::merge(std::slice::from_ref(out))?
        }
    };
    if flags.json {
        print(&format!("{:#}\n", json!(kinds)));
    } else if kinds.is_empty() {
        print("nothing was found\n");
    } else {
        print(&soak::table(&kinds));
    }
    Ok(ExitCode::from(u8::from(!kinds.is_empty())))
}
