//! What must stay while a run is made smaller.

use std::collections::BTreeMap;
use std::fmt;

use checker::{Guarantee, Verdict};
use kv_core::Fencing;

use crate::play::Failure;
use crate::runner::SeedReport;
use crate::scenario::{Expectations, Expected, Scenario};

/// What a run shows and a smaller one must show, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// A guarantee breaks.
    Violated(Guarantee),
    /// A guarantee cannot be judged.
    Unknown(Guarantee),
    /// The run fails by itself, as this one or another of its name.
    Failed(Failure),
}

impl Symptom {
    /// The most telling one of a run: a guarantee that breaks, as the scenario expects if there is such a one; else a
    /// failure; else a guarantee that cannot be judged.
    pub(super) fn of(scenario: &Scenario, report: &SeedReport) -> Option<Self> {
        let expected = |guarantee: &Guarantee| {
            scenario.expect.of(scenario.fencing(), *guarantee) == Expected::Violated
        };
        let violated =
            |guarantee: &Guarantee| verdict(report, *guarantee).is_some_and(Verdict::is_violated);
        let mut all: Vec<Guarantee> = Guarantee::ALL.into_iter().filter(violated).collect();
        // A violation that clients see tells more than one that only logs show: the last ones in the list.
        all.sort_by_key(|guarantee| (!expected(guarantee), *guarantee != Guarantee::Linearizable));
        let failed = || {
            let mut failures = report.failures.iter().cloned().map(Self::Failed);
            failures.find(Self::can_shrink)
        };
        let unknown =
            |guarantee: &Guarantee| verdict(report, *guarantee).is_some_and(Verdict::is_unknown);
        let unknown = || Guarantee::ALL.into_iter().find(unknown).map(Self::Unknown);
        let violated = all.first().copied().map(Self::Violated);
        violated.or_else(failed).or_else(unknown)
    }

    /// Whether it makes sense to look for a smaller run that shows it.
    #[must_use]
    pub fn can_shrink(&self) -> bool {
        match self {
            Self::Violated(_) | Self::Unknown(_) => true,
            Self::Failed(failure) => !failure.is_vacuous(),
        }
    }

    /// Why a run shows it, in a sentence; nothing, where it does not.
    #[must_use]
    pub fn why(&self, report: &SeedReport) -> Option<String> {
        match self {
            Self::Violated(guarantee) => match verdict(report, *guarantee)? {
                Verdict::Violated(evidence) => Some(evidence.why.clone()),
                Verdict::Unknown(_) | Verdict::Holds => None,
            },
            Self::Unknown(guarantee) => match verdict(report, *guarantee)? {
                Verdict::Unknown(reason) => Some(reason.to_string()),
                Verdict::Violated(_) | Verdict::Holds => None,
            },
            Self::Failed(failure) => {
                let mut failures = report.failures.iter();
                let same = failures.find(|other| other.name() == failure.name());
                same.map(ToString::to_string)
            }
        }
    }

    /// What it is called where failures are counted.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Violated(guarantee) => guarantee.name().to_owned(),
            Self::Unknown(guarantee) => format!("{guarantee} unknown"),
            Self::Failed(failure) => failure.name(),
        }
    }

    /// What a scenario expects that is to show it.
    pub(super) fn expected(&self, fencing: Fencing) -> Expectations {
        let named = match self {
            Self::Violated(guarantee) => Some((*guarantee, Expected::Violated)),
            Self::Unknown(guarantee) => Some((*guarantee, Expected::Holds)),
            // Only who counts on recovery is told that there was none.
            Self::Failed(Failure::NotRecovered { .. }) => {
                Some((Guarantee::Recovery, Expected::Holds))
            }
            Self::Failed(_) => None,
        };
        let named: BTreeMap<Guarantee, Expected> = named.into_iter().collect();
        let mut expectations = Expectations::default();
        match fencing {
            Fencing::Epoch => expectations.epoch = named,
            Fencing::None => expectations.none = named,
        }
        expectations
    }
}

pub(super) fn verdict(report: &SeedReport, guarantee: Guarantee) -> Option<&Verdict> {
    let mut verdicts = report.verdicts.iter();
    let found = verdicts.find(|(judged, _)| *judged == guarantee);
    found.map(|(_, verdict)| verdict)
}

/// As the end of "it still …".
impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violated(guarantee) => write!(f, "violates {guarantee}"),
            Self::Unknown(guarantee) => write!(f, "leaves {guarantee} unknown"),
            Self::Failed(_) => f.write_str("fails by itself"),
        }
    }
}
