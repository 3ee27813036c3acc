//! Disks that fail: the one kind of fault that has to wait until the node uses what is broken.
//!
//! ```text
//!   start        the disk is set up          it fails          the fault's time passes         end
//! ────┼──────────────────┼──────────────────────┼─────────────────────────────────────────────┼──
//!                        "begin"                "hit", at each node; the node is down          healed
//! ```
//!
//! A fault that never hits has never fired. After a failed sync, or a write for which there was no space, nobody but the
//! node itself may stop it: that it does is part of what is tested. Until the end of the fault nobody starts it again.

use std::collections::BTreeSet;
use std::time::Duration;

use checker::NodeEventKind;
use futures::future::join_all;
use kv_core::{Fencing, NodeId};
use rand::Rng as _;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::cast::Cast;
use super::{Came, LOOK_EVERY, Nemesis, lower, raise};
use crate::scenario::{DiskFault, End, Fault, Group, Spot};
use crate::seed::stream;
use crate::world::{Act, Trap};

/// How long a node may go on after its disk has failed.
const STOPS_WITHIN: Duration = Duration::from_secs(2);
/// The power goes with one of so many operations of checkpoints: one has about eighteen, and some belong to the next.
const CHECKPOINT_OPERATIONS_MAX: u64 = 24;
/// The power goes with one of so many operations on the file of a snapshot: no more than the smallest one needs.
const SNAPSHOT_OPERATIONS_MAX: u64 = 3;

/// What one fault does to the disk of one node.
#[derive(Clone, Copy, Debug)]
struct Broken {
    index: usize,
    node: NodeId,
    fault: DiskFault,
    trap: Trap,
}

impl Nemesis {
    /// Sets the disks of a fault up to fail, waits until all have, and makes them good again.
    pub(super) async fn break_disks(
        &self,
        index: usize,
        fault: &Fault,
        cast: &Cast,
        (nodes, disk_fault): (&Group, DiskFault),
    ) -> Came {
        let broken: Vec<Broken> = cast
            .nodes(nodes)
            .into_iter()
            .map(|node| Broken {
                index,
                node,
                fault: disk_fault,
                trap: self.trap(index, node, disk_fault),
            })
            .collect();
        self.note("begin", index, fault, cast);
        let patience = match fault.end {
            End::Until(_) => self.patience(fault).min(self.lasting(fault.end)),
            End::For(_) | End::WithTheWorkload => self.patience(fault),
        };
        let hits = join_all(broken.iter().map(|broken| self.hit(broken, patience))).await;
        let mut came = hits.into_iter().find(|came| *came != Came::Fired);
        if came == Some(Came::Never) && self.may_miss(fault, disk_fault) {
            came = None;
        }
        let (hit, missed): (Vec<_>, Vec<_>) = {
            let harmed = self.harmed.lock().await;
            let is_hit = |broken: &Broken| harmed.hit.contains(&(index, broken.node));
            broken.into_iter().partition(is_hit)
        };
        for broken in &missed {
            self.disarm(broken).await;
        }
        if !hit.is_empty() {
            sleep(self.lasting(fault.end)).await;
        }
        for broken in &hit {
            came = came.or(self.make_good(broken).await);
        }
        self.note_links().await;
        self.note("end", index, fault, cast);
        came.unwrap_or(Came::Fired)
    }

    /// Whether nothing need come of a fault. Under the plain protocol there are no checkpoints and no snapshots, as nothing is
    /// certain enough for them.
    fn may_miss(&self, fault: &Fault, disk_fault: DiskFault) -> bool {
        let is_of_checkpoints = matches!(
            disk_fault,
            DiskFault::PowerLossInCheckpoint
                | DiskFault::PowerLossInSnapshot
                | DiskFault::BitFlip(Spot::Engine)
        );
        fault.latest.is_some() || is_of_checkpoints && self.scenario.fencing() == Fencing::None
    }

    fn trap(&self, index: usize, node: NodeId, fault: DiskFault) -> Trap {
        let mut rng = stream(self.seed, "disk", index as u64 * 1000 + node.0);
        match fault {
            DiskFault::FailedFsync => Trap::FailSync,
            DiskFault::Full => Trap::Full,
            DiskFault::LostWrites => Trap::Lie,
            DiskFault::TornTail => Trap::TearLog,
            DiskFault::BitFlip(spot) => Trap::FlipBit(spot),
            DiskFault::PowerLossInCheckpoint => {
                Trap::CutCheckpoint(rng.random_range(1..=CHECKPOINT_OPERATIONS_MAX))
            }
            DiskFault::PowerLossInSnapshot => {
                Trap::CutSnapshot(rng.random_range(1..=SNAPSHOT_OPERATIONS_MAX))
            }
        }
    }

    /// Waits until the disk has failed, and sees that the node is down then.
    async fn hit(&self, broken: &Broken, patience: Duration) -> Came {
        let Broken {
            node, fault, trap, ..
        } = *broken;
        raise(&mut self.harmed.lock().await.trapped, (node, trap));
        let Ok(what) = timeout(patience, self.world.trap(node, &trap)).await else {
            return Came::Never;
        };
        self.note_node("hit", broken, &what);
        let mut harmed = self.harmed.lock().await;
        harmed.hit.insert((broken.index, node));
        if fault == DiskFault::LostWrites {
            return Came::Fired; // The node knows nothing of it.
        }
        raise(&mut harmed.down, node);
        let stops_by_itself = matches!(fault, DiskFault::FailedFsync | DiskFault::Full);
        if !stops_by_itself {
            self.world.act(&Act::Kill(node)).await; // Where the power is off, that is a power loss.
        }
        drop(harmed);
        let stopped = timeout(STOPS_WITHIN, self.stops(node));
        let came = match stops_by_itself && stopped.await.is_err() {
            true => Came::WentOn(node),
            false => Came::Fired,
        };
        self.note_links().await;
        came
    }

    /// Writes down what became of one node.
    fn note_node(&self, phase: &str, broken: &Broken, what: &str) {
        let fields = [
            ("phase", json!(phase)),
            ("fault", json!(broken.index + 1)),
            ("kind", json!("disk")),
            ("what", json!(what)),
            ("roles", json!({})),
            ("node", json!(broken.node.0)),
        ];
        self.record
            .note(None, NodeEventKind::other("fault", fields));
    }

    /// Waits until a node has stopped by itself, or is down for another reason.
    async fn stops(&self, node: NodeId) {
        while !self.world.failures().await.contains_key(&node) {
            if self.harmed.lock().await.down.get(&node) != Some(&1) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// A disk is set up to fail no longer, unless another fault of this kind still wants that.
    async fn disarm(&self, broken: &Broken) {
        let mut harmed = self.harmed.lock().await;
        if lower(&mut harmed.trapped, (broken.node, broken.trap)) {
            self.world.act(&Act::Disarm(broken.node, broken.trap)).await;
        }
    }

    /// The fault is over for a node that it has hit. Says what is wrong with how the node takes that.
    async fn make_good(&self, broken: &Broken) -> Option<Came> {
        self.disarm(broken).await;
        let (node, fault) = (broken.node, broken.fault);
        let mut harmed = self.harmed.lock().await;
        harmed.hit.remove(&(broken.index, node));
        if fault == DiskFault::LostWrites {
            self.world.act(&Act::StrictPowerLoss(node)).await;
            if !harmed.down.contains_key(&node) {
                self.start(node, &harmed).await;
            }
            return None;
        }
        let is_damaged = matches!(fault, DiskFault::BitFlip(Spot::Sealed | Spot::Engine));
        if is_damaged {
            harmed.damaged.insert(node);
        }
        if harmed.down.get(&node) != Some(&1) {
            lower(&mut harmed.down, node);
            return None; // Another fault keeps it down.
        }
        // The life that stopped by itself is over, too.
        self.world.act(&Act::Kill(node)).await;
        self.start(node, &harmed).await;
        if is_damaged {
            drop(harmed);
            if timeout(STOPS_WITHIN, self.stops(node)).await.is_ok() {
                // It refuses, and stays down for good.
                let why = self.world.failures().await.remove(&node);
                self.note_node("refusal", broken, &why.unwrap_or_default());
                return None;
            }
            harmed = self.harmed.lock().await;
        }
        lower(&mut harmed.down, node);
        // A bit of the engine may be one that nobody needs; all of an older file of the log is needed.
        (fault == DiskFault::BitFlip(Spot::Sealed)).then_some(Came::WentOn(node))
    }

    /// The nodes that may refuse to start, as a bit of what they need has flipped.
    pub async fn damaged(&self) -> BTreeSet<NodeId> {
        self.harmed.lock().await.damaged.clone()
    }
}
