//! The servers that are measured: processes of their own, on ports that were free, in folders that go when they do.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a server may take to come up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often one that comes up is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// A server that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a server; what it says goes to a file, so that it can be read when it fails.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let out = std::fs::File::create(log)?;
        command.stdin(Stdio::null());
        command.stdout(out.try_clone()?).stderr(out);
        let child = command.spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        let name = name.to_owned();
        Ok(Self { child, name })
    }

    /// How much processor time it has used so far. The kernel counts it in hundredths of a second.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in brackets, may hold anything; user and system time are the 12th and 13th field after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: Result<Vec<u64>, _> = ticks.map(str::parse).collect();
        Ok(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
    }

    /// Fails if the server has ended by itself.
    pub(crate) fn check(&mut self, since: Instant) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself: {status}", self.name);
        }
        if since.elapsed() > PATIENCE {
            bail!("{} is not ready after {} s", self.name, PATIENCE.as_secs());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended already.
        let _ = self.child.wait();
    }
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Result<Vec<_>, _> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect();
    let ports = listeners?.into_iter().map(|listener| listener.local_addr());
    let ports: Result<Vec<_>, _> = ports.collect();
    Ok(ports?.iter().map(std::net::SocketAddr::port).collect())
}
