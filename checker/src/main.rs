//! `checker check HISTORY` judges a recorded history from anywhere; `checker explain` tells what is judged.
//!
//! Verdicts go to stdout, trouble with the input to stderr. The exit code says the worst of it: 0 all hold, 1 one is
//! violated, 2 the command or the input is wrong, 3 none is violated but one is unknown.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use checker::{
    Explanation, Guarantee, History, Limits, NodeEvent, Verdict, check_all, history::Outcome,
};
use clap::{Parser, Subcommand};
use serde_json::json;

const EXIT_VIOLATED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_UNKNOWN: u8 = 3;

/// How wide an explanation is at most.
const COLUMNS_MAX: usize = 88;

/// Judges recorded histories: session guarantees, quorum guarantees, linearizability.
#[derive(Parser)]
#[command(name = "checker", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge one history, a file of JSON lines.
    ///
    /// Exits with 0 if every guarantee asked for holds, 1 if one is violated, 2 if the input cannot be read, and 3 if
    /// none is violated but one is unknown.
    Check {
        /// The history: one event a line, {"process", "type", "f", "key", "value", "time"} and more.
        history: PathBuf,
        /// What the nodes recorded. Without it: events.jsonl beside the history, if it exists.
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
        /// A guarantee to judge; may be repeated. Without it: all that the input lets judge, which without node
        /// events is what clients can see by themselves.
        #[arg(long, value_name = "NAME")]
        guarantee: Vec<Guarantee>,
        /// Print one JSON object for machines.
        #[arg(long)]
        json: bool,
    },
    /// Tell what a guarantee means, where it comes from, what it needs and how it is proven broken.
    Explain {
        /// The guarantee; without it, all of them in a line each.
        guarantee: Option<Guarantee>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check {
            history,
            events,
            guarantee,
            json,
        } => check(&history, events, guarantee, json),
        Command::Explain { guarantee } => {
            println!("{}", guarantee.map_or_else(summaries, explain));
            Ok(0)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn check(
    path: &Path,
    events: Option<PathBuf>,
    asked: Vec<Guarantee>,
    json: bool,
) -> anyhow::Result<u8> {
    let history = History::read(path)?;
    let events_path = events
        .or_else(|| Some(path.with_file_name("events.jsonl")).filter(|beside| beside.exists()));
    let events = match &events_path {
        Some(path) => NodeEvent::read_all(path)?,
        None => Vec::new(),
    };
    let guarantees = if asked.is_empty() {
        default_guarantees(&history, events_path.is_some())
    } else {
        asked
    };
    let verdicts = check_all(&history, &events, &guarantees, &Limits::default());
    let text = if json {
        as_json(path, &verdicts)?
    } else {
        as_text(&history, &events, &verdicts)
    };
    println!("{text}");
    let code = match () {
        () if verdicts.iter().any(|(_, verdict)| verdict.is_violated()) => EXIT_VIOLATED,
        () if verdicts.iter().any(|(_, verdict)| verdict.is_unknown()) => EXIT_UNKNOWN,
        () => 0,
    };
    Ok(code)
}

/// Without node events, only what clients saw can be judged; what needs more must be asked for by name.
fn default_guarantees(history: &History, has_events: bool) -> Vec<Guarantee> {
    if has_events {
        return Guarantee::ALL.to_vec();
    }
    let has_versions = history
        .operations()
        .iter()
        .any(|operation| operation.is_ok() && operation.version.is_some());
    let is_seen_by_clients = |guarantee: &Guarantee| match guarantee {
        Guarantee::ReadYourWrites | Guarantee::MonotonicReads | Guarantee::Linearizable => true,
        Guarantee::MonotonicWrites | Guarantee::WritesFollowReads => has_versions,
        Guarantee::NoPhantom => history
            .operations()
            .iter()
            .any(|operation| operation.is_write() && operation.outcome == Outcome::Fail),
        _ => false,
    };
    let mut guarantees = Guarantee::ALL.to_vec();
    guarantees.retain(is_seen_by_clients);
    guarantees
}

fn summaries() -> String {
    let line = |guarantee: Guarantee| {
        let summary = guarantee.explanation().summary;
        format!("{guarantee:<24} {summary}\n")
    };
    let lines: String = Guarantee::ALL.into_iter().map(line).collect();
    format!("{lines}\nFor more: checker explain GUARANTEE")
}

fn explain(guarantee: Guarantee) -> String {
    let Explanation {
        summary,
        definition,
        source,
        needs,
        evidence,
    } = guarantee.explanation();
    let part = |title: &str, text: &str| format!("\n\n{title}\n{}", wrapped(text));
    [
        format!("{guarantee}: {summary}"),
        part("Definition", definition),
        part("Source", source),
        part("Needs", needs),
        part("Evidence of a violation", evidence),
    ]
    .concat()
}

/// The text in indented lines that a terminal shows whole.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= COLUMNS_MAX => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("  {word}")),
        }
    }
    lines.join("\n")
}

fn as_text(history: &History, events: &[NodeEvent], verdicts: &[(Guarantee, Verdict)]) -> String {
    let operations = history.operations().len();
    let ok = history
        .operations()
        .iter()
        .filter(|operation| operation.is_ok())
        .count();
    let mut lines = vec![format!(
        "{operations} operations ({ok} ok), {} node events",
        events.len()
    )];
    lines.extend(
        verdicts
            .iter()
            .map(|(guarantee, verdict)| format!("{guarantee:<24} {verdict}")),
    );
    let left_out = not_judged(verdicts);
    if !left_out.is_empty() {
        lines.push(format!(
            "not judged: {}; ask with --guarantee",
            left_out.join(", ")
        ));
    }
    lines.join("\n")
}

/// What was not judged is said, so that nobody takes silence for a verdict.
fn not_judged(verdicts: &[(Guarantee, Verdict)]) -> Vec<&'static str> {
    let is_judged = |guarantee: &Guarantee| verdicts.iter().any(|(judged, _)| judged == guarantee);
    Guarantee::ALL
        .iter()
        .filter(|guarantee| !is_judged(guarantee))
        .map(|guarantee| guarantee.name())
        .collect()
}

fn as_json(path: &Path, verdicts: &[(Guarantee, Verdict)]) -> anyhow::Result<String> {
    let judged: Vec<serde_json::Value> = verdicts
        .iter()
        .map(|(guarantee, verdict)| {
            let mut entry = json!({ "guarantee": guarantee });
            let fields = serde_json::to_value(verdict)?;
            if let (Some(entry), serde_json::Value::Object(fields)) =
                (entry.as_object_mut(), fields)
            {
                entry.extend(fields);
            }
            Ok(entry)
        })
        .collect::<Result<_, serde_json::Error>>()
        .context("the verdicts cannot be written as JSON")?;
    let history = path.display().to_string();
    Ok(
        json!({ "history": history, "verdicts": judged, "not_judged": not_judged(verdicts) })
            .to_string(),
    )
}
