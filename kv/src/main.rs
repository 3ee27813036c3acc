//! The `kv` command: a node, a whole cluster for a first try, and a client of either.

mod cli;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

/// The system's allocator keeps what one thread freed from the others: some hundred megabytes with a large store.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse(); // Says what is wrong and exits with 2 where something is.
    match run(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: cli::Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads that the program needs")?;
    Ok(runtime.block_on(cli::run(arguments)))
}
