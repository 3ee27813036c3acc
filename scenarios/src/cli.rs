//! The command line.
//!
//! Results go to stdout, the progress bar and errors to stderr. Exit codes: 0 as expected, 1 not as expected, 2 usage or
//! unreadable input, 3 something that must hold could not be judged.

mod colour;
mod seeds;
mod shrink;
mod soak;
mod stop;
#[cfg(not(madsim))]
mod up;
mod world;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kv_core::Fencing;
use model::known::Known;
use serde_json::json;

use self::seeds::Seeds;
#[cfg(not(madsim))]
use self::world::WorldFlag;
use self::world::WorldFlags;
use crate::coverage::{Coverage, Report};
use crate::error::Error;
use crate::folder::Again;
use crate::matrix::Matrix;
use crate::play::Played;
use crate::runner::{Batch, Options, check_supported, run_all, run_seed};
use crate::scenario::{SEEDS_TO_SHOW_HARM, Scenario};
use crate::story::Around;
use crate::summary::Summary;
use crate::world::Stage;
use crate::{story, suite};

/// Runs a distributed store, breaks its world on purpose, and judges what the clients saw.
///
/// Without a command: every scenario of the suite that the world can play, and a summary; in the simulator under both protocols.
/// The worlds local and docker are in `cargo scenarios`, the simulator is `cargo sim`.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    bin_name = PROGRAM,
    version,
    args_conflicts_with_subcommands = true
)]
#[command(after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

/// What people call this build.
const PROGRAM: &str = if cfg!(madsim) {
    "cargo sim"
} else {
    "cargo scenarios"
};

const EXIT_CODES: &str = "Exit codes: 0 all as expected, 1 not as expected, 2 usage or unreadable input, \
                          3 something that must hold could not be judged.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the scenarios of the suite, one line each, its name first.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Runs a scenario over many seeds, and sums up.
    #[command(after_help = EXIT_CODES)]
    Run {
        /// A scenario of the suite by its name, or a scenario file by its path; or several of them.
        #[arg(value_name = "NAME|FILE", required = true)]
        scenarios: Vec<String>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Starts a cluster of real processes or containers to play with, and leaves it running.
    #[cfg(not(madsim))]
    Up(up::UpFlags),
    /// Removes every trace of such clusters, and of whatever earlier runs have left behind.
    #[cfg(not(madsim))]
    Down(up::DownFlags),
    /// Owns a cluster for `up`.
    #[cfg(not(madsim))]
    #[command(hide = true)]
    Keep(up::UpFlags),
    /// Runs one seed and tells it event by event, with the verdict and its evidence.
    #[command(
        after_help = "Exit codes: 0 every guarantee holds, 1 one is violated or the run failed, \
                            2 usage or unreadable input, 3 one could not be judged."
    )]
    Replay {
        /// A scenario of the suite by its name, or a scenario file by its path.
        #[arg(value_name = "NAME|FILE")]
        scenario: String,
        /// Which run; the file of a kept run names its own.
        #[arg(long)]
        seed: Option<u64>,
        /// Which protocol; what the file says, if nothing is given.
        #[arg(long)]
        fencing: Option<FencingFlag>,
        /// Only what matters for this: `verdict`, a key, a time such as 12.5s, or the index of an event.
        #[arg(long, value_name = "EVIDENCE")]
        around: Option<Around>,
    },
    /// Makes a failing run small: writes a scenario file that breaks the same guarantee by itself.
    #[command(
        after_help = "Exit codes: 0 the file is written, 2 usage, unreadable input, or nothing is violated."
    )]
    Shrink(shrink::ShrinkFlags),
    /// Runs fresh random seeds until stopped, sums up, and keeps every failure with a small scenario that reproduces it.
    #[command(
        after_help = "Exit codes: 0 nothing found, 1 something found, 2 usage or unreadable input."
    )]
    Soak(soak::SoakFlags),
    /// Joins what several machines found: one line for each kind of failure.
    #[command(
        after_help = "Exit codes: 0 nothing found, 1 something found, 2 usage or unreadable input."
    )]
    Merge(soak::MergeFlags),
}

#[derive(Debug, Args)]
struct Flags {
    /// Which seeds: A..B or A..=B, both ends included, so that 1..1000 are a thousand [default: 1..100; in a real world 1 for a
    /// scenario and 1..5 for the suite].
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// A single seed.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Only this protocol. Without it, the suite runs both (in a real world `epoch`) and a single scenario the one that its file says.
    #[arg(long)]
    fencing: Option<FencingFlag>,
    /// How many runs at once [default: one a core; in a real world 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// The summary as JSON.
    #[arg(long)]
    json: bool,
    /// Keep the folder of every run, not only of those in which something broke.
    #[arg(long)]
    keep_all: bool,
    /// Also tell how much of the model's space the runs have visited, and list what they never did.
    ///
    /// Situations of shards with three voters and Q = 2 under epoch (who writes, and how epochs, log ends and what is committed stand to
    /// each other), against those that `cargo model` reaches at its quick bounds. All of it goes to coverage.json beside the runs.
    #[arg(long)]
    coverage: bool,
    /// Where runs are kept in which something broke: DIR/NAME/FENCING/SEED/ [default: `runs` in the repository].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many times as often as the file says clients ask, from 0.1 to 100 [default: 1; in a real world 8].
    #[arg(long, value_name = "FACTOR", value_parser = pace)]
    pace: Option<f64>,
    #[command(flatten)]
    world: WorldFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FencingFlag {
    /// Fenced by epochs: what every guarantee must hold under.
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

/// What the program does. Returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(not(madsim))]
    if wants_simulator(&arguments) {
        return ended(world::hand_over().map_err(Error::NoCargo));
    }
    let done = match arguments {
        Arguments {
            command: None,
            flags,
        } => run_suite(&flags),
        Arguments {
            command: Some(Command::List { json }),
            ..
        } => list(json),
        Arguments {
            command: Some(Command::Run { scenarios, flags }),
            ..
        } => run_some(&scenarios, &flags),
        Arguments {
            command:
                Some(Command::Replay {
                    scenario,
                    seed,
                    fencing,
                    around,
                }),
            ..
        } => replay(&scenario, seed, fencing.map(Fencing::from), around.as_ref()),
        #[cfg(not(madsim))]
        Arguments {
            command: Some(Command::Up(flags)),
            ..
        } => up::up(&flags),
        #[cfg(not(madsim))]
        Arguments {
            command: Some(Command::Down(flags)),
            ..
        } => up::down(&flags),
        #[cfg(not(madsim))]
        Arguments {
            command: Some(Command::Keep(flags)),
            ..
        } => up::keep(&flags),
        Arguments {
            command: Some(Command::Shrink(flags)),
            ..
        } => shrink::run(&flags),
        Arguments {
            command: Some(Command::Soak(flags)),
            ..
        } => soak::run(&flags),
        Arguments {
            command: Some(Command::Merge(flags)),
            ..
        } => soak::merge(&flags),
    };
    ended(done)
}

fn ended(done: Result<ExitCode, Error>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(USAGE)
    })
}

/// Whether runs are asked for that another build of this program plays.
#[cfg(not(madsim))]
fn wants_simulator(arguments: &Arguments) -> bool {
    let flags = match &arguments.command {
        None => &arguments.flags,
        Some(Command::Run { flags, .. }) => flags,
        Some(_) => return false,
    };
    flags.world.world == Some(WorldFlag::Sim)
}

const USAGE: u8 = 2;

fn list(json: bool) -> Result<ExitCode, Error> {
    let scenarios = suite::all()?;
    let text = if json {
        let one = |scenario: &Scenario| json!({ "name": scenario.id, "title": scenario.title });
        let mut text = format!("{:#}", json!(scenarios.iter().map(one).collect::<Vec<_>>()));
        text.push('\n');
        text
    } else {
        let lines = scenarios
            .iter()
            .map(|scenario| format!("{:<30} {}\n", scenario.id, scenario.title));
        lines.collect()
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn run_suite(flags: &Flags) -> Result<ExitCode, Error> {
    let stage = flags.world.stage()?;
    let mut batches = Vec::new();
    for scenario in suite::all()? {
        let fencings = match (flags.fencing, stage.is_real()) {
            (Some(fencing), _) => vec![fencing.into()],
            (None, true) => vec![Fencing::Epoch],
            (None, false) => vec![Fencing::Epoch, Fencing::None],
        };
        let all = fencings.into_iter();
        let all: Vec<Batch> = all
            .map(|fencing| batch(scenario.under(fencing), flags, SUITE_RUNS, &*stage))
            .collect();
        match check_supported(&*stage, &all) {
            Err(refusal) if stage.is_real() => eprintln!("left out: {refusal}"),
            Err(refusal) => return Err(refusal),
            Ok(()) => batches.extend(all),
        }
    }
    run(batches, flags, Shown::Matrix, &*stage)
}

/// How many runs each scenario gets where all of them are played in a real world.
const SUITE_RUNS: u64 = 5;
/// How many times as often as their file says clients ask in a real world, where no second can be saved.
const REAL_PACE: f64 = 8.0;

fn pace(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok();
    let factor = factor.filter(|factor| (0.1..=100.0).contains(factor));
    factor.ok_or_else(|| "a number from 0.1 to 100".to_owned())
}

/// What is shown of many runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// The summary.
    Summary,
    /// The matrix as well, which is also kept.
    Matrix,
}

fn run_some(names_or_files: &[String], flags: &Flags) -> Result<ExitCode, Error> {
    let scenarios = names_or_files
        .iter()
        .map(|name_or_file| suite::find(name_or_file));
    let scenarios: Vec<Scenario> = scenarios.collect::<Result<_, Error>>()?;
    let stage = flags.world.stage()?;
    let mut batches = Vec::new();
    for scenario in scenarios {
        let fencing = flags.fencing.map_or(scenario.fencing(), Fencing::from);
        batches.push(batch(scenario.under(fencing), flags, 1, &*stage));
    }
    check_supported(&*stage, &batches)?;
    run(batches, flags, Shown::Summary, &*stage)
}

/// The runs of a scenario; of a real one so many, unless it is said which.
fn batch(mut scenario: Scenario, flags: &Flags, real_runs: u64, stage: &dyn Stage) -> Batch {
    let (runs, pace) = match stage.is_real() {
        true => (real_runs, REAL_PACE),
        false => (SEEDS_TO_SHOW_HARM as u64, 1.0),
    };
    let seeds = match (flags.seed, &flags.seeds, scenario.seed) {
        (Some(seed), _, _) | (None, None, Some(seed)) => vec![seed],
        (None, Some(seeds), _) => seeds.iter().collect(),
        (None, None, None) => (1..=runs).collect(),
    };
    scenario.workload.ops_per_second *= flags.pace.unwrap_or(pace);
    Batch {
        scenario: Arc::new(scenario),
        seeds,
    }
}

fn run(
    batches: Vec<Batch>,
    flags: &Flags,
    shown: Shown,
    stage: &dyn Stage,
) -> Result<ExitCode, Error> {
    stage.prepare()?;
    let cores = available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = if stage.is_real() { 1 } else { cores };
    let out = flags.out.clone().unwrap_or_else(runs_folder);
    let (out, again) = match stage.is_real() {
        true => (
            out.join(stage.name()),
            Again::Judged(out.join(stage.name())),
        ),
        false => (out, Again::Replayed),
    };
    let options = Options {
        jobs: flags.jobs.map_or(jobs, usize::from),
        keep_all: flags.keep_all || stage.is_real(),
        out: Some(out),
        again,
    };
    let total: usize = batches.iter().map(|batch| batch.seeds.len()).sum();
    let bar = ProgressBar::new(total as u64); // On stderr, and only where a person looks.
    let style =
        ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {pos}/{len} runs, {eta} left");
    bar.set_style(style.expect("the template is right").progress_chars("=> "));
    let coverage = Mutex::new(Coverage::default());
    let done = |scenario: &Scenario, seed: u64, played: &Played| {
        if flags.coverage {
            let visited = Coverage::of_run(scenario, seed, &played.events);
            let mut coverage = coverage.lock().unwrap_or_else(PoisonError::into_inner);
            coverage.merge(visited);
        }
        bar.inc(1);
    };
    let reports = run_all(stage, &batches, &options, &done);
    bar.finish_and_clear();
    let summary = Summary::new(&batches, &reports?, &options.again);
    let matrix = Matrix::new(&summary);
    if let (Shown::Matrix, Some(out)) = (shown, &options.out) {
        matrix.write(out)?;
    }
    let coverage = coverage
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let out = options.out.filter(|_| flags.coverage);
    let covered = out.map(|out| covered(&coverage, &out)).transpose()?;
    match (flags.json, shown) {
        (true, _) => {
            let mut all = json!(summary);
            if let Some((report, _)) = &covered {
                all["coverage"] = json!(report);
            }
            print(&format!("{all:#}\n"));
        }
        (false, Shown::Summary) => print(&summary.text()),
        (false, Shown::Matrix) => print(&format!("{}\n{}", summary.text(), matrix.text())),
    }
    if let Some((_, text)) = covered.filter(|_| !flags.json) {
        print(&format!("\n{text}"));
    }
    Ok(ExitCode::from(summary.outcome.exit_code()))
}

/// What was visited against what is known, which is also kept, and what people are told of it.
fn covered(coverage: &Coverage, out: &Path) -> Result<(Option<Report>, String), Error> {
    let Some(report) = coverage.against(&Known::quick()) else {
        let text = "model coverage: none: no run has a shard of three voters with Q = 2 under epoch, of which the model's quick bounds are\n";
        return Ok((None, text.to_owned()));
    };
    let text = report.text(&report.write(out)?);
    Ok((Some(report), text))
}

fn replay(
    name_or_file: &str,
    seed: Option<u64>,
    fencing: Option<Fencing>,
    around: Option<&Around>,
) -> Result<ExitCode, Error> {
    let scenario = suite::find(name_or_file)?;
    let Some(seed) = seed.or(scenario.seed) else {
        return Err(Error::WhichSeed {
            address: scenario.address,
        });
    };
    let fencing = fencing.unwrap_or(scenario.fencing());
    let scenario = Arc::new(scenario.under(fencing)).drawn(seed);
    let stage = world::simulated()?;
    check_supported(
        &*stage,
        &[Batch {
            scenario: scenario.clone(),
            seeds: vec![seed],
        }],
    )?;
    let (report, played) = run_seed(&*stage, &scenario, seed);
    let story = match around {
        None => story::tell(&scenario, &report, &played),
        Some(around) => {
            let told = story::tell_around(around, &scenario, &report, &played);
            told.ok_or_else(|| Error::NothingThere {
                around: around.to_string(),
            })?
        }
    };
    print(&colour::for_people(story));
    let violated = report
        .verdicts
        .iter()
        .any(|(_, verdict)| verdict.is_violated());
    let unknown = report
        .verdicts
        .iter()
        .any(|(_, verdict)| verdict.is_unknown());
    Ok(ExitCode::from(
        match (violated || !report.failures.is_empty(), unknown) {
            (true, _) => 1,
            (false, true) => 3,
            (false, false) => 0,
        },
    ))
}

/// `runs` at the top of the repository, from wherever the program is called; here, if the repository has moved.
fn runs_folder() -> PathBuf {
    repository().join("runs")
}

fn repository() -> &'static Path {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let repository = repository.filter(|repository| repository.is_dir());
    repository.unwrap_or(Path::new("."))
}

/// Where real clusters live while they run, wherever their runs are kept.
#[cfg(not(madsim))]
fn sites_folder() -> PathBuf {
    runs_folder().join(".sites")
}

/// Prints to stdout. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
