//! Disks of simulated nodes that are set up to fail, and the proof that they have: a counter of the disk moved.

use std::time::Duration;

use kv_core::NodeId;
use sim::disk::{Counted, DirtyPages, DiskCounters, LOG, Part, SNAPSHOT, SimDisk};
use tokio::time::sleep;

use super::SimWorld;
use crate::scenario::Spot;
use crate::world::Trap;

/// How often is looked whether there is something to flip a bit of.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl SimWorld {
    /// Sets a disk up, waits until it has failed, and says what happened.
    pub(super) async fn spring(&self, node: NodeId, trap: Trap) -> String {
        let disk = self.cluster.lock().await.disk(node).cloned();
        let disk = disk.expect("a fault is cast among the nodes that there are");
        if let Trap::FlipBit(spot) = trap {
            return self.flip_bit(node, &disk, part(spot)).await;
        }
        let mut counters = disk.watch();
        let before = disk.counters();
        arm(&disk, trap);
        let sprung = counters.wait_for(|now| count(now, trap) > count(&before, trap));
        sprung.await.expect("the disk outlives the run");
        match trap {
            Trap::FailSync => "a sync fails, and what it was about is lost".to_owned(),
            Trap::Full => "a write finds no space".to_owned(),
            Trap::Lie => "a sync makes nothing durable and says that it did".to_owned(),
            Trap::TearLog => "the power goes in the middle of a write to the log".to_owned(),
            Trap::CutCheckpoint(operation) => {
                format!("the power goes with operation {operation} of a checkpoint")
            }
            Trap::CutSnapshot(operation) => {
                format!("the power goes with operation {operation} on a snapshot")
            }
            Trap::FlipBit(_) => unreachable!("a bit is flipped above"),
        }
    }

    /// Waits until there is such a part, and flips one bit of what is durable of it, while the node is down.
    async fn flip_bit(&self, node: NodeId, disk: &SimDisk, part: Part) -> String {
        loop {
            if disk.has(part) {
                let mut cluster = self.cluster.lock().await;
                cluster.strict_power_loss(node);
                if let Some(flip) = disk.flip_bit_of(part) {
                    let (file, byte) = (flip.file, flip.byte);
                    return format!("the power goes, and a bit of {file} flips, in byte {byte}");
                }
                cluster.restart(node); // What there was had not been synced.
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn arm(disk: &SimDisk, trap: Trap) {
    match trap {
        Trap::FailSync => disk.fail_next_sync(DirtyPages::Dropped),
        Trap::Full => disk.fill_up(0),
        Trap::Lie => disk.lose_syncs(true),
        Trap::TearLog => disk.power_off_in_write(LOG),
        Trap::CutCheckpoint(operation) => {
            disk.power_off_after(operation, Counted::OfCheckpoints);
        }
        Trap::CutSnapshot(operation) => {
            disk.power_off_after(operation, Counted::OfFiles(SNAPSHOT.to_owned()));
        }
        Trap::FlipBit(_) => {}
    }
}

/// A disk is no longer set up.
pub(super) fn disarm(disk: &SimDisk, trap: Trap) {
    match trap {
        Trap::FailSync => disk.fail_no_sync(),
        Trap::Full => disk.free_space(),
        Trap::Lie => disk.lose_syncs(false),
        Trap::TearLog | Trap::CutCheckpoint(_) | Trap::CutSnapshot(_) => disk.power_stays(),
        Trap::FlipBit(_) => {}
    }
}

/// How often it has happened.
fn count(counters: &DiskCounters, trap: Trap) -> u64 {
    match trap {
        Trap::FailSync => counters.syncs_failed,
        Trap::Full => counters.writes_refused,
        Trap::Lie => counters.syncs_lied,
        Trap::TearLog | Trap::CutCheckpoint(_) | Trap::CutSnapshot(_) => counters.power_cuts,
        Trap::FlipBit(_) => counters.bits_flipped,
    }
}

fn part(spot: Spot) -> Part {
    match spot {
        Spot::Sealed => Part::SealedSegment,
        Spot::Tail => Part::LogTail,
        Spot::Engine => Part::Engine,
    }
}
