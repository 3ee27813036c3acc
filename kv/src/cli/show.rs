//! How results look: short text for people, one line of JSON for machines.

use kv::client::{Read, Written};
use kv::error::{Fail, Outcome, Unsure};
use kv_core::Version;
use serde_json::{Value, json};

use super::{Exit, complain, say};

/// Prints what a read found.
pub(super) fn read(key: &[u8], outcome: Outcome<Read>, json: bool, verbose: bool) -> Exit {
    let Some(read) = settle(outcome, json) else {
        return Exit::Failed; // A read has no effect: it never ends as unknown.
    };
    let found = read.value.is_some();
    if json {
        let mut line = json!({ "outcome": "ok", "key": text(key), "found": found });
        put_value(&mut line, read.value.as_deref());
        line["version"] = read.version.map_or(Value::Null, version);
        line["token"] = version(read.token);
        line["shard"] = json!(read.shard.0);
        line["node"] = json!(read.node.0);
        say(&line.to_string());
    } else if let Some(value) = &read.value {
        say(&text(value));
    } else {
        eprintln!("not found: there is no key `{}`", text(key));
    }
    if verbose && !json {
        let version = read.version.map_or("none".to_owned(), |v| v.to_string());
        let (shard, node, token) = (read.shard, read.node, read.token);
        eprintln!("version {version}, answered by {node} of shard {shard}, applied up to {token}");
    }
    if found { Exit::Done } else { Exit::Failed }
}

/// Prints what a write came to.
pub(super) fn write(key: &[u8], outcome: Outcome<Written>, json: bool) -> Exit {
    let unknown = matches!(outcome, Outcome::Info(_));
    let Some(written) = settle(outcome, json) else {
        return if unknown { Exit::Unknown } else { Exit::Failed };
    };
    if json {
        say(&json!({
            "outcome": "ok",
            "key": text(key),
            "version": version(written.version),
            "shard": written.shard.0,
            "node": written.node.0,
        })
        .to_string());
    } else {
        let (version, shard, node) = (written.version, written.shard, written.node);
        say(&format!(
            "ok: version {version} of shard {shard}, written by {node}"
        ));
    }
    Exit::Done
}

/// The result; or nothing, when why there is none has been said.
fn settle<T>(outcome: Outcome<T>, json: bool) -> Option<T> {
    match outcome {
        Outcome::Ok(result) => Some(result),
        Outcome::Fail(fail) => {
            failed(&fail, json);
            None
        }
        Outcome::Info(unsure) => {
            unknown(&unsure, json);
            None
        }
    }
}

/// Says why something definitely did not happen.
pub(super) fn failed(fail: &Fail, json: bool) {
    let message = fail.to_string();
    if json {
        say(&json!({ "outcome": "fail", "error": fail.name(), "message": message }).to_string());
    } else {
        complain(&message, hint(fail));
    }
}

/// Says why nobody knows whether something happened.
pub(super) fn unknown(unsure: &Unsure, json: bool) {
    let message = unsure.to_string();
    if json {
        say(&json!({ "outcome": "info", "error": unsure.name(), "message": message }).to_string());
    } else {
        eprintln!("unknown: {message}");
        eprintln!("hint: read the key before you write it again");
    }
}

/// What helps against a failure.
pub(super) fn hint(fail: &Fail) -> Option<&'static str> {
    match fail {
        Fail::Unreachable { .. } => Some(
            "start a cluster with `kv cluster` or a node with `kv serve`, or name a running node with --node HOST:PORT; a node that speaks TLS wants --tls-ca FILE",
        ),
        Fail::NoWriter { .. } => {
            Some("`kv info` shows which nodes are up; an election needs a few seconds")
        }
        Fail::Untrusted { .. } => Some(
            "see that --tls-ca is the CA of the node's certificate, and that --node is a name or an address in it",
        ),
        Fail::RolledBack => Some("`kv info` shows which replicas are down"),
        _ => None,
    }
}

/// Bytes as a person reads them: text as it is, anything else escaped.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !"\n\t".contains(c)) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// A version for machines.
pub(super) fn version(version: Version) -> Value {
    json!({ "epoch": version.epoch.0, "offset": version.offset.0 })
}

/// A value that is not text is given in hexadecimal, under another name, so that nobody takes it for text.
fn put_value(line: &mut Value, value: Option<&[u8]>) {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    match value.map(|value| (value, std::str::from_utf8(value))) {
        None => line["value"] = Value::Null,
        Some((_, Ok(text))) => line["value"] = json!(text),
        Some((bytes, Err(_))) => line["value_hex"] = json!(hex(bytes)),
    }
}

/// Lines up columns under their headings.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings
        .iter()
        .map(|heading| (*heading).to_owned())
        .collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths);
        let padded = padded.map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_and_the_rest_escaped() {
        assert_eq!(text("grüße\n".as_bytes()), "grüße\n");
        assert_eq!(text(b"\x1b[2J"), "\\x1b[2J");
        assert_eq!(text(&[0xff, b'a', 0]), "\\xffa\\x00");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["n1".to_owned(), "up".to_owned()],
            vec!["n10".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["NODE", "STATE"], &rows),
            "NODE  STATE\nn1    up\nn10"
        );
    }

    #[test]
    fn a_value_that_is_not_text_has_another_name_in_json() {
        let mut line = json!({});
        put_value(&mut line, Some(&[0xff, 0x01]));
        assert_eq!(line, json!({ "value_hex": "ff01" }));
    }
}
