//! Nodes of a cluster in one process, on real sockets.

use std::sync::Arc;
use std::time::Duration;

use kv::config::{ClusterConfig, NodeConfig, Timing};
use kv::coordination::embedded::Embedded;
use kv::environment::{Clock, Environment};
use kv::events::NoEvents;
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::node::Node;
use kv::transport::GrpcTransport;
use kv_core::NodeId;

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        session_timeout: ms(600),
        heartbeat: ms(50),
        ..Timing::default()
    }
}

/// Ports that were free a moment ago.
pub(crate) fn free_addresses(count: u64) -> Vec<String> {
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect()
}

pub(crate) async fn start(
    number: u64,
    address: &str,
    cluster: &ClusterConfig,
    service: &Embedded,
) -> Node {
    let disk = Arc::new(MemoryFileSystem::default());
    start_on(disk, number, address, cluster, service).await
}

/// The same, on a disk that is given.
pub(crate) async fn start_on(
    file_system: Arc<dyn FileSystem>,
    number: u64,
    address: &str,
    cluster: &ClusterConfig,
    service: &Embedded,
) -> Node {
    let config = config(number, address, cluster, timing());
    let transport = GrpcTransport::new(config.id, number);
    let environment = environment(file_system, number, service, transport);
    Node::start(config, environment).await.unwrap()
}

/// What is chosen about a node, all in memory.
pub(crate) fn config(
    number: u64,
    address: &str,
    cluster: &ClusterConfig,
    timing: Timing,
) -> NodeConfig {
    NodeConfig {
        id: NodeId(number),
        listen: address.to_owned(),
        advertise: address.to_owned(),
        cluster: cluster.clone(),
        timing,
        wal: kv::wal::Options::default(),
        log_retain_bytes: kv::config::LOG_RETAIN_BYTES,
        engine: kv::engine::EngineKind::Memory,
        store: kv::store::Options::default(),
        allow_kill: false,
    }
}

/// What a node runs in.
pub(crate) fn environment(
    file_system: Arc<dyn FileSystem>,
    number: u64,
    service: &Embedded,
    transport: Arc<GrpcTransport>,
) -> Environment {
    Environment {
        file_system,
        coordination: Arc::new(service.clone()),
        transport,
        clock: Arc::new(TestClock(tokio::time::Instant::now())),
        events: Arc::new(NoEvents),
        seed: number,
    }
}
