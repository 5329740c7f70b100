//! The `cargo xtask` program: reads the command line, runs one command, turns its result into an exit status.
//! Not here: the commands themselves (the library's modules).

use std::process::ExitCode;

use clap::Parser as _;
use xtask::cli::Cli;
use xtask::tools::MissingTools;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<MissingTools>() => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
