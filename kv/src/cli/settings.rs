//! The settings of `kv serve`: the one file that an operator writes, `kv.toml`.
//!
//! What is not said has its default; what a flag says counts more than the file. [`Settings`] is what is written,
//! [`Valid`] what has been checked: all of a wrong file is refused before anything starts, with one line that names the
//! place, the value, and what is allowed. Paths in the file are relative to the folder that it lies in.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kv::config::ConfigError;
use kv::coordination::zookeeper::ZooKeeperAddress;
use kv::engine::EngineKind;
use kv::quantity::{Length, Size};
use kv_core::NodeId;
use serde::{Deserialize, Serialize};

mod check;
mod guard;
mod sections;

use super::shape::Shape;
pub(super) use check::Coordination;
pub(super) use sections::LogFormat;
use sections::{
    AuthSection, ClusterSection, CoordinationKind, CoordinationSection, HttpSection, LimitsSection,
    LogSection, NodeSection, StorageSection, TimingSection, TlsSection,
};

/// Everything that can be set, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Who the node is, and where.
    pub(super) node: NodeSection,
    /// What it agrees on with the others.
    pub(super) cluster: ClusterSection,
    /// Which service keeps what the nodes agree on.
    pub(super) coordination: CoordinationSection,
    /// How its data is kept.
    pub(super) storage: StorageSection,
    /// How long things take.
    pub(super) timing: TimingSection,
    /// Certificates and keys.
    pub(super) tls: TlsSection,
    /// Who may come in.
    pub(super) auth: AuthSection,
    /// How much is let in.
    pub(super) limits: LimitsSection,
    /// The HTTP face.
    pub(super) http: HttpSection,
    /// What the node tells about itself.
    pub(super) log: LogSection,
    /// Which file these were read from.
    #[serde(skip)]
    file: Option<PathBuf>,
}

/// Why settings were refused. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings from {file}: {source}")]
    Read {
        file: String,
        source: std::io::Error,
    },
    /// The file is no TOML, or not of this shape.
    #[error("{file}, line {line}: {about}{what}")]
    File {
        file: String,
        line: usize,
        /// The key of that line, if it has one.
        about: String,
        what: String,
    },
    /// A value is beyond its limits, or does not go with another one.
    #[error("{file}{key} is {value}; allowed: {allowed}")]
    Value {
        /// The file, as a prefix, if there is one.
        file: String,
        key: &'static str,
        value: String,
        allowed: String,
    },
    /// The cluster's numbers do not go together.
    #[error("{file}cluster.{source}")]
    Cluster { file: String, source: ConfigError },
    /// The node would be open to others than this machine.
    #[error(
        "{file}{key} is {address}, which more than this machine can reach, and {missing}; or say auth.insecure = true (--insecure)"
    )]
    Open {
        file: String,
        key: &'static str,
        address: String,
        missing: &'static str,
    },
    /// Something must be said.
    #[error("{file}{key} is not set; {what}")]
    Missing {
        file: String,
        key: &'static str,
        what: &'static str,
    },
}

impl Settings {
    /// Reads a file.
    pub(super) fn load(path: &Path) -> Result<Self, SettingsError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            file: file.clone(),
            source,
        })?;
        let mut settings: Self =
            toml::from_str(&text).map_err(|error| refused(&file, &text, &error))?;
        settings.resolve_paths(path.parent().unwrap_or(Path::new("")));
        settings.file = Some(path.to_owned());
        Ok(settings)
    }

    /// The settings as a file that says all of them.
    pub(super) fn to_toml(&self) -> String {
        let text = toml::to_string(self);
        text.unwrap_or_else(|error| format!("# cannot be written as TOML: {error}"))
    }

    /// The paths as they are from here, which is not where the file lies.
    fn resolve_paths(&mut self, folder: &Path) {
        let paths = [
            &mut self.node.data,
            &mut self.coordination.auth_file,
            &mut self.tls.cert,
            &mut self.tls.key,
            &mut self.tls.client_ca,
            &mut self.tls.peer_ca,
            &mut self.auth.client_tokens_file,
            &mut self.auth.peer_token_file,
            &mut self.log.events,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// Where these settings come from, at the beginning of a complaint.
    fn file(&self) -> String {
        let file = self.file.as_ref();
        file.map_or_else(String::new, |file| format!("{}: ", file.display()))
    }
}

/// What the TOML library says, in one line. The line itself is not shown but for its key: it may hold what is secret.
fn refused(file: &str, text: &str, error: &toml::de::Error) -> SettingsError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or("");
    let line = before.matches('\n').count();
    let key = text
        .lines()
        .nth(line)
        .and_then(|line| line.split_once('='))
        .map(|(key, _)| key.trim());
    let what: Vec<&str> = error.message().lines().map(str::trim).collect();
    SettingsError::File {
        file: file.to_owned(),
        line: line + 1,
        about: key.map_or_else(String::new, |key| format!("`{key}`: ")),
        what: what.join("; "),
    }
}

/// What flags say: more than a file does.
#[derive(Clone, Debug)]
pub(super) struct Overrides {
    pub(super) id: Option<NodeId>,
    pub(super) data: Option<PathBuf>,
    pub(super) listen: Option<String>,
    pub(super) advertise: Option<String>,
    pub(super) source: Option<IpAddr>,
    pub(super) events: Option<PathBuf>,
    pub(super) allow_kill: bool,
    pub(super) insecure: bool,
    pub(super) engine: Option<EngineKind>,
    pub(super) cache: Option<Size>,
    pub(super) checkpoint: Option<Size>,
    pub(super) log_retain: Option<Size>,
    pub(super) wal_segment: Option<Size>,
    pub(super) http: Option<String>,
    pub(super) zookeeper: Option<ZooKeeperAddress>,
    pub(super) zookeeper_auth_file: Option<PathBuf>,
    pub(super) session_timeout: Option<Duration>,
    pub(super) shards: Option<u16>,
    pub(super) shape: Shape,
}

impl Overrides {
    /// Puts what was said in the place of what was written.
    pub(super) fn apply(self, settings: &mut Settings) {
        fn put<T>(flag: Option<T>, field: &mut T) {
            if let Some(value) = flag {
                *field = value;
            }
        }
        let (node, storage) = (&mut settings.node, &mut settings.storage);
        put(self.id.map(|id| id.0), &mut node.id);
        put(self.data.map(Some), &mut node.data);
        if self.listen.is_some() && self.advertise.is_none() {
            node.advertise = None; // What the file says belongs to the address in the file.
        }
        put(self.listen, &mut node.listen);
        put(self.advertise.map(Some), &mut node.advertise);
        put(self.source.map(Some), &mut node.source);
        put(self.events.map(Some), &mut settings.log.events);
        node.allow_kill |= self.allow_kill;
        settings.auth.insecure |= self.insecure;
        put(self.engine.map(Into::into), &mut storage.engine);
        put(self.cache, &mut storage.cache);
        put(self.checkpoint, &mut storage.checkpoint);
        put(self.log_retain, &mut storage.log_retain);
        put(self.wal_segment, &mut storage.wal_segment);
        put(self.http.map(Some), &mut settings.http.listen);
        let (cluster, coordination) = (&mut settings.cluster, &mut settings.coordination);
        if let Some(address) = self.zookeeper {
            coordination.kind = CoordinationKind::Zookeeper;
            coordination.servers = Some(address.to_string());
        }
        put(
            self.zookeeper_auth_file.map(Some),
            &mut coordination.auth_file,
        );
        put(
            self.session_timeout.map(Length),
            &mut coordination.session_timeout,
        );
        put(self.shards, &mut cluster.shards);
        put(
            self.shape.replication_factor.map(Some),
            &mut cluster.replication_factor,
        );
        put(self.shape.write_quorum.map(Some), &mut cluster.write_quorum);
        put(self.shape.fencing.map(Into::into), &mut cluster.fencing);
    }
}
