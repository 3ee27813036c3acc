//! The command line as others script it: exit codes, output for machines, and one clear line for each bad input.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn model(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_model"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// Bounds that are explored in a moment.
const TINY: [&str; 8] = [
    "--writes",
    "1",
    "--epochs",
    "2",
    "--crashes",
    "0",
    "--rollbacks",
    "0",
];

fn check(more: &[&str]) -> Output {
    model(&[&["check"], &TINY[..], more].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_holds_exits_with_0_and_says_what_it_did_not_reach() {
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let out = text(&output.stdout);
    assert!(
        out.contains("3 voters, Q = 2, E = 2, fencing = epoch"),
        "{out}"
    );
    assert!(
        out.contains("no lost write                               holds"),
        "{out}"
    );
    assert!(
        out.contains("a suffix is truncated                       reached"),
        "{out}"
    );
    assert!(
        out.contains("a rollback succeeds                         not within these bounds"),
        "{out}"
    );
    assert!(out.contains("\ncomplete: "), "{out}");
}

#[test]
fn the_plain_protocol_loses_a_write_and_the_shortest_way_is_told() {
    let output = check(&["--fencing", "none"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let out = text(&output.stdout);
    assert!(
        out.contains("no lost write                               VIOLATED in 9 steps"),
        "{out}"
    );
    assert!(out.contains("VIOLATED: no lost write ("), "{out}");
    assert!(
        out.contains("\n  1  n2 gets from n1 (e1): Prepare"),
        "{out}"
    );
    assert!(
        out.contains("* the write of 1 is acknowledged as e1.o1"),
        "{out}"
    );
    assert!(
        out.contains(">>   BROKEN: no lost write (e1.o1=1 was acknowledged, and the writer n3"),
        "{out}"
    );
}

#[test]
fn machines_get_one_object_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, svg) = (
        folder.path().join("trace.json"),
        folder.path().join("trace.svg"),
    );
    let files = [
        "--trace",
        trace.to_str().unwrap(),
        "--svg",
        svg.to_str().unwrap(),
    ];
    let output = check(&[&["--fencing", "none", "--json"], &files[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["outcome"], "violated");
    let one = &all["explorations"][0];
    assert_eq!(one["complete"], false);
    assert_eq!(one["bounds"]["fencing"], "none");
    assert!(one["states"].as_u64() > one["unique"].as_u64());
    let always = one["always"].as_array().unwrap();
    let lost = always
        .iter()
        .find(|one| one["property"] == "no lost write")
        .unwrap();
    assert_eq!(
        (&lost["verdict"], &lost["steps"]),
        (&"violated".into(), &9.into())
    );
    let written: Value = serde_json::from_slice(&fs::read(trace).unwrap()).unwrap();
    assert_eq!(written, lost["trace"]);
    let last = &written[8];
    assert_eq!(last["step"], 9);
    assert_eq!(last["members"].as_array().map(Vec::len), Some(3));
    assert!(
        last["broken"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["promise"] == "no lost write")
    );
    assert_eq!(
        one["sometimes"][0]["property"],
        "an election rolls a prepared entry forward"
    );
    assert!(fs::read_to_string(svg).unwrap().starts_with("<svg "));
}

#[test]
fn one_property_is_judged_alone() {
    let output = check(&["--fencing", "none", "--property", "committed-stays"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let out = text(&output.stdout);
    assert!(
        out.contains("VIOLATED in 7 steps") && !out.contains("no lost write"),
        "{out}"
    );
}

#[test]
fn clocks_beyond_the_bound_cost_linearizability_and_nothing_else() {
    let output = check(&["--bad-clocks"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let out = text(&output.stdout);
    assert_eq!(out.matches("VIOLATED in ").count(), 1, "{out}");
    assert!(out.contains("a lease read at n1 does not show"), "{out}");
}

#[test]
fn what_is_cut_off_exits_with_3() {
    let output = model(&[
        "check",
        "--preset",
        "deep",
        "--replicas",
        "3",
        "--quorum",
        "2",
        "--timeout",
        "1s",
    ]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let out = text(&output.stdout);
    assert!(
        out.contains("not broken so far") && out.contains("NOT COMPLETE"),
        "{out}"
    );
}

#[test]
fn bad_bounds_get_one_clear_line() {
    let line = |arguments: &[&str]| {
        let output = model(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let err = text(&output.stderr);
        assert_eq!(err.lines().count(), 1, "{err}");
        err.trim_end().to_owned()
    };
    let bad = |arguments: &[&str]| line(&[&["check"], arguments].concat());
    assert_eq!(
        bad(&["--quorum", "4"]),
        "error: --quorum is 4; allowed: 1 to 3"
    );
    assert_eq!(
        bad(&["--quorum", "0"]),
        "error: --quorum is 0; allowed: 1 to 3"
    );
    assert_eq!(
        bad(&["--replicas", "6"]),
        "error: --replicas is 6; allowed: 1 to 5"
    );
    assert_eq!(
        bad(&["--writes", "9"]),
        "error: --writes is 9; allowed: 0 to 8"
    );
    assert_eq!(
        bad(&["--threads", "0"]),
        "error: --threads is 0; allowed: 1 to 1024"
    );
    assert_eq!(
        bad(&["--epochs", "1"]),
        "error: --rollbacks has no effect without a second epoch (--epochs 2)"
    );
    assert_eq!(
        bad(&["--bad-clocks", "--lost-sessions", "0"]),
        "error: --bad-clocks has no effect without a session that is lost (--lost-sessions 1)"
    );
    assert_eq!(
        bad(&["--timeout", "soon"]),
        "error: \"soon\" is no time; write it as 90s, 10m or 2h"
    );
    let unknown = bad(&["--property", "no-such"]);
    assert!(
        unknown.contains("there is no property \"no-such\"; there are: one-writer-an-epoch, "),
        "{unknown}"
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = line(&["explore", "--address", &address]);
    assert!(
        refused.starts_with(&format!("error: cannot listen on {address}: ")),
        "{refused}"
    );
    let nowhere = bad(&[
        &TINY[..],
        &["--fencing", "none", "--svg", "/no/such/folder/a.svg"],
    ]
    .concat());
    assert!(
        nowhere.starts_with("error: cannot write /no/such/folder/a.svg: "),
        "{nowhere}"
    );
}

#[test]
fn the_explorer_serves_states_that_people_can_read() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_model"))
        .args(["explore", "--address", "127.0.0.1:0", "--fencing", "none"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let said = BufReader::new(server.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let address =
        said.filter_map(|line| Some(line.split_once("http://")?.1.split_once('/')?.0.to_owned()));
    let address = { address }.next().expect("it says where");
    let status = get(&address, "/.status");
    let next = get(&address, "/.states/0");
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(status.contains("no lost write"), "{status}");
    let next: Value = serde_json::from_str(&next).unwrap();
    let written = next.as_array().unwrap().iter();
    let written = { written }
        .find(|step| step["action"] == "a client asks n1 for a write")
        .expect("a client can write at first");
    let state = written["state"].as_str().unwrap();
    assert!(
        state.contains("n1  writer of e1     [e1.o1=1], committed o0"),
        "{state}"
    );
    assert!(
        state.contains("n1 -> n2 (e1) Prepare after e0.o0 [], committed o0"),
        "{state}"
    );
    assert!(written["svg"].as_str().unwrap().starts_with("<svg "));
}

/// The body of an answer. The server may need a moment until it listens.
fn get(address: &str, path: &str) -> String {
    let mut stream = (0..1_000_000).find_map(|_| TcpStream::connect(address).ok());
    let stream = stream.as_mut().expect("it listens");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    body.to_owned()
}
