//! Flags of the commands that grant, revoke and reset.

use clap::{Args, ValueEnum};

use super::Target;

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).multiple(true).args(["user", "ip", "endpoint", "rule"])))]
#[command(group(clap::ArgGroup::new("extent").required(true).args(["unlimited", "multiplier"])))]
pub(crate) struct OverrideArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Who grants: the name of the token, which the proxy checks.
    #[arg(long, value_name = "NAME")]
    pub(crate) admin: Option<String>,
    /// The verified user it is for.
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// The address or range it is for.
    #[arg(long, value_name = "CIDR")]
    pub(crate) ip: Option<String>,
    /// The path template it is for.
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) endpoint: Option<String>,
    /// The rule that is switched off; "*" is all of them.
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// Why.
    #[arg(long, value_enum)]
    pub(crate) reason: Reason,
    /// For how many minutes, up to the policy's max_override_minutes; it always ends.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) duration: u64,
    /// No limit at all.
    #[arg(long)]
    pub(crate) unlimited: bool,
    /// So many times the rate: above 1, up to 1000.
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub(crate) multiplier: Option<f64>,
    /// A remark for the audit log.
    #[arg(long)]
    pub(crate) note: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Reason {
    EmergencyAccess,
    Maintenance,
    Testing,
    CustomerSupport,
    Other,
}

impl Reason {
    /// The word that the admin API uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::EmergencyAccess => "emergency_access",
            Self::Maintenance => "maintenance",
            Self::Testing => "testing",
            Self::CustomerSupport => "customer_support",
            Self::Other => "other",
        }
    }
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if factor > 1.0 && factor <= 1000.0 { Ok(factor) } else { Err("allowed: above 1, up to 1000".to_owned()) }
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The exception's id, as `override` and `list --overrides` print it.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The rule.
    #[arg(long)]
    pub(crate) rule: String,
    /// Clear the counter of this client, as the rule counts it: a user, an address; "" for a global rule. Metrics stay.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// What the key is, where a rule counts several kinds: user, unverified (its sha256:...), anonymous or ip.
    #[arg(long, requires = "key")]
    pub(crate) kind: Option<String>,
}
