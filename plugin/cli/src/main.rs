//! `tidegate`, the command line: policies checked, edited, explained and replayed, and a running proxy operated.
//! What a policy means is the engine's; here are files, terminals and HTTP.

#![allow(clippy::format_push_string, clippy::format_collect, reason = "a page of text is put together once a run")]

mod cli;
mod commands;
mod dashboard;
mod failure;
mod log_line;
mod moment;
mod policy_file;
mod remote;
mod screen;

use std::process::ExitCode;

use clap::Parser as _;
use cli::Cli;
use failure::{Answer, Failure};
use screen::{Screen, complain};

/// Exit status where a command could not do its work: wrong usage, a file, the network.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told_by_clap(&error),
    };
    match commands::run(&cli, Screen::of_stdout(cli.json)) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::FAILURE,
        Err(Failure(message)) => {
            complain(&format!("tidegate: {message}"));
            ExitCode::from(TROUBLE)
        }
    }
}

/// Help and version are "errors" of clap's that go to standard output.
fn told_by_clap(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        complain(text.trim_end());
        return ExitCode::from(TROUBLE);
    }
    match Screen::of_stdout(false).print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(TROUBLE),
    }
}
