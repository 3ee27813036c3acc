//! `up` and `down`: a cluster of real processes or containers to play with, and an end of every trace of it.
//!
//! `up` starts a keeper, which is this program as well: it owns the cluster (the proxies run in it) until it is told to end. It tells
//! what people need to know on its stdout, up to the line [`READY`], and nothing after that.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use kv_core::Fencing;
use rustix::process::Signal;

use super::world::{WorldFlag, WorldFlags};
use super::{FencingFlag, print, sites_folder};
use crate::error::Error;
use crate::runner::check_playable;
use crate::scenario::Scenario;
use crate::suite;
use crate::world::docker::Docker;
use crate::world::real::site::{Found, Known, Purpose};
use crate::world::real::stop;
use crate::world::trouble::Trouble;

/// How the keeper says that the cluster serves.
const READY: &str = "ready";
/// How long an owner may take to take its cluster down.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What kind of cluster.
#[derive(Clone, Debug, Args)]
pub(super) struct UpFlags {
    /// Whose cluster, a scenario of the suite by its name or a file by its path; its faults do not happen.
    #[arg(value_name = "NAME|FILE", default_value = "calm")]
    scenario: String,
    /// Only this protocol; what the file says, if nothing is given.
    #[arg(long)]
    fencing: Option<FencingFlag>,
    #[command(flatten)]
    world: WorldFlags,
}

impl UpFlags {
    fn scenario(&self) -> Result<Scenario, Error> {
        let scenario = suite::find(&self.scenario)?;
        let fencing = self.fencing.map_or(scenario.fencing(), Fencing::from);
        Ok(scenario.under(fencing))
    }
}

/// Starts a keeper and waits until its cluster serves. Ctrl-C takes it down again.
pub(super) fn up(flags: &UpFlags) -> Result<ExitCode, Error> {
    let stage = flags.world.stage()?;
    check_playable(&*stage, &flags.scenario()?)?;
    stage.prepare()?;
    let program = std::env::current_exe().map_err(not_started)?;
    let mut command = Command::new(program);
    command.arg("keep").args(std::env::args_os().skip(2));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // It outlives this program, and Ctrl-C at the terminal afterwards is none of its business.
    let mut keeper = command.process_group(0).spawn().map_err(not_started)?;
    let told = keeper.stdout.take().expect("it was asked for");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(not_started)?;
    let is_up = runtime.block_on(async {
        let lines = tokio::task::spawn_blocking(move || {
            let lines = BufReader::new(told).lines().map_while(Result::ok);
            for line in lines {
                match line == READY {
                    true => return true,
                    false => print(&format!("{line}\n")),
                }
            }
            false
        });
        tokio::select! {
            biased;
            () = stop::requested() => None,
            is_up = lines => is_up.ok(),
        }
    });
    match is_up {
        Some(true) => Ok(ExitCode::SUCCESS),
        // It has said why on stderr.
        Some(false) => Ok(ExitCode::from(code_of(&mut keeper))),
        None => {
            let keeper_process = i32::try_from(keeper.id()).ok().and_then(Known::find);
            if let Some(process) = keeper_process {
                process.signal(Signal::TERM);
            }
            let _ = keeper.wait();
            runtime.shutdown_background();
            Err(Error::Interrupted)
        }
    }
}

fn code_of(keeper: &mut Child) -> u8 {
    let status = keeper.wait().ok().and_then(|status| status.code());
    let code = status.and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(super::USAGE)
}

fn not_started(source: std::io::Error) -> Trouble {
    Trouble::NotStarted {
        program: "the keeper of the cluster".to_owned(),
        source,
    }
}

/// The keeper: starts the cluster, says where it is, and takes it down when it is told to end.
pub(super) fn keep(flags: &UpFlags) -> Result<ExitCode, Error> {
    let stage = flags.world.stage()?;
    let scenario = flags.scenario()?;
    stage.keep(&scenario, &|lines| {
        let mut text = lines.join("\n");
        let fencing = scenario.fencing().name();
        let config = &scenario.cluster.config;
        let (shards, n, q) = (config.shards, config.replication_factor, config.write_quorum);
        text.push_str(&format!(
            "\n{shards} shards, N = {n}, Q = {q}, fencing {fencing}; remove it with `cargo scenarios down`\n{READY}\n"
        ));
        let mut out = std::io::stdout().lock();
        // Whoever has started this one may be gone: then nobody reads.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What goes.
#[derive(Clone, Debug, Args)]
pub(super) struct DownFlags {
    /// Only clusters of this world.
    #[arg(long, value_name = "WORLD")]
    world: Option<WorldFlag>,
}

/// Takes down every cluster that `up` has left running, and whatever earlier runs have left behind. Runs that go on are left alone.
pub(super) fn down(flags: &DownFlags) -> Result<ExitCode, Error> {
    let concerns = |world: &str| match flags.world {
        None => true,
        Some(WorldFlag::Local) => world == "local",
        Some(WorldFlag::Docker) => world == "docker",
        Some(WorldFlag::Sim) => false,
    };
    let mut said = String::new();
    let mut kept = Vec::new();
    for site in Found::all(&sites_folder()) {
        let folder = site.folder().display();
        if site.is_owned() && site.purpose() == Some(Purpose::Run) {
            said.push_str(&format!(
                "{folder} belongs to a run that goes on: left alone\n"
            ));
            kept.extend(site.project().map(str::to_owned));
        } else if concerns(&site.world()) {
            if let Some(owner) = site.owner() {
                end(owner);
            }
            if let Some(project) = site.project() {
                Docker::find()?.remove(project)?;
            }
            site.remove()?;
            said.push_str(&format!("{folder} is gone\n"));
        }
    }
    // Containers whose folder is gone are found by their label.
    if concerns("docker")
        && let Ok(docker) = Docker::find()
    {
        for project in docker.projects()?.iter().filter(|it| !kept.contains(it)) {
            docker.remove(project)?;
            said.push_str(&format!("the containers of {project} are gone\n"));
        }
    }
    print(if said.is_empty() {
        "there is nothing to remove\n"
    } else {
        &said
    });
    Ok(ExitCode::SUCCESS)
}

/// Asks a process to end, and ends it if it does not.
#[expect(
    clippy::disallowed_methods,
    reason = "it waits for a real process, and nothing else goes on meanwhile"
)]
fn end(process: &Known) {
    process.signal(Signal::TERM);
    let began = Instant::now();
    while process.lives() {
        if began.elapsed() > ENDS_WITHIN {
            return process.kill();
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
