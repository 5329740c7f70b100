//! A policy's settings for those who operate a proxy: the admin API and alerts. What they do is not known here.

use super::json::Node;
use super::mistake::{Mistake, Mistakes, entry, member, quoted};
use super::relations::unique_names;
use super::rule::Rule;
use super::secret::Secret;
use crate::admin::read_hex;
use crate::sorted::Sorted;
use crate::time::Micros;

/// The admin API's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminApi {
    /// The path that it is served under.
    pub path: String,
    /// Who may call it.
    pub tokens: Vec<AdminToken>,
    /// Hosts that it is served for; empty means every host.
    pub hosts: Vec<String>,
    /// The longest override, in minutes.
    pub max_override_minutes: u64,
}

impl Default for AdminApi {
    /// The format's defaults.
    fn default() -> Self {
        Self { path: "/.tidegate".to_owned(), tokens: Vec::new(), hosts: Vec::new(), max_override_minutes: 10_080 }
    }
}

/// One bearer token of the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// Who holds it; the `admin_id` of what is done with it.
    pub name: String,
    /// Whether it may change things.
    pub may_write: bool,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Unique within the policy.
    pub name: String,
    /// What it watches.
    pub when: Condition,
    /// The index of the rule that it watches; `None` is all rules together.
    pub rule: Option<usize>,
    /// How long the condition must hold, up to a day.
    pub holds_for: Micros,
    /// How long the alert is then silent, up to a week.
    pub cooldown: Micros,
    /// Where it is sent; `None` is the host's log only.
    pub webhook: Option<Webhook>,
}

/// What an alert watches; thresholds are in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The share of requests that are limited exceeds this, up to 1.
    HitRateAbove(u64),
    /// Rejections a second exceed this.
    RejectionsPerSecondAbove(u64),
    /// The store fails.
    StoreUnhealthy,
    /// The share of rejections that one client causes exceeds this, up to 1.
    TopViolatorShareAbove(u64),
}

/// Where an alert is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The proxy's cluster that reaches the receiver.
    pub cluster: String,
    /// The `:authority` of the call.
    pub authority: String,
    /// The path of the call.
    pub path: String,
    /// A bearer token for the receiver.
    pub token: Option<Secret>,
}

impl AdminApi {
    /// Whether anybody may call it.
    pub fn is_on(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Builds from a node that fits the format.
    pub(super) fn build(node: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        let tokens = node.get("tokens")?;
        unique_names(tokens.entries(), "/admin_api/tokens", "token", mistakes);
        let tokens = tokens.entries().iter().map(AdminToken::build).collect::<Option<Vec<_>>>()?;
        tell_callers_apart(&tokens, mistakes);
        Some(Self {
            path: node.word("path")?.to_owned(),
            tokens,
            hosts: node.words("hosts")?,
            max_override_minutes: node.get("max_override_minutes")?.whole()?,
        })
    }
}

/// Adds a mistake for each token that is another one too, and for each name that the audit log gives somebody else.
fn tell_callers_apart(tokens: &[AdminToken], mistakes: &mut Mistakes) {
    for (index, token) in tokens.iter().enumerate() {
        let pointer = entry("/admin_api/tokens", index);
        if tokens.iter().take(index).any(|other| other.sha256 == token.sha256) {
            let allowed = "a token that is no other's, so that the audit log tells who did what";
            mistakes.add(Mistake::new(&member(&pointer, "sha256"), "the SHA-256 of an earlier token", allowed));
        }
        if matches!(token.name.as_str(), "tidegate" | "unknown") {
            let allowed = "a name that the audit log does not use itself, for what no token did";
            mistakes.add(Mistake::new(&member(&pointer, "name"), quoted(&token.name), allowed));
        }
    }
}

impl AdminToken {
    fn build(node: &Node) -> Option<Self> {
        let mut sha256 = [0; 32];
        read_hex(node.word("sha256")?, &mut sha256).then_some(Self {
            name: node.word("name")?.to_owned(),
            may_write: node.word("role")? == "write",
            sha256,
        })
    }
}

impl Alert {
    /// Builds the alert at `index` from a node that fits the format. `rules` are the names of the policy's rules.
    pub(super) fn build(
        node: &Node,
        index: usize,
        rules: &Sorted<&str, usize>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let pointer = entry("/alerts", index);
        let when = Condition::build(node, &pointer, mistakes);
        let rule = match node.get("rule").and_then(Node::text) {
            None => Some(None),
            Some(name) => Rule::named(name, rules, &format!("{pointer}/rule"), mistakes).map(Some),
        };
        let webhook = match node.get("webhook") {
            None => None,
            Some(webhook) => Some(Webhook {
                cluster: webhook.word("cluster")?.to_owned(),
                authority: webhook.word("authority")?.to_owned(),
                path: webhook.word("path")?.to_owned(),
                token: webhook.get("token").and_then(Node::text).map(Secret::new),
            }),
        };
        Some(Self {
            name: node.word("name")?.to_owned(),
            when: when?,
            rule: rule?,
            holds_for: Micros::from_secs(node.get("for_seconds")?.whole()?),
            cooldown: Micros::from_secs(node.get("cooldown_seconds")?.whole()?),
            webhook,
        })
    }
}

impl Condition {
    fn build(node: &Node, pointer: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let when = node.word("when")?;
        if when == "store_unhealthy" {
            if node.get("value").is_some() {
                let found = "a value beside \"store_unhealthy\"";
                mistakes.add(Mistake::new(&format!("{pointer}/value"), found, "none: a store fails or not"));
            }
            return Some(Self::StoreUnhealthy);
        }
        let is_share = when != "rejections_per_second_above";
        let allowed = if is_share { "a share above 0, up to 1" } else { "rejections a second" };
        let value = node.get("value").and_then(Node::millionths).and_then(|value| u64::try_from(value).ok());
        let Some(value) = value else {
            let allowed = format!("\"value\": {allowed}, as {} needs it", quoted(when));
            mistakes.add(Mistake::new(pointer, "no \"value\"", allowed));
            return None;
        };
        if is_share && value > 1_000_000 {
            let found = node.get("value").map(Node::to_json).unwrap_or_default();
            mistakes.add(Mistake::new(&format!("{pointer}/value"), found, allowed));
            return None;
        }
        Some(match when {
            "hit_rate_above" => Self::HitRateAbove(value),
            "rejections_per_second_above" => Self::RejectionsPerSecondAbove(value),
            _ => Self::TopViolatorShareAbove(value),
        })
    }
}
