//! `kv load` against real clusters: what it reports, what it records, and how it is told that something is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use checker::{Event, EventKind, Function, Guarantee, History, Limits, Verdict};
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

/// What clients alone can see of a cluster.
const SEEN: [Guarantee; 7] = [
    Guarantee::ReadYourWrites,
    Guarantee::MonotonicReads,
    Guarantee::MonotonicWrites,
    Guarantee::WritesFollowReads,
    Guarantee::NoLostWrite,
    Guarantee::NoPhantom,
    Guarantee::Linearizable,
];

fn kv() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kv"))
}

/// A cluster of one shard of three nodes in a process of its own; stopped at the end of the test, however that comes.
struct Cluster {
    process: Child,
    node: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have stopped already.
        let _ = self.process.wait();
    }
}

impl Cluster {
    fn start(folder: &Path) -> Self {
        let base_port = free_ports(3);
        let mut command = kv();
        command.args(["cluster", "--shards", "1", "--base-port"]);
        command.arg(base_port.to_string()).arg("--data").arg(folder);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let cluster = Self {
            process,
            node: format!("127.0.0.1:{base_port}"),
        };
        let mut lines = stdout.lines();
        let said = lines.next().unwrap().unwrap();
        assert!(said.contains("the cluster is up"), "{said}");
        // Whatever else it says is read, or it would be stopped by a pipe that nobody reads.
        std::thread::spawn(move || lines.count());
        cluster
    }

    fn load(&self, arguments: &[&str]) -> Command {
        let mut command = kv();
        command.args(["load", "--node", &self.node, "--warm-up", "0s"]);
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.load(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        output
    }
}

/// The first of some consecutive ports that were free a moment ago. No other test of this program is given the same.
fn free_ports(count: u16) -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() * 31 % 900 * 10) as u16;
    loop {
        let given = GIVEN.fetch_add(count, Ordering::Relaxed);
        let first = 20_000 + (begin + given) % 10_000;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + count).all(is_free) {
            return first;
        }
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn judge(events: Vec<Event>) -> Vec<(Guarantee, Verdict)> {
    let history = History::from_events(events).unwrap();
    checker::check_all(&history, &[], &SEEN, &Limits::default())
}

/// Plants a fault: a read is given an older value than the one that was acknowledged before the read began.
fn make_stale(events: &mut [Event]) {
    let place = |events: &[Event], process, kind| {
        let is_it = |event: &Event| event.process == process && event.kind == kind;
        events.iter().rposition(is_it)
    };
    let stale = (0..events.len()).rev().find_map(|at| {
        let read = &events[at];
        let is_ok = |event: &Event, f| event.kind == EventKind::Ok && event.f == f;
        if !is_ok(read, Function::Read) || read.value.is_null() {
            return None;
        }
        let asked = place(&events[..at], read.process, EventKind::Invoke)?;
        let is_write = |event: &&Event| is_ok(event, Function::Write) && event.key == read.key;
        let seen = events[..asked].iter().filter(is_write);
        let seen = seen.max_by_key(|event| event.version)?;
        if seen.value != read.value {
            return None;
        }
        let began = events.iter().position(|event| event.value == seen.value)?;
        let older = events[..began].iter().rfind(is_write)?;
        Some((at, older.value.clone()))
    });
    let (at, older) = stale.expect("some key was written twice and then read");
    events[at].value = older;
    events[at].version = None;
}

/// A short run in which every key is met often.
const FEW_KEYS: [&str; 6] = ["--keys", "20", "--clients", "8", "--duration", "1s"];

#[test]
fn what_a_cluster_answers_under_load_is_recorded_and_a_stale_value_in_it_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&folder.path().join("cluster"));
    let file = folder.path().join("history.jsonl");
    let more = ["--json", "--seed", "7", "--record", file.to_str().unwrap()];
    let run = [&FEW_KEYS[..], &more].concat();
    for _ in 0..2 {
        // The second time, the keys hold what the first run has left.
        let report = json(&cluster.run(&run));
        assert!(
            report["operations"]["get"]["ok"].as_u64() > Some(0),
            "{report}"
        );
        assert!(
            report["operations"]["set"]["ok"].as_u64() > Some(0),
            "{report}"
        );
        let history = History::read(&file).unwrap();
        let mut events = history.events().to_vec();
        for (guarantee, verdict) in judge(events.clone()) {
            assert_eq!(verdict, Verdict::Holds, "{guarantee}");
        }
        make_stale(&mut events);
        let judged = judge(events);
        let (_, verdict) = judged.last().unwrap();
        assert!(verdict.is_violated(), "{verdict:?}");
    }
}

#[test]
fn replica_reads_are_recorded_with_the_token_that_they_asked_with() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&folder.path().join("cluster"));
    let file = folder.path().join("history.jsonl");
    let more = ["--level", "replica", "--record", file.to_str().unwrap()];
    cluster.run(&[&FEW_KEYS[..], &more].concat());
    let history = History::read(&file).unwrap();
    let is_tokened = |event: &&Event| event.kind == EventKind::Invoke && event.token.is_some();
    assert!(history.events().iter().filter(is_tokened).count() > 0);
    for (guarantee, verdict) in judge(history.events().to_vec()) {
        if guarantee != Guarantee::Linearizable {
            assert_eq!(verdict, Verdict::Holds, "{guarantee}");
        }
    }
}

#[test]
fn an_open_loop_asks_at_its_rate_and_the_latencies_are_written_for_other_tools() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&folder.path().join("cluster"));
    let file = folder.path().join("latencies.hlog");
    let run = [
        "--rate",
        "200",
        "--duration",
        "2s",
        "--distribution",
        "zipf",
        "--json",
    ];
    let report = json(&cluster.run(&[&run[..], &["--histogram", file.to_str().unwrap()]].concat()));
    let all = &report["operations"]["all"];
    let sent = all["ok"].as_u64().unwrap() + sum(&all["fail"]) + sum(&all["info"]);
    assert_eq!(sent + report["unsent"].as_u64().unwrap(), 400, "{report}");

    let log = std::fs::read(&file).unwrap();
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    let lines = IntervalLogIterator::new(&log).filter_map(|entry| match entry.unwrap() {
        LogEntry::Interval(line) => Some(line),
        _ => None,
    });
    let counts = lines.map(|line| {
        let bytes = base64(line.encoded_histogram());
        let histogram: hdrhistogram::Histogram<u64> =
            deserializer.deserialize(&mut &bytes[..]).unwrap();
        (line.tag().unwrap().as_str().to_owned(), histogram.len())
    });
    let counts: std::collections::BTreeMap<_, _> = counts.collect();
    assert_eq!(counts["all"], all["ok"].as_u64().unwrap(), "{counts:?}");
    assert_eq!(
        counts["all"],
        counts["get"] + counts["set"] + counts["delete"]
    );
}

fn sum(reasons: &Value) -> u64 {
    let counts = reasons.as_object().unwrap().values();
    counts.map(|count| count.as_u64().unwrap()).sum()
}

/// Reads base 64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits = text.bytes().filter(|byte| *byte != b'=').map(digit);
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        held = held << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}

#[test]
fn ctrl_c_sums_up_what_was_done_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&folder.path().join("cluster"));
    let file = folder.path().join("history.jsonl");
    let mut load = cluster.load(&["--duration", "60m", "--json", "--keys", "20", "--record"]);
    let mut load = load.arg(&file).stdout(Stdio::piped()).spawn().unwrap();
    // Once something of the run itself stands in the history, it goes on.
    while std::fs::metadata(&file).map_or(0, |file| file.len()) < 20_000 {
        assert_eq!(load.try_wait().unwrap(), None, "it ended by itself");
        std::thread::yield_now();
    }
    let id = load.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let output = load.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report = json(&output);
    assert!(
        report["operations"]["all"]["ok"].as_u64() > Some(0),
        "{report}"
    );
    assert!(report["measured_s"].as_f64() < Some(3599.0), "{report}");
    let history = History::read(&file).unwrap();
    assert!(history.operations().len() > 20);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_asked() {
    for (arguments, words) in [
        (&["--clients", "0"][..], &["1..=65535"][..]),
        (&["--rate", "0"], &["from 0.01"]),
        (&["--rate", "fast"], &["expected a number"]),
        (
            &["--mix", "get=50,put=50"],
            &["`put=50`", "get=50,set=40,delete=10"],
        ),
        (&["--mix", "get=0"], &["nothing to do"]),
        (&["--value-bytes", "1048577"], &["from 0 to 1048576"]),
        (&["--keys", "0"], &["1..=100000000"]),
        (&["--duration", "10"], &["300ms"]),
        (&["--distribution", "normal"], &["uniform", "zipf"]),
        (&["--zipf-exponent", "NaN"], &["from 0.01 to 10"]),
        (&["--level", "strong"], &["lease", "quorum"]),
        (
            &["--record", "never-made", "--value-bytes", "8"],
            &["20 digits", "--value-bytes"],
        ),
    ] {
        let output = kv().arg("load").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: no `{word}` in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
    assert!(!Path::new("never-made").exists());
}

#[test]
fn a_cluster_that_is_not_there_and_a_file_that_cannot_be_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    for (arguments, word) in [
        (&["--node", &nobody][..], nobody.as_str()),
        (
            &["--record", "/nowhere/history.jsonl"],
            "/nowhere/history.jsonl",
        ),
        (&["--histogram", "/nowhere/latencies"], "/nowhere/latencies"),
    ] {
        let mut command = kv();
        command.args(["load", "--timeout", "300ms"]).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let errors = said.lines().filter(|line| line.starts_with("error: "));
        let errors: Vec<_> = errors.collect();
        let [error] = errors[..] else {
            panic!("{arguments:?}: not one line: {said}")
        };
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
}
