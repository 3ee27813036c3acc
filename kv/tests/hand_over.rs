//! A node that stops in good order hands the writer's role over, and no client's request fails.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::client::{Client, ClientOptions};
use kv::config::ClusterConfig;
use kv::coordination::embedded::Embedded;
use kv::error::Outcome;
use kv::node::Node;
use kv::node::stop::Departure;
use kv_core::{Fencing, Level, NodeId, ShardId};

#[path = "cluster/nodes.rs"]
mod nodes;

use nodes::{free_addresses, start, timing};

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: usize = 8;

struct Cluster {
    addresses: Vec<String>,
    nodes: Vec<Option<Node>>,
}

impl Cluster {
    async fn start(replication_factor: usize, write_quorum: usize) -> Self {
        let config =
            ClusterConfig::new(1, replication_factor, write_quorum, None, Fencing::Epoch).unwrap();
        let service = Embedded::in_memory(timing().session_timeout);
        let addresses = free_addresses(replication_factor as u64);
        let mut nodes = Vec::new();
        for (number, address) in (1..).zip(&addresses) {
            nodes.push(Some(start(number, address, &config, &service).await));
        }
        Self { addresses, nodes }
    }

    fn client(&self, seed: u64) -> Client {
        let options = ClientOptions {
            timeout: PATIENCE,
            seed,
            ..ClientOptions::default()
        };
        Client::new(self.addresses.clone(), options)
    }

    fn take(&mut self, node: NodeId) -> Node {
        let index = usize::try_from(node.0 - 1).unwrap();
        self.nodes[index].take().unwrap()
    }
}

/// The writer, once there is one that serves.
async fn writer(client: &mut Client) -> NodeId {
    let written = client
        .set(Bytes::from_static(b"first"), Bytes::from_static(b"x"))
        .await;
    written.ok().unwrap().node
}

/// Writes and reads what it wrote until it is told to stop; returns how often, and the longest wait.
async fn work(mut client: Client, number: usize, is_over: Arc<AtomicBool>) -> (u32, Duration) {
    let key = Bytes::from(format!("key-{number}"));
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let value = Bytes::from(count.to_string());
        let written = client.set(key.clone(), value.clone()).await;
        assert!(matches!(written, Outcome::Ok(_)), "{written:?}");
        let read = client.get(key.clone(), Level::Lease).await;
        let Outcome::Ok(read) = read else {
            panic!("{read:?}")
        };
        assert_eq!(read.value, Some(value));
        count += 1;
        longest = longest.max(begun.elapsed());
    }
    (count, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_writer_stops_in_good_order() {
    let mut cluster = Cluster::start(3, 2).await;
    let mut client = cluster.client(0);
    let first = writer(&mut client).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = cluster.client(1 + number as u64);
            tokio::spawn(work(client, number, is_over.clone()))
        })
        .collect();
    let stopping = cluster.take(first);
    let departure = stopping.stop(PATIENCE).await;
    let Departure::HandedOver(second) = departure else {
        panic!("{departure:?}")
    };
    assert_ne!(second, first);
    // Two of three nodes are left, which is a write quorum.
    assert_eq!(writer(&mut client).await, second);
    is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        let (count, longest) = task.await.unwrap();
        assert!(count > 0, "vacuous: a client did nothing");
        eprintln!("{count} writes and reads, the longest of both together {longest:?}");
    }
    client.refresh().await.unwrap();
    let epoch = client.cluster().shards[&ShardId(0)].epoch;
    assert_eq!(epoch.0, 2, "one election was enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_when_a_follower_stops() {
    let mut cluster = Cluster::start(3, 2).await;
    let mut client = cluster.client(0);
    let first = writer(&mut client).await;
    let follower = [1, 2, 3].map(NodeId).into_iter().find(|id| *id != first);
    let follower = cluster.take(follower.unwrap());
    assert_eq!(follower.stop(PATIENCE).await, Departure::NotWriter);
    assert_eq!(writer(&mut client).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_a_shard_by_itself_just_stops() {
    let mut cluster = Cluster::start(1, 1).await;
    let mut client = cluster.client(0);
    let only = writer(&mut client).await;
    let only = cluster.take(only);
    assert_eq!(only.stop(PATIENCE).await, Departure::Alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_nobody_can_follow_stops_all_the_same() {
    let mut cluster = Cluster::start(3, 2).await;
    let mut client = cluster.client(0);
    let first = writer(&mut client).await;
    let stopping = cluster.take(first);
    cluster.nodes.clear();
    let patience = Duration::from_millis(700);
    assert_eq!(stopping.stop(patience).await, Departure::NobodyTookOver);
}
