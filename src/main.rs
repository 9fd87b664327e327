//! The program `backstop`: parses arguments, runs one command, turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    backstop::cli::run().into()
}
