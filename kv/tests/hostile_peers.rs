//! Strangers at the door of a node: garbage, silence, size, number. The node goes on serving, in bounded memory, and loses nothing.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::access::Access;
use kv::client::{Client, ClientOptions};
use kv::door::{Count, Door, Limits};
use kv::error::{Fail, Outcome};
use kv::handle::{Answer, Ask, ClusterMap, NodeHandle, ReplyTo};
use kv::security::SecurityFiles;
use kv::wire::proto;
use kv::wire::proto::kv_client::KvClient;
use kv_core::{NodeId, ShardId, Version};
use prost::Message as _;
use tokio::sync::{mpsc, watch};

#[path = "guarded/frames.rs"]
mod frames;
#[path = "guarded/nodes.rs"]
mod nodes;
#[path = "processes/served.rs"]
mod served;

use frames::{PREFACE, Raw};
use nodes::{Certs, Guarded, PATIENCE, client, free_addresses, holds, serves, start};
use served::{Served, free_address, kv};

const GIB: u32 = 1 << 30;

/// The status 11 of gRPC as HPACK has it: two digits in two bytes of its Huffman code.
const OUT_OF_RANGE: &[u8] = &[0x82, 0x08, 0x7f];

fn open(limits: Limits) -> (Vec<SecurityFiles>, Limits) {
    (vec![SecurityFiles::default()], limits)
}

async fn lone(limits: Limits) -> (Vec<Guarded>, Client) {
    let (files, limits) = open(limits);
    let nodes = start(&files, &limits).await;
    let client = client(&nodes, Access::default(), PATIENCE);
    (nodes, client)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What a stranger hears who says this, until it is hung up on.
fn hears(address: &str, says: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    let _ = stream.write_all(says); // It may be hung up on before the end.
    let mut heard = Vec::new();
    let mut part = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut part) {
        heard.extend(&part[..count]);
    }
    heard
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn garbage(seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(4096).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_hung_up_on_and_counted() {
    let (nodes, mut good) = lone(Limits::default()).await;
    serves(&mut good, "kept").await;
    let address = nodes[0].address.clone();
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 600]].concat();
    let mut cut_short = PREFACE.to_vec();
    cut_short.truncate(20);
    cut_short.extend(b"XXXX");
    let noise: Vec<Vec<u8>> = (1..=20).map(garbage).collect();
    let said: Vec<Vec<u8>> = noise.into_iter().chain([hello, cut_short]).collect();
    let count = said.len() as u64;
    let strangers = tokio::task::spawn_blocking(move || {
        said.iter()
            .map(|says| hears(&address, says))
            .collect::<Vec<_>>()
    });
    assert!(strangers.await.unwrap().iter().all(Vec::is_empty));
    let counters = &nodes[0].door.counters;
    until("each is counted", || {
        counters.get(Count::Senseless) == count
    })
    .await;
    holds(&mut good, "kept").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_at_the_grpc_port_is_told_what_the_port_speaks() {
    let (nodes, mut good) = lone(Limits::default()).await;
    let address = nodes[0].address.clone();
    let heard = tokio::task::spawn_blocking(move || {
        hears(&address, b"GET /kv/a HTTP/1.1\r\nhost: node\r\n\r\n")
    });
    let heard = String::from_utf8(heard.await.unwrap()).unwrap();
    assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
    assert!(heard.contains("speaks gRPC"), "{heard}");
    serves(&mut good, "after").await;
}

/// Plain text at a port of TLS, and garbage after the handshake's first bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_and_garbage_at_a_port_of_tls_are_hung_up_on() {
    let certs = Certs::make();
    let nodes = start(&[certs.of_node(1)], &Limits::default()).await;
    let mut good = client(&nodes, certs.access("client"), PATIENCE);
    serves(&mut good, "kept").await;
    let mut plain = client(&nodes, Access::default(), Duration::from_millis(500));
    let outcome = plain.delete(Bytes::from_static(b"kept")).await;
    assert!(
        matches!(outcome, Outcome::Fail(Fail::Unreachable { .. })),
        "{outcome:?}"
    );
    let address = nodes[0].address.clone();
    let strangers = tokio::task::spawn_blocking(move || {
        for seed in 1..=20 {
            hears(&address, &garbage(seed));
            hears(
                &address,
                &[&[0x16, 3, 1, 0, 200][..], &garbage(seed)].concat(),
            );
        }
    });
    strangers.await.unwrap();
    let counters = &nodes[0].door.counters;
    until("each is counted", || counters.get(Count::Senseless) >= 40).await;
    holds(&mut good, "kept").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_by_the_thousand_shut_nobody_out() {
    let limits = Limits {
        handshakes: 32,
        handshake_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let (nodes, mut good) = lone(limits).await;
    serves(&mut good, "kept").await;
    let address = nodes[0].address.clone();
    let flood = tokio::task::spawn_blocking(move || {
        let mut silent = Vec::new();
        for number in 0..3000 {
            let mut stream = connect(&address);
            // Some say nothing at all, some the first half of what they should.
            if number % 2 == 0 {
                let _ = stream.write_all(&PREFACE[..12]);
            }
            silent.push(stream);
            if silent.len() > 500 {
                silent.remove(0);
            }
        }
        silent
    });
    // Those who know the node and those who come anew are served meanwhile.
    let mut number = 0;
    while !flood.is_finished() || number < 5 {
        holds(&mut good, "kept").await;
        let mut newcomer = client(&nodes, Access::default(), PATIENCE);
        serves(&mut newcomer, &format!("newcomer-{number}")).await;
        number += 1;
    }
    let silent = flood.await.unwrap();
    let counters = nodes[0].door.counters.clone();
    assert!(counters.get(Count::CrowdedOut) > 1000, "{counters:?}");
    until("the last silent ones are given up", || {
        counters.get(Count::Silent) > 0
    })
    .await;
    drop(silent);
    assert_eq!(counters.get(Count::RefusedFull), 0);
    holds(&mut good, "kept").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_more_than_are_served_is_closed_at_once() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let (nodes, mut good) = lone(limits).await;
    serves(&mut good, "kept").await;
    let node = &nodes[0];
    let address = node.address.clone();
    let taken = tokio::task::spawn_blocking(move || {
        let taken = [(), ()].map(|()| Raw::connect(&address));
        let mut more = Raw::connect(&address);
        assert!(!more.hears(b"never said"), "it is hung up on");
        taken
    });
    // Which three are in is theirs to find out: the good one has one place, since it came first.
    let taken = taken.await.unwrap();
    until("one is refused", || {
        node.door.counters.get(Count::RefusedFull) > 0
    })
    .await;
    holds(&mut good, "kept").await;
    drop(taken);
    until("there is room again", || node.door.connection_count() < 3).await;
    serves(&mut client(&nodes, Access::default(), PATIENCE), "newcomer").await;
}

/// A process of its own, so that its memory can be looked at.
struct Watched {
    process: Served,
    address: String,
    _data: tempfile::TempDir,
}

impl Watched {
    fn start(settings: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = data.path().join("kv.toml");
        std::fs::write(&config, settings).unwrap();
        let address = free_address();
        let mut command = kv();
        command.args(["serve", "--engine", "memory", "--listen", &address]);
        command.arg("--config").arg(config);
        command.arg("--data").arg(data.path().join("data"));
        let process = Served::run(&mut command).wait();
        let node = Self {
            process,
            address,
            _data: data,
        };
        assert!(node.ask(&["set", "kept", "precious"]).is_some());
        node
    }

    fn ask(&self, words: &[&str]) -> Option<String> {
        let mut command: Command = kv();
        command
            .args(words)
            .args(["--node", &self.address, "--timeout", "20s"]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    }

    /// Its resident memory in MiB, the largest that it has had.
    fn memory_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib / 1024
    }

    fn still_serves(self) {
        assert_eq!(self.ask(&["get", "kept"]).as_deref(), Some("precious\n"));
        assert!(self.ask(&["set", "after", "1"]).is_some());
        self.process.kill();
    }
}

/// The head of a message says how long it will be: one that says 1 GiB is refused before the rest of it has come.
#[test]
fn messages_of_a_gib_are_refused_before_they_are_buffered() {
    let node = Watched::start("");
    let before = node.memory_mib();
    let mut head = vec![0];
    head.extend(GIB.to_be_bytes());
    for path in ["/kv.Kv/Set", "/kv.Peer/Deliver"] {
        for _ in 0..8 {
            let mut raw = Raw::connect(&node.address);
            for stream in (1..40).step_by(2) {
                raw.call(stream, path);
                raw.data(stream, &head);
                raw.data(stream, &[7; 2000]);
            }
            assert!(raw.hears(OUT_OF_RANGE), "{path} is refused");
        }
    }
    let grown = node.memory_mib() - before;
    assert!(grown < 64, "{grown} MiB more");
    node.still_serves();
}

/// Those who ask much and read nothing wait with their own windows, not with the node's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_cost_little_and_hold_up_nobody() {
    let node = Watched::start("limits.request_bytes = \"16MiB\"");
    let large = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(large.path(), vec![b'v'; 1 << 20]).unwrap();
    let file = large.path().to_str().unwrap();
    assert!(node.ask(&["set", "large", "--file", file]).is_some());
    let before = node.memory_mib();
    let request = proto::GetRequest {
        key: Bytes::from_static(b"large"),
        level: proto::Level::Local.into(),
        token: None,
        deadline_ms: 0,
    };
    let in_many = |number: u64| proto::ManyRequest {
        number,
        request: Some(proto::many_request::Request::Get(request.clone())),
    };
    let mut slow: Vec<Raw> = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(&node.address);
        for stream in (1..100).step_by(2) {
            raw.call(stream, "/kv.Kv/Get");
            raw.message(stream, &request.encode_to_vec());
        }
        slow.push(raw);
        let mut raw = Raw::connect(&node.address);
        raw.call(1, "/kv.Kv/Many");
        for number in 0..200 {
            raw.one_of_many(1, &in_many(number).encode_to_vec());
        }
        slow.push(raw);
    }
    let options = ClientOptions {
        timeout: PATIENCE,
        ..ClientOptions::default()
    };
    let mut good = Client::new(vec![node.address.clone()], options);
    for _ in 0..20 {
        holds(&mut good, "kept").await;
    }
    // A thousand answers of 1 MiB were asked for, and those beyond 16 were refused, but for what is in the streams' own windows.
    let grown = node.memory_mib() - before;
    assert!(grown < 120, "{grown} MiB more");
    drop(slow);
    node.still_serves();
}

/// Where the next request is to be answered; whoever else asks the driver goes without.
async fn next_request(asked: &mut mpsc::Receiver<Ask>) -> ReplyTo {
    loop {
        if let Ask::Request(_, _, reply) = asked.recv().await.unwrap() {
            return reply;
        }
    }
}

/// A node whose driver has its hands full: nobody waits for a place, and what has one is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_says_busy_at_once_and_serves_again_afterwards() {
    let (asks, mut asked) = mpsc::channel(16);
    let (_cluster, known) = watch::channel(ClusterMap::default());
    let handle = NodeHandle::new(NodeId(1), asks, known).with_bounds(2, 1 << 21);
    let address = free_addresses(1).remove(0);
    let door = Door::default();
    let _server = kv::server::serve(&address, handle, Arc::new(|_, _| {}), false, &door)
        .await
        .unwrap();
    let set = |client: &KvClient<_>| {
        let mut client = client.clone();
        let request = kv::wire::set_to_proto("k".into(), "v".into(), PATIENCE);
        tokio::spawn(async move { client.set(request).await.unwrap().into_inner().result })
    };
    let client = KvClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let held = [set(&client), set(&client)];
    let mut replies = Vec::new();
    for _ in &held {
        replies.push(next_request(&mut asked).await);
    }
    let busy = proto::write_reply::Result::Refusal(proto::Refusal {
        kind: Some(proto::refusal::Kind::Reason(proto::Reason::Busy.into())),
    });
    for _ in 0..20 {
        assert_eq!(set(&client).await.unwrap(), Some(busy.clone()));
    }
    while let Ok(ask) = asked.try_recv() {
        // The health service asks now and then.
        let is_request = matches!(ask, Ask::Request(..));
        assert!(!is_request, "what was refused never reached the driver");
    }
    let written = || Answer::Written {
        version: Version::ZERO,
        shard: ShardId(0),
    };
    for reply in replies {
        reply.send(written()).unwrap();
    }
    for held in held {
        let result = held.await.unwrap();
        assert!(
            matches!(result, Some(proto::write_reply::Result::Written(_))),
            "{result:?}"
        );
    }
    let again = set(&client);
    let Some(Ask::Request(_, _, reply)) = asked.recv().await else {
        panic!("a request")
    };
    reply.send(written()).unwrap();
    let again = again.await.unwrap();
    assert!(
        matches!(again, Some(proto::write_reply::Result::Written(_))),
        "{again:?}"
    );
}
