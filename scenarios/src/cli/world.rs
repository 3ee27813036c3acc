//! Which world a run is played in: the simulator in `cargo sim`, real processes and containers in `cargo scenarios`.

use std::path::PathBuf;
#[cfg(not(madsim))]
use std::process::{Command, ExitCode};

use clap::{Args, ValueEnum};

use crate::error::NotSimulated;
use crate::world::Stage;
#[cfg(not(madsim))]
use crate::world::docker::{DockerStage, Images};
#[cfg(not(madsim))]
use crate::world::local::LocalStage;

/// Where a scenario is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum WorldFlag {
    /// The simulator: seeded, and everything can fail
    Sim,
    /// Real processes on this machine, with a proxy on every link
    Local,
    /// Containers
    Docker,
}

/// Which world, and what it is made of.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct WorldFlags {
    /// Where the scenario is played [default: sim in `cargo sim`, local in `cargo scenarios`].
    #[arg(long, value_name = "WORLD")]
    pub(super) world: Option<WorldFlag>,
    /// In the world local: the store's program [default: `kv` beside this program].
    #[arg(long, value_name = "FILE")]
    kv: Option<PathBuf>,
    /// In the world local: a folder with ZooKeeper's jars [default: where Debian puts them].
    #[arg(long, value_name = "DIR")]
    zookeeper: Option<PathBuf>,
    /// In the world docker: the image of the store.
    #[arg(long, value_name = "IMAGE", default_value = "splitbrain/kv")]
    image: String,
    /// In the world docker: the image of ZooKeeper [default: as in docker-compose.yml].
    #[arg(long, value_name = "IMAGE")]
    zookeeper_image: Option<String>,
}

impl WorldFlags {
    /// The world of a run in this build.
    #[cfg(madsim)]
    pub(super) fn stage(&self) -> Result<Box<dyn Stage>, NotSimulated> {
        match self.world {
            None | Some(WorldFlag::Sim) => Ok(Box::new(crate::world::sim::SimStage)),
            Some(WorldFlag::Local | WorldFlag::Docker) => Err(NotSimulated::RealWorld),
        }
    }

    /// The world of a run in this build.
    #[cfg(not(madsim))]
    pub(super) fn stage(&self) -> Result<Box<dyn Stage>, NotSimulated> {
        match self.world {
            // Most likely `cargo sim` was meant, whose flags these have replaced.
            None if replaced().is_some() => simulated(),
            None | Some(WorldFlag::Local) => Ok(Box::new(self.local())),
            Some(WorldFlag::Docker) => Ok(Box::new(self.docker())),
            Some(WorldFlag::Sim) => simulated(),
        }
    }

    #[cfg(not(madsim))]
    fn local(&self) -> LocalStage {
        let beside = || {
            let program = std::env::current_exe().unwrap_or_default();
            program.with_file_name("kv")
        };
        LocalStage {
            kv: self.kv.clone().unwrap_or_else(beside),
            zookeeper: self.zookeeper.clone(),
            sites: super::sites_folder(),
        }
    }

    #[cfg(not(madsim))]
    fn docker(&self) -> DockerStage {
        DockerStage {
            images: Images {
                kv: self.image.clone(),
                zookeeper: self.zookeeper_image.clone().unwrap_or_else(zookeeper_image),
            },
            sites: super::sites_folder(),
        }
    }
}

/// The simulator of this build.
#[cfg(madsim)]
pub(super) fn simulated() -> Result<Box<dyn Stage>, NotSimulated> {
    WorldFlags::default().stage()
}

/// The simulator of this build: there is none, since it is chosen when the program is compiled.
#[cfg(not(madsim))]
pub(super) fn simulated() -> Result<Box<dyn Stage>, NotSimulated> {
    Err(replaced().map_or(NotSimulated::OtherBuild, NotSimulated::Flags))
}

/// What in the environment replaces the flags that `cargo sim` passes, if anything does.
#[cfg(not(madsim))]
fn replaced() -> Option<&'static str> {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|flags| !flags.is_empty());
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"]
        .into_iter()
        .find(set)
}

/// Runs what was asked for as `cargo sim`, which is another build of this program.
#[cfg(not(madsim))]
pub(super) fn hand_over() -> std::io::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1).peekable();
    let mut command = Command::new("cargo");
    command.arg("sim");
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--world") => drop(words.next()),
            Some("--world=sim") => {}
            _ => drop(command.arg(word)),
        }
    }
    let code = command.status()?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(super::USAGE)))
}

/// What `docker-compose.yml` runs: the public image, unless the repository's `.env` names another.
#[cfg(not(madsim))]
fn zookeeper_image() -> String {
    let env = super::repository().join(".env");
    let text = std::fs::read_to_string(env).unwrap_or_default();
    let named = text
        .lines()
        .find_map(|line| line.strip_prefix("ZOOKEEPER_IMAGE="));
    named.unwrap_or("zookeeper:3.8").trim().to_owned()
}
