//! One shard of three nodes of ours, N = 3 and Q = 2, each a process of its own, coordinated by a ZooKeeper; and clients of it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use kv::client::{Client, ClientOptions};

use crate::load::Store;
use crate::processes::{LOOK, Process, free_ports};

const NODES: usize = 3;

/// The nodes, while they run.
#[derive(Debug)]
pub(crate) struct Ours {
    /// The processes.
    pub(crate) nodes: Vec<Process>,
    addresses: Vec<String>,
    _zookeeper: Process,
}

impl Ours {
    /// Starts the nodes, and waits until there is a writer that takes a write.
    pub(crate) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let ports = free_ports(NODES + 1)?;
        let (&zookeeper_port, ports) = ports.split_last().context("there are ports")?;
        let mut zookeeper = start_zookeeper(folder, zookeeper_port)?;
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let addresses: Vec<_> = addresses.collect();
        let mut nodes = Vec::new();
        for (id, address) in (1..).zip(&addresses) {
            let mut command = Command::new(program);
            command.args(["serve", "--node-id", &format!("{id}")]);
            command.args(["--listen", address, "--zookeeper"]);
            command.arg(format!("127.0.0.1:{zookeeper_port}/bench"));
            // A machine that is kept busy on purpose must not look like one that is gone.
            command.args(["--session-timeout", "20s"]);
            command.args(["--replication-factor", "3", "--write-quorum", "2"]);
            command.arg("--data").arg(folder.join(format!("n{id}")));
            let log = folder.join(format!("n{id}.log"));
            nodes.push(Process::start("kv serve", command, &log)?);
        }
        let began = Instant::now();
        loop {
            zookeeper.check(began)?;
            for node in &mut nodes {
                node.check(began)?;
            }
            let mut client = Client::new(addresses.clone(), ClientOptions::default());
            if client.put("ready".into(), "".into()).await {
                return Ok(Self {
                    nodes,
                    addresses,
                    _zookeeper: zookeeper,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Clients over so many connections to the writer.
    pub(crate) async fn clients(
        &self,
        count: usize,
        connections: usize,
        single_calls: bool,
    ) -> anyhow::Result<Vec<Client>> {
        let mut connected = Vec::new();
        for _ in 0..connections.min(count) {
            let options = ClientOptions {
                timeout: Duration::from_secs(10),
                streams: !single_calls,
                ..ClientOptions::default()
            };
            connected.push(Client::connect(self.addresses.clone(), options).await?);
        }
        let clients = (0..).zip(connected.iter().cycle()).take(count);
        Ok(clients.map(|(seed, client)| client.sibling(seed)).collect())
    }
}

/// Starts Debian's ZooKeeper, on the same disk.
fn start_zookeeper(folder: &Path, port: u16) -> anyhow::Result<Process> {
    let data = folder.join("zookeeper");
    std::fs::create_dir(&data)?;
    let config = format!(
        "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
        data.display()
    );
    let file = folder.join("zoo.cfg");
    std::fs::write(&file, config)?;
    let mut command = Command::new("java");
    command.args(["-Xmx128m", "-cp", "/usr/share/java/*"]);
    command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
    command.arg(file);
    let started = Process::start("ZooKeeper", command, &folder.join("zookeeper.log"));
    started.context("is it installed? `apt-get install zookeeper default-jre-headless`")
}

impl Store for Client {
    async fn put(&mut self, key: Bytes, value: Bytes) -> bool {
        self.set(key, value).await.ok().is_some()
    }
}
