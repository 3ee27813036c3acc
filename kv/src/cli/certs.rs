//! `kv certs`: certificates to try TLS out with: a CA for nodes, a CA for clients, and what they issue.
//!
//! Two CAs, so that no client's certificate is ever taken for that of a node. The keys of the CAs are left beside the rest: good for a test
//! cluster, and nothing to build a company on.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use clap::Args;
use kv::security::node_uri;
use kv_core::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use super::{CliError, Exit, say};

/// Make certificates to try TLS out with: two CAs, nodes, a client.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv certs --out ./certs
  kv certs --out ./certs --node node-1.lan,10.0.0.1 --node node-2.lan --node node-3.lan

Then, in each node's kv.toml:

  [tls]
  cert = \"certs/node-1.pem\"
  key = \"certs/node-1.key\"
  peer_ca = \"certs/peer-ca.pem\"
  client_ca = \"certs/client-ca.pem\"

and to ask it:

  kv get greeting --tls-ca certs/peer-ca.pem --tls-cert certs/client.pem --tls-key certs/client.key")]
pub(super) struct Certs {
    /// The folder for them; it is made if it does not exist. No file in it is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The names and addresses that a node is reached at, for as many nodes as there are to be, numbered from 1. Each is also
    /// reached at localhost.
    #[arg(long = "node", value_name = "HOST,..", default_value = "localhost")]
    nodes: Vec<String>,
    /// How many days they are valid.
    #[arg(long, value_name = "NUMBER", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertsError {
    /// A file is there already.
    #[error("{file} is there already, and nothing is overwritten; choose another folder")]
    Exists { file: String },
    /// A file cannot be written.
    #[error("cannot write {file}: {source}")]
    Write {
        file: String,
        source: std::io::Error,
    },
    /// The name of a node is none.
    #[error("`{host}` is neither a name nor an address of a machine")]
    Host { host: String },
    /// The library refused.
    #[error("cannot make the certificate of {whose}: {source}")]
    Make { whose: String, source: rcgen::Error },
}

/// A file to be written: its name, its content, and whether it is secret.
type File = (String, String, bool);

impl Certs {
    pub(super) fn run(self) -> Result<Exit, CliError> {
        let files = self.files()?;
        std::fs::create_dir_all(&self.out).map_err(|source| CertsError::Write {
            file: self.out.display().to_string(),
            source,
        })?;
        // All or nothing, as far as that goes: a folder that has one of them is not begun on.
        if let Some((name, ..)) = files.iter().find(|(name, ..)| self.out.join(name).exists()) {
            let file = self.out.join(name).display().to_string();
            return Err(CertsError::Exists { file }.into());
        }
        for (name, content, is_secret) in &files {
            write(&self.out.join(name), content, *is_secret)?;
        }
        let names: Vec<&str> = files.iter().map(|(name, ..)| name.as_str()).collect();
        say(&format!(
            "made in {}: {}",
            self.out.display(),
            names.join(" ")
        ));
        Ok(Exit::Done)
    }

    fn files(&self) -> Result<Vec<File>, CertsError> {
        let mut files = Vec::new();
        let peers = self.authority("peer-ca", &mut files)?;
        let clients = self.authority("client-ca", &mut files)?;
        for (number, hosts) in (1..).zip(&self.nodes) {
            let name = format!("node-{number}");
            let mut params = self.params(&name);
            params.subject_alt_names = node_names(NodeId(number), hosts)?;
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            issue(&name, &params, &peers, &mut files)?;
        }
        let mut params = self.params("client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        issue("client", &params, &clients, &mut files)?;
        Ok(files)
    }

    fn params(&self, name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::HOUR; // Clocks differ a little.
        params.not_after = now + Duration::days(i64::from(self.days));
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn authority(
        &self,
        name: &str,
        files: &mut Vec<File>,
    ) -> Result<Issuer<'static, KeyPair>, CertsError> {
        let failed = failed(name);
        let mut params = self.params(&format!("kv {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(&failed)?;
        let certificate = params.self_signed(&key).map_err(&failed)?;
        files.push((format!("{name}.pem"), certificate.pem(), false));
        files.push((format!("{name}.key"), key.serialize_pem(), true));
        Ok(Issuer::new(params, key))
    }
}

fn failed(whose: &str) -> impl Fn(rcgen::Error) -> CertsError {
    move |source| CertsError::Make {
        whose: whose.to_owned(),
        source,
    }
}

fn issue(
    name: &str,
    params: &CertificateParams,
    issuer: &Issuer<'static, KeyPair>,
    files: &mut Vec<File>,
) -> Result<(), CertsError> {
    let failed = failed(name);
    let key = KeyPair::generate().map_err(&failed)?;
    let certificate = params.signed_by(&key, issuer).map_err(&failed)?;
    files.push((format!("{name}.pem"), certificate.pem(), false));
    files.push((format!("{name}.key"), key.serialize_pem(), true));
    Ok(())
}

/// What a node is called: its number, and where it is reached.
fn node_names(node: NodeId, hosts: &str) -> Result<Vec<SanType>, CertsError> {
    let wrong = |host: &str| CertsError::Host {
        host: host.to_owned(),
    };
    let uri = node_uri(node);
    let mut names = vec![SanType::URI(
        uri.as_str().try_into().map_err(|_| wrong(&uri))?,
    )];
    let local = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ];
    names.extend(local.map(SanType::IpAddress));
    for host in hosts.split(',').chain(["localhost"]) {
        let is_name = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        let name = match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if is_name => SanType::DnsName(host.try_into().map_err(|_| wrong(host))?),
            Err(_) => return Err(wrong(host)),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn write(path: &Path, content: &str, is_secret: bool) -> Result<(), CertsError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if is_secret { 0o600 } else { 0o644 });
    }
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|source| CertsError::Write {
        file: path.display().to_string(),
        source,
    })
}
