//! A stop in good order: the writer's role goes to another member first, then the clients learn where, and then the session ends.
//!
//! No request is refused for good on the way: what the writer has accepted it acknowledges, what comes later may be asked again, and is
//! answered by the new writer. Members that only follow have nothing to hand over.

use std::time::Duration;

use kv_core::{Epoch, NodeId, Offset};
use tokio::time::Instant;

use super::Node;
use crate::handle::{Ask, NodeHandle, Status};

/// How often the writer is asked to go: where a rollback makes it a writer anew, once is not enough.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often it is looked whether another one writes.
const LOOK: Duration = Duration::from_millis(10);
/// How long clients are told where the writer is, once it is elsewhere.
const DRAIN: Duration = Duration::from_millis(500);

/// What a stop did with the writer's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The node did not have it.
    NotWriter,
    /// There is nobody else in the shard.
    Alone,
    /// That node has it, and what it commits has reached this one.
    HandedOver(NodeId),
    /// Nobody took it in time. The others elect once they see that the session has ended, which is at once.
    NobodyTookOver,
}

impl Node {
    /// Stops in good order, with so much patience for the others to take over.
    pub async fn stop(self, patience: Duration) -> Departure {
        self.handle.begin_to_leave();
        let departure = hand_over(&self.handle, patience).await;
        if let Departure::HandedOver(_) = departure {
            tokio::time::sleep(DRAIN).await;
        }
        self.handle.leave().await;
        departure
    }
}

/// Asks the writer on this node to go until another one is established.
async fn hand_over(node: &NodeHandle, patience: Duration) -> Departure {
    let started = Instant::now();
    let mut asked: Option<Instant> = None;
    while started.elapsed() < patience {
        let Some(status) = node.status(false).await else {
            return Departure::NotWriter; // It has stopped by itself.
        };
        let map = node.cluster();
        let view = status.shard.and_then(|shard| map.shards.get(&shard));
        let Some(view) = view.filter(|view| view.voters.contains(&node.node)) else {
            return Departure::NotWriter;
        };
        match view.writer {
            Some(writer) if writer == node.node => {
                if view.voters.len() == 1 {
                    return Departure::Alone;
                }
                if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                    asked = Some(Instant::now());
                    node.ask(Ask::HandOver).await;
                }
            }
            _ if asked.is_none() => return Departure::NotWriter,
            // A quorum may need this node until then.
            Some(writer) if epoch_of(&status, status.committed) >= Some(view.epoch) => {
                return Departure::HandedOver(writer);
            }
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
    }
    Departure::NobodyTookOver
}

/// The epoch of an entry of a node's log.
fn epoch_of(status: &Status, offset: Offset) -> Option<Epoch> {
    let mut runs = status.runs.iter();
    let run = runs.find(|(_, first, last)| (*first..=*last).contains(&offset));
    run.map(|(epoch, _, _)| *epoch)
}
