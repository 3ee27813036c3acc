//! What a client does next: which operation, on which key. All of it is drawn from a seed.

use std::str::FromStr;

use bytes::Bytes;
use clap::ValueEnum;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::distr::Distribution as _;
use rand::rngs::StdRng;
use rand_distr::Zipf;

/// The digits of a number that every value begins with.
pub(super) const NUMBER_DIGITS: usize = 20;

/// What stands after the number in a value.
const FILLER: u8 = b'.';

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Set,
    Delete,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub(super) const ALL: [Self; 3] = [Self::Get, Self::Set, Self::Delete];

    /// Its name, in a mix and in results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
        }
    }
}

/// How often each kind is drawn, in parts of their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    /// By the order of [`Kind::ALL`].
    weights: [u32; 3],
}

impl Mix {
    fn draw(self, rng: &mut StdRng) -> Kind {
        let mut rest = rng.random_range(0..self.weights.iter().sum());
        for (kind, weight) in Kind::ALL.into_iter().zip(self.weights) {
            if rest < weight {
                return kind;
            }
            rest -= weight;
        }
        unreachable!("the number that was drawn is below the sum")
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Reads `get=50,set=40,delete=10`; a kind that is not named is not done.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = [None; 3];
        for part in text.split(',') {
            let wrong = || format!("`{part}` is no part of a mix such as get=50,set=40,delete=10");
            let (name, weight) = part.split_once('=').ok_or_else(wrong)?;
            let place = Kind::ALL.iter().position(|kind| kind.name() == name);
            let weight: u32 = weight.parse().map_err(|_| wrong())?;
            if weight > 1_000_000 {
                return Err(format!("`{part}`: a part is at most 1000000"));
            }
            if weights[place.ok_or_else(wrong)?].replace(weight).is_some() {
                return Err(format!("`{name}` stands there twice"));
            }
        }
        let weights = weights.map(Option::unwrap_or_default);
        match weights.iter().sum() {
            0_u32 => Err("all parts are 0: there would be nothing to do".to_owned()),
            _ => Ok(Self { weights }),
        }
    }
}

/// Which keys are drawn more often than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Distribution {
    /// Every key as often as every other
    Uniform,
    /// A few keys very often, most keys hardly ever: the key of rank r in proportion to r^-s
    Zipf,
}

/// What a client may do, for all clients of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) mix: Mix,
    pub(super) keys: u64,
    /// Nothing for the uniform distribution.
    pub(super) zipf: Option<Zipf<f64>>,
    pub(super) value_bytes: usize,
}

impl Plan {
    /// The key of a number below `keys`.
    pub(super) fn key(number: u64) -> Bytes {
        format!("load-{number:09}").into()
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) key: Bytes,
    /// What a set writes: nobody else writes the same.
    pub(super) number: u64,
}

/// What one client does.
#[derive(Debug)]
pub(super) struct Script {
    plan: Plan,
    rng: StdRng,
    next_number: u64,
}

impl Script {
    /// The script of the client `index`, of all those that the seed gives.
    pub(super) fn new(plan: Plan, seed: u64, index: u32) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        rng = StdRng::seed_from_u64(rng.random::<u64>() ^ u64::from(index));
        let next_number = (u64::from(index) + 1) << 32;
        Self {
            plan,
            rng,
            next_number,
        }
    }

    /// Draws the next operation.
    pub(super) fn next(&mut self) -> Operation {
        let kind = self.plan.mix.draw(&mut self.rng);
        let key = match &self.plan.zipf {
            None => self.rng.random_range(0..self.plan.keys),
            // Ranks count from 1.
            Some(zipf) => (zipf.sample(&mut self.rng) as u64).clamp(1, self.plan.keys) - 1,
        };
        self.next_number += 1;
        Operation {
            kind,
            key: Plan::key(key),
            number: self.next_number,
        }
    }

    /// The value of a number: the number, filled up to the size that is wanted.
    pub(super) fn value(&self, number: u64) -> Bytes {
        let mut value = format!("{number:0NUMBER_DIGITS$}").into_bytes();
        value.resize(self.plan.value_bytes, FILLER);
        value.into()
    }
}

/// The number that a value begins with, if it is one of ours.
pub(super) fn number_in(value: &[u8]) -> Option<u64> {
    let (digits, rest) = value.split_at_checked(NUMBER_DIGITS)?;
    let is_ours = digits.iter().all(u8::is_ascii_digit) && rest.iter().all(|byte| *byte == FILLER);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_ours)?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(zipf: Option<Zipf<f64>>) -> Plan {
        Plan {
            mix: "get=1,set=1".parse().unwrap(),
            keys: 100,
            zipf,
            value_bytes: 32,
        }
    }

    #[test]
    fn a_mix_names_each_kind_at_most_once() {
        let mix: Mix = "delete=1,get=3".parse().unwrap();
        assert_eq!(mix.weights, [3, 0, 1]);
        for (bad, says) in [
            ("", "no part"),
            ("get", "no part"),
            ("get=-1", "no part"),
            ("put=1", "no part"),
            ("get=1,get=2", "twice"),
            ("get=0,set=0", "nothing to do"),
            ("get=1000001", "at most"),
        ] {
            let error = bad.parse::<Mix>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_operations_and_each_client_has_its_own() {
        let draw = |seed, index| {
            let mut script = Script::new(plan(None), seed, index);
            let drawn = (0..50).map(|_| script.next());
            drawn
                .map(|drawn| (drawn.kind, drawn.key))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        let kinds = draw(1, 0).into_iter().map(|(kind, _)| kind);
        let gets = kinds.filter(|kind| *kind == Kind::Get).count();
        assert!((10..40).contains(&gets), "{gets} of 50");
    }

    #[test]
    fn zipf_draws_the_first_keys_most_and_no_key_beyond_the_last() {
        let mut script = Script::new(plan(Some(Zipf::new(100.0, 1.0).unwrap())), 1, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..1000 {
            *counts.entry(script.next().key).or_insert(0) += 1;
        }
        assert!(counts.keys().all(|key| *key <= Plan::key(99)));
        let most = counts.iter().max_by_key(|(_, count)| **count).unwrap();
        assert_eq!(*most.0, Plan::key(0));
        assert!(*most.1 > 100, "{most:?}");
    }

    #[test]
    fn a_number_is_found_in_its_own_value_only() {
        let script = Script::new(plan(None), 1, 0);
        let value = script.value(77);
        assert_eq!((value.len(), number_in(&value)), (32, Some(77)));
        for other in [&b"77"[..], b"hello, world, this is no number", b""] {
            assert_eq!(number_in(other), None);
        }
    }
}
