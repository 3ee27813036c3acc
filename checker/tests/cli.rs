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
        (
            format!("{}\n{OK}\n", INVOKE.replace("\"time\":0", "\"time\":7")),
            "line 2: this completes at 1 ns what process 1 invoked at 7 ns on line 1",
        ),
        (
            format!(
                "{INVOKE}\n{}\n",
                OK.replace("\"time\":1", "\"time\":1,\"version\":[1,0]")
            ),
            "line 2: no entry has the offset 0",
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

/// Node events, one a line, each with its index.
fn node_events(lines: &[&str]) -> String {
    let numbered = lines.iter().enumerate();
    numbered
        .map(|(index, rest)| format!("{{\"index\":{index},{rest}}}\n"))
        .collect()
}

#[test]
fn impossible_node_events_get_one_clear_line_and_exit_code_2() {
    let shard = r#""node":null,"event":"shard","shard":0,"epoch":1,"voters":[1,2,3],"write_quorum":2,"writer":1"#;
    let committed =
        r#""node":1,"event":"committed","shard":0,"epoch":1,"offset":1,"chain":1"#.to_owned();
    let final_log = |runs: &str, committed: u64| {
        format!(r#""node":1,"event":"final_log","shard":0,"runs":{runs},"committed":{committed}"#)
    };
    let cases = [
        (
            committed.replace("\"offset\":1", "\"offset\":0"),
            "line 2: no entry has the offset 0",
        ),
        (
            committed.replace("\"node\":1", "\"node\":null"),
            "line 2: an event \"committed\" is always of a node",
        ),
        (
            r#""node":1,"event":"started""#.to_owned(),
            "line 3: node 1 starts its life 0 here, but has recorded something in it on line 2 already",
        ),
        (
            shard.replace("\"write_quorum\":2", "\"write_quorum\":4"),
            "line 2: a write quorum of 4 among 3 voters is impossible",
        ),
        (
            shard.replace("\"write_quorum\":2", "\"write_quorum\":0"),
            "line 2: a write quorum of 0 among 3 voters is impossible",
        ),
        (
            r#""node":7,"event":"acknowledged","shard":0,"epoch":1,"offset":1,"members":[1,2]"#
                .to_owned(),
            "line 2: node 7 acknowledges a write of shard 0, but is a voter in no configuration of it",
        ),
        (
            final_log("[[1,1,4],[2,4,9]]", 9),
            "line 2: the run (2, 4, 9) does not come after (1, 1, 4)",
        ),
        (
            final_log("[[2,1,4],[1,5,9]]", 9),
            "line 2: the run (1, 5, 9) does not come after (2, 1, 4)",
        ),
        (
            final_log("[[1,4,1]]", 1),
            "line 2: the run (1, 4, 1) is none",
        ),
        (
            final_log("[[1,0,1]]", 1),
            "line 2: the run (1, 0, 1) is none",
        ),
        (
            final_log("[[1,1,4]]", 5),
            "line 2: the log ends at offset 4, so it cannot be committed up to 5",
        ),
        (
            r#""node":null,"event":"links","down":[],"cut":[[2,2]]"#.to_owned(),
            "line 2: the link from node 2 to itself cannot be cut",
        ),
    ];
    for (line, expected) in cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let history = file(&folder, "history.jsonl", &format!("{INVOKE}\n{OK}\n"));
        let last = if line.contains("started") {
            vec![committed.as_str(), line.as_str()]
        } else {
            vec![line.as_str()]
        };
        let lines: Vec<&str> = [shard].into_iter().chain(last).collect();
        file(&folder, "events.jsonl", &node_events(&lines));
        let output = checker(&["check", &history.display().to_string()]);
        let error = text(&output.stderr);
        assert_eq!(code(&output), Some(2), "{line}: {output:?}");
        assert!(
            error.contains("events.jsonl, ") && error.contains(expected),
            "{line}: {error}"
        );
        assert_eq!(error.trim().lines().count(), 1, "{error}");
    }
}

#[test]
fn node_events_that_only_look_impossible_are_read() {
    let lines = [
        r#""node":1,"event":"synced","shard":0,"epoch":0,"offset":0"#,
        r#""node":1,"event":"acknowledged","shard":0,"epoch":1,"offset":1,"members":[1]"#,
        r#""node":null,"event":"shard","shard":0,"epoch":1,"voters":[1],"write_quorum":1,"writer":1"#,
        r#""node":1,"incarnation":2,"event":"started""#,
        r#""node":1,"event":"final_log","shard":0,"runs":[],"committed":9"#,
        r#""node":1,"event":"final_log","shard":0,"runs":[[1,3,4],[1,5,9]],"committed":4"#,
    ];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let history = file(&folder, "history.jsonl", &format!("{INVOKE}\n{OK}\n"));
    file(&folder, "events.jsonl", &node_events(&lines));
    let path = history.display().to_string();
    let output = checker(&["check", &path, "--guarantee", "linearizable"]);
    assert_eq!(code(&output), Some(0), "{output:?}");
}

#[test]
fn every_guarantee_is_explained() {
    let all = checker(&["explain"]);
    assert_eq!(code(&all), Some(0), "{all:?}");
    for guarantee in checker::Guarantee::ALL {
        let name = guarantee.name();
        assert!(text(&all.stdout).contains(name), "{name}: {all:?}");
        let one = checker(&["explain", &name.replace('_', "-")]);
        assert_eq!(code(&one), Some(0), "{one:?}");
        let out = text(&one.stdout);
        for part in ["Definition", "Source", "Needs", "Evidence of a violation"] {
            assert!(out.contains(&format!("\n{part}\n  ")), "{name}: {out}");
        }
        assert!(out.starts_with(name), "{out}");
        assert!(out.lines().all(|line| line.len() <= 88), "{out}");
    }
}

#[test]
fn what_is_no_guarantee_is_not_explained() {
    let output = checker(&["explain", "serializable"]);
    assert_eq!(code(&output), Some(2));
    assert!(
        text(&output.stderr).contains("the guarantees are read_your_writes, "),
        "{output:?}"
    );
}

#[test]
fn without_node_events_what_clients_see_is_judged() {
    let plain = testdata("linearizable.holds.reads_overlap_and_see_different_values.jsonl");
    let judged = |path: &str| {
        let output = checker(&["check", path, "--json"]);
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one JSON object");
        let verdicts = value["verdicts"].as_array().expect("verdicts").clone();
        let name = |verdict: &serde_json::Value| verdict["guarantee"].as_str().map(str::to_owned);
        verdicts.iter().filter_map(name).collect::<Vec<String>>()
    };
    assert_eq!(
        judged(&plain),
        ["read_your_writes", "monotonic_reads", "linearizable"]
    );
    let versions = testdata("monotonic_writes.holds.rising.jsonl");
    assert!(judged(&versions).contains(&"writes_follow_reads".to_owned()));
    let failed = testdata("no_phantom.holds.a_failed_write_is_not_read.jsonl");
    assert!(judged(&failed).contains(&"no_phantom".to_owned()));
}
