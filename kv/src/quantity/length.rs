//! Lengths of time as a file that people write has them: `"30s"`, `"250ms"`, `"1.5s"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A length of time that reads and writes as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

/// A text that is no length of time; its message shows what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no length of time; write a number and a unit, such as \"30s\" (units: us, ms, s, m, h)"
)]
pub struct NoLength(pub String);

/// The units, largest first, with their length in nanoseconds.
const UNITS: [(&str, u64); 5] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// A week. Longer than any run makes sense, and short enough that nothing overflows.
const LENGTH_NS_MAX: f64 = 7.0 * 24.0 * 3_600e9;

impl FromStr for Length {
    type Err = NoLength;

    fn from_str(text: &str) -> Result<Self, NoLength> {
        match parse_ns(text) {
            Some(ns) => Ok(Self(Duration::from_nanos(ns))),
            None => Err(NoLength(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"30s\" (units: us, ms, s, m, h)")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Length, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn parse_ns(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let (_, unit_ns) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let ns = number.parse::<f64>().ok()? * unit_ns as f64;
    (0.0..=LENGTH_NS_MAX)
        .contains(&ns)
        .then_some(ns.round() as u64)
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let whole = |(_, unit_ns): &&(&str, u64)| ns >= *unit_ns && ns.is_multiple_of(*unit_ns);
        match UNITS.iter().find(whole) {
            Some((unit, unit_ns)) => write!(f, "{}{unit}", ns / unit_ns),
            None => write!(f, "{}us", ns as f64 / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Duration> {
        text.parse::<Length>().ok().map(|length| length.0)
    }

    #[test]
    fn lengths_are_read_in_every_unit() {
        assert_eq!(parse("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse("100us"), Some(Duration::from_micros(100)));
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in ["", "30", "s", "-1s", "1 s", "1d", "9999999h", "1.2.3s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_are_written_as_they_are_read() {
        for text in ["30s", "250ms", "1500ms", "2m", "100us", "1h", "0.5us"] {
            assert_eq!(Length(parse(text).unwrap()).to_string(), text);
        }
        assert_eq!(Length(Duration::ZERO).to_string(), "0us");
    }
}
