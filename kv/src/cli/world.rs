//! What real nodes run in: the operating system's files, sockets and clock, and a coordination service.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::access::Access;
use kv::config::{NodeConfig, Timing};
use kv::coordination::Coordination;
use kv::coordination::embedded::{Broken, Embedded};
use kv::coordination::zookeeper::{Identity, ZooKeeper};
use kv::environment::{Clock, Environment};
use kv::events::Events;
use kv::fs::os::OsFileSystem;
use kv::transport::GrpcTransport;

use super::log::Told;
use super::{CliError, settings};

/// The coordination service of real nodes.
pub(super) enum Service {
    /// In this process, which must stop when its disk fails.
    Embedded(Embedded),
    /// Servers of its own.
    ZooKeeper(ZooKeeper),
}

impl Service {
    /// The service that lives in this process and keeps its data in `folder`.
    pub(super) fn embedded(folder: &Path, timing: &Timing) -> Result<Self, CliError> {
        let files = Arc::new(open(folder)?);
        let service = Embedded::open(timing.session_timeout, files)?;
        Ok(Self::Embedded(service))
    }

    /// The service that the settings of a node name; `data` is the node's folder.
    pub(super) fn open(
        settings: &settings::Coordination,
        data: &Path,
        timing: &Timing,
    ) -> Result<Self, CliError> {
        let settings::Coordination::Zookeeper { servers, auth_file } = settings else {
            return Self::embedded(&data.join("coordination"), timing);
        };
        let identity = auth_file.as_deref().map(Identity::from_file).transpose()?;
        let zookeeper = ZooKeeper::new(servers.clone(), identity, timing.session_timeout);
        Ok(Self::ZooKeeper(zookeeper))
    }

    fn coordination(&self) -> Arc<dyn Coordination> {
        match self {
            Self::Embedded(service) => Arc::new(service.clone()),
            Self::ZooKeeper(service) => Arc::new(service.clone()),
        }
    }

    /// Waits until the service can never answer again.
    pub(super) async fn broken(&self) -> Broken {
        match self {
            Self::Embedded(service) => service.broken().await,
            Self::ZooKeeper(_) => std::future::pending().await,
        }
    }
}

/// Builds what one node runs in; its own data is in `folder`.
pub(super) fn environment_for_serve(
    folder: &Path,
    config: &NodeConfig,
    service: &Service,
    access: Access,
    events: Arc<dyn Events>,
    seed: u64,
) -> Result<Environment, CliError> {
    Ok(Environment {
        file_system: Arc::new(open(folder)?),
        coordination: service.coordination(),
        transport: GrpcTransport::with_access(config.id, seed, access),
        clock: Arc::new(MonotonicClock {
            start: Instant::now(),
        }),
        events: Arc::new(Told {
            node: config.id,
            events,
        }),
        seed,
    })
}

fn open(folder: &Path) -> Result<OsFileSystem, CliError> {
    OsFileSystem::open(folder).map_err(CliError::Data)
}

/// The operating system's monotonic clock, from the start of the node.
struct MonotonicClock {
    start: Instant,
}

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}
