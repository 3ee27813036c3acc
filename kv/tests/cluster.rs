//! A whole cluster in one process on real sockets: writes, reads, and a failover.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv::client::{Client, ClientOptions};
use kv::config::{ClusterConfig, NodeConfig, Timing};
use kv::coordination::embedded::Embedded;
use kv::environment::{Clock, Environment};
use kv::error::Outcome;
use kv::events::NoEvents;
use kv::fs::memory::MemoryFileSystem;
use kv::node::Node;
use kv::transport::GrpcTransport;
use kv_core::{Fencing, Level, NodeId, ShardId};

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        session_timeout: ms(600),
        heartbeat: ms(50),
        ..Timing::default()
    }
}

/// Ports that were free a moment ago.
fn free_addresses(count: u64) -> Vec<String> {
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect()
}

async fn start(number: u64, address: &str, cluster: &ClusterConfig, service: &Embedded) -> Node {
    let id = NodeId(number);
    let config = NodeConfig {
        id,
        listen: address.to_owned(),
        advertise: address.to_owned(),
        cluster: cluster.clone(),
        timing: timing(),
        wal: kv::wal::Options::default(),
        log_retain_bytes: kv::config::LOG_RETAIN_BYTES,
        engine: kv::engine::EngineKind::Memory,
        store: kv::store::Options::default(),
        allow_kill: false,
    };
    let environment = Environment {
        file_system: Arc::new(MemoryFileSystem::default()),
        coordination: Arc::new(service.clone()),
        transport: GrpcTransport::new(id, number),
        clock: Arc::new(TestClock(tokio::time::Instant::now())),
        events: Arc::new(NoEvents),
        seed: number,
    };
    Node::start(config, environment).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_and_survives_the_loss_of_a_writer() {
    let cluster = ClusterConfig::new(2, 3, 2, None, Fencing::Epoch).unwrap();
    let service = Embedded::in_memory(timing().session_timeout);
    let addresses = free_addresses(6);
    let mut nodes = Vec::new();
    for (number, address) in (1..).zip(&addresses) {
        nodes.push(Some(start(number, address, &cluster, &service).await));
    }
    let options = ClientOptions {
        timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    };
    let mut client = Client::new(addresses, options);
    for number in 0..40_u32 {
        let (key, value) = (
            Bytes::from(format!("key-{number}")),
            Bytes::from(number.to_string()),
        );
        let written = client.set(key, value).await;
        assert!(matches!(written, Outcome::Ok(_)), "{written:?}");
    }
    let writer = client.cluster().shards[&ShardId(0)].writer.unwrap();
    let index = usize::try_from(writer.0 - 1).unwrap();
    nodes[index] = None; // Dropped: as if the process had been killed.
    for number in 0..40_u32 {
        let key = Bytes::from(format!("key-{number}"));
        for level in [Level::Lease, Level::Quorum, Level::Replica] {
            let read = client.get(key.clone(), level).await;
            let Outcome::Ok(read) = read else {
                panic!("{level:?}: {read:?}")
            };
            assert_eq!(
                read.value,
                Some(Bytes::from(number.to_string())),
                "{level:?}"
            );
        }
        let deleted = client.delete(key.clone()).await;
        assert!(matches!(deleted, Outcome::Ok(_)), "{deleted:?}");
        let read = client.get(key, Level::Lease).await.ok().unwrap();
        assert_eq!(read.value, None);
    }
}
