//! What real nodes run in: the operating system's files, sockets and clock, and the embedded coordination service.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::access::Access;
use kv::config::{NodeConfig, Timing};
use kv::coordination::embedded::Embedded;
use kv::environment::{Clock, Environment};
use kv::events::NoEvents;
use kv::fs::os::OsFileSystem;
use kv::transport::GrpcTransport;

use super::CliError;

/// Opens the coordination service that lives in this process and keeps its data in `folder`.
pub(super) fn open_coordination(folder: &Path, timing: &Timing) -> Result<Embedded, CliError> {
    let files = Arc::new(open(folder)?);
    Ok(Embedded::open(timing.session_timeout, files)?)
}

/// Builds what one node runs in; its own data is in `folder`.
pub(super) fn environment_for_serve(
    folder: &Path,
    config: &NodeConfig,
    coordination: &Embedded,
    access: Access,
    seed: u64,
) -> Result<Environment, CliError> {
    Ok(Environment {
        file_system: Arc::new(open(folder)?),
        coordination: Arc::new(coordination.clone()),
        transport: GrpcTransport::with_access(config.id, seed, access),
        clock: Arc::new(MonotonicClock {
            start: Instant::now(),
        }),
        events: Arc::new(NoEvents),
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
