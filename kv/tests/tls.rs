//! Who is let in, and as whom: certificates, tokens, peers and those who are none.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::time::Duration;

use futures::stream;
use kv::access::{Access, CLUSTER_HEADER};
use kv::client::{Client, ClientOptions};
use kv::door::{Count, Limits};
use kv::error::{Fail, Outcome};
use kv::security::{ClientFiles, Security, SecurityFiles, client_access};
use kv::wire::proto;
use kv::wire::proto::kv_client::KvClient;
use kv::wire::proto::peer_client::PeerClient;
use kv_core::{NodeId, ShardId};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

#[path = "guarded/nodes.rs"]
mod nodes;

use nodes::{Certs, Guarded, PATIENCE, client, holds, serves, start, write};

const TOKEN: &str = "correct-horse-battery-staple";
const PEER_TOKEN: &str = "only-nodes-know-this-one";
const NOW: (i32, i32) = (2020, 2090);
const PAST: (i32, i32) = (2020, 2021);

fn token(folder: &Certs, token: &str) -> Access {
    let path = folder.path("token");
    write(&path, token);
    let files = ClientFiles {
        ca: Some(folder.path("peer-ca.pem")),
        identity: None,
        token: Some(path),
    };
    client_access(&files).unwrap().0
}

/// The files of a lone node that takes tokens and certificates.
fn either(certs: &Certs) -> SecurityFiles {
    write(&certs.path("tokens"), TOKEN);
    write(&certs.path("peer.token"), PEER_TOKEN);
    SecurityFiles {
        client_tokens: Some(certs.path("tokens")),
        peer_token: Some(certs.path("peer.token")),
        ..certs.of_node(1)
    }
}

/// A connection that shows the certificate of that name, if any, whatever one may think of it.
async fn channel(certs: &Certs, node: &Guarded, name: Option<&str>) -> Result<Channel, String> {
    let pem = |name: String| std::fs::read(certs.path(&name)).unwrap();
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem("peer-ca.pem".to_owned())));
    if let Some(name) = name {
        let identity = Identity::from_pem(pem(format!("{name}.pem")), pem(format!("{name}.key")));
        tls = tls.identity(identity);
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", node.address)).unwrap();
    let connecting = endpoint.tls_config(tls).unwrap();
    connecting
        .connect()
        .await
        .map_err(|error| format!("{error:?}"))
}

async fn deliver<T>(channel: Channel, change: T, from: u64) -> Status
where
    T: FnOnce(&mut Request<stream::Iter<std::vec::IntoIter<proto::Envelope>>>),
{
    let commit = proto::peer_message::Body::Commit(proto::Commit { upto: 0 });
    let envelope = proto::Envelope {
        from,
        to: 1,
        message: Some(proto::PeerMessage {
            epoch: 1,
            body: Some(commit),
        }),
    };
    let mut request = Request::new(stream::iter(vec![envelope]));
    change(&mut request);
    match PeerClient::new(channel).deliver(request).await {
        Ok(_) => Status::ok("taken"),
        Err(status) => status,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_certificates_serve_a_client_with_one_through_the_loss_of_the_writer() {
    let certs = Certs::make();
    let files: Vec<_> = (1..=3).map(|number| certs.of_node(number)).collect();
    let mut nodes = start(&files, &Limits::default()).await;
    let mut client = client(&nodes, certs.access("client"), PATIENCE);
    serves(&mut client, "before").await;
    let writer = client.cluster().shards[&ShardId(0)].writer.unwrap();
    nodes.retain(|node| node.node.handle().node != writer);
    holds(&mut client, "before").await;
    serves(&mut client, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_shows_a_token_or_a_certificate_and_is_told_so_if_it_does_not() {
    let certs = Certs::make();
    let nodes = start(&[either(&certs)], &Limits::default()).await;
    let mut known = client(&nodes, token(&certs, TOKEN), PATIENCE);
    serves(&mut known, "token").await;
    serves(
        &mut client(&nodes, certs.access("client"), PATIENCE),
        "certificate",
    )
    .await;
    serves(
        &mut client(&nodes, token(&certs, PEER_TOKEN), PATIENCE),
        "peer",
    )
    .await;

    let nothing = ClientFiles {
        ca: Some(certs.path("peer-ca.pem")),
        ..ClientFiles::default()
    };
    let nothing = client_access(&nothing).unwrap().0;
    let wrong = token(&certs, "correct-horse-battery-stapler");
    // Story: a stream that was refused when it was opened looked like a node that cannot be reached.
    for (shown, streams, says) in [
        (nothing, false, "show a token"),
        (wrong.clone(), false, "none that this node knows"),
        (wrong, true, "none that this node knows"),
    ] {
        let options = ClientOptions {
            timeout: Duration::from_millis(600),
            access: shown,
            streams,
            ..ClientOptions::default()
        };
        let mut stranger = Client::new(vec![nodes[0].address.clone()], options);
        let outcome = stranger.delete("token".into()).await;
        let Outcome::Fail(Fail::Rejected(status)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(says), "{status:?}");
        assert!(!format!("{status:?}").contains("staple"), "{status:?}");
    }
    assert!(nodes[0].door.counters.get(Count::Unauthenticated) > 0);
    holds(&mut known, "token").await;
}

/// Whoever shows what is not good is turned away in the handshake, which the client learns with what it asks first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca_and_one_that_has_expired_open_nothing() {
    let (certs, others) = (Certs::make(), Certs::make());
    certs.issue("client-ca", "expired", None, PAST);
    for end in ["pem", "key"] {
        let from = others.path(&format!("client.{end}"));
        std::fs::copy(from, certs.path(&format!("foreign.{end}"))).unwrap();
    }
    let nodes = start(&[certs.of_node(1)], &Limits::default()).await;
    let mut known = client(&nodes, certs.access("client"), PATIENCE);
    serves(&mut known, "kept").await;
    for name in ["expired", "foreign"] {
        let before = nodes[0].door.counters.get(Count::Senseless);
        let refused = match channel(&certs, &nodes[0], Some(name)).await {
            Ok(channel) => KvClient::new(channel)
                .info(proto::InfoRequest { digest: false })
                .await
                .is_err(),
            Err(_) => true,
        };
        assert!(refused, "{name}");
        assert!(
            nodes[0].door.counters.get(Count::Senseless) > before,
            "{name}"
        );
    }
    let mut foreign = client(&nodes, others.access("client"), Duration::from_millis(600));
    let Outcome::Fail(Fail::Untrusted { why, .. }) = foreign.delete("kept".into()).await else {
        panic!("the client trusts a node of another CA")
    };
    assert!(why.contains("certificate"), "{why}");
    holds(&mut known, "kept").await;
}

#[tokio::test]
async fn a_client_sees_that_a_node_has_expired() {
    let certs = Certs::make();
    certs.issue("peer-ca", "expired", Some("kv://node/1"), PAST);
    let pem = |end: &str| std::fs::read(certs.path(&format!("expired.{end}"))).unwrap();
    let certificates = pem("pem");
    let chain = CertificateDer::pem_slice_iter(&certificates).map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_slice(&pem("key")).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(tcp).await;
    });
    let access = certs.access("client");
    let asked = Client::info(&address, PATIENCE, false, &access).await;
    let error = asked.unwrap_err().to_string();
    assert!(
        error.contains("expired") && error.contains(&address),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_speaks_as_a_member_and_no_member_as_another() {
    let certs = Certs::make();
    certs.issue("client-ca", "sly", Some("kv://node/2"), NOW);
    certs.issue("peer-ca", "nameless", None, NOW);
    let nodes = start(&[either(&certs)], &Limits::default()).await;
    let node = &nodes[0];
    let mut known = client(&nodes, certs.access("client"), PATIENCE);
    serves(&mut known, "kept").await;
    for (name, code) in [
        (None, Code::Unauthenticated),
        (Some("nameless"), Code::Unauthenticated),
        (Some("client"), Code::PermissionDenied),
        // A client's CA may write into a certificate whatever it wants.
        (Some("sly"), Code::PermissionDenied),
    ] {
        let refused = deliver(channel(&certs, node, name).await.unwrap(), |_| {}, 2).await;
        assert_eq!(refused.code(), code, "{name:?}: {refused:?}");
        let mut peer = PeerClient::new(channel(&certs, node, name).await.unwrap());
        let refused = peer.download(proto::DownloadRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name:?}: {refused:?}");
    }
    let with = |token: &'static str| {
        move |request: &mut Request<_>| {
            let text = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", text);
        }
    };
    let plain = channel(&certs, node, None).await.unwrap();
    let client_token = deliver(plain.clone(), with(TOKEN), 2).await;
    assert_eq!(client_token.code(), Code::PermissionDenied);
    assert_eq!(
        deliver(plain.clone(), with("x"), 2).await.code(),
        Code::Unauthenticated
    );
    assert_eq!(deliver(plain, with(PEER_TOKEN), 2).await.code(), Code::Ok);

    let second = channel(&certs, node, Some("node-2")).await.unwrap();
    assert_eq!(deliver(second.clone(), |_| {}, 2).await.code(), Code::Ok);
    let other = deliver(second, |_| {}, 3).await;
    assert_eq!(other.code(), Code::PermissionDenied);
    assert!(
        other.message().contains("n2") && other.message().contains("n3"),
        "{other:?}"
    );
    assert!(node.door.counters.get(Count::Forbidden) > 0);
    holds(&mut known, "kept").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_refused() {
    let nodes = start(&[SecurityFiles::default()], &Limits::default()).await;
    let mut client = client(&nodes, Access::default(), PATIENCE);
    serves(&mut client, "kept").await;
    let own = nodes[0].node.handle().cluster_id().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", nodes[0].address)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let of = |cluster: u64| {
        move |request: &mut Request<_>| {
            let name = kv::access::cluster_name(cluster).parse().unwrap();
            request.metadata_mut().insert(CLUSTER_HEADER, name);
        }
    };
    assert_eq!(deliver(channel.clone(), of(own), 2).await.code(), Code::Ok);
    let other = deliver(channel, of(own ^ 1), 2).await;
    assert_eq!(other.code(), Code::FailedPrecondition);
    for cluster in [own, own ^ 1] {
        let name = kv::access::cluster_name(cluster);
        assert!(other.message().contains(&name), "{other:?}");
    }
    holds(&mut client, "kept").await;
}

/// What is wrong with a node's own files is said before it starts, with the file and what to do.
#[test]
fn files_that_do_not_go_together_are_refused_by_name() {
    let certs = Certs::make();
    certs.issue("peer-ca", "expired", Some("kv://node/1"), PAST);
    certs.issue("peer-ca", "early", Some("kv://node/1"), (2089, 2090));
    certs.issue("peer-ca", "nameless", None, NOW);
    write(&certs.path("empty.pem"), "nothing of the kind");
    let with = |cert: &str, key: &str| SecurityFiles {
        cert: Some(certs.path(cert)),
        key: Some(certs.path(key)),
        ..certs.of_node(1)
    };
    for (files, says) in [
        (
            with("expired.pem", "expired.key"),
            &["expired.pem", "expired at"][..],
        ),
        (
            with("early.pem", "early.key"),
            &["early.pem", "not valid before"],
        ),
        (
            with("node-1.pem", "node-2.key"),
            &["node-1.pem", "node-2.key", "does not belong"],
        ),
        (
            with("node-2.pem", "node-2.key"),
            &["node-2.pem", "names node 2", "kv://node/1"],
        ),
        (
            with("nameless.pem", "nameless.key"),
            &["names no node", "kv://node/1"],
        ),
        (
            with("empty.pem", "node-1.key"),
            &["empty.pem", "no certificate in PEM"],
        ),
        (
            with("node-1.pem", "node-1.pem"),
            &["node-1.pem", "no private key in PEM"],
        ),
        (with("gone.pem", "node-1.key"), &["gone.pem", "cannot read"]),
    ] {
        let refused = Security::load(&files, NodeId(1), false)
            .unwrap_err()
            .to_string();
        for word in says {
            assert!(refused.contains(word), "{word} is not in: {refused}");
        }
        assert!(
            !refused.contains('\n') && !refused.contains("BEGIN "),
            "{refused}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_secret_that_others_can_read_is_worth_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let certs = Certs::make();
    let key = certs.path("node-1.key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "`kv certs` keeps its keys to itself");
    let load = || {
        Security::load(&certs.of_node(1), NodeId(1), false)
            .unwrap()
            .warnings
    };
    assert_eq!(load(), Vec::<String>::new());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let [warning] = &load()[..] else {
        panic!("one warning")
    };
    assert!(
        warning.contains("node-1.key") && warning.contains("chmod 600"),
        "{warning}"
    );
}
