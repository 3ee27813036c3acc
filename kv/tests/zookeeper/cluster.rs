//! Three `kv serve` processes over a real ZooKeeper, and clients that write down what they see. The writer is killed and comes back.
#![allow(dead_code, reason = "not every test does everything")]

use std::path::Path;
use std::time::{Duration, Instant};

use checker::{History, Limits};
use kv::access::Access;
use kv::client::Client;
use kv::wire::Info;
use kv_core::NodeId;
use tokio::runtime::Runtime;

use super::clients::{Clients, GUARANTEES};
use super::served::{Served, free_address};
use super::server::Server;

const NODES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(20);
/// What was on its way when a writer was killed has arrived by then.
const IN_FLIGHT: Duration = Duration::from_millis(100);

/// The cluster and its clients.
pub(crate) struct Cluster {
    pub(crate) zookeeper: Server,
    nodes: Vec<Option<Served>>,
    addresses: Vec<String>,
    folder: tempfile::TempDir,
    session_timeout: String,
    seed: u64,
    clients: Clients,
    runtime: Runtime,
}

impl Cluster {
    /// A cluster that acknowledges writes.
    pub(crate) fn start(tick: Duration, session_timeout: &str, seed: u64) -> Self {
        let addresses: Vec<String> = (0..NODES).map(|_| free_address()).collect();
        let mut cluster = Self {
            zookeeper: Server::with_tick(tick),
            nodes: (0..NODES).map(|_| None).collect(),
            folder: tempfile::tempdir().unwrap(),
            session_timeout: session_timeout.to_owned(),
            seed,
            clients: Clients::start(&addresses, seed),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            addresses,
        };
        for index in 0..NODES {
            cluster.revive(index);
        }
        cluster.wait_for_writes(1);
        cluster
    }

    /// Where in ZooKeeper the cluster lives.
    pub(crate) fn zookeeper_address(&self) -> String {
        format!("{}/test", self.zookeeper.address())
    }

    /// Starts the process of a node that is down.
    pub(crate) fn revive(&mut self, index: usize) {
        let data = self.folder.path().join(index.to_string());
        let (id, zookeeper) = ((index + 1).to_string(), self.zookeeper_address());
        let flags = [
            "--node-id",
            &id,
            "--zookeeper",
            &zookeeper,
            "--session-timeout",
            &self.session_timeout,
        ];
        let node = Served::spawn(&data, &self.addresses[index], &flags);
        self.nodes[index] = Some(node.wait());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(node) = self.nodes[index].take() {
            node.kill();
        }
    }

    /// Kills the writer, waits until a write is acknowledged again, and returns which node it was and how long it took.
    pub(crate) fn kill_writer(&mut self) -> (usize, Duration) {
        let writer = self.writer();
        let killed_at = Instant::now();
        self.kill(writer);
        std::thread::sleep(IN_FLIGHT);
        self.wait_for_writes(1);
        (writer, killed_at.elapsed())
    }

    /// Asks the writer to stop in good order, and returns which node it was and what it said.
    pub(crate) fn stop_writer(&mut self) -> (usize, String) {
        let writer = self.writer();
        let node = self.nodes[writer].take().unwrap();
        node.terminate();
        let said = node.says();
        let (code, stderr) = node.stops();
        assert_eq!(code, Some(0), "{stderr}");
        (writer, said)
    }

    /// Waits until that many more writes are acknowledged.
    pub(crate) fn wait_for_writes(&self, count: usize) {
        let before = self.clients.acknowledged();
        wait("a write is acknowledged", || {
            self.clients.acknowledged() >= before + count
        });
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.clients.acknowledged()
    }

    fn info(&self, index: usize) -> Option<Info> {
        self.nodes[index].as_ref()?;
        let access = Access::default();
        let info = Client::info(
            &self.addresses[index],
            Duration::from_secs(1),
            false,
            &access,
        );
        self.runtime.block_on(info).ok()
    }

    /// The node that serves as the writer.
    fn writer(&self) -> usize {
        let mut found = None;
        wait("somebody is the writer", || {
            found = (0..NODES).find(|index| {
                let status = self.info(*index).and_then(|info| info.status);
                status.is_some_and(|status| status.writer_of.is_some())
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until a node that was started again has what the writer had.
    pub(crate) fn wait_until_caught_up(&self, index: usize) {
        let writer = self.info(self.writer()).and_then(|info| info.status);
        let writer = writer.unwrap();
        wait("the node has caught up", || {
            let status = self.info(index).and_then(|info| info.status);
            status.is_some_and(|status| {
                let is_registered = self
                    .info(index)
                    .is_some_and(|info| info.cluster.nodes.contains_key(&NodeId(index as u64 + 1)));
                is_registered
                    && status.promised >= writer.promised
                    && status.committed >= writer.committed
            })
        });
    }

    /// Ends the clients and judges what they saw. What breaks a guarantee is kept in a file.
    pub(crate) fn judge(self) {
        let events = self.clients.finish();
        let name = format!("zookeeper-cluster-{}.jsonl", self.seed);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let lines = events
            .iter()
            .map(|it| serde_json::to_string(it).unwrap() + "\n");
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        let history = History::from_events(events).unwrap();
        let verdicts = checker::check_all(&history, &[], &GUARANTEES, &Limits::default());
        for (guarantee, verdict) in verdicts {
            let (name, file) = (guarantee.name(), file.display());
            assert!(
                verdict.holds(),
                "{name}: {verdict} (what the clients saw is in {file})"
            );
        }
        std::fs::remove_file(file).unwrap();
    }
}

fn wait(what: &str, mut is_done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_done() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(LOOK);
    }
}
