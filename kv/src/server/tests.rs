//! The server over real loopback sockets, in front of a scripted node.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kv_core::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kv_core::{Body, Epoch, Message, NodeId, Offset};
use tokio::sync::{mpsc, watch};
use tonic::Code;
use tonic::transport::Channel;

use super::scripted::{Scripted, free_address, one_shard, version, written};
use super::{ServerEnd, serve};
use crate::door::Door;
use crate::environment::Transport as _;
use crate::error::ServerError;
use crate::handle::{Ask, ClusterMap, NodeHandle, Request};
use crate::transport::GrpcTransport;
use crate::wire::proto::kv_client::KvClient;
use crate::wire::proto::{self, write_reply};

const SECOND: Duration = Duration::from_secs(1);

async fn client(address: &str) -> KvClient<Channel> {
    KvClient::connect(format!("http://{address}"))
        .await
        .unwrap()
}

async fn always_written(address: &str, allow_kill: bool) -> Scripted {
    let script = Box::new(|_, _: &Request| Some(written(1)));
    Scripted::start_with(
        1,
        address,
        one_shard(&[address], Some(1), 1),
        script,
        allow_kill,
    )
    .await
}

fn set(key: usize, value: usize) -> proto::SetRequest {
    let (key, value) = (vec![b'k'; key].into(), vec![b'v'; value].into());
    crate::wire::set_to_proto(key, value, SECOND)
}

#[tokio::test]
async fn a_request_beyond_the_limits_never_reaches_the_node() {
    let address = free_address();
    let node = always_written(&address, false).await;
    let mut client = client(&address).await;
    for (key, value, says) in [
        (0, 1, "the key has 0 bytes; allowed: 1 to 4096"),
        (
            KEY_BYTES_MAX + 1,
            1,
            "the key has 4097 bytes; allowed: 1 to 4096",
        ),
        (
            1,
            VALUE_BYTES_MAX + 1,
            "the value has 1048577 bytes; allowed: up to 1048576",
        ),
    ] {
        let refused = client.set(set(key, value)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.message(), says);
    }
    assert_eq!(node.arrived_count(), 0);
    client
        .set(set(KEY_BYTES_MAX, VALUE_BYTES_MAX))
        .await
        .unwrap();
    assert_eq!(node.arrived_count(), 1);
}

#[tokio::test]
async fn a_bad_request_on_a_stream_is_refused_alone() {
    let address = free_address();
    let node = always_written(&address, false).await;
    let requests = [(7, Some(set(0, 1))), (8, Some(set(1, 1))), (9, None)];
    let requests = requests.map(|(number, set)| proto::ManyRequest {
        number,
        request: set.map(proto::many_request::Request::Set),
    });
    let requests = futures::stream::iter(requests);
    let replies = client(&address).await.many(requests).await.unwrap();
    let mut replies = replies.into_inner();
    let mut told = std::collections::BTreeMap::new();
    while let Some(reply) = replies.message().await.unwrap() {
        told.insert(reply.number, reply.reply.unwrap());
    }
    let rejected = |number| match &told[&number] {
        proto::many_reply::Reply::Rejected(why) => why.as_str(),
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected(7), "the key has 0 bytes; allowed: 1 to 4096");
    assert_eq!(rejected(9), "the field `request` is missing or unknown");
    assert!(matches!(told[&8], proto::many_reply::Reply::Write(_)));
    assert_eq!((told.len(), node.arrived_count()), (3, 1));
}

#[tokio::test]
async fn a_write_that_the_node_leaves_unanswered_is_unknown_when_its_deadline_has_passed() {
    let address = free_address();
    let cluster = one_shard(&[&address], Some(1), 1);
    let node = Scripted::start(1, &address, cluster, Box::new(|_, _| None)).await;
    let mut request = set(1, 1);
    request.deadline_ms = 50;
    let reply = client(&address)
        .await
        .set(request)
        .await
        .unwrap()
        .into_inner();
    let unknown = write_reply::Result::Unknown(proto::Unknown {});
    assert_eq!(reply.result, Some(unknown));
    assert_eq!(node.arrived_count(), 1);
}

#[tokio::test]
async fn a_write_that_finds_no_place_is_refused_at_once() {
    let (asks, mut asked) = mpsc::channel(1);
    let (_cluster, known) = watch::channel(ClusterMap::default());
    let handle = NodeHandle::new(NodeId(1), asks, known);
    let key = Bytes::from_static(b"k");
    let delete = || Request::Delete { key: key.clone() };
    let first = handle.request(delete(), Duration::from_millis(20)).await;
    // It has no time to wait in: a wait would hang the test.
    let second = handle.request(delete(), Duration::MAX / 2).await;
    assert_eq!(first.answer, crate::handle::Answer::Unknown);
    let busy = crate::handle::Refusal::Busy;
    assert_eq!(second.answer, crate::handle::Answer::Refused(busy));
    assert!(matches!(asked.recv().await, Some(Ask::Request(..))));
    assert!(asked.try_recv().is_err(), "the refused write was queued");
}

#[tokio::test]
async fn a_kill_is_refused_unless_it_was_allowed() {
    let address = free_address();
    let _node = always_written(&address, false).await;
    let refused = client(&address).await.kill(proto::KillRequest {}).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_kill_is_answered_before_the_node_ends() {
    let address = free_address();
    let mut node = always_written(&address, true).await;
    let answered = client(&address).await.kill(proto::KillRequest {}).await;
    assert_eq!(answered.unwrap().into_inner().node, 1);
    assert!(matches!(node.server.ended().await, ServerEnd::Killed));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let address = free_address();
    let _first = always_written(&address, false).await;
    let (asks, _asked) = mpsc::channel(1);
    let (_cluster, known) = watch::channel(ClusterMap::default());
    let handle = NodeHandle::new(NodeId(2), asks, known);
    let second = serve(
        &address,
        handle,
        Arc::new(|_, _| {}),
        false,
        &Door::default(),
    )
    .await;
    let error = second.err().unwrap();
    assert!(matches!(error, ServerError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&address));
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let (asks, _asked) = mpsc::channel(1);
    let (_cluster, known) = watch::channel(ClusterMap::default());
    let handle = NodeHandle::new(NodeId(2), asks, known);
    let server = serve(
        "nonsense",
        handle,
        Arc::new(|_, _| {}),
        false,
        &Door::default(),
    )
    .await;
    assert!(matches!(server, Err(ServerError::Address { .. })));
}

#[tokio::test]
async fn a_dropped_server_gives_its_port_back() {
    let address = free_address();
    let node = always_written(&address, false).await;
    let mut kept = client(&address).await;
    kept.set(set(1, 1)).await.unwrap();
    drop(node);
    while std::net::TcpListener::bind(&address).is_err() {
        tokio::task::yield_now().await; // Ends as soon as the old one is gone; a bug would hang the test.
    }
}

#[tokio::test]
async fn members_hear_each_other_and_nobody_else() {
    let address = free_address();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (told, mut tells) = mpsc::unbounded_channel();
    let (asks, _asked) = mpsc::channel(1);
    let (_cluster, known) = watch::channel(ClusterMap::default());
    let ears = heard.clone();
    let deliver = Arc::new(move |from, message| {
        ears.lock().unwrap().push((from, message));
        told.send(()).unwrap();
    });
    let handle = NodeHandle::new(NodeId(2), asks, known);
    let _server = serve(&address, handle, deliver, false, &Door::default())
        .await
        .unwrap();

    let transport = GrpcTransport::new(NodeId(1), 7);
    // Node 3 is said to live at the address of node 2, which must not take the letters of another.
    transport.reach(&[(NodeId(2), address.clone()), (NodeId(3), address)].into());
    let commit = |upto| Message {
        epoch: Epoch(1),
        body: Body::Commit { upto: Offset(upto) },
    };
    transport.send(NodeId(3), commit(99));
    transport.send(NodeId(9), commit(98)); // Nobody knows where that is: dropped.
    let prepare = Message {
        epoch: Epoch(1),
        body: Body::Prepare {
            prev: version(1, 1),
            entries: Vec::new(),
            committed: Offset(1),
        },
    };
    transport.send(NodeId(2), prepare.clone());
    transport.send(NodeId(2), commit(2));
    tells.recv().await.unwrap();
    tells.recv().await.unwrap();
    let expected = vec![(NodeId(1), prepare), (NodeId(1), commit(2))];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_link_that_is_full_drops_and_does_not_block() {
    let transport = GrpcTransport::new(NodeId(1), 7);
    transport.reach(&[(NodeId(2), free_address())].into());
    for upto in 0..10_000 {
        let body = Body::Commit { upto: Offset(upto) };
        let epoch = Epoch(1);
        transport.send(NodeId(2), Message { epoch, body });
    }
}

#[tokio::test]
async fn a_link_comes_back_when_its_peer_does() {
    let address = free_address();
    let transport = GrpcTransport::new(NodeId(1), 7);
    transport.reach(&[(NodeId(2), address.clone())].into());
    for life in 1..=2 {
        let (told, mut tells) = mpsc::unbounded_channel();
        let deliver = Arc::new(move |_, message| told.send(message).unwrap());
        let (asks, _asked) = mpsc::channel(1);
        let (_cluster, known) = watch::channel(ClusterMap::default());
        let handle = NodeHandle::new(NodeId(2), asks, known);
        let server = serve(&address, handle, deliver, false, &Door::default())
            .await
            .unwrap();
        let body = Body::Commit { upto: Offset(life) };
        let message = Message {
            epoch: Epoch(1),
            body,
        };
        // What is sent while the link is down is dropped, so it is sent again, as the protocol does.
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let heard = loop {
            tokio::select! {
                biased;
                heard = tells.recv() => break heard.unwrap(),
                _ = ticks.tick() => transport.send(NodeId(2), message.clone()),
            }
        };
        assert_eq!(heard, message);
        drop(server);
        while std::net::TcpListener::bind(&address).is_err() {
            tokio::task::yield_now().await;
        }
    }
}
