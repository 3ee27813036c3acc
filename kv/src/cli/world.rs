//! What real nodes run in: the operating system's files, sockets and clock, and the embedded coordination service.

use std::path::Path;
use std::sync::Arc;

use kv::config::{NodeConfig, Timing};
use kv::coordination::Coordination;
use kv::environment::Environment;

use super::CliError;

/// Opens the coordination service that lives in this process and keeps its data in `folder`.
///
/// TO BE COMPLETED AT THE MERGE with `Embedded::open(timing.session_timeout, Arc::new(OsFileSystem::open(folder)?))`.
pub(super) fn open_coordination(
    folder: &Path,
    timing: &Timing,
) -> Result<Arc<dyn Coordination>, CliError> {
    let _ = (folder, timing);
    Err(CliError::NotBuilt)
}

/// Builds what one node runs in; its own data is in `folder`.
///
/// TO BE COMPLETED AT THE MERGE with `OsFileSystem::open(folder)`, `GrpcTransport::new(config.id, seed)`, a clock over
/// `std::time::Instant`, and where events go.
pub(super) fn environment_for_serve(
    folder: &Path,
    config: &NodeConfig,
    coordination: Arc<dyn Coordination>,
    seed: u64,
) -> Result<Environment, CliError> {
    let _ = (folder, config, coordination, seed);
    Err(CliError::NotBuilt)
}
