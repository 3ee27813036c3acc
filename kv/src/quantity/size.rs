//! Numbers of bytes as a file that people write has them: `"8KiB"`, `"64MiB"`, `"700B"`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A number of bytes that reads and writes as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A text that is no number of bytes; its message shows what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no number of bytes; write a whole number and a unit, such as \"8KiB\" (units: B, KiB, MiB, GiB)"
)]
pub struct NoSize(pub String);

/// The units, largest first.
const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let parse = || {
            let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
            let (number, unit) = text.split_at(unit_at);
            let (_, bytes) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
            number.parse::<u64>().ok()?.checked_mul(bytes)
        };
        parse().map(Self).ok_or_else(|| NoSize(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as \"8KiB\" (units: B, KiB, MiB, GiB)")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, bytes): &&(&str, u64)| self.0 >= *bytes && self.0.is_multiple_of(*bytes);
        let (unit, bytes) = UNITS.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (text, bytes) in [("700B", 700), ("8KiB", 8192), ("1MiB", 1 << 20), ("0B", 0)] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, text));
        }
        assert_eq!(Size(1024 * 1024).to_string(), "1MiB");
        assert_eq!(Size(1500).to_string(), "1500B");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "8",
            "KiB",
            "8 KiB",
            "8kb",
            "-1B",
            "1.5MiB",
            "99999999999GiB",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
