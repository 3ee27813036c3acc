//! Docker, through its own command line: so contexts, rights and remote engines are as its users have set them up.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::world::trouble::Trouble;

use super::compose::LABEL;

/// An engine that answers, and the compose tool that goes with it.
#[derive(Clone, Copy, Debug)]
pub struct Docker {
    compose: &'static [&'static str],
}

/// Compose v2, a plugin of Docker's, and v1, a program of its own.
const COMPOSE: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];

impl Docker {
    /// The engine of this machine.
    ///
    /// # Errors
    /// When there is none, it does not answer, or it may not be used.
    pub fn find() -> Result<Self, Trouble> {
        let asked = Command::new("docker")
            .args(["version", "--format", "{{.Server.Version}}"])
            .output();
        let docker = |what: &str, remedy| Trouble::Docker {
            what: what.to_owned(),
            remedy,
        };
        let output = asked.map_err(|_| {
            let remedy = "run `apt-get install docker.io docker-compose`, or see docs.docker.com/engine/install";
            docker("Docker is not installed", remedy)
        })?;
        if !output.status.success() {
            let said = said(&output);
            return Err(match said.contains("permission denied") {
                true => docker(
                    "you may not use the Docker engine",
                    "become a member of the group `docker` and log in again, or run it as root",
                ),
                false => docker(
                    &format!("no Docker engine answers ({said})"),
                    "start it with `systemctl start docker`",
                ),
            });
        }
        let works = |program: &&&[&str]| run(program, &["version"]).is_ok();
        match COMPOSE.iter().find(works) {
            Some(compose) => Ok(Self { compose }),
            None => Err(docker(
                "Docker has no compose tool",
                "run `apt-get install docker-compose`, or install Compose v2",
            )),
        }
    }

    /// Whether an image is there.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn has_image(self, image: &str) -> Result<(), Trouble> {
        let asked = docker(&["image", "inspect", "--format", "{{.Id}}", image]);
        asked.map(drop).map_err(|_| Trouble::Docker {
            what: format!("there is no image {image}"),
            remedy: "build it with `docker compose build` and `docker compose pull`, or without a registry with `docker/offline-images.sh`",
        })
    }

    /// The projects that have containers or networks of ours.
    ///
    /// # Errors
    /// When the engine does not say.
    pub fn projects(self) -> Result<BTreeSet<String>, Trouble> {
        let filter = format!("label={LABEL}");
        let value = format!("{{{{.Label \"{LABEL}\"}}}}");
        let containers = docker(&["ps", "--all", "--filter", &filter, "--format", &value])?;
        let networks = docker(&["network", "ls", "--filter", &filter, "--format", &value])?;
        let lines = containers.lines().chain(networks.lines());
        Ok(lines
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
            .collect())
    }

    /// Starts everything in a compose file.
    pub(super) fn up(self, project: &str, file: &Path) -> Result<(), Trouble> {
        let file = file.display().to_string();
        run(self.compose, &["-p", project, "-f", &file, "up", "-d"]).map(drop)
    }

    /// Removes every container and network of a project.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn remove(self, project: &str) -> Result<(), Trouble> {
        let filter = format!("label={LABEL}={project}");
        let containers = docker(&["ps", "--all", "--quiet", "--filter", &filter])?;
        let containers: Vec<&str> = containers.lines().collect();
        if !containers.is_empty() {
            docker(&[&["rm", "--force", "--volumes"], &containers[..]].concat())?;
        }
        let networks = docker(&["network", "ls", "--quiet", "--filter", &filter])?;
        for network in networks.lines() {
            docker(&["network", "rm", network])?;
        }
        Ok(())
    }

    /// SIGKILL; one that has ended by itself is left as it is.
    pub(super) async fn kill(self, container: &str) -> Result<(), Trouble> {
        let killed = in_background(&["kill", "--signal", "KILL", container]).await;
        match self.is_up(container) {
            true => killed,
            false => Ok(()),
        }
    }

    pub(super) async fn start(self, container: &str) -> Result<(), Trouble> {
        in_background(&["start", container]).await
    }

    pub(super) async fn pause(self, container: &str) -> Result<(), Trouble> {
        in_background(&["pause", container]).await
    }

    pub(super) async fn unpause(self, container: &str) -> Result<(), Trouble> {
        in_background(&["unpause", container]).await
    }

    /// The number of a container's first process on the host, if it runs.
    pub(super) fn pid(self, container: &str) -> Option<String> {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", container]).ok()?;
        let pid = pid.trim();
        (pid != "0").then(|| pid.to_owned())
    }

    /// Whether a container runs, or stands still.
    pub(super) fn is_up(self, container: &str) -> bool {
        self.pid(container).is_some()
    }

    /// All that a container has said.
    pub(super) fn log(self, container: &str) -> Vec<u8> {
        let output = Command::new("docker").args(["logs", container]).output();
        output.map_or_else(
            |_| Vec::new(),
            |output| [output.stdout, output.stderr].concat(),
        )
    }

    /// The last line that a container has said.
    pub(super) fn last_words(self, container: &str) -> String {
        let said = self.log(container);
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it said nothing").trim().to_owned()
    }
}

async fn in_background(arguments: &[&str]) -> Result<(), Trouble> {
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let done = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        docker(&arguments).map(drop)
    });
    done.await.expect("a command does not panic")
}

fn docker(arguments: &[&str]) -> Result<String, Trouble> {
    run(&["docker"], arguments)
}

/// Runs a command to its end. Returns what it says on stdout.
pub(super) fn run(program: &[&str], arguments: &[&str]) -> Result<String, Trouble> {
    let (name, first) = program.split_first().expect("a program has a name");
    let output = Command::new(name).args(first).args(arguments).output();
    let output = output.map_err(|source| Trouble::NotStarted {
        program: (*name).to_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Trouble::Docker {
        what: format!(
            "`{} {}` failed: {}",
            program.join(" "),
            arguments.join(" "),
            said(&output)
        ),
        remedy: "see `docker info`, and `cargo scenarios down` for what may be left",
    })
}

/// What a command says of its failure, in one line.
fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    lines.join("; ")
}
