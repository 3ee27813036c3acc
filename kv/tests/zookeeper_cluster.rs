//! Goal: real processes over a real ZooKeeper are a cluster: they form, fail over, outlive ZooKeeper's own troubles, and whoever does not
//! belong is turned away with one clear line.
//! Method: `kv serve` in processes of their own over a server that each test starts; clients all the while, whose history the
//! checker judges.
#![cfg(feature = "zookeeper")]
#![allow(clippy::unwrap_used, reason = "this file is a test")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::path::Path;
use std::time::Duration;

use kv::coordination::zookeeper::ZooKeeper;
use kv::coordination::{Change, Coordination as _, CreateMode};

#[path = "kills/clients.rs"]
mod clients;
#[path = "zookeeper/cluster.rs"]
mod cluster;
#[path = "processes/served.rs"]
mod served;
#[path = "zookeeper/server.rs"]
mod server;

use cluster::Cluster;
use served::{Served, free_address};
use server::Server;

const SESSION_TIMEOUT: &str = "1s";
const KILLS: usize = 4;

#[test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
fn a_cluster_over_zookeeper_outlives_its_writers() {
    if !server::is_there() {
        return;
    }
    let mut cluster = Cluster::start(server::TICK, SESSION_TIMEOUT, 1);
    for kill in 1..=KILLS {
        let (node, took) = cluster.kill_writer();
        eprintln!("kill {kill}: n{} was the writer, {took:?}", node + 1);
        cluster.revive(node);
        cluster.wait_until_caught_up(node);
    }
    assert!(cluster.acknowledged() > 10 * KILLS, "vacuous");
    cluster.judge();
}

/// Its session ends at once, and not by a timeout.
#[test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
fn a_writer_that_is_asked_to_stop_hands_over_and_leaves_nothing_behind() {
    if !server::is_there() {
        return;
    }
    let mut cluster = Cluster::start(server::TICK * 2, "4s", 3);
    let (node, said) = cluster.stop_writer();
    assert!(said.contains("is the writer now"), "{said}");
    let address = cluster.zookeeper_address().parse().unwrap();
    let zookeeper = ZooKeeper::new(address, None, Duration::from_secs(4));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let left = runtime.block_on(async {
        let session = zookeeper.connect().await.unwrap();
        session.read(&format!("nodes/{}", node + 1)).await.unwrap()
    });
    assert_eq!(left, None, "its session has ended with it");
    cluster.wait_for_writes(10);
    cluster.revive(node);
    cluster.wait_until_caught_up(node);
    cluster.judge();
}

#[test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
fn a_cluster_goes_on_when_zookeeper_comes_back() {
    if !server::is_there() {
        return;
    }
    let mut cluster = Cluster::start(server::TICK, SESSION_TIMEOUT, 2);
    cluster.zookeeper.kill();
    // Longer than any session lives without a server. The writer's lease ends, so `lease` reads wait; writes need none.
    cluster.wait_for_writes(10);
    std::thread::sleep(Duration::from_secs(3));
    cluster.zookeeper.run();
    cluster.zookeeper.wait();
    cluster.wait_for_writes(10);
    let (node, _) = cluster.kill_writer();
    cluster.revive(node);
    cluster.wait_until_caught_up(node);
    cluster.judge();
}

/// A node that is started with more flags.
fn serve(data: &Path, flags: &[&str]) -> Served {
    Served::spawn(data, &free_address(), flags)
}

/// The line with which a node ends that is turned away.
fn refusal(data: &Path, flags: &[&str]) -> String {
    let (code, stderr) = serve(data, flags).stops();
    served::refusal(code, &stderr)
}

#[test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
fn a_node_waits_for_zookeeper_and_says_so_once() {
    if !server::is_there() {
        return;
    }
    let mut server = Server::start();
    server.kill();
    let data = tempfile::tempdir().unwrap();
    let address = free_address();
    let zookeeper = server.address();
    let flags = ["--zookeeper", &zookeeper, "--replication-factor", "1"];
    let node = Served::spawn(data.path(), &address, &flags).wait();
    std::thread::sleep(Duration::from_secs(4));
    server.run();
    server.wait();
    let set = served::kv()
        .args([
            "set",
            "greeting",
            "hello",
            "--timeout",
            "60s",
            "--node",
            &address,
        ])
        .output()
        .unwrap();
    assert!(set.status.success(), "{set:?}");
    let said = node.kill_and_read();
    assert_eq!(
        said.matches("no answer from ZooKeeper").count(),
        1,
        "{said}"
    );
    assert!(
        said.contains(&format!("ZooKeeper at {zookeeper} answers")),
        "{said}"
    );
}

#[test]
#[ignore = "needs ZooKeeper: cargo xtask test runs it"]
fn whoever_does_not_belong_is_turned_away_by_name() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [here, there, secret, odd] =
        ["here", "there", "secret", "odd"].map(|it| format!("{}/{it}", server.address()));
    let short = ["--session-timeout", "1s", "--replication-factor", "1"];
    let with = |flags: &[&'static str]| [flags, &short].concat();

    let one = with(&["--node-id", "1"]);
    let address = free_address();
    let flags = [&one[..], &["--zookeeper", &here]].concat();
    let _first = Served::spawn(&at("first"), &address, &flags).wait();
    // Who comes first has the id, and the one who writes has come.
    let set = ["set", "a", "b", "--timeout", "60s", "--node", &address];
    assert!(served::kv().args(set).status().unwrap().success());
    let twin = refusal(&at("twin"), &flags);
    assert!(twin.contains("another running node has the id 1"), "{twin}");

    // A folder of one cluster, and the chroot of another.
    let two = with(&["--node-id", "2"]);
    let join = |flags: &[&str]| {
        let address = free_address();
        let node = Served::spawn(&at("moved"), &address, flags).wait();
        let info = ["info", "--timeout", "20s", "--node", &address];
        assert!(served::kv().args(info).output().unwrap().status.success());
        until_joined(&at("moved"));
        node.kill();
    };
    join(&[&two[..], &["--zookeeper", &here]].concat());
    let _other = serve(&at("other"), &[&one[..], &["--zookeeper", &there]].concat()).wait();
    let moved = refusal(&at("moved"), &[&two[..], &["--zookeeper", &there]].concat());
    assert!(moved.contains("belongs to cluster"), "{moved}");

    // What the cluster keeps is its own.
    let (mine, yours) = (at("mine"), at("yours"));
    std::fs::write(&mine, "kv:right\n").unwrap();
    std::fs::write(&yours, "kv:wrong\n").unwrap();
    let auth = |file: &Path| {
        [
            "--zookeeper-auth-file".to_owned(),
            file.display().to_string(),
        ]
    };
    let [flag, mine] = auth(&mine);
    let owner = [&one[..], &["--zookeeper", &secret, &flag, &mine]].concat();
    let data = at("owner");
    let _owner = serve(&data, &owner).wait();
    until_joined(&data);
    let [flag, yours] = auth(&yours);
    for flags in [vec![flag.as_str(), &yours], vec![]] {
        let stranger = [&two[..], &["--zookeeper", &secret], &flags].concat();
        let refused = refusal(&at("stranger"), &stranger);
        assert!(refused.contains("refuses this identity"), "{refused}");
        assert!(!refused.contains("wrong"), "a secret is told: {refused}");
    }

    // Somebody else lives there.
    let foreign = ZooKeeper::new(odd.parse().unwrap(), None, Duration::from_secs(1));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let session = foreign.connect().await.unwrap();
        let create = Change::Create {
            path: "cluster".to_owned(),
            data: b"not a number".to_vec(),
            mode: CreateMode::Persistent,
        };
        session.multi(vec![create]).await.unwrap();
        session.close().await;
    });
    let unreadable = refusal(&at("odd"), &[&one[..], &["--zookeeper", &odd]].concat());
    assert!(
        unreadable.contains("this version cannot read"),
        "{unreadable}"
    );
}

/// Waits until a node has noted which cluster its folder belongs to.
fn until_joined(data: &Path) {
    let started = std::time::Instant::now();
    let identity = data.join("node/identity");
    while !std::fs::read_to_string(&identity).is_ok_and(|text| text.contains("cluster")) {
        assert!(started.elapsed() < Duration::from_secs(60), "not joined");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Wrong flags need no server.
#[test]
fn flags_that_make_no_sense_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("never-made");
    let missing = folder.path().join("missing").display().to_string();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "no colon").unwrap();
    let empty = empty.display().to_string();
    for (code, flags, expected) in [
        (2, vec!["--zookeeper", "zk1"], "is no HOST:PORT"),
        (2, vec!["--zookeeper", "zk1:2181/zookeeper"], "is no chroot"),
        (2, vec!["--shards", "2"], "\"zookeeper\""),
        (2, vec!["--replication-factor", "3"], "\"zookeeper\""),
        (
            2,
            vec!["--zookeeper", "a:1", "--write-quorum", "4"],
            "write_quorum",
        ),
        (2, vec!["--zookeeper-auth-file", &empty], "\"zookeeper\""),
        (
            1,
            vec!["--zookeeper", "a:1", "--zookeeper-auth-file", &missing],
            "cannot read",
        ),
        (
            1,
            vec!["--zookeeper", "a:1", "--zookeeper-auth-file", &empty],
            "USER:PASSWORD",
        ),
    ] {
        let (ended, stderr) = serve(&data, &flags).stops();
        assert_eq!(ended, Some(code), "{flags:?}: {stderr}");
        assert!(stderr.contains(expected), "{flags:?}: {stderr}");
        assert!(!data.exists(), "{flags:?} made the folder");
    }
}
