//! Commands and flags, as DESIGN.md section 8 fixes them. What they do is in `commands`.

#![allow(clippy::doc_markdown, reason = "these comments are printed as help, where backticks only disturb")]

mod edit;
mod grant;
mod look;
pub(crate) mod target;

pub(crate) use edit::{AddArgs, RemoveArgs};
pub(crate) use grant::{OverrideArgs, ResetArgs, RevokeArgs};
pub(crate) use look::{
    AuditArgs, AuditCommand, CheckArgs, CountersArgs, DashboardArgs, ExplainArgs, ListArgs, LogFormat, MetricsArgs,
    ReplayArgs, StatusArgs, TestArgs, TicketArgs,
};
pub(crate) use target::{Address, Target};

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Rate limiting as one WebAssembly file: its policies and its running proxies.
///
/// Exit status: 0, or 1 where the answer is no (a policy has mistakes, a scenario differs, there is no such rule), or 2
/// where the command could not do its work (usage, files, network).
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a policy file: every mistake where it stands, and what is probably not meant.
    Check(CheckArgs),
    /// List the rules, or what is granted.
    List(ListArgs),
    /// Add a rule, or replace one.
    Add(AddArgs),
    /// Remove a rule.
    Remove(RemoveArgs),
    /// Tell what a request would get and why, without charging it.
    Explain(ExplainArgs),
    /// Run an access log through a policy: what each rule would have done, and what another policy would change.
    Replay(ReplayArgs),
    /// Run scenario files.
    Test(TestArgs),
    /// Grant an exception, for a while.
    Override(OverrideArgs),
    /// End an exception.
    Revoke(RevokeArgs),
    /// Show what was counted.
    Metrics(MetricsArgs),
    /// Count a rule's metrics from zero, or clear one client's counter.
    Reset(ResetArgs),
    /// Show what one client has left, without charging it.
    Counters(CountersArgs),
    /// Show what became of a queued request; needs no token.
    Ticket(TicketArgs),
    /// Show how the proxy is doing.
    Status(StatusArgs),
    /// Show the audit log, or verify it.
    Audit(AuditArgs),
    /// Serve the status page of a running proxy on this machine, until interrupted.
    Dashboard(DashboardArgs),
    /// Print a script that completes this command line.
    Completions {
        /// Which shell it is for.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages.
    Man {
        /// The folder they go to.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
