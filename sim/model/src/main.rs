//! `cargo model`.

use std::process::ExitCode;

fn main() -> ExitCode {
    model::cli::main()
}
