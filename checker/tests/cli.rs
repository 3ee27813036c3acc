//! The command line as others script it: exit codes, output for machines, and one clear line for each bad input.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn checker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_checker"))
        .args(arguments)
        .output()
        .expect("the checker starts")
}

fn testdata(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
        .display()
        .to_string()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const INVOKE: &str = r#"{"process":1,"type":"invoke","f":"write","key":"a","value":7,"time":0}"#;
const OK: &str = r#"{"process":1,"type":"ok","f":"write","key":"a","value":7,"time":1}"#;

fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a temporary file");
    path
}

#[test]
fn what_holds_exits_with_0() {
    let output = checker(&[
        "check",
        &testdata("linearizable.holds.an_open_write_takes_effect_late.jsonl"),
    ]);
    assert_eq!(code(&output), Some(0), "{output:?}");
    let out = text(&output.stdout);
    assert!(out.contains("linearizable             holds"), "{out}");
    assert!(
        out.contains("not judged: ") && out.contains("quorum_durability"),
        "{out}"
    );
}

#[test]
fn a_violation_exits_with_1_and_tells_its_story() {
    let output = checker(&[
        "check",
        &testdata("linearizable.violated.a_stale_read.jsonl"),
    ]);
    assert_eq!(code(&output), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("5.000 to 6.000 ms  process 1  read a = 1  ok"));
}

#[test]
fn what_is_unknown_exits_with_3_and_a_violation_beats_it() {
    let stale = testdata("linearizable.violated.a_stale_read.jsonl");
    let output = checker(&["check", &stale, "--guarantee", "quorum-durability"]);
    assert_eq!(code(&output), Some(3), "{output:?}");
    let both = [
        "check",
        &stale,
        "--guarantee",
        "quorum_durability",
        "--guarantee",
        "linearizable",
    ];
    assert_eq!(code(&checker(&both)), Some(1));
}

#[test]
fn events_are_found_beside_the_history_and_by_name() {
    let history = testdata("quorum_durability.violated.a_stranger_is_counted.jsonl");
    let events = testdata("quorum_durability.violated.a_stranger_is_counted.events.jsonl");
    let output = checker(&["check", &history, "--events", &events]);
    assert_eq!(code(&output), Some(1), "{output:?}");
    assert!(!text(&output.stdout).contains("not judged"));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let beside = file(
        &folder,
        "history.jsonl",
        &fs::read_to_string(history).expect("the history"),
    );
    file(
        &folder,
        "events.jsonl",
        &fs::read_to_string(events).expect("the events"),
    );
    let output = checker(&[
        "check",
        &beside.display().to_string(),
        "--guarantee",
        "quorum_durability",
    ]);
    assert_eq!(code(&output), Some(1), "{output:?}");
}

#[test]
fn json_is_for_machines() {
    let stale = testdata("linearizable.violated.a_stale_read.jsonl");
    let output = checker(&["check", &stale, "--json", "--guarantee", "linearizable"]);
    assert_eq!(code(&output), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(value["verdicts"][0]["guarantee"], "linearizable");
    assert_eq!(value["verdicts"][0]["verdict"], "violated");
    assert_eq!(
        value["verdicts"][0]["events"].as_array().map(Vec::len),
        Some(3)
    );
    let others = checker::Guarantee::ALL.len() - 1;
    assert_eq!(value["not_judged"].as_array().map(Vec::len), Some(others));
}

#[test]
fn an_unknown_guarantee_is_answered_with_the_allowed_ones() {
    let output = checker(&["check", "history.jsonl", "--guarantee", "serializable"]);
    assert_eq!(code(&output), Some(2));
    assert!(
        text(&output.stderr).contains("the guarantees are read_your_writes, "),
        "{output:?}"
    );
}

#[test]
fn a_history_that_is_empty_is_no_pass() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = file(&folder, "history.jsonl", "");
    let output = checker(&["check", &path.display().to_string()]);
    assert_eq!(code(&output), Some(3), "{output:?}");
    assert!(text(&output.stdout).contains("nothing to judge"));
}

#[test]
fn each_bad_history_gets_one_clear_line_and_exit_code_2() {
    let info = OK.replace("\"ok\"", "\"info\"");
    let cases = [
        (
            format!("{OK}\n"),
            "line 1: process 1 has no open operation, so its invoke is missing",
        ),
        (
            format!("{INVOKE}\n{INVOKE}\n"),
            "line 2: process 1 already has an open operation, invoked on line 1",
        ),
        (
            format!("{INVOKE}\n{}", &OK[..30]),
            "line 2: the file is cut in the middle of this line",
        ),
        (
            format!("{INVOKE}\nhello\n{OK}\n"),
            "line 2: this is not JSON",
        ),
        (
            format!("{INVOKE}\n{}\n", OK.replace("\"a\"", "\"b\"")),
            "line 2: this completes the operation",
        ),
        (
            format!("{INVOKE}\n{}\n", OK.replace("write", "delete")),
            "but its f is another",
        ),
        (
            format!("{INVOKE}\n{info}\n{INVOKE}\n"),
            "line 3: process 1 ended in info on line 2",
        ),
        (
            INVOKE.replace("invoke", "begin"),
            "must be one of invoke, ok, fail, info, not \"begin\"",
        ),
        (
            INVOKE.replace("write", "append"),
            "\"append\" is not judged here; this checker judges read, write and delete",
        ),
        (
            INVOKE.replace("\"time\":0", "\"version\":[1,2,3]"),
            "the field version must be [epoch, offset]",
        ),
        (
            format!(
                "{}\n{}\n",
                INVOKE.replace('{', "{\"index\":2,"),
                OK.replace('{', "{\"index\":1,")
            ),
            "line 2: the index 1 does not come after 2",
        ),
        ("\u{0}\u{1}".to_owned(), "line 1"),
    ];
    for (content, expected) in cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = file(&folder, "history.jsonl", &content);
        let output = checker(&["check", &path.display().to_string()]);
        let error = text(&output.stderr);
        assert_eq!(code(&output), Some(2), "{content}: {output:?}");
        assert!(
            error.contains("history.jsonl, ") && error.contains(expected),
            "{content}: {error}"
        );
        assert_eq!(error.trim().lines().count(), 1, "{error}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_missing_file_and_bad_events_exit_with_2() {
    let output = checker(&["check", "no/such/history.jsonl"]);
    assert_eq!(code(&output), Some(2));
    assert!(
        text(&output.stderr).contains("cannot read no/such/history.jsonl"),
        "{output:?}"
    );

    let folder = tempfile::tempdir().expect("a temporary folder");
    let history = file(&folder, "history.jsonl", &format!("{INVOKE}\n{OK}\n"));
    file(
        &folder,
        "events.jsonl",
        "{\"index\":1,\"event\":\"synced\"}\n",
    );
    let output = checker(&["check", &history.display().to_string()]);
    assert_eq!(code(&output), Some(2));
    assert!(
        text(&output.stderr).contains("events.jsonl, line 1: missing field"),
        "{output:?}"
    );
}
