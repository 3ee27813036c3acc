//! The HTTP face of real nodes: whatever node is asked, the answer is that of the store.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kv::client::{Client, ClientOptions};
use kv::config::ClusterConfig;
use kv::coordination::embedded::Embedded;
use kv::door::{Door, Limits};
use kv::http::HttpServer;
use kv::node::Node;
use kv_core::Fencing;
use serde_json::Value;

#[path = "cluster/nodes.rs"]
mod nodes;

use nodes::{free_addresses, start, timing};

/// What an HTTP server answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
    version: String,
    token: String,
    node: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Six nodes in two shards, each with an HTTP face.
struct Cluster {
    nodes: Vec<Node>,
    faces: Vec<HttpServer>,
}

impl Cluster {
    async fn start(limits: Limits) -> Self {
        let config = ClusterConfig::new(2, 3, 2, None, Fencing::Epoch).unwrap();
        let service = Embedded::in_memory(timing().session_timeout);
        let addresses = free_addresses(6);
        let (mut nodes, mut faces) = (Vec::new(), Vec::new());
        for (number, address) in (1..).zip(&addresses) {
            let node = start(number, address, &config, &service).await;
            let client = Client::new(vec![address.clone()], ClientOptions::default());
            let (handle, agent) = (node.handle().clone(), node.agent_state());
            let door = Door::within(limits.clone());
            let face = HttpServer::start("127.0.0.1:0", &door, handle, agent, client);
            faces.push(face.await.unwrap());
            nodes.push(node);
        }
        let cluster = Self { nodes, faces };
        let mut client = Client::new(addresses, ClientOptions::default());
        for key in ["a", "b", "c", "d"] {
            let written = client.set(key.into(), "x".into()).await;
            written.ok().unwrap();
        }
        cluster
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.faces.iter().map(HttpServer::address).collect()
    }
}

/// Asks, and waits for the answer beside the server's threads.
async fn ask(
    method: &'static str,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_vec()).unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .allow_non_standard_methods(true)
            .build();
        let mut response = ureq::Agent::new_with_config(config).run(request).unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name);
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        Answer {
            status: response.status().as_u16(),
            version: header("kv-version"),
            token: header("kv-token"),
            node: header("kv-node"),
            body: response.body_mut().read_to_vec().unwrap(),
        }
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_answers_for_every_key() {
    let cluster = Cluster::start(Limits::default()).await;
    let addresses = cluster.addresses();
    let count = addresses.len();
    for (number, address) in addresses.iter().enumerate() {
        for key in ["plain", "with/slashes", "%00%FF%20bytes"] {
            let path = format!("/kv/{key}?timeout=10s");
            let value = format!("{key} by {number}");
            let written = ask("PUT", *address, &path, &[], value.as_bytes()).await;
            assert_eq!(written.status, 200, "{written:?}");
            assert_eq!(written.json()["outcome"], "ok");
            let other = addresses[(number + 1) % count];
            for level in ["writer", "lease", "quorum"] {
                let headers = [("Kv-Level", level)];
                let read = ask("GET", other, &path, &headers, &[]).await;
                assert_eq!(
                    (read.status, &read.body[..]),
                    (200, value.as_bytes()),
                    "{level}"
                );
                assert_eq!(read.version, written.version);
            }
            let path = format!(
                "/kv/{key}?level=replica&token={}&timeout=10s",
                written.token
            );
            let read = ask("GET", other, &path, &[], &[]).await;
            assert_eq!(
                (read.status, &read.body[..]),
                (200, value.as_bytes()),
                "{read:?}"
            );
        }
    }
    let deleted = ask("DELETE", addresses[0], "/kv/plain", &[], &[]).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let read = ask("GET", addresses[3], "/kv/plain?level=quorum", &[], &[]).await;
    assert_eq!(read.status, 404);
    assert_eq!(read.json()["error"], "not-found");
    assert_eq!(read.version, deleted.version, "a delete is remembered");
    assert!(!read.node.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_request_is_refused_and_nothing_happens() {
    let cluster = Cluster::start(Limits::default()).await;
    let address = cluster.addresses()[0];
    let long = "k".repeat(4097);
    for (method, path, status) in [
        ("GET", "/kv/a?level=sometimes", 400),
        ("GET", "/kv/a?token=7", 400),
        ("GET", "/kv/a?timeout=2h", 400),
        ("GET", "/kv/a?lvel=quorum", 400),
        ("GET", "/kv/", 404),
        ("GET", "/", 404),
        ("POST", "/kv/a", 405),
        ("PUT", "/metrics", 405),
        ("GET", &format!("/kv/{long}"), 400),
    ] {
        let answer = ask(method, address, path, &[], &[]).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.json()["outcome"], "fail", "{method} {path}");
    }
    let large = vec![b'v'; 1024 * 1024 + 1];
    let answer = ask("PUT", address, "/kv/a", &[], &large).await;
    assert_eq!(answer.status, 413);
    let read = ask("GET", address, "/kv/a", &[], &[]).await;
    assert_eq!(read.body, b"x", "nothing of it was written");
    let largest = vec![b'v'; 1024 * 1024];
    let answer = ask("PUT", address, "/kv/a?timeout=20s", &[], &largest).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_health_readiness_the_cluster_and_numbers() {
    let mut cluster = Cluster::start(Limits::default()).await;
    let addresses = cluster.addresses();
    for address in &addresses {
        assert_eq!(ask("GET", *address, "/healthz", &[], &[]).await.status, 200);
        let ready = ask("GET", *address, "/readyz", &[], &[]).await;
        assert_eq!(ready.status, 200, "{ready:?}");
        let metrics = ask("GET", *address, "/metrics", &[], &[]).await;
        let text = String::from_utf8(metrics.body).unwrap();
        assert!(text.contains("\nsplitbrain_committed_offset "), "{text}");
    }
    let info = ask("GET", addresses[0], "/info", &[], &[]).await.json();
    assert_eq!(info["node"], 1);
    assert_eq!(info["cluster"]["nodes"].as_array().unwrap().len(), 6);
    assert_eq!(info["cluster"]["shards"].as_array().unwrap().len(), 2);
    assert!(info["status"]["committed"].as_u64().unwrap() > 0);
    // Its driver is gone; its face is still there to say so.
    drop(cluster.nodes.remove(0));
    for path in ["/healthz", "/readyz"] {
        let answer = ask("GET", addresses[0], path, &[], &[]).await;
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(answer.json()["message"].is_string());
    }
    let others = ask("GET", addresses[1], "/kv/a?timeout=10s", &[], &[]).await;
    assert_eq!(others.status, 200, "{others:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_half_a_request_is_cut_off_and_others_are_served() {
    let limits = Limits {
        connections: 8,
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let cluster = Cluster::start(limits).await;
    let address = cluster.addresses()[0];
    let slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .write_all(b"GET /kv/a HTTP/1.1\r\nHost: a\r\nX-Slow")
                .unwrap();
            stream
        })
        .collect();
    for mut stream in slow {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut rest = Vec::new();
        let ended = tokio::task::spawn_blocking(move || stream.read_to_end(&mut rest));
        ended.await.unwrap().unwrap(); // The end: the server has closed it.
    }
    let read = ask("GET", address, "/kv/a", &[], &[]).await;
    assert_eq!(read.status, 200, "their places are free again");
}
