//! Three members of etcd with its own defaults, on loopback, without TLS, as ours; and a client of their leader.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};

use crate::load::Store;
use crate::processes::{LOOK, Process, free_ports};

/// The messages and services of `proto/etcd.proto`, generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::use_self,
    reason = "generated; the documentation is in proto/etcd.proto"
)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

use proto::kv_client::KvClient;
use proto::maintenance_client::MaintenanceClient;

const MEMBERS: usize = 3;

/// Three members that run.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// The processes.
    pub(crate) members: Vec<Process>,
    leader: String,
    /// What the leader says of itself.
    pub(crate) version: String,
}

impl Etcd {
    /// Starts three members, and waits until all of them know the leader.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let ports = free_ports(2 * MEMBERS)?;
        let (client_ports, peer_ports) = ports.split_at(MEMBERS);
        let peer = |index: usize| format!("http://127.0.0.1:{}", peer_ports[index]);
        let client = |index: usize| format!("http://127.0.0.1:{}", client_ports[index]);
        let cluster: Vec<_> = (0..MEMBERS)
            .map(|index| format!("m{index}={}", peer(index)))
            .collect();
        let cluster = cluster.join(",");
        let mut members = Vec::new();
        for index in 0..MEMBERS {
            let name = format!("m{index}");
            let mut command = Command::new("etcd");
            command.args(["--name", &name, "--data-dir"]);
            command.arg(folder.join(&name));
            command.args(["--listen-client-urls", &client(index)]);
            command.args(["--advertise-client-urls", &client(index)]);
            command.args(["--listen-peer-urls", &peer(index)]);
            command.args(["--initial-advertise-peer-urls", &peer(index)]);
            command.args(["--initial-cluster", &cluster, "--log-level", "error"]);
            let log = folder.join(format!("{name}.log"));
            let member = Process::start("etcd", command, &log);
            members.push(member.context("is it installed? `apt-get install etcd-server`")?);
        }
        let began = Instant::now();
        loop {
            for member in &mut members {
                member.check(began)?;
            }
            let mut statuses = Vec::new();
            for index in 0..MEMBERS {
                statuses.extend(status(&client(index)).await);
            }
            let knows = |status: &proto::StatusResponse| status.leader != 0;
            if statuses.len() == MEMBERS && statuses.iter().all(knows) {
                let leads = |status: &proto::StatusResponse| {
                    let member = status.header.as_ref().map(|header| header.member_id);
                    member == Some(status.leader)
                };
                let Some(index) = statuses.iter().position(leads) else {
                    bail!("the members of etcd do not agree on who leads");
                };
                return Ok(Self {
                    members,
                    leader: client(index),
                    version: statuses.swap_remove(index).version,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Clients over so many connections to the leader.
    pub(crate) async fn clients(
        &self,
        count: usize,
        connections: usize,
    ) -> anyhow::Result<Vec<EtcdClient>> {
        let mut channels = Vec::new();
        for _ in 0..connections.min(count) {
            let endpoint = Endpoint::from_shared(self.leader.clone())?;
            channels.push(endpoint.connect().await?);
        }
        let clients = channels.iter().cycle().take(count);
        let client = |channel: &Channel| EtcdClient(KvClient::new(channel.clone()));
        Ok(clients.map(client).collect())
    }
}

async fn status(address: &str) -> Option<proto::StatusResponse> {
    let endpoint = Endpoint::from_shared(address.to_owned()).ok()?;
    let channel = endpoint.connect().await.ok()?;
    let mut client = MaintenanceClient::new(channel);
    let status = client.status(proto::StatusRequest {}).await.ok()?;
    Some(status.into_inner())
}

/// A client of the leader.
#[derive(Debug)]
pub(crate) struct EtcdClient(KvClient<Channel>);

impl Store for EtcdClient {
    async fn put(&mut self, key: Bytes, value: Bytes) -> bool {
        let put = self.0.put(proto::PutRequest { key, value });
        put.await.is_ok()
    }
}
