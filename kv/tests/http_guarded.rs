//! The HTTP face behind the door: over TLS, to those who can show who they are, and health to everybody.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use kv::client::{Client, ClientOptions};
use kv::door::{Count, Limits};
use kv::http::HttpServer;
use kv::security::SecurityFiles;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

#[path = "guarded/nodes.rs"]
mod nodes;

use nodes::{Certs, Guarded, PATIENCE, client, serves, start, write};

const TOKEN: &str = "a-token-of-a-client-0123456789";

async fn face(node: &Guarded, client: Client) -> HttpServer {
    let (handle, agent) = (node.node.handle().clone(), node.node.agent_state());
    let face = HttpServer::start("127.0.0.1:0", &node.door, handle, agent, client);
    face.await.unwrap()
}

/// Asks over HTTP; nothing where no answer came.
async fn get(url: String, tls: Option<TlsConfig>, token: Option<&'static str>) -> Option<u16> {
    let asked = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .tls_config(tls.unwrap_or_default())
            .build();
        let mut request = ureq::Agent::new_with_config(config).get(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().ok().map(|answer| answer.status().as_u16())
    });
    asked.await.unwrap()
}

/// What a client of TLS trusts, and shows.
fn tls(certs: &Certs, identity: Option<&str>) -> TlsConfig {
    let pem = |name: &str| std::fs::read(certs.path(name)).unwrap();
    let ca = Certificate::from_pem(&pem("peer-ca.pem")).unwrap();
    let shown = identity.map(|name| {
        let certificate = Certificate::from_pem(&pem(&format!("{name}.pem"))).unwrap();
        let key = PrivateKey::from_pem(&pem(&format!("{name}.key"))).unwrap();
        ClientCert::new_with_certs(&[certificate], key)
    });
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[ca]))
        .client_cert(shown)
        .build()
}

fn url(scheme: &str, address: SocketAddr, path: &str) -> String {
    format!("{scheme}://{address}{path}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_client_shows_its_certificate_and_health_is_for_everybody() {
    let certs = Certs::make();
    let files = [1, 2, 3].map(|number| certs.of_node(number));
    let nodes = start(&files, &Limits::default()).await;
    let mut by_grpc = client(&nodes, certs.access("client"), PATIENCE);
    serves(&mut by_grpc, "key").await;
    let mut faces = Vec::new();
    for (number, node) in (1..).zip(&nodes) {
        // A node asks the others as the member that it is.
        let options = ClientOptions {
            access: certs.access(&format!("node-{number}")),
            timeout: PATIENCE,
            ..ClientOptions::default()
        };
        faces.push(face(node, Client::new(vec![node.address.clone()], options)).await);
    }
    for (face, node) in faces.iter().zip(&nodes) {
        let https = |path: &str| url("https", face.address(), path);
        for path in ["/kv/key?timeout=20s", "/info", "/metrics"] {
            let shown = get(https(path), Some(tls(&certs, Some("client"))), None).await;
            assert_eq!(shown, Some(200), "{path}");
            let refused = get(https(path), Some(tls(&certs, None)), None).await;
            assert_eq!(refused, Some(401), "{path}");
        }
        for path in ["/healthz", "/readyz"] {
            let health = get(https(path), Some(tls(&certs, None)), None).await;
            assert_eq!(health, Some(200), "{path}");
        }
        let plain = get(url("http", face.address(), "/healthz"), None, None).await;
        assert_eq!(plain, None, "nothing in plain text");
        assert_eq!(node.door.counters.get(Count::Unauthenticated), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_the_face_and_a_wrong_one_does_not() {
    let certs = Certs::make();
    let tokens = certs.path("tokens");
    write(&tokens, &format!("{TOKEN}\n"));
    let files = SecurityFiles {
        client_tokens: Some(tokens),
        ..SecurityFiles::default()
    };
    let nodes = start(&[files], &Limits::default()).await;
    let face = face(
        &nodes[0],
        Client::new(vec![nodes[0].address.clone()], ClientOptions::default()),
    )
    .await;
    let metrics = url("http", face.address(), "/metrics");
    assert_eq!(get(metrics.clone(), None, Some(TOKEN)).await, Some(200));
    let wrong = Some("another-token-0123456789");
    assert_eq!(get(metrics.clone(), None, wrong).await, Some(401));
    assert_eq!(get(metrics, None, None).await, Some(401));
    let health = url("http", face.address(), "/healthz");
    assert_eq!(get(health, None, None).await, Some(200));
}
