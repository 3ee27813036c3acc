//! One shard of three nodes of ours, N = 3 and Q = 2; and clients of it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::client::{Client, ClientOptions};

use crate::load::Store;
use crate::processes::{LOOK, Process, free_ports};

/// The nodes, while they run.
#[derive(Debug)]
pub(crate) struct Ours {
    /// The processes.
    pub(crate) nodes: Vec<Process>,
    address: String,
}

impl Ours {
    /// Starts the nodes, and waits until there is a writer that takes a write.
    pub(crate) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let port = loop {
            let port = free_ports(1)?[0];
            let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
            if port < u16::MAX - 2 && is_free(port + 1) && is_free(port + 2) {
                break port;
            }
        };
        let mut command = Command::new(program);
        command.args(["cluster", "--shards", "1", "--replication-factor", "3"]);
        command.args(["--write-quorum", "2", "--base-port", &port.to_string()]);
        command.arg("--data").arg(folder.join("cluster"));
        let mut nodes = Process::start("kv cluster", command, &folder.join("cluster.log"))?;
        let address = format!("127.0.0.1:{port}");
        let began = Instant::now();
        loop {
            nodes.check(began)?;
            let mut client = Client::new(vec![address.clone()], ClientOptions::default());
            if client.put("ready".into(), "".into()).await {
                return Ok(Self {
                    nodes: vec![nodes],
                    address,
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
            connected.push(Client::connect(vec![self.address.clone()], options).await?);
        }
        let clients = (0..).zip(connected.iter().cycle()).take(count);
        Ok(clients.map(|(seed, client)| client.sibling(seed)).collect())
    }
}

impl Store for Client {
    async fn put(&mut self, key: Bytes, value: Bytes) -> bool {
        self.set(key, value).await.ok().is_some()
    }
}
