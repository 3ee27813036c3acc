//! The project's own commands: `cargo xtask test` runs every test, `cargo xtask ci` is the whole of CI.

mod tidy;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

/// What the simulated build adds to the normal one. The alias `cargo sim` says the same.
const SIMULATED: [&str; 4] = [
    "--config",
    "target.'cfg(all())'.rustflags=['--cfg','madsim']",
    "--target-dir",
    "target/sim",
];

/// What the build adds in which bugs can be planted (`kv_core::planted`) and played in the simulator.
const PLANTED_SIMULATED: [&str; 4] = [
    "--config",
    "target.'cfg(all())'.rustflags=['--cfg','madsim','--cfg','planted']",
    "--target-dir",
    "target/travel",
];

#[derive(Parser)]
#[command(about = "The project's own commands.")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Every test: the repository's rules, the normal build's tests, the simulated ones.
    Test,
    /// The whole of CI: format, lints as errors, every test, documentation.
    Ci,
    /// Only the repository's own rules.
    Tidy,
    /// Measures the store beside others: figures, no verdict.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Bench {
    /// Three nodes of ours beside three members of etcd (Debian: etcd-server).
    Peers {
        /// What `cargo run --release -p bench -- peers --help` tells.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    let task = Cli::parse().task;
    refuse_rustflags(std::env::var_os("RUSTFLAGS").as_deref())?;
    match task {
        Task::Test => test(),
        Task::Ci => {
            step("format", cargo(&["fmt", "--all", "--check"]))?;
            step(
                "lints",
                cargo(&["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]),
            )?;
            // What is only in the simulated builds, and only where bugs can be planted.
            let packages = [
                "-p",
                "kv-core",
                "-p",
                "model",
                "-p",
                "sim",
                "-p",
                "scenarios",
                "--all-targets",
                "--",
                "-Dwarnings",
            ];
            step(
                "lints, simulated, with planted bugs",
                built_with(&PLANTED_SIMULATED, "clippy", &packages),
            )?;
            test()?;
            let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
            docs.env("RUSTDOCFLAGS", "-Dwarnings");
            step("docs", docs)
        }
        Task::Tidy => tidy::check(&root()),
        Task::Bench(Bench::Peers { options }) => bench_peers(&options),
    }
}

/// Builds the store and the benchmark for speed, and runs it on the disk that the repository is on.
fn bench_peers(options: &[String]) -> anyhow::Result<()> {
    let build = [
        "build",
        "--release",
        "-p",
        "kv",
        "-p",
        "bench",
        "--features",
        "kv/default",
    ];
    step("build", cargo(&build))?;
    let target = root().join("target");
    let mut bench = Command::new(target.join("release/bench"));
    bench
        .arg("peers")
        .arg("--kv")
        .arg(target.join("release/kv"));
    bench.arg("--folder").arg(target.join("bench"));
    bench.args(options);
    step("bench peers", bench)
}

fn test() -> anyhow::Result<()> {
    tidy::check(&root())?;
    let features = features()?;
    step("tests", tests_with(&features, &[]))?;
    test_zookeeper(&features)?;
    test_real_worlds(&features)?;
    // The model visits millions of states. That the plain protocol loses a write is one of these tests.
    let model = ["test", "--release", "-p", "model"];
    step("tests, model", cargo(&model))?;
    // Its exit code says that everything was visited, holds, and was reached.
    let quick = ["run", "--release", "-p", "model", "--"];
    let mut quick = cargo(&quick);
    quick.args(["check", "--preset", "quick"]);
    step("the model, complete within the quick bounds", quick)?;
    step(
        "tests, simulated",
        built_with(
            &SIMULATED,
            "test",
            &["--release", "-p", "sim", "-p", "scenarios"],
        ),
    )?;
    // The model finds each of them, and what it finds is played with real nodes in the simulator.
    let planted = [
        "--release",
        "-p",
        "model",
        "-p",
        "scenarios",
        "--test",
        "planted",
        "--",
        "--nocapture",
    ];
    step(
        "planted bugs, in the model and in the simulator",
        built_with(&PLANTED_SIMULATED, "test", &planted),
    )
}

/// The tests of the normal build. Every step asks for the same packages and features, so that nothing is built twice.
fn tests_with(features: &[&str], tests: &[&str]) -> Command {
    let mut command = cargo(&["test", "--workspace", "--exclude", "model"]);
    command.args(features).args(tests);
    in_rocksdb(command, features)
}

/// With what the normal build is tested: with RocksDB, where Debian's library is, which takes a minute where the crate's own takes many.
fn features() -> anyhow::Result<Vec<&'static str>> {
    let missing =
        "librocksdb-dev is not installed: apt-get install clang libclang-dev g++ librocksdb-dev";
    let rocksdb = is_installed("tests, with RocksDB", "/usr/include/rocksdb/c.h", missing)?;
    Ok(match rocksdb {
        true => vec!["--features", "kv/rocksdb"],
        false => vec![],
    })
}

fn in_rocksdb(mut command: Command, features: &[&str]) -> Command {
    if !features.is_empty() {
        command.env("ROCKSDB_LIB_DIR", library_folder());
        command.env("ROCKSDB_INCLUDE_DIR", "/usr/include");
    }
    command
}

/// What needs a real ZooKeeper: the tests start their servers themselves, and most of the time wait for sessions to end.
fn test_zookeeper(features: &[&str]) -> anyhow::Result<()> {
    let name = "tests, with ZooKeeper";
    if !has_zookeeper(name)? {
        return Ok(());
    }
    let tests = ["--test", "zookeeper", "--test", "zookeeper_cluster"];
    let mut command = tests_with(features, &tests);
    command.args(["--", "--ignored", "--test-threads", "2"]);
    step(name, command)
}

fn has_zookeeper(name: &str) -> anyhow::Result<bool> {
    let missing = "ZooKeeper is not installed: apt-get install zookeeper";
    is_installed(name, "/usr/share/java/zookeeper.jar", missing)
}

/// Three scenarios of the suite, each once with real processes and once with containers, side by side: they wait most of the time.
const REAL_SCENARIOS: [&str; 3] = [
    "writer-isolated",
    "pause-past-lease",
    "writer-cut-from-coordination",
];

fn test_real_worlds(features: &[&str]) -> anyhow::Result<()> {
    let mut build = cargo(&["build", "--workspace", "--exclude", "model", "--bins"]);
    build.args(features);
    step("programs", in_rocksdb(build, features))?;
    let program = root().join("target/debug/scenarios");
    let run = |world: &str| {
        let mut command = Command::new(&program);
        command.arg("run").args(REAL_SCENARIOS);
        command.args(["--world", world, "--jobs", "3"]);
        command
    };
    let name = "scenarios, with real processes";
    if has_zookeeper(name)? {
        step(name, run("local"))?;
    }
    let name = "scenarios, with containers";
    let engine = Command::new("docker").arg("info").output();
    if !engine.is_ok_and(|engine| engine.status.success()) {
        eprintln!("── {name}: SKIPPED, no Docker engine answers");
        return Ok(());
    }
    let mut images = Command::new(root().join("docker/offline-images.sh"));
    images.arg("--binary").arg(root().join("target/debug/kv"));
    step("images", images)?;
    step(name, run("docker"))
}

/// Whether a step can run. Where what it needs is missing it says so and is skipped; in CI that is an error.
fn is_installed(name: &str, file: &str, missing: &str) -> anyhow::Result<bool> {
    if Path::new(file).is_file() {
        return Ok(true);
    }
    if std::env::var_os("CI").is_some() {
        bail!("{name}: {missing}");
    }
    eprintln!("── {name}: SKIPPED, {missing}");
    Ok(false)
}

/// Where Debian keeps the libraries of this machine's kind.
fn library_folder() -> PathBuf {
    let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    PathBuf::from(folder)
}

/// `RUSTFLAGS` in the environment would silently replace the flags that turn the simulator on.
fn refuse_rustflags(flags: Option<&std::ffi::OsStr>) -> anyhow::Result<()> {
    match flags {
        Some(flags) if !flags.is_empty() => bail!(
            "RUSTFLAGS is set in the environment ({}); it would silently take the simulator's cfg \
             away. Unset it and run the command again",
            flags.to_string_lossy()
        ),
        _ => Ok(()),
    }
}

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(root());
    command
}

/// A build that has flags and a target folder of its own.
fn built_with(flags: &[&str], verb: &str, arguments: &[&str]) -> Command {
    let mut command = cargo(&[verb]);
    command.args(flags).args(arguments);
    command
}

/// Runs one named step, and says how long it took.
fn step(name: &str, mut command: Command) -> anyhow::Result<()> {
    eprintln!("── {name}");
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("{name}: cannot start {command:?}"))?;
    eprintln!("── {name}: {:.0} s", start.elapsed().as_secs_f64());
    if !status.success() {
        bail!("{name} failed: {command:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustflags_in_the_environment_are_refused() {
        assert!(refuse_rustflags(None).is_ok());
        assert!(refuse_rustflags(Some("".as_ref())).is_ok());
        let refusal = refuse_rustflags(Some("-Ctarget-cpu=native".as_ref())).unwrap_err();
        assert!(refusal.to_string().contains("Unset it"), "{refusal}");
    }

    #[test]
    fn the_alias_and_the_tests_turn_the_simulator_on_alike() {
        let aliases = std::fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
        for argument in SIMULATED {
            assert!(
                aliases.contains(argument),
                "{argument} is missing from the alias `cargo sim`"
            );
        }
    }
}
