//! Tokens: secrets that whoever shows one is known by.
//!
//! One stands on each line of a file; empty lines and those that begin with `#` are skipped. Several are for changing them: the new
//! one is added everywhere before the old one is taken away.

use std::path::Path;

use subtle::ConstantTimeEq as _;
use tonic::metadata::{Ascii, MetadataValue};

use super::certificates::{read, warn_if_others_can_read};
use super::error::SecurityError;

pub(super) const TOKEN_BYTES_MIN: usize = 16;
pub(super) const TOKEN_BYTES_MAX: usize = 1024;

/// The tokens of a file.
pub(super) struct Tokens {
    tokens: Vec<Vec<u8>>,
    bearer: MetadataValue<Ascii>,
}

impl Tokens {
    pub(super) fn read(
        path: Option<&Path>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, SecurityError> {
        let Some(path) = path else {
            return Ok(None);
        };
        let file = || path.display().to_string();
        let bytes = read("tokens", path)?;
        warn_if_others_can_read(path, warnings);
        let mut tokens = Vec::new();
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        for (line, token) in (1..).zip(lines) {
            if token.is_empty() || token.starts_with(b"#") {
                continue;
            }
            let is_long_enough = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len());
            if !is_long_enough || !token.iter().all(u8::is_ascii_graphic) {
                return Err(SecurityError::Token { file: file(), line });
            }
            tokens.push(token.to_vec());
        }
        let none = || SecurityError::NoToken { file: file() };
        let first = tokens.first().ok_or_else(none)?;
        let text = [b"Bearer ", first.as_slice()].concat();
        let mut bearer = MetadataValue::try_from(text).map_err(|_| none())?;
        bearer.set_sensitive(true);
        Ok(Some(Self { tokens, bearer }))
    }

    /// Whether a token is one of these, in a time that does not tell how much of it is right.
    pub(super) fn hold(&self, token: &[u8]) -> bool {
        let mut found = subtle::Choice::from(0);
        for known in &self.tokens {
            found |= known.as_slice().ct_eq(token);
        }
        found.into()
    }

    /// The first one, as it is shown to others.
    pub(super) fn bearer(&self) -> MetadataValue<Ascii> {
        self.bearer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Option<Tokens>, SecurityError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        Tokens::read(Some(&path), &mut Vec::new())
    }

    #[test]
    fn a_file_holds_one_a_line() {
        let known = "# ours\n\n  0123456789abcdef  \nfedcba9876543210\r\n";
        let known = tokens(known).unwrap().unwrap();
        assert!(known.hold(b"0123456789abcdef") && known.hold(b"fedcba9876543210"));
        for other in [
            "",
            "# ours",
            "0123456789abcde",
            "0123456789abcdefg",
            "0123456789abcdeF",
        ] {
            assert!(!known.hold(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_could_be_guessed_is_refused_and_not_shown() {
        for (text, says) in [
            ("", "holds no token"),
            ("# only this\n", "holds no token"),
            ("0123456789abcdef\nsecret\n", "line 2"),
            ("secret secret secret\n", "line 1"),
        ] {
            let error = tokens(text).err().unwrap().to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }
}
