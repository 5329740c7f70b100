//! One file for each command, or for a few that belong together.

mod audit;
mod check;
mod counters;
mod dashboard;
mod edit;
mod explain;
mod grant;
mod list;
mod metrics;
mod replay;
mod rows;
mod shell;
mod test;
mod ticket;

use crate::cli::{Cli, Command};
use crate::failure::{Answer, Failure};
use crate::screen::Screen;

/// Runs the command.
pub(crate) fn run(cli: &Cli, screen: Screen) -> Result<Answer, Failure> {
    match &cli.command {
        Command::Check(args) => check::run(args, screen),
        Command::List(args) => list::run(args, screen),
        Command::Add(args) => edit::add(args, screen),
        Command::Remove(args) => edit::remove(args, screen),
        Command::Explain(args) => explain::run(args, screen),
        Command::Replay(args) => replay::run(args, screen),
        Command::Test(args) => test::run(args, screen),
        Command::Override(args) => grant::grant(args, screen),
        Command::Revoke(args) => grant::revoke(args, screen),
        Command::Reset(args) => grant::reset(args, screen),
        Command::Metrics(args) => metrics::metrics(args, screen),
        Command::Counters(args) => counters::run(args, screen),
        Command::Ticket(args) => ticket::run(args, screen),
        Command::Status(args) => metrics::status(args, screen),
        Command::Audit(args) => audit::run(args, screen),
        Command::Dashboard(args) => dashboard::run(args, screen),
        Command::Completions { shell } => shell::completions(*shell),
        Command::Man { folder } => shell::man(folder, screen),
    }
}
