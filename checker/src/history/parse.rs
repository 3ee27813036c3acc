//! Histories from JSON Lines, strictly: one clear error that names the line and what to do, and never a panic.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Builder, Event, History};
use crate::error::{Error, Problem};

impl History {
    /// Reads a history from a file of JSON Lines.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |reason| Error::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let bytes = fs::read(path).map_err(unreadable)?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// Parses a history from JSON Lines; `file` is what errors call it.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, Error> {
        let mut builder = Builder::default();
        for_each_line(bytes, file, |line, text| {
            let event: Event =
                serde_json::from_slice(text).map_err(|error| diagnose(text, &error))?;
            builder.push(event, line)
        })?;
        Ok(builder.finish())
    }
}

/// Calls `take` with each line that is not blank and its number from 1; a failing last line without a line end is cut.
pub(crate) fn for_each_line(
    bytes: &[u8],
    file: &str,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), Problem>,
) -> Result<(), Error> {
    for (index, text) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line = index + 1;
        take(line, text).map_err(|problem| {
            let cut = matches!(problem, Problem::NotJson { .. }) && !text.ends_with(b"\n");
            let problem = if cut { Problem::Cut } else { problem };
            Error::Line {
                file: file.to_owned(),
                line,
                problem,
            }
        })?;
    }
    Ok(())
}

/// Turns a parser's error into the problem that a person can act on.
fn diagnose(text: &[u8], error: &serde_json::Error) -> Problem {
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        return Problem::NotJson {
            detail: error.to_string(),
        };
    };
    let Value::Object(fields) = value else {
        return Problem::NotJson {
            detail: "not an object".to_owned(),
        };
    };
    let known = ["read", "write", "delete"];
    if let Some(f) = fields
        .get("f")
        .and_then(Value::as_str)
        .filter(|f| !known.contains(f))
    {
        return Problem::Unjudged { f: f.to_owned() };
    }
    for name in ["version", "token"] {
        let found = fields.get(name).unwrap_or(&Value::Null);
        if serde_json::from_value::<Option<(u64, u64)>>(found.clone()).is_err() {
            let detail = format!(
                "the field {name} must be [epoch, offset], two whole numbers, or null, not {found}"
            );
            return Problem::Field { detail };
        }
    }
    let kinds = ["invoke", "ok", "fail", "info"];
    if let Some(kind) = fields
        .get("type")
        .and_then(Value::as_str)
        .filter(|kind| !kinds.contains(kind))
    {
        let detail = format!(
            "the field type must be one of {}, not \"{kind}\"",
            kinds.join(", ")
        );
        return Problem::Field { detail };
    }
    let message = error.to_string();
    let detail = message
        .split(" at line ")
        .next()
        .unwrap_or(&message)
        .to_owned();
    Problem::Field { detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        History::parse(text.as_bytes(), "history.jsonl")
            .unwrap_err()
            .to_string()
    }

    const INVOKE: &str =
        r#"{"process":1,"type":"invoke","f":"write","key":"a","value":7,"time":0}"#;

    #[test]
    fn blank_lines_and_a_missing_last_line_end_are_no_trouble() {
        let ok = INVOKE.replace("invoke", "ok");
        let history = History::parse(format!("{INVOKE}\n\n{ok}").as_bytes(), "h").unwrap();
        assert!(history.operations()[0].is_ok());
    }

    #[test]
    fn a_cut_last_line_is_told_from_garbage_in_the_middle() {
        assert!(message(&INVOKE[..40]).contains("line 1: the file is cut"));
        let garbage = message(&format!("{INVOKE}\n{}\n{INVOKE}\n", &INVOKE[..40]));
        assert!(
            garbage.contains("history.jsonl, line 2: this is not JSON"),
            "{garbage}"
        );
    }

    #[test]
    fn each_bad_field_is_named_with_what_is_allowed() {
        for (from, to, expected) in [
            ("\"write\"", "\"cas\"", "\"cas\" is not judged"),
            (
                "invoke",
                "maybe",
                "must be one of invoke, ok, fail, info, not \"maybe\"",
            ),
            ("\"time\":0", "\"version\":[1]", "must be [epoch, offset]"),
            (
                "\"time\":0",
                "\"version\":\"1.2\"",
                "must be [epoch, offset]",
            ),
            ("\"value\":7,", "", "missing field `value`"),
            (
                "\"process\":1",
                "\"process\":-1",
                "invalid value: integer `-1`",
            ),
            (
                "\"time\":0",
                "\"level\":\"strong\"",
                "unknown variant `strong`",
            ),
        ] {
            let text = message(&format!("{}\n", INVOKE.replace(from, to)));
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(message("[1,2]\n").contains("not an object"));
        assert!(message("7\n").contains("not an object"));
    }
}
