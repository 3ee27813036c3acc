//! `cargo model`.

use std::process::ExitCode;

/// States are made and dropped by the million.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    model::cli::main()
}
