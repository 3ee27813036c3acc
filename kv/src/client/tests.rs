//! The client over real loopback sockets, against scripted nodes: what it repeats, and what it never does (R19).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::{Level, NodeId, ShardId};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::server::scripted::{Scripted, free_address, one_shard, value, version, written};

mod streams;

const KEY: &[u8] = b"key";

fn key() -> Bytes {
    Bytes::from_static(KEY)
}

fn options(timeout_ms: u64) -> ClientOptions {
    ClientOptions {
        timeout: Duration::from_millis(timeout_ms),
        attempt_timeout: Duration::from_millis(300),
        seed: 7,
        ..ClientOptions::default()
    }
}

fn moved(writer: Option<u64>) -> Answer {
    Answer::Refused(Refusal::Moved {
        slot: slot_of(KEY),
        shard: Some(ShardId(0)),
        writer: writer.map(NodeId),
    })
}

fn refused(refusal: Refusal) -> Answer {
    Answer::Refused(refusal)
}

#[tokio::test]
async fn a_write_and_a_read_tell_what_they_found_and_who_answered() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let script = |_, request: &Request| match request {
        Request::Get { .. } => Some(value(Some("v"), 5)),
        _ => Some(written(5)),
    };
    let _node = Scripted::start(1, &address, cluster, Box::new(script)).await;
    let mut client = Client::connect(vec![address], options(2000)).await.unwrap();
    let written = client
        .set(key(), Bytes::from_static(b"v"))
        .await
        .ok()
        .unwrap();
    assert_eq!((written.version, written.node), (version(1, 5), NodeId(1)));
    let read = client.get(key(), Level::Lease).await.ok().unwrap();
    assert_eq!(read.value, Some(Bytes::from_static(b"v")));
    assert_eq!(read.version, Some(version(1, 5)));
}

#[tokio::test]
async fn a_moved_write_follows_to_the_writer() {
    let (a, b) = (free_address(), free_address());
    let stale = one_shard(&[&a, &b], Some(1), 1);
    let fresh = one_shard(&[&a, &b], Some(2), 2);
    let first = Scripted::start(1, &a, stale, Box::new(|_, _| Some(moved(Some(2))))).await;
    let second = Scripted::start(2, &b, fresh, Box::new(|_, _| Some(written(9)))).await;
    let mut client = Client::connect(vec![a], options(2000)).await.unwrap();
    let outcome = client.delete(key()).await;
    assert_eq!(outcome.ok().unwrap().node, NodeId(2));
    client.delete(key()).await.ok().unwrap();
    assert_eq!(
        first.arrived_count(),
        1,
        "the second write knew where to go"
    );
    assert_eq!(second.arrived_count(), 2);
}

#[tokio::test]
async fn nodes_that_point_at_each_other_are_followed_a_bounded_number_of_times() {
    let (a, b) = (free_address(), free_address());
    let cluster = one_shard(&[&a, &b], Some(1), 1);
    let at_a = Scripted::start(
        1,
        &a,
        cluster.clone(),
        Box::new(|_, _| Some(moved(Some(2)))),
    )
    .await;
    let at_b = Scripted::start(2, &b, cluster, Box::new(|_, _| Some(moved(Some(1))))).await;
    let patient = ClientOptions {
        moved_max: 5,
        backoff_max: Duration::from_millis(20),
        ..options(60_000)
    };
    let mut client = Client::connect(vec![a], patient).await.unwrap();
    let outcome = client.delete(key()).await;
    assert!(
        matches!(outcome, Outcome::Fail(Fail::Misrouted { .. })),
        "{outcome:?}"
    );
    assert_eq!(at_a.arrived_count() + at_b.arrived_count(), 6);
}

#[tokio::test]
async fn a_writer_that_is_not_ready_is_asked_again_until_the_deadline_and_no_longer() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let script = Box::new(|_, _: &Request| Some(refused(Refusal::TryAgain)));
    let node = Scripted::start(1, &address, cluster, script).await;
    let mut client = Client::connect(vec![address], options(400)).await.unwrap();
    let began = Instant::now();
    let outcome = client.delete(key()).await;
    assert!(
        matches!(outcome, Outcome::Fail(Fail::NotReady)),
        "{outcome:?}"
    );
    assert!(node.arrived_count() > 1, "it was asked once only");
    assert!(node.arrived_count() < 20, "it did not back off");
    assert!(began.elapsed() >= Duration::from_millis(350));
}

#[tokio::test]
async fn a_writer_that_becomes_ready_gets_the_write_once_more() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let script = |count, _: &Request| match count {
        1..=2 => Some(refused(Refusal::TryAgain)),
        _ => Some(written(3)),
    };
    let node = Scripted::start(1, &address, cluster, Box::new(script)).await;
    let mut client = Client::connect(vec![address], options(5000)).await.unwrap();
    client.delete(key()).await.ok().unwrap();
    assert_eq!(node.arrived_count(), 3);
}

#[tokio::test]
async fn a_write_waits_for_a_writer_to_be_elected() {
    let address = free_address();
    let nobody = one_shard(&[&address], None, 1);
    let node = Scripted::start(1, &address, nobody, Box::new(|_, _| Some(written(1)))).await;
    let mut client = Client::connect(vec![address.clone()], options(5000))
        .await
        .unwrap();
    let statuses = node.status_count.clone();
    let elected = async {
        while statuses.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        node.cluster
            .send_replace(one_shard(&[&address], Some(1), 2));
    };
    let (outcome, ()) = tokio::join!(client.delete(key()), elected);
    outcome.ok().unwrap();
}

#[tokio::test]
async fn without_a_writer_the_write_fails_and_was_never_sent() {
    let address = free_address();
    let nobody = one_shard(&[&address], None, 1);
    let node = Scripted::start(1, &address, nobody, Box::new(|_, _| Some(written(1)))).await;
    let mut client = Client::connect(vec![address], options(200)).await.unwrap();
    let outcome = client.delete(key()).await;
    assert!(
        matches!(outcome, Outcome::Fail(Fail::NoWriter { .. })),
        "{outcome:?}"
    );
    assert_eq!(node.arrived_count(), 0);
}

#[tokio::test]
async fn a_write_to_a_dead_node_goes_to_the_next_writer() {
    let (dead, alive) = (free_address(), free_address());
    let before = one_shard(&[&dead, &alive], Some(1), 1);
    let after = one_shard(&[&dead, &alive], Some(2), 2);
    let node = Scripted::start(2, &alive, before, Box::new(|_, _| Some(written(1)))).await;
    let seeds = vec![dead, alive];
    let mut client = Client::connect(seeds, options(5000)).await.unwrap();
    let statuses = node.status_count.clone();
    let elected = async {
        while statuses.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        node.cluster.send_replace(after);
    };
    let (outcome, ()) = tokio::join!(client.delete(key()), elected);
    assert_eq!(outcome.ok().unwrap().node, NodeId(2));
    assert_eq!(node.arrived_count(), 1);
}

#[tokio::test]
async fn no_node_at_all_is_a_failure_that_names_them() {
    let nobody = free_address();
    let failed = Client::connect(vec![nobody.clone()], options(500)).await;
    let error = failed.err().unwrap().to_string();
    assert!(error.contains(&nobody), "{error}");
    let mut client = Client::new(vec![nobody.clone()], options(200));
    let outcome = client.delete(key()).await;
    assert!(
        matches!(&outcome, Outcome::Fail(Fail::Unreachable { tried }) if tried == &[nobody]),
        "{outcome:?}"
    );
}

/// A listener that speaks no gRPC: it takes what is sent until it has seen `until`, and hangs up. It counts how often.
async fn hangs_up_after(until: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen_count = Arc::new(AtomicUsize::new(0));
    let seen = seen_count.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut taken: Vec<u8> = Vec::new();
            let mut part = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                taken.extend(&part[..count]);
                if taken.windows(until.len()).any(|window| window == until) {
                    seen.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
    });
    (address, seen_count)
}

#[tokio::test]
async fn a_write_over_a_connection_that_breaks_is_info_and_is_not_repeated() {
    let (broken, sent_count) = hangs_up_after(b"precious").await;
    let map_server = free_address();
    let cluster = one_shard(&[&broken, &map_server], Some(1), 1);
    let other = Scripted::start(2, &map_server, cluster, Box::new(|_, _| Some(written(1)))).await;
    let mut client = Client::connect(vec![map_server], options(2000))
        .await
        .unwrap();
    let outcome = client.set(key(), Bytes::from_static(b"precious")).await;
    assert!(
        matches!(outcome, Outcome::Info(Unsure::Broken { .. })),
        "{outcome:?}"
    );
    assert_eq!(sent_count.load(Ordering::SeqCst), 1);
    assert_eq!(other.arrived_count(), 0);
}

#[tokio::test]
async fn a_read_over_a_connection_that_breaks_is_asked_again() {
    let (broken, sent_count) = hangs_up_after(KEY).await;
    let map_server = free_address();
    let cluster = one_shard(&[&broken, &map_server], None, 1);
    let script = Box::new(|_, _: &Request| Some(value(None, 4)));
    let _other = Scripted::start(2, &map_server, cluster, script).await;
    let mut client = Client::connect(vec![map_server], options(5000))
        .await
        .unwrap();
    for _ in 0..10 {
        let read = client.get(key(), Level::Replica).await.ok().unwrap();
        assert_eq!((read.value, read.node), (None, NodeId(2)));
    }
    let sent_count = sent_count.load(Ordering::SeqCst);
    assert!(sent_count > 0, "vacuous: the broken node was never asked");
}

#[tokio::test]
async fn a_write_that_is_not_answered_is_info_and_is_not_repeated() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let node = Scripted::start(1, &address, cluster, Box::new(|_, _| None)).await;
    let mut client = Client::connect(vec![address], options(400)).await.unwrap();
    let outcome = client.delete(key()).await;
    assert!(matches!(outcome, Outcome::Info(_)), "{outcome:?}");
    assert_eq!(node.arrived_count(), 1);
}

#[tokio::test]
async fn a_write_whose_server_stops_under_it_is_info_and_is_not_repeated() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let node = Scripted::start(1, &address, cluster, Box::new(|_, _| None)).await;
    let mut client = Client::connect(vec![address], options(5000)).await.unwrap();
    let Scripted {
        server,
        arrived,
        cluster,
        ..
    } = node;
    let stop = async {
        while arrived.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(server);
    };
    let (outcome, ()) = tokio::join!(client.delete(key()), stop);
    assert!(matches!(outcome, Outcome::Info(_)), "{outcome:?}");
    assert_eq!(arrived.lock().unwrap().len(), 1);
    drop(cluster);
}

#[tokio::test]
async fn an_unknown_write_is_info_and_a_rolled_back_one_fails() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let script = |count, _: &Request| match count {
        1 => Some(Answer::Unknown),
        _ => Some(refused(Refusal::RolledBack)),
    };
    let node = Scripted::start(1, &address, cluster, Box::new(script)).await;
    let mut client = Client::connect(vec![address], options(2000)).await.unwrap();
    let first = client.delete(key()).await;
    assert!(
        matches!(first, Outcome::Info(Unsure::Undecided { .. })),
        "{first:?}"
    );
    let second = client.delete(key()).await;
    assert!(
        matches!(second, Outcome::Fail(Fail::RolledBack)),
        "{second:?}"
    );
    assert_eq!(node.arrived_count(), 2);
}

#[tokio::test]
async fn a_replica_read_carries_what_the_session_has_seen() {
    let (a, b) = (free_address(), free_address());
    let cluster = one_shard(&[&a, &b], Some(1), 1);
    let writer = Box::new(|_, _: &Request| Some(written(8)));
    let _writer = Scripted::start(1, &a, cluster.clone(), writer).await;
    // The first replica read is answered from further on; the session must not go back from there.
    let script = Box::new(|_, _: &Request| Some(value(None, 11)));
    let replica = Scripted::start(2, &b, cluster, script).await;
    let mut client = Client::connect(vec![a], options(2000)).await.unwrap();
    client.delete(key()).await.ok().unwrap();
    for _ in 0..2 {
        client.get(key(), Level::Replica).await.ok().unwrap();
    }
    let tokens = replica.arrived.lock().unwrap().clone();
    let tokens = tokens.into_iter().map(|request| match request {
        Request::Get {
            token,
            level: Level::Replica,
            ..
        } => token,
        other => panic!("{other:?}"),
    });
    assert_eq!(
        tokens.collect::<Vec<_>>(),
        [Some(version(1, 8)), Some(version(1, 11))]
    );
}

#[tokio::test]
async fn a_replica_that_is_behind_is_left_for_another() {
    let (a, b, c) = (free_address(), free_address(), free_address());
    let cluster = one_shard(&[&a, &b, &c], Some(1), 1);
    let behind = || Box::new(|_, _: &Request| Some(refused(Refusal::Behind)));
    let ahead = Box::new(|_, _: &Request| Some(value(Some("v"), 3)));
    let _a = Scripted::start(1, &a, cluster.clone(), ahead).await;
    let _b = Scripted::start(2, &b, cluster.clone(), behind()).await;
    let _c = Scripted::start(3, &c, cluster, behind()).await;
    let mut client = Client::connect(vec![a], options(5000)).await.unwrap();
    let read = client.get(key(), Level::Replica).await.ok().unwrap();
    assert_eq!(read.node, NodeId(1), "only the writer has caught up");
}

#[tokio::test]
async fn a_chosen_replica_is_the_only_one_asked() {
    let (a, b, c) = (free_address(), free_address(), free_address());
    let cluster = one_shard(&[&a, &b, &c], Some(1), 1);
    let script = || Box::new(|_, _: &Request| Some(value(None, 3)));
    let _a = Scripted::start(1, &a, cluster.clone(), script()).await;
    let _b = Scripted::start(2, &b, cluster.clone(), script()).await;
    let _c = Scripted::start(3, &c, cluster, script()).await;
    let chosen = ClientOptions {
        replica: ReplicaChoice::Node(NodeId(3)),
        ..options(2000)
    };
    let mut client = Client::connect(vec![a], chosen).await.unwrap();
    for _ in 0..5 {
        let read = client.get(key(), Level::Replica).await.ok().unwrap();
        assert_eq!(read.node, NodeId(3));
    }
}

#[tokio::test]
async fn a_request_beyond_the_limits_fails_before_it_is_sent() {
    let mut client = Client::new(vec![free_address()], options(10_000));
    let outcome = client.set(Bytes::new(), Bytes::new()).await;
    assert!(
        matches!(outcome, Outcome::Fail(Fail::Limits(_))),
        "{outcome:?}"
    );
    let outcome = client.get(Bytes::from(vec![0; 5000]), Level::Lease).await;
    assert!(
        matches!(outcome, Outcome::Fail(Fail::Limits(_))),
        "{outcome:?}"
    );
}

/// R19, spelled out.
#[test]
fn only_what_was_definitely_refused_is_repeated() {
    let replied = |answer| {
        Ended::Replied(Reply {
            node: NodeId(1),
            answer,
            address: None,
        })
    };
    let lost = || {
        let address = String::new();
        Ended::Lost(Unsure::Unanswered { address })
    };
    let status = || tonic::Status::invalid_argument("");
    for effect in [Effect::Read, Effect::Write] {
        assert!(may_repeat(effect, &Ended::NotSent));
        assert!(may_repeat(effect, &replied(moved(None))));
        assert!(may_repeat(effect, &replied(refused(Refusal::TryAgain))));
        assert!(!may_repeat(effect, &Ended::Rejected(status())));
    }
    assert!(may_repeat(Effect::Read, &lost()));
    assert!(!may_repeat(Effect::Write, &lost()));
    assert!(!may_repeat(Effect::Write, &replied(Answer::Unknown)));
    assert!(!may_repeat(Effect::Write, &replied(written(1))));
    assert!(!may_repeat(Effect::Read, &replied(value(None, 1))));
}
