//! The scenario format: whatever is wrong with a file is one line that names the file, the line and what is allowed,
//! and what is valid survives being written and read again.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use kv::engine::EngineKind;
use scenarios::scenario::{Action, DiskFault, End, Scenario, Start};
use scenarios::suite;

fn refusal(text: &str) -> String {
    let error = Scenario::parse("bad", "bad.toml", text).expect_err(text);
    let message = error.to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

/// A file with that fault, which begins on line 2.
fn with_fault(fault: &str) -> String {
    format!("name = \"x\"\n[[fault]]\n{fault}\n")
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    for (text, line) in [
        ("this is no scenario", 1),
        ("name = \"x\"\n[cluster\n", 2),
        ("{\"name\": 1}", 1),
    ] {
        let message = refusal(text);
        assert!(
            message.starts_with(&format!("bad.toml:{line}: ")),
            "{message}"
        );
    }
}

#[test]
fn unknown_fields_are_refused_with_the_allowed_ones() {
    assert_eq!(
        refusal("name = \"x\"\n\n[cluster]\nshard = 2\n"),
        "bad.toml:4: unknown field `shard`; allowed: `shards`, `replication_factor`, `write_quorum`, \
         `election_quorum`, `fencing`, `engine`, `segment_bytes`, `checkpoint_bytes`, `log_retain_bytes`, `nodes`, \
         `session_timeout`"
    );
    assert_eq!(
        refusal("name = \"x\"\n[workload]\nmix = { get = 1, put = 1 }"),
        "bad.toml:3: unknown field `put`; allowed: `get`, `set`, `delete`"
    );
    assert!(
        refusal(&with_fault("at = \"1s\"\nkil = \"any\"")).starts_with(
            "bad.toml:4: unknown field `kil`; allowed: `at`, `when`, `after`, `latest`, `until`"
        )
    );
    assert_eq!(
        refusal("[cluster]\nshards = 2\n"),
        "bad.toml:1: missing field `name`"
    );
}

#[test]
fn values_of_the_wrong_shape_are_refused() {
    assert_eq!(
        refusal("name = \"x\"\n[cluster]\nfencing = \"raft\"\n"),
        "bad.toml:3: unknown variant `raft`; allowed: `epoch` or `none`"
    );
    assert_eq!(
        refusal("name = \"x\"\n[workload]\nduration = \"30\"\n"),
        "bad.toml:3: \"30\" is no length of time; write a number and a unit, such as \"30s\" (units: us, ms, s, m, h)"
    );
    assert_eq!(
        refusal("name = \"x\"\n[workload]\nduration = 30\n"),
        "bad.toml:3: invalid type: integer `30`, expected a length of time such as \"30s\" (units: us, ms, s, m, h)"
    );
    assert_eq!(
        refusal("name = \"x\"\n[cluster]\nshards = \"two\"\n"),
        "bad.toml:3: invalid type: string \"two\", expected u16"
    );
    assert_eq!(
        refusal(&with_fault("at = \"1s\"\npause = 3")),
        "bad.toml:4: expected a target such as \"writer(0)\", or a list of them"
    );
}

#[test]
fn a_cluster_that_cannot_be_is_refused() {
    let cluster = |lines: &str| refusal(&format!("name = \"x\"\n[cluster]\n{lines}\n"));
    assert_eq!(
        cluster("replication_factor = 3\nwrite_quorum = 4"),
        "bad.toml:4: write_quorum is 4 with replication_factor 3; allowed: 1 to 3"
    );
    assert_eq!(
        cluster("write_quorum = 2\nelection_quorum = 1"),
        "bad.toml:4: election_quorum is 1 with write_quorum 2 and replication_factor 3: an election could miss an \
         acknowledged write (Q + E must exceed N); allowed: 2 to 3"
    );
    assert_eq!(
        cluster("replication_factor = 0"),
        "bad.toml:3: replication_factor is 0; allowed: 1 to 15"
    );
    assert_eq!(
        cluster("shards = 0"),
        "bad.toml:3: shards is 0; allowed: 1 to 1024"
    );
    assert_eq!(
        cluster("engine = \"leveldb\""),
        "bad.toml:3: there is no engine \"leveldb\"; the engines are: memory, redb, sled, rocksdb"
    );
    assert_eq!(
        cluster("nodes = 5"),
        "bad.toml:3: nodes is 5; allowed: 6 to 1000"
    );
    assert_eq!(
        cluster("session_timeout = \"10ms\""),
        "bad.toml:3: session_timeout is 10ms; allowed: 1s to 1m"
    );
}

#[test]
fn a_workload_that_shows_nothing_is_refused() {
    let workload = |line: &str| refusal(&format!("name = \"x\"\n[workload]\n{line}\n"));
    assert_eq!(
        workload("clients = 0"),
        "bad.toml:3: clients is 0; allowed: 1 to 1000"
    );
    assert_eq!(
        workload("mix = { get = 1 }"),
        "bad.toml:3: mix is get 1, set 0, delete 0; allowed: get and set of 1 to 1000, delete of 0 to 1000 \
         (a run without reads or writes shows nothing)"
    );
    assert_eq!(
        workload("levels = {}"),
        "bad.toml:3: levels is lease 0, quorum 0, local 0, replica 0; allowed: shares of 0 to 1000, not all 0"
    );
    assert_eq!(
        workload("ops_per_second = 0.0"),
        "bad.toml:3: ops_per_second is 0.0; allowed: 0.01 to 10000.0"
    );
    assert_eq!(
        workload("duration = \"0s\""),
        "bad.toml:3: duration is 0us; allowed: 1s to 1h"
    );
}

#[test]
fn a_fault_has_one_start_one_kind_and_at_most_one_end() {
    assert_eq!(
        refusal(&with_fault("kill = \"any\"")),
        "bad.toml:2: a fault needs exactly one of at, when, after; it has none"
    );
    assert_eq!(
        refusal(&with_fault(
            "at = \"1s\"\nafter = \"1 ok writes\"\nkill = \"any\""
        )),
        "bad.toml:2: a fault needs exactly one of at, when, after; it has at, after"
    );
    let kinds = "partition, network, power_loss, kill, restart, pause, session_loss, clock, slow_disk, disk";
    assert_eq!(
        refusal(&with_fault("at = \"1s\"")),
        format!("bad.toml:2: a fault needs exactly one of {kinds}; it has none")
    );
    assert_eq!(
        refusal(&with_fault("at = \"1s\"\nkill = \"any\"\npause = \"any\"")),
        format!("bad.toml:2: a fault needs exactly one of {kinds}; it has kill, pause")
    );
    assert_eq!(
        refusal(&with_fault(
            "at = \"1s\"\nkill = \"any\"\nuntil = \"2s\"\nfor = \"1s\""
        )),
        "bad.toml:5: until and for cannot both be given; remove one"
    );
    assert_eq!(
        refusal(&with_fault("at = \"1s\"\nrestart = \"any\"\nfor = \"1s\"")),
        "bad.toml:5: for makes no sense for restart, which is over at once; remove it"
    );
}

#[test]
fn times_that_contradict_each_other_are_refused() {
    assert_eq!(
        refusal(&with_fault("at = \"5s\"\nkill = \"any\"\nuntil = \"4s\"")),
        "bad.toml:5: until (4s) is not after at (5s)"
    );
    assert_eq!(
        refusal(&with_fault(
            "at = \"5s\"\nlatest = \"5s\"\nkill = \"elector(0)\""
        )),
        "bad.toml:4: latest (5s) is not after at (5s)"
    );
    assert_eq!(
        refusal(&with_fault("at = \"30s\"\nkill = \"any\"")),
        "bad.toml:3: at is not before the end of the workload (30s): the fault would never fire"
    );
    assert_eq!(
        refusal(&with_fault("at = \"5s\"\nkill = \"any\"\nuntil = \"31s\"")),
        "bad.toml:5: until (31s) is after the end of the workload (30s), when everything heals"
    );
    assert_eq!(
        refusal(&with_fault(
            "when = \"writer(0) elected\"\nkill = \"any\"\nuntil = \"3s\""
        )),
        "bad.toml:5: until needs at; a fault that fires by an event lasts `for` a time"
    );
    assert_eq!(
        refusal(&with_fault("at = \"5s\"\nkill = \"any\"\nfor = \"0s\"")),
        "bad.toml:5: for is no time at all"
    );
}

#[test]
fn targets_and_triggers_that_cannot_exist_are_refused() {
    assert_eq!(
        refusal(&with_fault("at = \"1s\"\nkill = \"writer(7)\"")),
        "bad.toml:4: writer(7) cannot exist: the shards are 0 to 1"
    );
    assert!(
        refusal(&with_fault("at = \"1s\"\nkill = \"leader(0)\"")).starts_with(
            "bad.toml:4: unknown target \"leader(0)\"; allowed: writer(SHARD), replica(SHARD, INDEX)"
        )
    );
    assert!(
        refusal(&with_fault(
            "at = \"1s\"\npartition = { isolate = \"leader(0)\" }"
        ))
        .starts_with("bad.toml:4: unknown target \"leader(0)\"; allowed: writer(SHARD)")
    );
    assert!(
        refusal(&with_fault("at = \"1s\"\nkill = \"clients\"")).starts_with(
            "bad.toml:4: clients is no node, and this fault hits nodes and coordination only"
        )
    );
    assert!(
        refusal(&with_fault("at = \"1s\"\nkill = []"))
            .starts_with("bad.toml:4: no target is named")
    );
    assert_eq!(
        refusal(&with_fault("when = \"writer(2) elected\"\nkill = \"any\"")),
        "bad.toml:3: writer(2) cannot exist: the shards are 0 to 1"
    );
    assert!(
        refusal(&with_fault("when = \"writer(0) dies\"\nkill = \"any\"")).starts_with(
            "bad.toml:3: unknown trigger \"writer(0) dies\"; allowed: \"writer(SHARD) elected\""
        )
    );
    assert!(
        refusal(&with_fault("after = \"many writes\"\nkill = \"any\""))
            .starts_with("bad.toml:3: unknown count \"many writes\"; allowed: \"N ok writes\"")
    );
}

#[test]
fn partitions_and_disturbances_are_whole() {
    let partition = |fields: &str| {
        refusal(&with_fault(&format!(
            "at = \"1s\"\npartition = {{ {fields} }}"
        )))
    };
    let allowed = "isolate (with or without from), split, one_way, bridge, ring";
    assert_eq!(
        partition(""),
        format!("bad.toml:4: partition needs exactly one of {allowed}; it has none")
    );
    assert_eq!(
        partition("from = \"any\""),
        format!("bad.toml:4: partition needs exactly one of {allowed}; it has from")
    );
    assert_eq!(
        partition("isolate = \"any\", bridge = \"any\""),
        format!("bad.toml:4: partition needs exactly one of {allowed}; it has isolate, bridge")
    );
    assert_eq!(
        partition("ring = \"shard(0)\""),
        "bad.toml:4: ring needs at least 4 nodes, or it cuts nothing; shard(0) is 3 here"
    );
    assert!(
        partition("ring = [\"all\", \"clients\"]").starts_with("bad.toml:4: clients is no node")
    );
    assert!(
        partition("split = [[\"any\"]]").starts_with("bad.toml:4: split needs at least two groups")
    );
    assert_eq!(
        refusal(&with_fault("at = \"1s\"\nnetwork = { lose = 5.0 }")),
        "bad.toml:4: lose is 5.0; allowed: probabilities from 0.0 to 1.0"
    );
    assert!(
        refusal(&with_fault("at = \"1s\"\nnetwork = { from = \"all\" }"))
            .starts_with("bad.toml:4: network disturbs nothing")
    );
    assert!(
        refusal(&with_fault("at = \"1s\"\nclock = { node = \"any\" }"))
            .starts_with("bad.toml:4: clock bends nothing")
    );
}

#[test]
fn expectations_of_what_nobody_judges_are_refused() {
    assert!(
        refusal("name = \"x\"\n[expect]\nlinear = \"holds\"\n").starts_with(
            "bad.toml:3: there is no guarantee \"linear\"; the guarantees are read_your_writes"
        )
    );
    assert_eq!(
        refusal("name = \"x\"\n[expect.none]\nno_lost_write = \"broken\"\n"),
        "bad.toml:3: no_lost_write cannot be expected to be \"broken\"; allowed: \"holds\", \"violated\", \"any\""
    );
}

/// One fault of every kind, start and end.
const EVERYTHING: &str = r#"
name = "everything \"at\" once"
seed = 42

[cluster]
shards = 3
replication_factor = 5
write_quorum = 3
election_quorum = 4
fencing = "none"
engine = "redb"
segment_bytes = "4KiB"
checkpoint_bytes = "9000B"
log_retain_bytes = "0B"
nodes = 17
session_timeout = "2s"

[workload]
clients = 3
keys = 5
mix = { get = 1, set = 2 }
levels = { lease = 1, local = 2, replica = 3 }
duration = "90s"
ops_per_second = 12.5
deadline = "750ms"
min_ok = 7
recovery_within = "1m"

[[fault]]
at = "1s"
partition = { isolate = "writer(0)" }
until = "2s"

[[fault]]
at = "1s"
partition = { isolate = ["writer(0)", "clients"], from = "coordination" }

[[fault]]
when = "writer(2) rolled back"
partition = { split = [["writer(0)", "clients"], "minority(0)", ["any(1)"]] }
for = "1500ms"

[[fault]]
after = "10 ok operations"
partition = { one_way = { from = "writer(0)", to = ["replica(0, 3)"] } }

[[fault]]
at = "3s"
partition = { one_way = { from = "writer(0)" } }

[[fault]]
at = "3s"
partition = { bridge = "replica(0, 0)" }

[[fault]]
at = "3s"
latest = "8s"
partition = { ring = ["elector(0)", "all"] }

[[fault]]
at = "4s"
network = { lose = 0.05, delay = "20ms", to = "all" }

[[fault]]
at = "5s"
power_loss = "majority(1)"

[[fault]]
at = "5s"
kill = "shard(2)"

[[fault]]
at = "6s"
restart = "node(17)"

[[fault]]
at = "7s"
pause = "any"
for = "1s"

[[fault]]
at = "8s"
session_loss = "writer(1)"

[[fault]]
at = "9s"
clock = { node = "all", offset = "2s", drift_ppm = -20000 }

[[fault]]
at = "9s"
slow_disk = { node = "writer(0)", delay = "50ms" }

[[fault]]
at = "9s"
disk = { node = ["writer(0)", "any"], fault = "failed-fsync" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "full" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "lost-writes" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "torn-tail" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "power-loss-in-checkpoint" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "power-loss-in-snapshot" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "bit-flip", where = "sealed" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "bit-flip", where = "tail" }

[[fault]]
at = "9s"
disk = { node = "writer(0)", fault = "bit-flip", where = "engine" }

[expect]
linearizable = "holds"
no-lost-write = "any"

[expect.none]
linearizable = "violated"
"#;

#[test]
fn a_scenario_survives_being_written_and_read_again() {
    let mut scenarios = suite::all().unwrap();
    scenarios.push(Scenario::parse("everything", "everything.toml", EVERYTHING).unwrap());
    for scenario in scenarios {
        let text = scenario.to_toml();
        let again = Scenario::parse(&scenario.id, &scenario.address, &text).unwrap();
        assert_eq!(again, scenario, "{text}");
    }
}

#[test]
fn every_field_is_read() {
    let scenario = Scenario::parse("everything", "everything.toml", EVERYTHING).unwrap();
    assert_eq!(scenario.seed, Some(42));
    assert_eq!(scenario.cluster.nodes, 17);
    assert_eq!(scenario.cluster.config.election_quorum, 4);
    assert_eq!(scenario.workload.mix.delete, 0);
    assert_eq!(scenario.workload.min_ok, 7);
    assert_eq!(scenario.cluster.engine, EngineKind::Redb);
    assert_eq!(scenario.cluster.storage.checkpoint_bytes, Some(9000));
    assert_eq!(scenario.faults.len(), 24);
    let disks = scenario.faults[15..].iter();
    let disks = disks.map(|fault| match &fault.action {
        Action::Disk { fault, .. } => *fault,
        other => panic!("{other:?}"),
    });
    assert_eq!(disks.collect::<Vec<_>>(), DiskFault::ALL);
    assert!(matches!(scenario.faults[0].start, Start::At(_)));
    assert!(matches!(scenario.faults[1].end, End::WithTheWorkload));
    assert!(matches!(
        &scenario.faults[2].action,
        Action::Split(groups) if groups.len() == 3
    ));
}

#[test]
fn what_each_seed_draws_is_within_bounds_and_alone() {
    let random = |fields: &str| refusal(&format!("name = \"x\"\nrandom = {{ {fields} }}\n"));
    assert_eq!(
        random("faults = 0, quiet = \"5s\""),
        "bad.toml:2: faults is 0; allowed: 1 to 100"
    );
    assert_eq!(
        random("faults = 3, quiet = \"26s\""),
        "bad.toml:2: quiet is 26s; allowed: at most 25s, so that there is time for faults"
    );
    let with_fault = "name = \"x\"\nrandom = { faults = 3, quiet = \"5s\" }\n[[fault]]\nat = \"1s\"\nkill = \"any\"\n";
    assert!(refusal(with_fault).starts_with("bad.toml:2: random draws the faults"));
}

#[test]
fn an_election_needs_somebody_to_elect() {
    let alone = |fault: &str| {
        refusal(&format!(
            "name = \"x\"\n[cluster]\nreplication_factor = 1\n[[fault]]\n{fault}\n"
        ))
    };
    let why = "elector(0) cannot exist: with replication_factor 1 nobody is elected";
    assert_eq!(
        alone("at = \"1s\"\nkill = \"elector(0)\""),
        format!("bad.toml:6: {why}")
    );
    assert_eq!(
        alone("when = \"election(0) started\"\nkill = \"any\""),
        format!("bad.toml:5: {why}")
    );
}

/// A file of a directed run with that cue, which begins on line 4.
fn with_cue(cue: &str) -> String {
    format!("name = \"x\"\n[cluster]\nshards = 1\n[[cue]]\n{cue}\n")
}

#[test]
fn a_cue_is_one_thing_at_a_node_that_there_is() {
    for (cue, why) in [
        ("", "a cue needs exactly one of deliver, write,"),
        ("write = \"n1\"\ncrash = \"n2\"", "it has write, crash"),
        ("crash = \"n4\"", "allowed: \"n1\" to \"n3\""),
        (
            "deliver = \"letter\"",
            "allowed: prepare, prepared, refused,",
        ),
        (
            "deliver = \"seal\"\nfrom = \"n1\"\nepoch = 2",
            "to is missing in this cue",
        ),
        ("lose_session = \"n1\"", "seen_by is missing in this cue"),
        (
            "read = \"n1\"\nlevel = \"dirty\"",
            "allowed: lease, quorum, local, replica",
        ),
    ] {
        let message = refusal(&with_cue(cue));
        assert!(message.contains(why), "{message}");
    }
    let with_fault = "[[cue]]\nlearn = \"n1\"\n[[fault]]\nat = \"1s\"\nkill = \"any\"\n";
    let message = refusal(&format!(
        "name = \"x\"\n[cluster]\nshards = 1\n{with_fault}"
    ));
    assert!(message.contains("remove the faults"), "{message}");
    let message = refusal("name = \"x\"\n[[cue]]\nlearn = \"n1\"\n");
    assert!(message.contains("one shard"), "{message}");
}

#[test]
fn a_directed_run_survives_being_written_and_read_again() {
    let cues = "write = \"n1\"\nslow = true\n[[cue]]\ndeliver = \"prepare\"\nfrom = \"n1\"\nto = \"n2\"\nepoch = 1\n\
                after = 0\nupto = 1\ncommitted = 0\n[[cue]]\nlose_session = \"n1\"\nseen_by = \"n3\"\nearly = true\n\
                [[cue]]\nread = \"n3\"\nlevel = \"quorum\"\n[[cue]]\nsync = \"n1\"\n[[cue]]\nretry = \"n2\"\n";
    let scenario = Scenario::parse("x", "x.toml", &with_cue(cues)).unwrap();
    assert_eq!((scenario.cues.len(), scenario.workload.clients), (6, 2));
    let again = Scenario::parse("x", "x.toml", &scenario.to_toml()).unwrap();
    assert_eq!(again, scenario);
}
