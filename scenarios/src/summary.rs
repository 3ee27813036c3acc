//! What many runs came to: per scenario and protocol, each guarantee against what is expected of it.

use std::fmt::Write;

use checker::{Guarantee, Verdict};
use serde::Serialize;

use crate::folder::Again;
use crate::runner::{Batch, SeedReport};
use crate::scenario::{Expected, SEEDS_TO_SHOW_HARM};

/// How something compares to what is expected of it. The later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All is as the scenario says.
    AsExpected,
    /// Something that must hold could not be judged.
    Unknown,
    /// Something broke that must hold, held that must break, or a run failed by itself.
    NotAsExpected,
}

impl Outcome {
    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::AsExpected => "as expected",
            Self::Unknown => "UNKNOWN",
            Self::NotAsExpected => "NOT AS EXPECTED",
        }
    }

    /// What the program exits with.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::AsExpected => 0,
            Self::NotAsExpected => 1,
            Self::Unknown => 3,
        }
    }
}

/// All batches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The worst of the batches.
    pub outcome: Outcome,
    /// The batches, in the order in which they were given.
    pub batches: Vec<BatchSummary>,
}

/// One scenario under one protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchSummary {
    /// The scenario.
    pub scenario: String,
    /// The protocol.
    pub fencing: &'static str,
    /// How many seeds ran.
    pub seeds: usize,
    /// The fewest acknowledged operations of a seed.
    pub ok_min: u64,
    /// The mean of the acknowledged operations of a seed.
    pub ok_mean: f64,
    /// The worst of what follows.
    pub outcome: Outcome,
    /// Every guarantee.
    pub guarantees: Vec<Tally>,
    /// Seeds that failed by themselves, and why.
    pub failed: Vec<FailedSeed>,
    /// The command that shows the first seed that deserves a look.
    pub replay: Option<String>,
}

/// A guarantee over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tally {
    /// Which.
    pub guarantee: Guarantee,
    /// What is expected.
    pub expected: &'static str,
    /// In how many seeds it was shown to hold.
    pub holds: usize,
    /// In how many it was shown to be broken.
    pub violated: usize,
    /// In how many nothing could be shown.
    pub unknown: usize,
    /// The first seed in which it was broken.
    pub first_violated: Option<u64>,
    /// The first seed in which nothing could be shown.
    pub first_unknown: Option<u64>,
    /// Against what is expected.
    pub outcome: Outcome,
}

/// A seed that failed by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailedSeed {
    /// The seed.
    pub seed: u64,
    /// Why, one reason a line.
    pub why: Vec<String>,
}

impl Summary {
    /// Sums up what [`run_all`](crate::runner::run_all) returned for the batches.
    #[must_use]
    pub fn new(batches: &[Batch], reports: &[Vec<SeedReport>], again: &Again) -> Self {
        let batches: Vec<BatchSummary> = batches
            .iter()
            .zip(reports)
            .map(|(batch, reports)| BatchSummary::new(batch, reports, again))
            .collect();
        let outcome = batches.iter().map(|batch| batch.outcome).max();
        Self {
            outcome: outcome.unwrap_or(Outcome::AsExpected),
            batches,
        }
    }

    /// The summary as people read it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for batch in &self.batches {
            batch.write(&mut text).expect("a string takes everything");
        }
        let runs: usize = self.batches.iter().map(|batch| batch.seeds).sum();
        let good = self
            .batches
            .iter()
            .filter(|batch| batch.outcome == Outcome::AsExpected)
            .count();
        let all = self.batches.len();
        writeln!(
            text,
            "\n{good} of {all} as expected, {runs} runs: {}",
            self.outcome.text()
        )
        .expect("a string takes everything");
        text
    }
}

impl BatchSummary {
    fn new(batch: &Batch, reports: &[SeedReport], again: &Again) -> Self {
        let (scenario, fencing) = (&batch.scenario, batch.scenario.fencing());
        let tally =
            |guarantee| Tally::new(guarantee, scenario.expect.of(fencing, guarantee), reports);
        let guarantees: Vec<Tally> = Guarantee::ALL.into_iter().map(tally).collect();
        let failed: Vec<FailedSeed> = reports
            .iter()
            .filter(|report| !report.failures.is_empty())
            .map(|report| FailedSeed {
                seed: report.seed,
                why: report.failures.iter().map(ToString::to_string).collect(),
            })
            .collect();
        let of_failed = if failed.is_empty() {
            Outcome::AsExpected
        } else {
            Outcome::NotAsExpected
        };
        let outcome = guarantees
            .iter()
            .map(|tally| tally.outcome)
            .fold(of_failed, Ord::max);
        let oks = reports.iter().map(SeedReport::ok);
        Self {
            scenario: scenario.id.clone(),
            fencing: fencing.name(),
            seeds: reports.len(),
            ok_min: oks.clone().min().unwrap_or(0),
            ok_mean: oks.sum::<u64>() as f64 / reports.len().max(1) as f64,
            outcome,
            replay: first_of_interest(&guarantees, &failed)
                .map(|seed| again.command(scenario, seed)),
            guarantees,
            failed,
        }
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self {
            scenario,
            fencing,
            seeds,
            ok_min,
            ok_mean,
            outcome,
            ..
        } = self;
        let outcome = outcome.text();
        writeln!(
            text,
            "{scenario:<30} {fencing:<6} {seeds:>5} seeds  ok min {ok_min:>4} mean {ok_mean:>6.1}  {outcome}"
        )?;
        for tally in self
            .guarantees
            .iter()
            .filter(|tally| tally.is_worth_a_line())
        {
            tally.write(text, self.seeds)?;
        }
        for failed in self.failed.iter().take(FAILED_SHOWN_MAX) {
            writeln!(
                text,
                "    seed {} failed: {}",
                failed.seed,
                failed.why.join("; ")
            )?;
        }
        if self.failed.len() > FAILED_SHOWN_MAX {
            writeln!(
                text,
                "    and {} more seeds failed",
                self.failed.len() - FAILED_SHOWN_MAX
            )?;
        }
        match &self.replay {
            Some(replay) => writeln!(text, "    replay: {replay}"),
            None => Ok(()),
        }
    }
}

/// How many failed seeds are told one by one.
const FAILED_SHOWN_MAX: usize = 3;

/// The seed to look at first: one that is not as expected, else a violated one, else one that nobody could judge.
fn first_of_interest(guarantees: &[Tally], failed: &[FailedSeed]) -> Option<u64> {
    let unexpected = guarantees
        .iter()
        .filter(|tally| tally.expected == Expected::Holds.word());
    let unexpected = unexpected.filter_map(|tally| tally.first_violated);
    let first_unexpected = unexpected
        .chain(failed.iter().map(|failed| failed.seed))
        .min();
    let first_violated = guarantees
        .iter()
        .filter_map(|tally| tally.first_violated)
        .min();
    let first_unknown = guarantees
        .iter()
        .filter_map(|tally| tally.first_unknown)
        .min();
    first_unexpected.or(first_violated).or(first_unknown)
}

impl Tally {
    fn new(guarantee: Guarantee, expected: Expected, reports: &[SeedReport]) -> Self {
        let (mut holds, mut violated, mut unknown) = (0, 0, 0);
        let (mut first_violated, mut first_unknown) = (None, None);
        for report in reports {
            let verdict = report
                .verdicts
                .iter()
                .find(|(judged, _)| *judged == guarantee);
            match verdict.map(|(_, verdict)| verdict) {
                Some(Verdict::Holds) => holds += 1,
                Some(Verdict::Violated(_)) => {
                    violated += 1;
                    first_violated.get_or_insert(report.seed);
                }
                Some(Verdict::Unknown(_)) => {
                    unknown += 1;
                    first_unknown.get_or_insert(report.seed);
                }
                None => {} // The run failed by itself, and says so.
            }
        }
        let outcome = match expected {
            Expected::Holds if violated > 0 => Outcome::NotAsExpected,
            Expected::Holds if unknown > 0 => Outcome::Unknown,
            Expected::Violated if violated == 0 && reports.len() >= SEEDS_TO_SHOW_HARM => {
                Outcome::NotAsExpected
            }
            Expected::Holds | Expected::Violated | Expected::Any => Outcome::AsExpected,
        };
        Self {
            guarantee,
            expected: expected.word(),
            holds,
            violated,
            unknown,
            first_violated,
            first_unknown,
            outcome,
        }
    }

    /// What simply holds, as it should, needs no line of its own.
    fn is_worth_a_line(&self) -> bool {
        self.violated + self.unknown > 0 || self.expected == Expected::Violated.word()
    }

    fn write(&self, text: &mut String, seeds: usize) -> std::fmt::Result {
        let Self {
            guarantee,
            violated,
            unknown,
            expected,
            ..
        } = self;
        write!(
            text,
            "    {guarantee:<25} violated in {violated} of {seeds}"
        )?;
        if *unknown > 0 {
            write!(text, ", unknown in {unknown}")?;
        }
        let too_few = *expected == Expected::Violated.word() && seeds < SEEDS_TO_SHOW_HARM;
        if too_few && *violated == 0 {
            return writeln!(
                text,
                " (expected: violated, within {SEEDS_TO_SHOW_HARM} seeds)"
            );
        }
        writeln!(text, " (expected: {expected})")
    }
}
