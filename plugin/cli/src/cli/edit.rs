//! Flags of the commands that change rules.

use clap::Args;

use super::Target;

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The rule's name: 1 to 64 of A-Z a-z 0-9 _ -.
    #[arg(long)]
    pub(crate) name: String,
    /// What it counts by: global, per_user, per_ip or per_endpoint.
    #[arg(long)]
    pub(crate) scope: String,
    /// Units admitted per window.
    #[arg(long)]
    pub(crate) rate: u64,
    /// The window in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) window: u64,
    /// How many units may come at once; the rate unless given.
    #[arg(long)]
    pub(crate) burst: Option<u64>,
    /// The algorithm; the policy's default unless given.
    #[arg(long)]
    pub(crate) algorithm: Option<String>,
    /// The strategy: a name, or a JSON object with its type and options.
    #[arg(long)]
    pub(crate) strategy: Option<String>,
    /// A path template that it applies to; may be repeated.
    #[arg(long = "endpoint", value_name = "TEMPLATE")]
    pub(crate) endpoints: Vec<String>,
    /// A method that it applies to; may be repeated.
    #[arg(long = "method")]
    pub(crate) methods: Vec<String>,
    /// A verified user that it applies to; may be repeated.
    #[arg(long = "user", value_name = "ID")]
    pub(crate) users: Vec<String>,
    /// An address or range that it applies to; may be repeated.
    #[arg(long = "ip", value_name = "CIDR")]
    pub(crate) ips: Vec<String>,
    /// Decides among equally strict rules.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) priority: Option<i64>,
    /// Units that one request takes.
    #[arg(long)]
    pub(crate) cost: Option<u64>,
    /// A rule that this one switches off where it matches; may be repeated.
    #[arg(long, value_name = "RULE")]
    pub(crate) replaces: Vec<String>,
    /// Count and report only, never limit.
    #[arg(long)]
    pub(crate) shadow: bool,
    /// Replace the rule of this name if there is one.
    #[arg(long)]
    pub(crate) force: bool,
    /// Show what would change in the policy file, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The rule's name.
    #[arg(long)]
    pub(crate) name: String,
    /// Show what would change in the policy file, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
