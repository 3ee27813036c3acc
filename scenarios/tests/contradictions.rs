//! Scenario files that contradict themselves, one by one, through the program itself.
//!
//! Goal: whoever writes one reads one line with the file, the line, what is wrong and what to do, before anything runs.
//! Method: a table of what is wrong, each in a file of its own; and beside it what only looks wrong, and is accepted.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::path::Path;
use std::process::Command;

use scenarios::scenario::Scenario;

/// The one line that the program says to a file of that text.
fn refusal(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    let output = command.arg("run").arg(path).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}\n{message}");
    assert!(output.stdout.is_empty(), "{text}");
    assert_eq!(message.lines().count(), 1, "{message}");
    let start = format!("error: {}:", path.display());
    message.strip_prefix(&start).expect(&message).to_owned()
}

fn refuses(table: &[(&str, &str)], write: impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    for (lines, expected) in table {
        let message = refusal(&path, &write(lines));
        assert!(message.starts_with(expected), "{lines}: {message}");
    }
}

/// A file with that fault, which begins on line 2.
fn with_fault(lines: &str) -> String {
    format!("name = \"x\"\n[[fault]]\n{lines}\n")
}

/// A file with that workload, whose first field is on line 3.
fn with_workload(lines: &str) -> String {
    format!("name = \"x\"\n[workload]\n{lines}\n")
}

#[test]
fn faults_that_never_happen_or_never_end_are_refused() {
    let table = [
        (
            "at = \"-1s\"\nkill = \"any\"",
            "3: \"-1s\" is no length of time; write a number",
        ),
        (
            "at = \"30s\"\nkill = \"any\"",
            "3: at is not before the end of the workload (30s): the fault would never fire",
        ),
        (
            "at = \"5s\"\nkill = \"any\"\nuntil = \"5s\"",
            "5: until (5s) is not after at (5s)",
        ),
        (
            "at = \"5s\"\nkill = \"any\"\nuntil = \"31s\"",
            "5: until (31s) is after the end of the workload (30s), when everything heals",
        ),
        (
            "at = \"29s\"\nkill = \"any\"\nfor = \"2s\"",
            "5: for (2s) from 29s on is longer than the workload (30s), with which everything heals; remove it",
        ),
        (
            "when = \"writer(0) elected\"\nkill = \"any\"\nfor = \"1h\"",
            "5: for (1h) is longer than the workload (30s), with which everything heals; remove it",
        ),
        (
            "after = \"5000 ok writes\"\nkill = \"any\"",
            "3: after never comes to 5000 ok writes: at their ops_per_second the clients do at most 1040; ask for fewer",
        ),
        (
            "at = \"1s\"\nkill = \"any\"\n[[fault]]\nat = \"1s\"\nkill = \"any\"",
            "5: this fault is the same as fault 1, and adds nothing to it; remove one",
        ),
    ];
    refuses(&table, with_fault);
}

#[test]
fn faults_that_hit_nobody_are_refused() {
    let table = [
        (
            "kill = \"writer(2)\"",
            "4: writer(2) cannot exist: the shards are 0 to 1",
        ),
        (
            "kill = \"shard(5)\"",
            "4: shard(5) cannot exist: the shards are 0 to 1",
        ),
        (
            "kill = \"replica(0, 2)\"",
            "4: replica(0, 2) cannot exist: with replication_factor 3 a shard has the replicas 0 to 1",
        ),
        (
            "kill = \"elector(2)\"",
            "4: elector(2) cannot exist: the shards are 0 to 1",
        ),
        (
            "kill = \"node(7)\"",
            "4: node(7) cannot exist: the nodes are node(1) to node(6)",
        ),
        (
            "session_loss = \"coordination\"",
            "4: coordination is no node, and this fault hits nodes only",
        ),
        (
            "partition = { isolate = \"writer(0)\", from = \"writer(0)\" }",
            "4: isolate cuts writer(0) off from itself; name somebody else in from",
        ),
        (
            "partition = { one_way = { from = \"node(1)\", to = \"node(1)\" } }",
            "4: one_way cuts node(1) off from itself; name somebody else in to",
        ),
        (
            "partition = { split = [\"writer(0)\", [\"replica(0, 0)\", \"writer(0)\"]] }",
            "4: split has writer(0) on two sides; leave it on one",
        ),
        (
            "network = { lose = 0.5, from = \"writer(0)\", to = \"writer(0)\" }",
            "4: network disturbs what writer(0) sends to itself; name somebody else in to",
        ),
        (
            "slow_disk = { node = \"writer(0)\", delay = \"0s\" }",
            "4: slow_disk slows nothing; give a delay",
        ),
    ];
    refuses(&table, |lines| with_fault(&format!("at = \"1s\"\n{lines}")));
    let alone = [
        (
            "1\n[[fault]]\nat = \"1s\"\nkill = \"replica(0, 0)\"",
            "6: replica(0, 0) cannot exist: with replication_factor 1 a shard has a writer and no replica",
        ),
        (
            "1\n[[fault]]\nat = \"1s\"\nkill = \"elector(0)\"",
            "6: elector(0) cannot exist: with replication_factor 1 nobody is elected",
        ),
        (
            "2\n[[fault]]\nat = \"1s\"\nkill = \"minority(0)\"",
            "6: minority(0) cannot exist: a majority of 2 is the whole shard",
        ),
    ];
    refuses(&alone, |lines| {
        format!("name = \"x\"\n[cluster]\nreplication_factor = {lines}\n")
    });
}

#[test]
fn disks_that_cannot_fail_like_that_are_refused() {
    let table = [
        (
            "fault = \"slow\"",
            "4: unknown disk fault \"slow\"; allowed: failed-fsync, full, lost-writes, torn-tail, \
             power-loss-in-checkpoint, power-loss-in-snapshot, bit-flip (a slow disk is slow_disk = ",
        ),
        ("where = \"tail\"", "4: missing field `fault`"),
        (
            "fault = \"full\", where = \"tail\"",
            "4: where is about a bit-flip, and this is full; remove it",
        ),
        (
            "fault = \"bit-flip\"",
            "4: bit-flip needs where; allowed: sealed, tail, engine",
        ),
        (
            "fault = \"bit-flip\", where = \"head\"",
            "4: unknown variant `head`; allowed: `sealed`, `tail`, `engine`",
        ),
        (
            "fault = \"bit-flip\", where = \"sealed\"",
            "4: bit-flip needs segment_bytes in [cluster], such as \"8KiB\": without it no file of the log is ever full",
        ),
        (
            "fault = \"bit-flip\", where = \"engine\"",
            "4: bit-flip needs checkpoint_bytes in [cluster], such as \"8KiB\": without it no run comes to",
        ),
        (
            "fault = \"power-loss-in-checkpoint\"",
            "4: power-loss-in-checkpoint needs checkpoint_bytes in [cluster], such as",
        ),
        (
            "fault = \"full\", delay = \"1s\"",
            "4: unknown field `delay`; allowed: `node`, `fault`, `where`",
        ),
    ];
    refuses(&table, |disk| {
        with_fault(&format!(
            "at = \"1s\"\ndisk = {{ node = \"writer(0)\", {disk} }}"
        ))
    });
    let lines = "at = \"1s\"\ndisk = { node = \"coordination\", fault = \"full\" }";
    let expected = "4: coordination is no node, and this fault hits nodes only";
    refuses(&[(lines, expected)], with_fault);
}

#[test]
fn storage_that_cannot_be_is_refused() {
    let table = [
        (
            "engine = \"leveldb\"",
            "3: there is no engine \"leveldb\"; the engines are: memory, redb, sled, rocksdb",
        ),
        (
            "segment_bytes = \"100B\"",
            "3: segment_bytes is 100B; allowed: 1KiB to 1GiB",
        ),
        (
            "checkpoint_bytes = \"2GiB\"",
            "3: checkpoint_bytes is 2GiB; allowed: 1KiB to 1GiB",
        ),
        (
            "log_retain_bytes = \"2GiB\"",
            "3: log_retain_bytes is 2GiB; allowed: 0B to 1GiB",
        ),
        (
            "checkpoint_bytes = \"8kb\"",
            "3: \"8kb\" is no number of bytes; write a whole number and a unit, such as \"8KiB\"",
        ),
        ("checkpoint_bytes = 8192", "3: invalid type: integer `8192`"),
    ];
    refuses(&table, |line| format!("name = \"x\"\n[cluster]\n{line}\n"));
}

#[test]
fn workloads_that_cannot_do_what_is_asked_are_refused() {
    let table = [
        ("clients = 0", "3: clients is 0; allowed: 1 to 1000"),
        ("keys = 0", "3: keys is 0; allowed: 1 to 10000"),
        ("duration = \"0s\"", "3: duration is 0us; allowed: 1s to 1h"),
        (
            "mix = {}",
            "3: mix is get 0, set 0, delete 0; allowed: get and set of 1",
        ),
        (
            "levels = {}",
            "3: levels is lease 0, quorum 0, local 0, replica 0; allowed",
        ),
        ("keys = 1\nkeys = 2", "4: duplicate key"),
        (
            "kees = 1",
            "3: unknown field `kees`; allowed: `clients`, `keys`",
        ),
        (
            "min_ok = 2000",
            "3: min_ok is 2000; allowed: 0 to 1040, which is more than the clients ever do",
        ),
        (
            "clients = 1\nduration = \"5s\"",
            "2: min_ok is 300 by default; allowed: 0 to 30, which is more than the clients ever do",
        ),
        (
            "min_ok = 2\nscript = [{ at = \"1s\", client = 0, set = \"k0\" }]",
            "3: min_ok is 2; allowed: 0 to 1,",
        ),
        (
            "script = [{ at = \"1s\", client = 0, set = \"k0\" }]\n[[fault]]\nafter = \"1 ok reads\"\nkill = \"any\"",
            "5: after never comes to 1 ok reads: the script has at most 0; ask for fewer",
        ),
    ];
    refuses(&table, with_workload);
}

#[test]
fn expectations_that_no_run_can_meet_or_miss_are_refused() {
    let levels = [
        (
            "linearizable = \"holds\"",
            "5: linearizable is about reads of the levels lease and quorum, and levels has none",
        ),
        (
            "none.linearizable = \"violated\"",
            "5: linearizable is about reads of the levels lease and quorum, and levels has none",
        ),
    ];
    refuses(&levels, |lines| {
        with_workload(&format!(
            "levels = {{ local = 1, replica = 1 }}\n[expect]\n{lines}"
        ))
    });
    let only_sets = [
        (
            "read_your_writes",
            "9: read_your_writes is about a client that writes a key and reads it",
        ),
        (
            "read_your_writes_stable",
            "9: read_your_writes_stable is about a client that writes",
        ),
        (
            "monotonic_reads",
            "9: monotonic_reads is about a client that reads a key twice",
        ),
        (
            "monotonic_writes",
            "9: monotonic_writes is about a client that writes a key twice",
        ),
        (
            "writes_follow_reads",
            "9: writes_follow_reads is about a client that reads a key and",
        ),
    ];
    let script = |steps: &str, guarantee: &str| {
        with_workload(&format!(
            "script = [\n{steps}\n]\n[expect]\n{guarantee} = \"holds\""
        ))
    };
    refuses(&only_sets, |guarantee| {
        let set = "{ at = \"1s\", client = 0, set = \"k0\" },\n{ at = \"2s\", client = 1, set = \"k0\" },\n\
                   { at = \"3s\", client = 2, get = \"k0\" },";
        script(set, guarantee)
    });
    let about_writes = "is about writes, and the script has none; add a set or a delete";
    let about_writes = [
        "no_lost_write",
        "no_phantom",
        "no_quorum_no_ack",
        "linearizable",
    ]
    .map(|guarantee| (guarantee, format!("7: {guarantee} {about_writes}")));
    for (guarantee, expected) in &about_writes {
        refuses(&[(guarantee, expected)], |guarantee| {
            script("{ at = \"1s\", client = 0, get = \"k0\" }", guarantee)
        });
    }
    let twice = [
        (
            "no_lost_write = \"any\"\nno-lost-write = \"holds\"",
            "3: no_lost_write is named twice; remove one",
        ),
        (
            "one_log = \"any\"\n[expect.epoch]\none_log = \"holds\"",
            "5: one_log is named twice; remove one",
        ),
        ("one_log = \"any\"\none_log = \"any\"", "4: duplicate key"),
    ];
    refuses(&twice, |lines| format!("name = \"x\"\n[expect]\n{lines}\n"));
}

#[test]
fn what_only_looks_like_a_contradiction_is_accepted() {
    for text in [
        // Faults overlap: a node comes back when the last of them is over.
        with_fault("at = \"1s\"\nkill = \"any\"\n[[fault]]\nat = \"2s\"\nrestart = \"any\""),
        with_fault(
            "at = \"1s\"\nclock = { node = \"all\", drift_ppm = 9 }\n[[fault]]\nat = \"1s\"\nclock = { node = \"all\", drift_ppm = -9 }",
        ),
        // A fault may begin with the workload and end with it.
        with_fault("at = \"0s\"\nkill = \"any\"\nfor = \"30s\""),
        with_fault("at = \"0s\"\nkill = \"any\"\nuntil = \"30s\""),
        // Members are many places: each is cut off from the others.
        with_fault(
            "at = \"1s\"\npartition = { one_way = { from = \"shard(0)\", to = \"shard(0)\" } }",
        ),
        // Nothing is said about a guarantee that may go either way.
        with_workload("levels = { local = 1 }\n[expect]\nlinearizable = \"any\""),
        // The last session reads every key: a write that is gone is seen by it.
        with_workload(
            "script = [{ at = \"1s\", client = 0, set = \"k0\" }]\n[expect]\nlinearizable = \"holds\"\nrecovery = \"holds\"",
        ),
    ] {
        let read = Scenario::parse("good", "good.toml", &text);
        assert!(read.is_ok(), "{text}: {}", read.unwrap_err());
    }
}
