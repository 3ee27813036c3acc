//! What the figures were measured on.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How many syncs are timed.
const SYNCS: usize = 200;

/// The processor, the kernel, the file system, what a sync costs, and what else runs.
pub(crate) fn describe(folder: &Path) -> anyhow::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .and_then(|rest| rest.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let stat = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(folder)
        .output()?;
    let file_system = String::from_utf8_lossy(&stat.stdout);
    let sync = sync_time(folder)?;
    Ok(format!(
        "{model}, {cores} cores, Linux {}, {}; write and sync of 4 KiB: {:.2} ms (median); load average {load}",
        kernel.trim(),
        file_system.trim(),
        sync.as_secs_f64() * 1000.0
    ))
}

/// The median time of an overwrite of 4 KiB with its sync.
fn sync_time(folder: &Path) -> anyhow::Result<Duration> {
    use std::os::unix::fs::FileExt as _;
    let path = folder.join("syncs");
    let mut file = fs::File::create(&path)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all_at(&[1; 4096], 0)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}
