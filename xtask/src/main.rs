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

/// What the build adds in which bugs can be planted (`kv_core::planted`).
const PLANTED: [&str; 4] = [
    "--config",
    "target.'cfg(all())'.rustflags=['--cfg','planted']",
    "--target-dir",
    "target/planted",
];

/// What the build adds that plays planted bugs in the simulator.
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
            let packages = [
                "-p",
                "sim",
                "-p",
                "scenarios",
                "--all-targets",
                "--",
                "-Dwarnings",
            ];
            step(
                "lints, simulated",
                built_with(&SIMULATED, "clippy", &packages),
            )?;
            let packages = [
                "-p",
                "kv-core",
                "-p",
                "model",
                "--all-targets",
                "--",
                "-Dwarnings",
            ];
            step(
                "lints, with planted bugs",
                built_with(&PLANTED, "clippy", &packages),
            )?;
            let packages = ["-p", "scenarios", "--all-targets", "--", "-Dwarnings"];
            step(
                "lints, with planted bugs, simulated",
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
    step(
        "tests",
        cargo(&["test", "--workspace", "--exclude", "model"]),
    )?;
    test_rocksdb()?;
    test_zookeeper()?;
    // The model visits millions of states. That the plain protocol loses a write is one of these tests.
    let model = ["test", "--release", "-p", "model"];
    step("tests, model", cargo(&model))?;
    // Its exit code says that everything was visited, holds, and was reached.
    let quick = ["model", "check", "--preset", "quick"];
    step("the model, complete within the quick bounds", cargo(&quick))?;
    step(
        "tests, simulated",
        built_with(
            &SIMULATED,
            "test",
            &["--release", "-p", "sim", "-p", "scenarios"],
        ),
    )?;
    step(
        "planted bugs, in the model",
        built_with(
            &PLANTED,
            "test",
            &[
                "--release",
                "-p",
                "model",
                "--test",
                "planted",
                "--",
                "--nocapture",
            ],
        ),
    )?;
    step(
        "planted bugs, in the simulator",
        built_with(
            &PLANTED_SIMULATED,
            "test",
            &[
                "--release",
                "-p",
                "scenarios",
                "--test",
                "planted",
                "--",
                "--nocapture",
            ],
        ),
    )
}

/// The engine that is built only where it is asked for, with Debian's library, which takes a minute where the crate's own takes many.
fn test_rocksdb() -> anyhow::Result<()> {
    let name = "tests, with RocksDB";
    let missing =
        "librocksdb-dev is not installed: apt-get install clang libclang-dev g++ librocksdb-dev";
    if !is_installed(name, "/usr/include/rocksdb/c.h", missing)? {
        return Ok(());
    }
    let tests = [
        "--lib",
        "--test",
        "catch_up",
        "--test",
        "engine_faults",
        "--test",
        "engine_damage",
    ];
    let mut command = cargo(&[
        "test",
        "-p",
        "kv",
        "--features",
        "rocksdb",
        "--target-dir",
        "target/rocksdb",
    ]);
    command.args(tests);
    command.env("ROCKSDB_LIB_DIR", library_folder());
    command.env("ROCKSDB_INCLUDE_DIR", "/usr/include");
    step(name, command)
}

/// What needs a real ZooKeeper: the tests start their servers themselves, and most of the time wait for sessions to end.
fn test_zookeeper() -> anyhow::Result<()> {
    let name = "tests, with ZooKeeper";
    let missing = "ZooKeeper is not installed: apt-get install zookeeper";
    if !is_installed(name, "/usr/share/java/zookeeper.jar", missing)? {
        return Ok(());
    }
    let tests = ["--test", "zookeeper", "--test", "zookeeper_cluster"];
    let mut command = cargo(&["test", "-p", "kv"]);
    command.args(tests);
    command.args(["--", "--ignored", "--test-threads", "2"]);
    step(name, command)
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
