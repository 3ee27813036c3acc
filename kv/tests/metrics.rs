//! What a node counts is what happened.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::time::Duration;

use bytes::Bytes;
use kv::client::{Client, ClientOptions};
use kv::config::ClusterConfig;
use kv::coordination::embedded::Embedded;
use kv::error::Outcome;
use kv_core::{Fencing, Level};

#[path = "cluster/nodes.rs"]
mod nodes;

use nodes::{free_addresses, start, timing};

const WRITES: u64 = 25;

/// The value of a metric, by the whole of its name and labels as they are printed.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_counts_its_requests_its_phases_and_its_replicas() {
    let cluster = ClusterConfig::new(1, 3, 2, None, Fencing::Epoch).unwrap();
    let service = Embedded::in_memory(timing().session_timeout);
    let addresses = free_addresses(3);
    let mut nodes = Vec::new();
    for (number, address) in (1..).zip(&addresses) {
        nodes.push(start(number, address, &cluster, &service).await);
    }
    let options = ClientOptions {
        timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    };
    let mut client = Client::new(addresses, options);
    let mut writer = None;
    for number in 0..WRITES {
        let key = Bytes::from(format!("key-{number}"));
        let Outcome::Ok(written) = client.set(key.clone(), key.clone()).await else {
            panic!("it is not written")
        };
        writer = Some(written.node);
        let read = client.get(key, Level::Quorum).await;
        assert!(matches!(read, Outcome::Ok(_)), "{read:?}");
    }
    let writer = writer.unwrap();
    let (writers, others): (Vec<_>, Vec<_>) = nodes
        .iter()
        .map(|node| node.handle().clone())
        .partition(|handle| handle.node == writer);
    let text = writers[0].metrics().await;
    let is = |name: &str| value(&text, &format!("splitbrain_{name}")).unwrap_or(f64::NAN);
    let ok = r#"outcome="ok",reason="""#;
    let writes = WRITES as f64;
    assert_eq!(
        is(&format!(r#"requests_total{{operation="set",{ok}}}"#)),
        writes
    );
    assert_eq!(
        is(&format!(r#"requests_total{{operation="get",{ok}}}"#)),
        writes
    );
    // Whoever came before the writer was ready was refused, and came again.
    assert!(is(r#"request_seconds_count{operation="set"}"#) >= writes);
    for phase in ["log", "commit", "acknowledge"] {
        // One client at a time: each write is a batch of its own.
        let count = is(&format!(r#"write_phase_seconds_count{{phase="{phase}"}}"#));
        assert_eq!(count, writes, "{phase}:\n{text}");
    }
    assert_eq!(is(r#"events_total{event="promoted"}"#), 1.0);
    assert_eq!(is("writer_epoch"), 1.0);
    let end = is("log_end_offset");
    assert_eq!(end, writes + 1.0, "the writes, and the start of the epoch");
    assert_eq!(is("committed_offset"), end);
    assert_eq!(is("applied_offset"), end);
    for other in &others {
        let replica = other.node.0;
        let matched = is(&format!(r#"replica_matched_offset{{replica="{replica}"}}"#));
        let lag = is(&format!(r#"replica_lag_entries{{replica="{replica}"}}"#));
        assert_eq!(matched + lag, end, "{text}");
    }
    assert!(is("log_bytes") > 0.0);
    assert_eq!(is(r#"queue_length{queue="requests"}"#), 0.0);
    assert!(text.ends_with("# EOF\n"), "it is what Prometheus reads");

    let text = others[0].metrics().await;
    assert_eq!(value(&text, "splitbrain_writer_epoch"), Some(0.0));
    assert!(!text.contains("replica_lag_entries{"), "{text}");
}
