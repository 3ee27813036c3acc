//! Engines on the simulated disk.
//!
//! Goal: whatever the disk does, an engine that is opened again holds exactly what the last write that returned `Ok` left, or that
//! and the whole of the one that was under way; and what it once held after a crash it does not lose in the next one.
//! Method: random batches; a fault at a random step to the disk, between two steps of one write as well; a new life; many times.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv::engine::conformance::contents;
use kv::engine::{Change, Engine, EngineError, EngineKind, Options, open, remove};
use kv::fs::FileSystem;
use kv::fs::watched::{WatchedFileSystem, Watcher};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sim::disk::{DirtyPages, SimDisk};

use crate::disk;

const ON_THIS_DISK: [EngineKind; 2] = [EngineKind::Memory, EngineKind::Redb];
const NAME: &str = "data";

type Map = BTreeMap<Bytes, Bytes>;

#[test]
fn engines_keep_the_contract_on_the_simulated_disk() {
    for kind in ON_THIS_DISK {
        kv::engine::conformance::check(kind, &disk(1).mount());
        kv::engine::conformance::check_readers(kind, &disk(2).mount());
    }
}

/// One engine on one disk, and what it must hold.
struct World {
    kind: EngineKind,
    disk: SimDisk,
    rng: StdRng,
    /// What was acknowledged, or found after a crash.
    map: Map,
    /// What may be there in its stead.
    other: Option<Map>,
}

impl World {
    fn new(kind: EngineKind, seed: u64) -> Self {
        Self {
            kind,
            disk: disk(seed),
            rng: StdRng::seed_from_u64(seed),
            map: Map::new(),
            other: None,
        }
    }

    fn open(&self, folder: &Arc<dyn FileSystem>) -> Result<Arc<dyn Engine>, EngineError> {
        let options = Options {
            cache_bytes: 256 * 1024,
        };
        open(self.kind, options, folder, NAME)
    }

    /// The folder of a life in which the power goes at the step of that number.
    fn doomed(&self, steps: u64) -> Arc<dyn FileSystem> {
        let disk = self.disk.clone();
        let left = AtomicU64::new(steps);
        let watcher: Watcher = Arc::new(move |_| {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                disk.power_loss();
            }
            io::Result::Ok(())
        });
        Arc::new(WatchedFileSystem::new(self.disk.mount(), watcher))
    }

    fn batch(&mut self) -> Vec<Change> {
        let rng = &mut self.rng;
        let count = rng.random_range(1..40);
        let bytes_max = match rng.random_bool(0.2) {
            true => 60_000,
            false => 200,
        };
        let mut change = || Change {
            key: Bytes::copy_from_slice(&rng.random_range(0_u16..100).to_be_bytes()),
            value: rng.random_bool(0.8).then(|| {
                let bytes = rng.random_range(0..bytes_max);
                Bytes::from(vec![rng.random::<u8>(); bytes])
            }),
        };
        (0..count).map(|_| change()).collect()
    }

    /// Writes so many batches; false once one failed.
    fn write(&mut self, engine: &dyn Engine, batches: usize) -> bool {
        for _ in 0..batches {
            let changes = self.batch();
            let mut next = self.map.clone();
            for Change { key, value } in changes.clone() {
                match value {
                    Some(value) => next.insert(key, value),
                    None => next.remove(&key),
                };
            }
            if engine.write(changes).is_err() {
                let again = engine.write(Vec::new());
                assert!(matches!(again, Err(EngineError::Poisoned { .. })));
                self.other = Some(next);
                return false;
            }
            self.map = next;
        }
        true
    }

    /// What the engine holds is what it must from now on. Says whether a write that had failed is there.
    fn settle(&mut self, engine: &dyn Engine, context: &str) -> bool {
        let found: Map = contents(engine).into_iter().collect();
        let other = self.other.take();
        let took_effect = found != self.map && Some(&found) == other.as_ref();
        assert!(
            found == self.map || took_effect,
            "{}: {context}: {} pairs were found, where there should be {}",
            self.kind,
            found.len(),
            self.map.len(),
        );
        self.map = found;
        took_effect
    }

    /// The bytes of all files.
    fn bytes(&self) -> Vec<(String, Vec<u8>)> {
        let folder = self.disk.mount();
        let names = folder.list("").unwrap().into_iter();
        names
            .map(|name| {
                let file = folder.open(&name).unwrap();
                let mut bytes = vec![0; file.len().unwrap() as usize];
                file.read_at(0, &mut bytes).unwrap();
                (name, bytes)
            })
            .collect()
    }
}

/// Lives that end with the power, at any step.
fn survive_power_losses(kind: EngineKind, seed: u64, lives: usize) -> (World, u64) {
    let mut world = World::new(kind, seed);
    let mut took_effect = 0;
    for life in 0..lives {
        let steps_max = *[20, 100, 1000].get(life % 3).unwrap();
        let steps = world.rng.random_range(1..=steps_max);
        let folder = world.doomed(steps);
        if let Ok(engine) = world.open(&folder) {
            took_effect +=
                u64::from(world.settle(engine.as_ref(), &format!("seed {seed}, life {life}")));
            world.write(engine.as_ref(), 8);
        }
        if world.disk.counters().power_losses as usize == life {
            world.disk.power_loss();
        }
    }
    let engine = world.open(&world.disk.mount()).unwrap();
    world.settle(engine.as_ref(), &format!("seed {seed}, the last life"));
    drop(engine);
    (world, took_effect)
}

#[test]
fn a_power_loss_at_any_step_leaves_every_batch_whole() {
    for kind in ON_THIS_DISK {
        let (mut took_effect, mut pairs, mut lost) = (0, 0, 0);
        for seed in 0..300 {
            let (world, count) = survive_power_losses(kind, seed, 12);
            took_effect += count;
            pairs += world.map.len();
            lost += world.disk.counters().operations_lost;
        }
        assert!(
            took_effect > 0,
            "vacuous: no write under way was there after a crash"
        );
        assert!(pairs > 10_000, "vacuous: {pairs} pairs");
        assert!(lost > 100, "vacuous: {lost} operations were lost");
    }
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    for kind in ON_THIS_DISK {
        for seed in 0..20 {
            let run = || survive_power_losses(kind, seed, 6).0.bytes();
            let (first, second) = (run(), run());
            assert!(!first.is_empty());
            assert!(first == second, "{kind}: seed {seed}");
        }
    }
}

/// After a failed sync the process ends, and the next one reads from a page cache that may hold what the disk does not.
#[test]
fn what_is_read_after_a_failed_sync_stays() {
    for kind in ON_THIS_DISK {
        let (mut took_effect, mut failed) = (0, 0);
        for seed in 0..400 {
            let mut world = World::new(kind, seed);
            let engine = world.open(&world.disk.mount()).unwrap();
            assert!(world.write(engine.as_ref(), 3));
            // Not only the first sync of a write.
            let disk = world.disk.clone();
            let syncs = AtomicU64::new(world.rng.random_range(1..=6));
            drop(engine);
            let pages = match seed % 2 {
                0 => DirtyPages::Dropped,
                _ => DirtyPages::Kept,
            };
            let watcher: Watcher = Arc::new(move |step| {
                let is_sync = step == kv::fs::watched::Step::Sync;
                if is_sync && syncs.fetch_sub(1, Ordering::Relaxed) == 1 {
                    disk.fail_next_sync(pages);
                }
                Ok(())
            });
            let folder: Arc<dyn FileSystem> =
                Arc::new(WatchedFileSystem::new(world.disk.mount(), watcher));
            if let Ok(engine) = world.open(&folder) {
                failed += u64::from(!world.write(engine.as_ref(), 10));
            }
            world.disk.kill();
            let engine = world.open(&world.disk.mount()).unwrap();
            took_effect +=
                u64::from(world.settle(engine.as_ref(), &format!("seed {seed}, after the kill")));
            world.disk.power_loss();
            drop(engine);
            let engine = world.open(&world.disk.mount()).unwrap();
            world.settle(
                engine.as_ref(),
                &format!("seed {seed}, after the power loss"),
            );
        }
        assert!(failed > 200, "vacuous: {failed} syncs failed");
        assert!(
            took_effect > 0,
            "vacuous: no write whose sync failed is there"
        );
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    for kind in ON_THIS_DISK {
        let mut failed = 0;
        for seed in 0..150 {
            let mut world = World::new(kind, seed);
            let engine = world.open(&world.disk.mount()).unwrap();
            assert!(world.write(engine.as_ref(), 3));
            world.disk.fill_up(world.rng.random_range(0..300_000));
            failed += u64::from(!world.write(engine.as_ref(), 30));
            match seed % 2 {
                0 => world.disk.kill(),
                _ => world.disk.power_loss(),
            }
            drop(engine);
            world.disk.free_space();
            let engine = world.open(&world.disk.mount()).unwrap();
            world.settle(engine.as_ref(), &format!("seed {seed}"));
            assert!(world.write(engine.as_ref(), 3), "there is space again");
            world.settle(engine.as_ref(), &format!("seed {seed}, with space"));
        }
        assert!(failed > 100, "vacuous: {failed} disks were full");
    }
}

#[test]
fn a_flipped_bit_is_found_or_does_no_harm() {
    for kind in ON_THIS_DISK {
        let (mut found, mut harmless) = (0, 0);
        for seed in 0..600 {
            let mut world = World::new(kind, seed);
            let engine = world.open(&world.disk.mount()).unwrap();
            assert!(world.write(engine.as_ref(), 4));
            drop(engine);
            let flip = world.disk.flip_bit(NAME).unwrap();
            let opened = world.open(&world.disk.mount());
            let pairs = opened.and_then(|engine| engine.scan(b""..b"\xFF\xFF", usize::MAX));
            match pairs {
                Ok(pairs) => {
                    let pairs: Map = pairs.into_iter().collect();
                    assert!(pairs == world.map, "{kind}: seed {seed}: {flip:?}");
                    harmless += 1;
                }
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains("data."), "{kind}: it names the file: {said}");
                    found += 1;
                }
            }
        }
        println!("{kind}: {found} found, {harmless} harmless");
        assert!(found > 100, "vacuous: {found} found");
    }
}

#[test]
fn a_removed_engine_does_not_come_back() {
    for kind in ON_THIS_DISK {
        for seed in 0..50 {
            let mut world = World::new(kind, seed);
            let folder = world.disk.mount();
            let engine = world.open(&folder).unwrap();
            assert!(world.write(engine.as_ref(), 3));
            drop(engine);
            remove(kind, folder.as_ref(), NAME).unwrap();
            world.disk.power_loss();
            let engine = world.open(&world.disk.mount()).unwrap();
            assert_eq!(contents(engine.as_ref()), []);
        }
    }
}
