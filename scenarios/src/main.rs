//! `cargo sim`: runs scenarios, sums them up, and tells the story of a single run.

use std::process::ExitCode;

fn main() -> ExitCode {
    scenarios::cli::main()
}
