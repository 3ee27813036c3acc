//! The cluster's own ZooKeeper: one server, with a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use super::process::Process;
use crate::world::real::site::Site;
use crate::world::real::zookeeper::serves;
use crate::world::trouble::Trouble;

/// Where its words go, in the folder of the site.
pub(super) const LOG: &str = "zookeeper.log";
/// Where Debian puts what it is made of.
const DEBIAN: &str = "/usr/share/java";
/// The unit of its times, in milliseconds: a session lasts at least two, and it notices an end a tick late at most.
const TICK_MS: u32 = 500;
/// How long it may take to answer.
const UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What it is made of, as Java wants to be told.
#[derive(Clone, Debug)]
pub(super) struct Jars(String);

impl Jars {
    /// The jars in a folder, or those of Debian.
    pub(super) fn find(folder: Option<&Path>) -> Result<Self, Trouble> {
        let missing = |what: String| Trouble::NoZooKeeper { missing: what };
        let java = Command::new("java").arg("-version").output();
        if !java.is_ok_and(|output| output.status.success()) {
            return Err(missing("no java".to_owned()));
        }
        let path = folder.unwrap_or(Path::new(DEBIAN));
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let is_it = |name: String| name.starts_with("zookeeper") && name.ends_with(".jar");
        if !names.any(is_it) {
            return Err(missing(format!("no zookeeper.jar in {}", path.display())));
        }
        let all = format!("{}/*", path.display());
        Ok(Self(match folder {
            Some(_) => all,
            // Of several ways to write a log, the simplest: it comes first.
            None => format!("{DEBIAN}/slf4j-simple.jar:{all}"),
        }))
    }
}

/// A server, which may be down.
#[derive(Debug)]
pub(super) struct ZooKeeper {
    jars: Jars,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl ZooKeeper {
    /// Starts a server at that address, and waits until it answers.
    pub(super) async fn start(jars: Jars, site: &Site, address: &str) -> Result<Self, Trouble> {
        let data = site.folder().join("zookeeper");
        let (host, port) = address.rsplit_once(':').expect("it is HOST:PORT");
        let config = site.folder().join("zoo.cfg");
        let text = format!(
            "tickTime={TICK_MS}\ndataDir={}\nclientPort={port}\nclientPortAddress={host}\nadmin.enableServer=false\n\
             4lw.commands.whitelist=srvr\nmaxClientCnxns=0\n",
            data.display()
        );
        let written = std::fs::create_dir(&data).and_then(|()| std::fs::write(&config, text));
        written.map_err(|source| Trouble::Unusable {
            path: config.clone(),
            source,
        })?;
        let mut zookeeper = Self {
            jars,
            config,
            log: site.folder().join(LOG),
            process: None,
        };
        zookeeper.restart(site)?;
        zookeeper.wait(address).await?;
        Ok(zookeeper)
    }

    /// Starts the process, if it is down, and waits for nothing.
    pub(super) fn restart(&mut self, site: &Site) -> Result<(), Trouble> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.args(["-cp", &self.jars.0]);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
        command.arg(&self.config);
        self.process = Some(Process::start("ZooKeeper", command, &self.log, site)?);
        Ok(())
    }

    async fn wait(&self, address: &str) -> Result<(), Trouble> {
        let began = Instant::now();
        while !serves(address).await {
            let process = self.process.as_ref().expect("it was started");
            if process.has_ended() || began.elapsed() > UP_WITHIN {
                return Err(Trouble::NotUp {
                    what: format!("ZooKeeper at {address}"),
                    why: process.last_words(),
                });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// SIGKILL: everything that was answered is on its disk.
    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }
}
