//! What an exploration came to, for people and for machines.

use serde_json::{Value, json};

use crate::bounds::Bounds;
use crate::exploration::{Counts, Ending, Findings, Verdict};
use crate::ledger::Promise;
use crate::story::Story;

/// How all went, in one word and one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every promise holds, everything was visited, and what must be reached was.
    Holds,
    /// Nothing is broken as far as it was seen.
    Unknown,
    /// Nothing is broken, but the bounds did not reach what would have shown that this means anything.
    Vacuous,
    /// A promise is broken.
    Violated,
}

impl Outcome {
    /// How findings are to be taken. Only the presets demand that everything be reached, and only where promises have to hold:
    /// smaller bounds cannot, which the table says.
    #[must_use]
    pub fn of(findings: &Findings, demands_all: bool) -> Self {
        let is_complete = findings.ending == Ending::Complete;
        let all_reached = findings
            .reached
            .iter()
            .all(|(mark, count)| *count > 0 || !mark.is_within(&findings.bounds));
        if findings.violated().next().is_some() {
            Self::Violated
        } else if !is_complete {
            Self::Unknown
        } else if demands_all && !all_reached {
            Self::Vacuous
        } else {
            Self::Holds
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::Vacuous | Self::Violated => 1,
            Self::Unknown => 3,
        }
    }

    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Vacuous => "vacuous",
            Self::Violated => "violated",
            Self::Unknown => "unknown",
        }
    }
}

/// A table of the properties, with the bounds above it and the counts below.
#[must_use]
pub fn text(findings: &Findings) -> String {
    let mut lines = vec![headline(&findings.bounds), String::new()];
    lines.push("always".to_owned());
    for (promise, verdict) in &findings.verdicts {
        let verdict = match verdict {
            Verdict::Holds => "holds".to_owned(),
            Verdict::HoldsSoFar => "not broken so far".to_owned(),
            Verdict::Violated(story) => format!("VIOLATED in {}", steps(story)),
        };
        lines.push(format!("  {:<WIDTH$} {verdict}", promise.name()));
    }
    lines.push("sometimes".to_owned());
    for (mark, count) in &findings.reached {
        let reached = match count {
            0 if !mark.is_within(&findings.bounds) => "not within these bounds".to_owned(),
            0 => "NEVER".to_owned(),
            count => format!("reached {} times", grouped(*count)),
        };
        lines.push(format!("  {:<WIDTH$} {reached}", mark.name()));
    }
    lines.push(String::new());
    lines.push(format!(
        "{}: {}",
        ending(findings.ending),
        counts(&findings.counts)
    ));
    lines.push(String::new());
    lines.join("\n")
}

const WIDTH: usize = 43;

/// How long a path is.
#[must_use]
pub fn steps(story: &Story) -> String {
    many(story.steps.len(), "step")
}

fn many(count: usize, one: &str) -> String {
    match (count, one) {
        (1, one) => format!("1 {one}"),
        (count, "crash") => format!("{count} crashes"),
        (count, "retry") => format!("{count} retries"),
        (count, one) => format!("{count} {one}s"),
    }
}

/// The bounds in two lines.
#[must_use]
pub fn headline(bounds: &Bounds) -> String {
    let election_quorum = bounds.election_quorum().unwrap_or_default();
    let fencing = bounds.fencing.name();
    let mut within = vec![
        many(bounds.writes.into(), "write"),
        many(bounds.epochs.into(), "epoch"),
        many(bounds.crashes.into(), "crash"),
        many(bounds.lost_sessions.into(), "lost session"),
        many(bounds.rollbacks.into(), "rollback"),
        many(bounds.releases.into(), "release"),
        many(bounds.retries.into(), "retry"),
        many(bounds.slow_syncs.into(), "slow sync"),
        many(bounds.reads.into(), "read"),
    ];
    within.push(
        if bounds.bad_clocks {
            "bad clocks"
        } else {
            "good clocks"
        }
        .to_owned(),
    );
    if !bounds.reduces {
        within.push("no reductions".to_owned());
    }
    if !bounds.symmetric {
        within.push("no symmetry".to_owned());
    }
    format!(
        "{} voters, Q = {}, E = {election_quorum}, fencing = {fencing}\nwithin {}",
        bounds.replicas,
        bounds.quorum,
        within.join(", ")
    )
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Complete => "complete",
        Ending::Found => "stopped at what was looked for",
        Ending::TimedOut => "NOT COMPLETE, the time was up",
    }
}

/// Counts in a line.
#[must_use]
pub fn counts(counts: &Counts) -> String {
    let of = if counts.processor.is_some() {
        "a CPU-second"
    } else {
        "a second"
    };
    format!(
        "{} states, {} unique, depth {}, {:.1} s ({} {of})",
        grouped(counts.states as u64),
        grouped(counts.unique as u64),
        counts.depth,
        counts.elapsed.as_secs_f64(),
        grouped(counts.rate()),
    )
}

/// A number with a comma every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// For machines.
#[must_use]
pub fn as_json(findings: &Findings, outcome: Outcome) -> Value {
    let bounds = &findings.bounds;
    let always = findings.verdicts.iter().map(|(promise, verdict)| {
        let name = promise.name();
        match verdict {
            Verdict::Holds => json!({ "property": name, "verdict": "holds" }),
            Verdict::HoldsSoFar => json!({ "property": name, "verdict": "unknown" }),
            Verdict::Violated(story) => json!({
                "property": name,
                "verdict": "violated",
                "steps": story.steps.len(),
                "trace": story.as_json(),
            }),
        }
    });
    let sometimes = findings
        .reached
        .iter()
        .map(|(mark, count)| json!({ "property": mark.name(), "reached": count }));
    let counts = &findings.counts;
    json!({
        "outcome": outcome.name(),
        "complete": findings.ending == Ending::Complete,
        "bounds": {
            "replicas": bounds.replicas,
            "quorum": bounds.quorum,
            "election_quorum": bounds.election_quorum().unwrap_or_default(),
            "fencing": bounds.fencing.name(),
            "writes": bounds.writes,
            "epochs": bounds.epochs,
            "crashes": bounds.crashes,
            "lost_sessions": bounds.lost_sessions,
            "rollbacks": bounds.rollbacks,
            "releases": bounds.releases,
            "retries": bounds.retries,
            "slow_syncs": bounds.slow_syncs,
            "reads": bounds.reads,
            "bad_clocks": bounds.bad_clocks,
            "reduction": bounds.reduces,
            "symmetry": bounds.symmetric,
        },
        "always": always.collect::<Vec<_>>(),
        "sometimes": sometimes.collect::<Vec<_>>(),
        "states": counts.states,
        "unique": counts.unique,
        "depth": counts.depth,
        "seconds": counts.elapsed.as_secs_f64(),
        "cpu_seconds": counts.processor.map(|time| time.as_secs_f64()),
        "states_per_cpu_second": counts.rate(),
    })
}

/// The promise whose story is told: the one that was looked for, or else the one that breaks first.
#[must_use]
pub fn headline_of(findings: &Findings, wanted: &[Promise]) -> Option<Promise> {
    let violated = |promise: &&Promise| findings.counterexample(**promise).is_some();
    let shortest = || {
        findings
            .violated()
            .min_by_key(|(_, story)| story.steps.len())
    };
    let wanted = wanted.iter().find(violated).copied();
    wanted.or_else(|| shortest().map(|(promise, _)| promise))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::Mark;

    #[test]
    fn what_must_be_reached_is_what_the_bounds_allow() {
        let outcome = |crashes, demands_all| {
            let count = |mark: &Mark| u64::from(*mark != Mark::Restarted);
            let findings = Findings {
                bounds: Bounds {
                    crashes,
                    ..Bounds::QUICK
                },
                verdicts: Vec::new(),
                reached: Mark::ALL.iter().map(|mark| (*mark, count(mark))).collect(),
                ending: Ending::Complete,
                counts: Counts::default(),
            };
            Outcome::of(&findings, demands_all)
        };
        assert_eq!(outcome(1, true), Outcome::Vacuous);
        assert_eq!(outcome(0, true), Outcome::Holds);
        assert_eq!(outcome(1, false), Outcome::Holds);
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123), "123");
        assert_eq!(grouped(1234), "1,234");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
