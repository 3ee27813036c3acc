//! Goal: nothing acknowledged is lost when the process of a node is killed, whatever it is doing, with any engine.
//! Method: a real `kv serve` with small log files and frequent checkpoints; clients write, delete and read while it gets SIGKILL
//! again and again, at random moments of its life and of its start. What they saw is judged by the checker.
//!
//! What a process has written stays in the page cache when it is killed, so this tests the order of steps and the recovery, not the
//! syncs: those are for the disks of `wal_crashes.rs` and of the simulator. `SEED=N` chooses the same kills and operations again.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use checker::{Guarantee, History, Limits, Verdict};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

#[path = "kills/clients.rs"]
mod clients;
#[path = "processes/served.rs"]
mod served;

use clients::{Clients, GUARANTEES, KEYS};
use served::Served;

const KILLS: u32 = 50;
/// One life in so many ends while the node starts.
const LIVES_PER_EARLY_KILL: u32 = 5;
/// A node that serves acknowledges at least so many writes before it is killed.
const WRITES_PER_LIFE: usize = 13;
/// The folder is looked at by `kv data stat` after one kill in so many.
const KILLS_PER_LOOK: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(30);

fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("the same kills again: SEED={seed}");
    seed
}

/// A node that lives and dies over one folder, and its clients.
struct Run {
    engine: &'static str,
    seed: u64,
    folder: tempfile::TempDir,
    address: String,
    rng: StdRng,
    clients: Clients,
    log_files_seen: BTreeSet<String>,
    log_files_dropped: usize,
    checkpoints: BTreeSet<u64>,
}

impl Run {
    fn start(engine: &'static str, seed: u64) -> Self {
        let address = served::free_address();
        Self {
            engine,
            seed,
            folder: tempfile::tempdir().unwrap(),
            rng: StdRng::seed_from_u64(seed),
            clients: Clients::start(std::slice::from_ref(&address), seed),
            address,
            log_files_seen: BTreeSet::new(),
            log_files_dropped: 0,
            checkpoints: BTreeSet::new(),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn serve(&self) -> Served {
        let mut flags = vec!["--engine", self.engine];
        flags.extend(["--checkpoint-mib", "1", "--wal-segment-mib", "1"]);
        Served::spawn(&self.data(), &self.address, &flags)
    }

    /// A life that ends while the node starts.
    fn live_early(&mut self) {
        let node = self.serve();
        let ms = self.rng.random_range(0..200);
        std::thread::sleep(Duration::from_millis(ms));
        node.kill();
    }

    /// A life that ends while the node serves, however long the machine takes to let it acknowledge a few writes.
    fn live(&mut self) {
        self.live_for(WRITES_PER_LIFE);
    }

    fn live_for(&mut self, writes: usize) {
        let node = self.serve().wait();
        self.wait_for_writes(writes);
        let ms = self.rng.random_range(0..300);
        std::thread::sleep(Duration::from_millis(ms));
        node.kill();
    }

    fn wait_for_writes(&self, count: usize) {
        let (before, started) = (self.clients.acknowledged(), Instant::now());
        while self.clients.acknowledged() < before + count {
            assert!(started.elapsed() < PATIENCE, "no write is acknowledged");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Looks at the log's files while the node is down.
    fn look(&mut self) {
        let files = std::fs::read_dir(self.data().join("node/wal"));
        let names = files.into_iter().flatten().map(|entry| entry.unwrap());
        let there: BTreeSet<_> = names
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        self.log_files_seen.extend(there.iter().cloned());
        self.log_files_dropped = self.log_files_seen.len() - there.len();
    }

    /// Asks `kv data stat` for the checkpoint.
    fn stat(&mut self) {
        let output = served::data(&["stat", "--json"], &self.data());
        assert!(output.status.success(), "{output:?}");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["engine"], self.engine);
        assert_eq!(told["suspect"], false, "a kill damages no log: {told}");
        self.checkpoints
            .insert(told["checkpoint"]["offset"].as_u64().unwrap());
    }

    /// A last life, in which every key is read; then what the clients saw is judged. What breaks a guarantee is kept in a file.
    fn judge(self) -> Vec<(Guarantee, Verdict)> {
        let node = self.serve().wait();
        let (engine, seed) = (self.engine, self.seed);
        let events = self.clients.finish();
        node.kill();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = folder.join(format!("kills-{engine}-{seed}.jsonl"));
        let lines = events
            .iter()
            .map(|it| serde_json::to_string(it).unwrap() + "\n");
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        let history = History::from_events(events).unwrap();
        let verdicts = checker::check_all(&history, &[], &GUARANTEES, &Limits::default());
        match verdicts.iter().all(|(_, verdict)| verdict.holds()) {
            true => std::fs::remove_file(file).unwrap(),
            false => eprintln!("what the clients saw is in {}", file.display()),
        }
        verdicts
    }
}

fn survives(engine: &'static str) {
    let mut run = Run::start(engine, seed());
    for kill in 1..=KILLS {
        match kill % LIVES_PER_EARLY_KILL {
            0 => run.live_early(),
            _ => run.live(),
        }
        run.look();
        if kill % KILLS_PER_LOOK == 0 {
            run.stat();
        }
    }
    let acknowledged = run.clients.acknowledged();
    eprintln!(
        "{engine}: {acknowledged} writes, checkpoints at {:?}, {} log files dropped of {}",
        run.checkpoints,
        run.log_files_dropped,
        run.log_files_seen.len()
    );
    assert!(
        acknowledged > 10 * KILLS as usize,
        "vacuous: {acknowledged} writes"
    );
    assert!(run.checkpoints.len() > 1, "vacuous: no checkpoint");
    assert!(run.log_files_dropped > 0, "vacuous: the log kept all");
    for (guarantee, verdict) in run.judge() {
        assert!(verdict.holds(), "{}: {verdict}", guarantee.name());
    }
}

#[test]
fn acknowledged_writes_survive_kills_with_memory() {
    survives("memory");
}

#[test]
fn acknowledged_writes_survive_kills_with_redb() {
    survives("redb");
}

#[test]
fn acknowledged_writes_survive_kills_with_sled() {
    survives("sled");
}

#[cfg(feature = "rocksdb")]
#[test]
fn acknowledged_writes_survive_kills_with_rocksdb() {
    survives("rocksdb");
}

/// Copies what a folder holds, folders included.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The check can fail: a disk that goes back to what it was a life ago has lost writes, and the checker says so.
#[test]
fn a_disk_that_goes_back_is_found_out() {
    let mut run = Run::start("redb", seed());
    run.live();
    let old = run.folder.path().join("old");
    copy(&run.data(), &old);
    run.live_for(4 * KEYS as usize);
    // What the clients still have under way cannot cover all that is lost.
    run.clients.stop();
    std::fs::remove_dir_all(run.data()).unwrap();
    copy(&old, &run.data());
    let verdicts = run.judge();
    for lost in [Guarantee::NoLostWrite, Guarantee::Linearizable] {
        let (_, verdict) = verdicts.iter().find(|(it, _)| *it == lost).unwrap();
        assert!(verdict.is_violated(), "{}: {verdict}", lost.name());
    }
}
