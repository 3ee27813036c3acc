//! From what is written to what is valid: ranges, addresses, and what must go together.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use kv::config::{ClusterConfig, NodeConfig, REPLICATION_FACTOR, Timing};
use kv::coordination::zookeeper::ZooKeeperAddress;
use kv::door::Limits;
use kv::quantity::{Length, Size};
use kv::security::SecurityFiles;
use kv::{engine, store, wal};
use kv_core::{Fencing, NodeId};

use tracing_subscriber::EnvFilter;

use super::sections::{CoordinationKind, FencingName, LogFormat, StorageSection};
use super::{Settings, SettingsError};
use crate::cli::{arguments, log};

/// Settings that have been checked.
#[derive(Debug)]
pub(in crate::cli) struct Valid {
    /// The folder that keeps everything.
    pub(in crate::cli) data: PathBuf,
    /// The node.
    pub(in crate::cli) node: NodeConfig,
    /// The files that say who may come in.
    pub(in crate::cli) security: SecurityFiles,
    /// Whether no other node is to be expected.
    pub(in crate::cli) is_alone: bool,
    /// How much is let in.
    pub(in crate::cli) limits: Limits,
    /// The service that it coordinates with.
    pub(in crate::cli) coordination: Coordination,
    /// Where it serves HTTP, if it does.
    pub(in crate::cli) http: Option<String>,
    /// What it tells about itself.
    pub(in crate::cli) log: EnvFilter,
    /// In which form.
    pub(in crate::cli) log_format: LogFormat,
    /// The file that gets its events, if there is one.
    pub(in crate::cli) events: Option<PathBuf>,
    /// Where its calls come from, if the system does not choose.
    pub(in crate::cli) source: Option<IpAddr>,
}

/// Which coordination service.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Coordination {
    /// Within this process.
    Embedded,
    /// One that all nodes of the cluster reach.
    Zookeeper {
        /// Its servers, and where in them the cluster lives.
        servers: ZooKeeperAddress,
        /// The file with the name and the password.
        auth_file: Option<PathBuf>,
    },
}

const TIME_MIN: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(3600);
const DRIFT_PPM_MAX: u32 = 500_000;
const MIB: u64 = 1024 * 1024;

impl Settings {
    /// Checks everything, and fills in what follows from the rest.
    pub(in crate::cli) fn check(mut self) -> Result<(Self, Valid), SettingsError> {
        let cluster = self.checked_cluster()?;
        self.cluster.replication_factor = Some(cluster.replication_factor);
        self.cluster.write_quorum = Some(cluster.write_quorum);
        self.cluster.election_quorum = Some(cluster.election_quorum);
        let coordination = self.checked_coordination()?;
        let (listen, advertise) = self.checked_addresses()?;
        self.node.advertise = Some(advertise.clone());
        if self.node.id == 0 {
            return Err(self.wrong("node.id", 0, "a number from 1"));
        }
        let data = self
            .node
            .data
            .clone()
            .ok_or_else(|| SettingsError::Missing {
                file: self.file(),
                key: "node.data",
                what: "name the folder that keeps everything, there or with --data DIR",
            })?;
        self.check_storage()?;
        let security = self.checked_security()?;
        let limits = self.checked_limits()?;
        let StorageSection {
            engine,
            cache,
            checkpoint,
            log_retain,
            wal_segment,
            wal_preallocate,
        } = self.storage.clone();
        let node = NodeConfig {
            id: NodeId(self.node.id),
            listen,
            advertise,
            cluster,
            timing: self.checked_timing()?,
            wal: wal::Options {
                segment_bytes: wal_segment.0,
                preallocate_bytes: wal_preallocate.0,
            },
            log_retain_bytes: log_retain.0,
            engine: engine.0,
            store: store::Options {
                checkpoint_bytes: checkpoint.0,
                engine: engine::Options {
                    cache_bytes: cache.0,
                },
                ..store::Options::default()
            },
            allow_kill: self.node.allow_kill,
        };
        let valid = Valid {
            data,
            node,
            security,
            is_alone: self.is_alone(),
            limits,
            coordination,
            http: self.checked_http()?,
            log: self.checked_log()?,
            log_format: self.log.format,
            events: self.log.events.clone(),
            source: self.node.source,
        };
        Ok((self, valid))
    }

    pub(super) fn wrong(
        &self,
        key: &'static str,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> SettingsError {
        SettingsError::Value {
            file: self.file(),
            key,
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }

    fn checked_http(&self) -> Result<Option<String>, SettingsError> {
        let Some(listen) = &self.http.listen else {
            return Ok(None);
        };
        let wrong = |what| self.wrong("http.listen", listen, what);
        arguments::address(listen).map_err(|_| wrong("HOST:PORT, such as 127.0.0.1:8001"))?;
        match *listen == self.node.listen {
            true => Err(wrong("another port than that of node.listen")),
            false => Ok(Some(listen.clone())),
        }
    }

    fn checked_log(&self) -> Result<EnvFilter, SettingsError> {
        let allowed =
            "error, warn, info, debug or trace, or such by module as `info,kv::agent=debug`";
        log::filter(&self.log.level).map_err(|_| self.wrong("log.level", &self.log.level, allowed))
    }

    fn replication_factor(&self) -> usize {
        let alone = self.coordination.kind == CoordinationKind::Embedded;
        let default = if alone { 1 } else { REPLICATION_FACTOR };
        self.cluster.replication_factor.unwrap_or(default)
    }

    fn checked_cluster(&self) -> Result<ClusterConfig, SettingsError> {
        let written = &self.cluster;
        let n = self.replication_factor();
        let fencing = match written.fencing {
            FencingName::Epoch => Fencing::Epoch,
            FencingName::None => Fencing::None,
        };
        let quorum = written.write_quorum.unwrap_or(ClusterConfig::majority(n));
        ClusterConfig::new(written.shards, n, quorum, written.election_quorum, fencing).map_err(
            |source| SettingsError::Cluster {
                file: self.file(),
                source,
            },
        )
    }

    fn checked_coordination(&self) -> Result<Coordination, SettingsError> {
        let written = &self.coordination;
        match (written.kind, written.servers.clone()) {
            (CoordinationKind::Zookeeper, Some(servers)) => match servers.parse() {
                Ok(servers) => Ok(Coordination::Zookeeper {
                    servers,
                    auth_file: written.auth_file.clone(),
                }),
                Err(_) => Err(self.wrong(
                    "coordination.servers",
                    format!("\"{servers}\""),
                    "HOST:PORT[,HOST:PORT...][/CHROOT], such as \"zk1:2181,zk2:2181,zk3:2181/splitbrain\"",
                )),
            },
            (CoordinationKind::Zookeeper, None) => Err(SettingsError::Missing {
                file: self.file(),
                key: "coordination.servers",
                what: "name ZooKeeper's servers, such as \"zk1:2181,zk2:2181,zk3:2181/splitbrain\"",
            }),
            (CoordinationKind::Embedded, Some(servers)) => Err(self.wrong(
                "coordination.servers",
                format!("\"{servers}\" with coordination.kind \"embedded\""),
                "only with coordination.kind = \"zookeeper\"",
            )),
            (CoordinationKind::Embedded, None) if written.auth_file.is_some() => Err(self.wrong(
                "coordination.auth_file",
                "set with coordination.kind \"embedded\"",
                "only with coordination.kind = \"zookeeper\"",
            )),
            // It reaches nobody outside of this process: a second node would never come.
            (CoordinationKind::Embedded, None) => {
                let alone = "1, since coordination.kind is \"embedded\"; nodes of several processes need \"zookeeper\"";
                let (n, shards) = (self.replication_factor(), self.cluster.shards);
                match (n, shards) {
                    (1, 1) => Ok(Coordination::Embedded),
                    (1, _) => Err(self.wrong("cluster.shards", shards, alone)),
                    _ => Err(self.wrong("cluster.replication_factor", n, alone)),
                }
            }
        }
    }

    fn checked_addresses(&self) -> Result<(String, String), SettingsError> {
        let host_and_port = "HOST:PORT, such as \"127.0.0.1:7001\"";
        let check = |key, address: &str| match arguments::address(address) {
            Ok(address) => Ok(address),
            Err(_) => Err(self.wrong(key, format!("\"{address}\""), host_and_port)),
        };
        let listen = check("node.listen", &self.node.listen)?;
        if let Some(http) = &self.http.listen {
            check("http.listen", http)?;
        }
        let advertise = match &self.node.advertise {
            Some(advertise) => check("node.advertise", advertise)?,
            None => listen.clone(),
        };
        if ["0.0.0.0:", "[::]:"]
            .iter()
            .any(|any| advertise.starts_with(any))
        {
            return Err(self.wrong(
                "node.advertise",
                format!("{advertise}, which stands for every address of this machine"),
                "an address that others can go to; name one there or with --advertise HOST:PORT",
            ));
        }
        Ok((listen, advertise))
    }

    fn check_storage(&self) -> Result<(), SettingsError> {
        let written = &self.storage;
        let sizes = [
            ("storage.cache", written.cache, 1, 1024 * 1024),
            ("storage.checkpoint", written.checkpoint, 1, 64 * 1024),
            ("storage.log_retain", written.log_retain, 0, 1024 * 1024),
            ("storage.wal_segment", written.wal_segment, 1, 1024),
        ];
        for (key, size, min_mib, max_mib) in sizes {
            let (min, max) = (Size(min_mib * MIB), Size(max_mib * MIB));
            if !(min..=max).contains(&size) {
                return Err(self.wrong(key, size, format!("{min} to {max}")));
            }
        }
        if written.wal_preallocate > written.wal_segment {
            let allowed = format!("0 to storage.wal_segment, which is {}", written.wal_segment);
            return Err(self.wrong("storage.wal_preallocate", written.wal_preallocate, allowed));
        }
        Ok(())
    }

    fn checked_timing(&self) -> Result<Timing, SettingsError> {
        let written = &self.timing;
        let session = (
            "coordination.session_timeout",
            self.coordination.session_timeout.0,
        );
        for (key, length) in written.lengths().into_iter().chain([session]) {
            if !(TIME_MIN..=TIME_MAX).contains(&length) {
                let (min, max) = (Length(TIME_MIN), Length(TIME_MAX));
                return Err(self.wrong(key, Length(length), format!("{min} to {max}")));
            }
        }
        if written.release <= written.heartbeat {
            let allowed = format!("more than timing.heartbeat, which is {}", written.heartbeat);
            return Err(self.wrong("timing.release", written.release, allowed));
        }
        if written.clock_drift_ppm > DRIFT_PPM_MAX {
            let allowed = format!("0 to {DRIFT_PPM_MAX} millionths");
            return Err(self.wrong("timing.clock_drift_ppm", written.clock_drift_ppm, allowed));
        }
        Ok(Timing {
            session_timeout: self.coordination.session_timeout.0,
            clock_drift_ppm_max: written.clock_drift_ppm,
            heartbeat: written.heartbeat.0,
            rollback: written.rollback.0,
            release: written.release.0,
            election: written.election.0,
            seal: written.seal.0,
            backoff: written.backoff.0,
        })
    }
}
