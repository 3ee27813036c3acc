//! The command line.
//!
//! Results go to stdout, progress and errors to stderr. Exit codes: 0 every promise holds within the bounds, 1 one is violated (or a
//! preset did not reach what it must), 2 usage, 3 the exploration was cut off.

mod flags;

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use stateright::Model;

use self::flags::Flags;
use crate::bounds::Bounds;
use crate::diagram;
use crate::error::Error;
use crate::exploration::{Counts, Findings, Plan, explore};
use crate::known::Known;
use crate::ledger::Promise;
use crate::report::{self, Outcome};
use crate::story::Story;
use crate::system::System;
use crate::travel;
use crate::watch::{Goal, Watch};

/// Explores the replication protocol exhaustively: the server's own replicas, and every order in which things can happen to them.
#[derive(Debug, Parser)]
#[command(name = "cargo model", bin_name = "cargo model", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 every property holds and everything within the bounds was visited, 1 one is violated, \
                          2 usage, 3 cut off before everything was visited.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Visits every state within the bounds, and judges the properties.
    ///
    /// A violation is told step by step, by the shortest way there is. Under `--fencing none` the search goes on until an acknowledged
    /// write is lost.
    #[command(after_help = EXIT_CODES)]
    Check {
        #[command(flatten)]
        flags: Flags,
        /// Print one JSON object for machines.
        #[arg(long)]
        json: bool,
        /// Write the violation step by step as JSON.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        /// Draw the violation as a space-time diagram.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// Write the violation as a scenario of real nodes, for `cargo sim replay FILE`.
        #[arg(long, value_name = "FILE")]
        scenario: Option<PathBuf>,
    },
    /// Writes down which situations there are at the quick bounds (roles, ranks of epochs, order of logs, what is committed), and
    /// which leads to which.
    Known {
        /// Where to.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Serves the states for walking through them in a browser, step by step.
    Explore {
        #[command(flatten)]
        flags: Flags,
        /// Where to listen.
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
        address: String,
    },
}

/// What the program does. Returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check {
            flags,
            json,
            trace,
            svg,
            scenario,
        } => {
            let files = Files {
                trace,
                svg,
                scenario,
            };
            check(&flags, json, &files)
        }
        Command::Known { out } => known(&out),
        Command::Explore { flags, address } => serve(&flags, &address),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(USAGE)
    })
}

const USAGE: u8 = 2;

/// Where a violation is written to.
struct Files {
    trace: Option<PathBuf>,
    svg: Option<PathBuf>,
    scenario: Option<PathBuf>,
}

impl Files {
    /// A long exploration does not end with a file that cannot be written.
    fn check_folders(&self) -> Result<(), Error> {
        for path in [&self.trace, &self.svg, &self.scenario]
            .into_iter()
            .flatten()
        {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            let found = folder.map_or(Ok(()), |folder| fs::read_dir(folder).map(|_| ()));
            found.map_err(|source| Error::Write {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    fn write(&self, bounds: Bounds, story: &Story, promise: Promise) -> Result<(), Error> {
        if let Some(path) = &self.trace {
            write(path, &format!("{:#}\n", story.as_json()))?;
        }
        if let Some(path) = &self.svg {
            write(path, &diagram::draw(story))?;
        }
        if let Some(path) = &self.scenario {
            write(path, &travel::scenario(&bounds, story, promise))?;
        }
        Ok(())
    }
}

fn check(flags: &Flags, as_json: bool, files: &Files) -> Result<ExitCode, Error> {
    let plans = flags.plans()?;
    files.check_folders()?;
    let mut worst = Outcome::Holds;
    let mut explorations = Vec::new();
    for plan in &plans {
        let findings = explore_visibly(plan)?;
        let outcome = Outcome::of(&findings, flags.demands_all());
        let headline = report::headline_of(&findings, looked_for(plan));
        if as_json {
            explorations.push(report::as_json(&findings, outcome));
        } else {
            print(&format!("{}\n", report::text(&findings)));
            if let Some(promise) = headline {
                print(&story(&findings, promise));
            }
            if outcome == Outcome::Vacuous {
                print(
                    "A preset must reach every `sometimes`: without them, that nothing breaks says little.\n",
                );
            }
        }
        if let Some(promise) = headline
            && let Some(story) = findings.counterexample(promise)
            && outcome > worst
        {
            files.write(plan.bounds, story, promise)?;
        }
        worst = worst.max(outcome);
    }
    if as_json {
        let all = json!({ "outcome": worst.name(), "explorations": explorations });
        print(&format!("{all:#}\n"));
    }
    Ok(ExitCode::from(worst.exit_code()))
}

fn looked_for(plan: &Plan) -> &[Promise] {
    match &plan.goal {
        Goal::Each(promises) => promises,
        Goal::Any(_) | Goal::Everything => &[],
    }
}

/// The violation, step by step.
fn story(findings: &Findings, promise: Promise) -> String {
    let Some(story) = findings.counterexample(promise) else {
        return String::new();
    };
    format!(
        "VIOLATED: {} ({}). The shortest way, in {}:\n\n{}",
        promise.name(),
        promise.meaning(),
        report::steps(story),
        story.text()
    )
}

/// How often it is told how far an exploration is, where nobody looks at a terminal.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Explores and tells on stderr how far it is: in one line that changes where a person looks, else in a line now and then.
fn explore_visibly(plan: &Plan) -> Result<Findings, Error> {
    if !std::io::stderr().is_terminal() {
        let mut told = Duration::ZERO;
        return explore(plan, &mut |counts: &Counts| {
            if counts.elapsed >= told + TELL_EVERY {
                told = counts.elapsed;
                eprintln!("{:.0?}: {}", counts.elapsed, report::counts(counts));
            }
        });
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}");
    bar.set_style(style.expect("the template is right"));
    let findings = explore(plan, &mut |counts: &Counts| {
        bar.set_message(report::counts(counts));
        bar.tick();
    });
    bar.finish_and_clear();
    findings
}

fn known(out: &Path) -> Result<ExitCode, Error> {
    let known = Known::explore(Bounds::QUICK)?;
    write(out, &format!("{}\n", known.to_json()))?;
    print(&format!(
        "{} situations, {} transitions\n",
        known.states.len(),
        known.transitions.len()
    ));
    Ok(ExitCode::SUCCESS)
}

fn serve(flags: &Flags, address: &str) -> Result<ExitCode, Error> {
    let plans = flags.plans()?;
    let plan = plans
        .first()
        .expect("a preset has at least one exploration");
    let refused = |source: io::Error| Error::Listen {
        address: address.to_owned(),
        source,
    };
    let free = TcpListener::bind(address).map_err(refused)?; // Stateright panics where nobody can listen.
    let real = free.local_addr().map_err(refused)?;
    drop(free);
    let bounds = Bounds {
        symmetric: false, // Paths are walked under their real names.
        ..plan.bounds
    };
    let watch = Watch::new(System::new(bounds)?, plan.judged.clone(), Goal::Everything);
    print(&format!(
        "{}\n\nWalk through it at http://{real}/ (Ctrl-C ends it).\n",
        report::headline(&plan.bounds)
    ));
    watch.with_examples().checker().serve(real);
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// Prints to stdout. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
