//! A whole cluster in one process on real sockets: writes, reads, and a failover.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::time::Duration;

use bytes::Bytes;
use kv::client::{Client, ClientOptions};
use kv::config::ClusterConfig;
use kv::coordination::embedded::Embedded;
use kv::error::Outcome;
use kv_core::{Fencing, Level, ShardId};

#[path = "cluster/nodes.rs"]
mod nodes;

use nodes::{free_addresses, start, timing};

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
