//! What a node tells about itself while it runs, on stderr: what happened inside, and how it stands with the coordination service.
//!
//! Every line is an event with fields, for people or as JSON. Keys, values and secrets are in none of them.

use std::io::IsTerminal as _;
use std::sync::Arc;

use kv::agent::AgentState;
use kv::config::ClusterConfig;
use kv::events::{Event, Events};
use kv::handle::ClusterMap;
use kv_core::{Fencing, NodeId};
use tokio::sync::watch;
use tracing::{debug, error, info, trace, warn};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::settings::LogFormat;

/// What is told, as it is written in the settings: a level, or levels by module.
///
/// # Errors
/// When it is neither.
pub(super) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

/// Begins to tell, until the guard is dropped. `RUST_LOG` counts more than the settings.
///
/// A node does not wait for whoever reads its lines: what does not fit into a queue of them is dropped.
pub(super) fn start(filter: EnvFilter, format: LogFormat) -> WorkerGuard {
    let filter = EnvFilter::try_from_default_env().unwrap_or(filter);
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer);
    // Only one subscriber can be the program's; a second start, in a test, keeps the first.
    let _ = match format {
        LogFormat::Human => lines.with_target(false).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    guard
}

/// Tells of what happens inside a node, and hands it on.
pub(super) struct Told {
    pub(super) node: NodeId,
    pub(super) events: Arc<dyn Events>,
}

impl Events for Told {
    fn record(&self, event: Event) {
        tell(self.node.0, &event);
        self.events.record(event);
    }
}

fn tell(node: u64, event: &Event) {
    let kind = event.name();
    match event {
        Event::Started { end, cut, suspect } => {
            info!(node, event = kind, %end, "the log was read");
            if let Some((file, byte)) = cut {
                warn!(
                    node,
                    file, byte, "a torn tail that was never synced was cut off"
                );
            }
            if let Some((file, byte)) = suspect {
                warn!(
                    node,
                    file,
                    byte,
                    "the tail is damaged and may have been synced: no elections until a writer has repaired it"
                );
            }
        }
        Event::Shard(record) => {
            let (shard, epoch) = (record.shard.0, record.epoch.0);
            let writer = record.writer.map(|writer| writer.node.0);
            let voters: Vec<u64> = record.voters.iter().map(|voter| voter.0).collect();
            info!(
                node,
                event = kind,
                shard,
                epoch,
                writer,
                ?voters,
                "the shard's record"
            );
        }
        Event::Promoted { shard, epoch, .. } => {
            info!(
                node,
                event = kind,
                shard = shard.0,
                epoch = epoch.0,
                "this node is the writer"
            );
        }
        Event::Demoted(shard, epoch) => {
            info!(
                node,
                event = kind,
                shard = shard.0,
                epoch = epoch.0,
                "this node is the writer no longer"
            );
        }
        Event::Elected {
            shard,
            epoch,
            writer,
        } => info!(
            node,
            event = kind,
            shard = shard.0,
            epoch = epoch.0,
            writer = writer.0,
            "this node has elected a writer"
        ),
        Event::RolledBack {
            shard,
            epoch,
            after,
            ..
        } => warn!(
            node,
            event = kind,
            shard = shard.0,
            epoch = epoch.0,
            after = after.0,
            "writes were given up for want of a quorum"
        ),
        Event::Released(shard, epoch) => {
            info!(
                node,
                event = kind,
                shard = shard.0,
                epoch = epoch.0,
                "the writer's role was given back"
            );
        }
        Event::Promised(shard, epoch) => {
            debug!(
                node,
                event = kind,
                shard = shard.0,
                epoch = epoch.0,
                "promised an epoch"
            );
        }
        Event::Truncated { shard, after } => {
            debug!(
                node,
                event = kind,
                shard = shard.0,
                after = after.0,
                "entries that were not committed were removed"
            );
        }
        Event::RefusedStale { shard, epoch, from } => debug!(
            node,
            event = kind,
            shard = shard.0,
            epoch = epoch.0,
            from = from.0,
            "refused a message of an older epoch"
        ),
        Event::Contradicted {
            shard,
            offset,
            from,
        } => error!(
            node,
            event = kind,
            shard = shard.0,
            offset = offset.0,
            from = from.0,
            "a message contradicts what is committed: a bug, or forged"
        ),
        Event::Forgot { shard, after } => {
            warn!(
                node,
                event = kind,
                shard = shard.0,
                after = after.0,
                "committed entries were removed"
            );
        }
        Event::Lost { shard, after } => {
            warn!(
                node,
                event = kind,
                shard = shard.0,
                after = after.0,
                "the disk may have lost what it had synced"
            );
        }
        Event::Whole(shard) => {
            info!(
                node,
                event = kind,
                shard = shard.0,
                "the node has again what its disk may have lost"
            );
        }
        Event::Installed { shard, version, .. } => {
            info!(node, event = kind, shard = shard.0, %version, "a snapshot was taken over");
        }
        Event::SnapshotRefused(why) => warn!(node, event = kind, why, "a snapshot was refused"),
        Event::Checkpoint(version) => {
            debug!(node, event = kind, %version, "a checkpoint is durable")
        }
        Event::Stopped(why) => debug!(node, event = kind, why, "the node stops"),
        Event::Synced(..) | Event::Committed { .. } | Event::Acknowledged { .. } => {
            trace!(node, event = kind);
        }
    }
}

/// Tells how a node stands with the coordination service, for as long as it runs.
pub(super) async fn follow_agent(node: NodeId, mut state: watch::Receiver<AgentState>) {
    let node = node.0;
    loop {
        match *state.borrow_and_update() {
            AgentState::Connecting => info!(node, "connecting to the coordination service"),
            AgentState::Registering => {
                info!(
                    node,
                    "registering, once an earlier session of this node has ended"
                );
            }
            AgentState::Registered(session) => {
                info!(
                    node,
                    session = session.0,
                    "registered with the coordination service"
                );
            }
            AgentState::Disconnected(_) => {
                warn!(node, "nothing is heard from the coordination service");
            }
            // These end the node, which says why.
            AgentState::OtherCluster { .. }
            | AgentState::NoFolder
            | AgentState::Refused(_)
            | AgentState::IdTaken(_) => {}
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Warns where the shard of a node is of another shape than the node was told: a shard keeps the one that it was placed with.
pub(super) async fn follow_shape(
    node: NodeId,
    mut map: watch::Receiver<ClusterMap>,
    told: ClusterConfig,
) {
    let of_node = |map: &ClusterMap| {
        let mut shards = map.shards.iter();
        let (shard, view) = shards.find(|(_, view)| view.voters.contains(&node))?;
        Some((*shard, view.clone()))
    };
    let Ok(placed) = map.wait_for(|map| of_node(map).is_some()).await else {
        return;
    };
    let Some((shard, view)) = of_node(&placed) else {
        return;
    };
    let has = (view.voters.len(), view.write_quorum, view.fencing);
    let wanted = (told.replication_factor, told.write_quorum, told.fencing);
    if has != wanted {
        let text = |(n, q, fencing): (usize, usize, Fencing)| {
            format!("N = {n}, Q = {q}, fencing = {}", fencing.name())
        };
        warn!(
            node = node.0,
            shard = shard.0,
            "the shard keeps what it was set up with, {}; that this node was started with {} has no effect",
            text(has),
            text(wanted)
        );
    }
}
