//! Nodes behind doors, in this process, and certificates for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv::access::Access;
use kv::client::{Client, ClientOptions};
use kv::config::{ClusterConfig, Timing};
use kv::coordination::embedded::Embedded;
use kv::door::{Door, Limits};
use kv::fs::memory::MemoryFileSystem;
use kv::node::Node;
use kv::security::{ClientFiles, Security, SecurityFiles, client_access};
use kv::transport::GrpcTransport;
use kv_core::{Fencing, Level, NodeId};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};

#[allow(dead_code, reason = "nodes behind doors are started in another way")]
#[path = "../cluster/nodes.rs"]
mod open;

pub(crate) use open::free_addresses;

fn timing() -> Timing {
    Timing {
        session_timeout: Duration::from_millis(1500),
        heartbeat: Duration::from_millis(50),
        ..Timing::default()
    }
}

/// A folder of certificates, as `kv certs` makes them for three nodes.
pub(crate) struct Certs {
    pub(crate) folder: tempfile::TempDir,
}

impl Certs {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = Self { folder };
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args([
            "certs", "--node", "a.test", "--node", "b.test", "--node", "c.test",
        ]);
        let made = command.arg("--out").arg(certs.folder.path()).output();
        assert!(made.unwrap().status.success());
        certs
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files of a node that asks everybody for a certificate.
    pub(crate) fn of_node(&self, number: u64) -> SecurityFiles {
        SecurityFiles {
            cert: Some(self.path(&format!("node-{number}.pem"))),
            key: Some(self.path(&format!("node-{number}.key"))),
            client_ca: Some(self.path("client-ca.pem")),
            peer_ca: Some(self.path("peer-ca.pem")),
            client_tokens: None,
            peer_token: None,
        }
    }

    /// What somebody shows who has this certificate.
    pub(crate) fn access(&self, name: &str) -> Access {
        let files = ClientFiles {
            ca: Some(self.path("peer-ca.pem")),
            identity: Some((
                self.path(&format!("{name}.pem")),
                self.path(&format!("{name}.key")),
            )),
            token: None,
        };
        client_access(&files).unwrap().0
    }

    #[allow(dead_code, reason = "not every test needs it")]
    /// Lets a CA issue another certificate, valid through these years.
    pub(crate) fn issue(&self, ca: &str, name: &str, uri: Option<&str>, years: (i32, i32)) {
        let pem = |end: &str| std::fs::read_to_string(self.path(&format!("{ca}.{end}"))).unwrap();
        let ca_key = KeyPair::from_pem(&pem("key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&pem("pem"), ca_key).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let loopback = std::net::Ipv4Addr::LOCALHOST.into();
        params.subject_alt_names.push(SanType::IpAddress(loopback));
        let uri = uri.map(|uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names.extend(uri);
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        write(&self.path(&format!("{name}.pem")), &certificate.pem());
        write(&self.path(&format!("{name}.key")), &key.serialize_pem());
    }
}

#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
}

/// A node that runs.
pub(crate) struct Guarded {
    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) node: Node,
    pub(crate) address: String,
    pub(crate) door: Door,
}

/// Starts the nodes of one shard, each with its own files.
pub(crate) async fn start(files: &[SecurityFiles], limits: &Limits) -> Vec<Guarded> {
    let service = Embedded::in_memory(timing().session_timeout);
    let count = files.len();
    let cluster = ClusterConfig::new(
        1,
        count,
        ClusterConfig::majority(count),
        None,
        Fencing::Epoch,
    )
    .unwrap();
    let mut nodes = Vec::new();
    for ((number, files), address) in (1..).zip(files).zip(free_addresses(count as u64)) {
        let id = NodeId(number);
        let loaded = Security::load(files, id, count == 1).unwrap();
        let door = Door::secured(limits.clone(), loaded.security);
        let config = open::config(number, &address, &cluster, timing());
        let transport = GrpcTransport::with_access(id, number, loaded.access);
        let disk = Arc::new(MemoryFileSystem::default());
        let environment = open::environment(disk, number, &service, transport);
        let node = Node::start_behind(config, environment, door.clone());
        nodes.push(Guarded {
            node: node.await.unwrap(),
            address,
            door,
        });
    }
    nodes
}

/// A client of these nodes that shows this.
pub(crate) fn client(nodes: &[Guarded], access: Access, timeout: Duration) -> Client {
    let addresses = nodes.iter().map(|node| node.address.clone()).collect();
    let options = ClientOptions {
        timeout,
        access,
        ..ClientOptions::default()
    };
    Client::new(addresses, options)
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Writes something and reads it again: the nodes serve.
pub(crate) async fn serves(client: &mut Client, key: &str) {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from_static(b"precious"));
    client.set(key, value).await.ok().unwrap();
}

/// What was acknowledged is there.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) async fn holds(client: &mut Client, key: &str) {
    let key = Bytes::from(key.to_owned());
    let read = client.get(key, Level::Lease).await.ok().unwrap();
    assert_eq!(read.value, Some(Bytes::from_static(b"precious")));
}
