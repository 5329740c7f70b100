//! Flags of the commands that change nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Address, Target};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The policy file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Warnings are mistakes.
    #[arg(long)]
    pub(crate) deny_warnings: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// List the exceptions that are granted, not the rules.
    #[arg(long)]
    pub(crate) overrides: bool,
    /// Only the exceptions that may act for this verified user, and whether it is an admin's.
    #[arg(long, value_name = "ID", requires = "overrides")]
    pub(crate) user: Option<String>,
    /// Only the exceptions that may act for this address, and whether it is an admin's.
    #[arg(long, value_name = "ADDRESS", requires = "overrides")]
    pub(crate) ip: Option<std::net::IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// The request's path, with its query if it has one.
    #[arg(long, default_value = "/")]
    pub(crate) path: String,
    /// A header of the request, as NAME:VALUE; may be repeated.
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    pub(crate) ip: std::net::IpAddr,
    /// The user, put where the policy looks for verified users first, or for any.
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("no colon between name and value")?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte)) {
        return Err("not a header's name before the colon".to_owned());
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The access log, which may be compressed with gzip; "-" is standard input.
    #[arg(value_name = "LOG")]
    pub(crate) log: PathBuf,
    /// The policy.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Another policy: tell what it would change.
    #[arg(long, value_name = "FILE")]
    pub(crate) candidate: Option<PathBuf>,
    /// The log's format; seen from each line unless given.
    #[arg(long, value_enum)]
    pub(crate) format: Option<LogFormat>,
    /// How many of the worst offenders are named, for each rule.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) top: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Apache's and nginx's combined (or common) log, and Apache's vhost_combined.
    Combined,
    /// JSON lines with ts, ip, method, path and perhaps user and status.
    Json,
    /// Envoy's and Istio's default access log, or as JSON: start_time, downstream_remote_address, method, path,
    /// response_code.
    Envoy,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Scenario files.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// One rule only.
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// Show them again and again, until interrupted.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, requires = "watch")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// Stop after so many looks.
    #[arg(long, value_name = "LOOKS", requires = "watch")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CountersArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The rule.
    #[arg(long)]
    pub(crate) rule: String,
    /// The client, as the rule counts it: a user, an address, an endpoint; "" for a global rule.
    #[arg(long)]
    pub(crate) key: String,
    /// What the key is, where a rule counts several kinds: user, unverified (its sha256:...), anonymous or ip.
    #[arg(long)]
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TicketArgs {
    #[command(flatten)]
    pub(crate) address: Address,
    /// The ticket: the last part of the Location that a queued request was answered with.
    #[arg(value_name = "TICKET")]
    pub(crate) ticket: String,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct DashboardArgs {
    #[command(flatten)]
    pub(crate) address: Address,
    /// The address to serve the page on, which must be a loopback one; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = loopback)]
    pub(crate) listen: SocketAddr,
    /// Open the page in a browser.
    #[arg(long)]
    pub(crate) open: bool,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not an address and port, such as 127.0.0.1:8080".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("not a loopback address: whoever reaches the page reaches the proxy's admin API".to_owned())
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only entries after this number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify that no entry was changed, taken out or moved.
    Verify {
        #[command(flatten)]
        target: Target,
        /// Verify these lines of the host's log instead of what the proxy says.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
        /// The last entry's number and hash, as they stand elsewhere: entries cut off the end are then missed, too.
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<String>,
    },
}
