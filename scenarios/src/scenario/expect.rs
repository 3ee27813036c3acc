//! What a scenario expects of each guarantee, under each protocol.

use std::collections::BTreeMap;
use std::fmt;

use checker::Guarantee;
use kv_core::Fencing;

/// What is expected of a guarantee over all seeds that are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Shown to hold in every seed.
    Holds,
    /// Violated in at least one of [`SEEDS_TO_SHOW_HARM`] seeds.
    Violated,
    /// Both may happen.
    Any,
}

/// A scenario that expects a violation shows it within so many seeds; fewer prove nothing either way.
pub const SEEDS_TO_SHOW_HARM: usize = 100;

impl Expected {
    /// All of them, with the word in a file.
    pub(super) const ALL: [(Self, &'static str); 3] = [
        (Self::Holds, "holds"),
        (Self::Violated, "violated"),
        (Self::Any, "any"),
    ];

    /// The word in a file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Violated => "violated",
            Self::Any => "any",
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The expectations that a scenario names, by protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Under `fencing = "epoch"`.
    pub epoch: BTreeMap<Guarantee, Expected>,
    /// Under `fencing = "none"`.
    pub none: BTreeMap<Guarantee, Expected>,
}

impl Expectations {
    /// What is expected of a guarantee, named or not.
    ///
    /// What is not named holds under `epoch`. Under `none` it may go either way, but for what that design does promise:
    /// a session reads its own writes as long as the writer stays the same.
    #[must_use]
    pub fn of(&self, fencing: Fencing, guarantee: Guarantee) -> Expected {
        let (named, unnamed) = match (fencing, guarantee) {
            (Fencing::Epoch, _) => (&self.epoch, Expected::Holds),
            (Fencing::None, Guarantee::ReadYourWritesStable) => (&self.none, Expected::Holds),
            (Fencing::None, _) => (&self.none, Expected::Any),
        };
        named.get(&guarantee).copied().unwrap_or(unnamed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_holds_under_epoch_and_may_break_under_none() {
        let mut expectations = Expectations::default();
        for guarantee in Guarantee::ALL {
            assert_eq!(expectations.of(Fencing::Epoch, guarantee), Expected::Holds);
        }
        let none = |guarantee| expectations.of(Fencing::None, guarantee);
        assert_eq!(none(Guarantee::NoLostWrite), Expected::Any);
        assert_eq!(none(Guarantee::ReadYourWritesStable), Expected::Holds);
        expectations
            .none
            .insert(Guarantee::NoLostWrite, Expected::Violated);
        assert_eq!(
            expectations.of(Fencing::None, Guarantee::NoLostWrite),
            Expected::Violated
        );
    }
}
