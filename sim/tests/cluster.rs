//! Goal: real nodes form a cluster in the simulated world, serve, and survive the loss of a writer; the same seed gives the
//! same run.
//! Method: one client writes and reads through a power loss of the writer of shard 0; the events of two runs are compared.
#![cfg(madsim)]

use std::time::Duration;

use bytes::Bytes;
use kv::client::{Client, ClientOptions};
use kv::config::{ClusterConfig, Timing};
use kv::error::Outcome;
use kv_core::{Fencing, Level, ShardId};
use sim::cluster::{Cluster, Settings, Storage};
use sim::recorder::{Recorded, Recorder};

fn run(seed: u64) -> (Vec<Recorded>, Duration) {
    let work = move || {
        let runtime =
            madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.block_on(failover(seed))
    };
    std::thread::spawn(work)
        .join()
        .expect("the run does not panic")
}

async fn failover(seed: u64) -> (Vec<Recorded>, Duration) {
    let recorder = Recorder::new();
    let cluster = ClusterConfig::new(2, 3, 2, None, Fencing::Epoch).expect("valid");
    let settings = Settings {
        seed,
        nodes: 6,
        clients: 1,
        cluster,
        timing: Timing::default(),
        storage: Storage::default(),
        holds_messages: false,
    };
    let mut cluster = Cluster::start(settings, recorder.clone());
    let addresses = cluster.addresses().into_values().collect();
    let options = ClientOptions {
        timeout: Duration::from_secs(10),
        connect_each_time: true,
        seed,
        ..ClientOptions::default()
    };
    let mut client = Client::new(addresses, options);
    for number in 0..100_u32 {
        if number == 50 {
            let (_, writer) = recorder.writer(ShardId(0)).expect("shard 0 has a writer");
            cluster.power_loss(writer);
        }
        let work = async move {
            let key = Bytes::from(format!("key-{}", number % 10));
            let value = Bytes::from(number.to_string());
            let written = client.set(key.clone(), value.clone()).await;
            assert!(matches!(written, Outcome::Ok(_)), "{number}: {written:?}");
            for level in [Level::Lease, Level::Quorum, Level::Replica] {
                let read = client.get(key.clone(), level).await;
                let Outcome::Ok(read) = read else {
                    panic!("{number}, {level:?}: {read:?}")
                };
                assert_eq!(read.value, Some(value.clone()), "{number}, {level:?}");
            }
            client
        };
        client = cluster
            .spawn_client(0, work)
            .await
            .expect("the client does not panic");
    }
    let (_, time) = recorder.stamp();
    (recorder.drain(), time)
}

#[test]
fn a_cluster_serves_and_survives_the_power_loss_of_a_writer() {
    for seed in 1..=5 {
        let (events, time) = run(seed);
        assert!(events.len() > 300, "seed {seed}: {} events", events.len());
        assert!(
            time > Duration::from_secs(3),
            "seed {seed}: a failover takes a session timeout"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let ((first, _), (second, _)) = (run(7), run(7));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first, second);
    }
    assert_eq!(first.len(), second.len());
    assert_ne!(first, run(8).0, "another seed gives another run");
}
