//! Grants (the policy's "overrides"): who gave whom what, why and until when. Each one ends. How they act on a request is
//! `granted`'s.

use core::net::IpAddr;

use super::{number, rfc3339, text};
use crate::address::{Cidr, parse_address};
use crate::catalogue::Catalogue;
use crate::policy::mistake::{Mistake, Mistakes, quoted};
use crate::policy::{Node, Policy, body};
use crate::template::Template;
use crate::time::{Micros, Timestamp};

/// The widest ranges: what is wider is everybody, whom a rule's kill switch is for.
const WIDEST_IPV4: u8 = 8;
const WIDEST_IPV6: u8 = 32;

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Unique: `ov_` and 16 hexadecimal digits.
    pub id: String,
    /// The name of the token that gave it.
    pub admin: String,
    /// Whom it is for: a request must fit all that is given here.
    pub target: Target,
    /// One of the reasons.
    pub reason: String,
    /// A remark.
    pub note: String,
    /// What it allows.
    pub allowance: Allowance,
    /// When it was given.
    pub created_at: Timestamp,
    /// From this moment on it does nothing.
    pub expires_at: Timestamp,
}

/// Whom a grant is for; at least one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A verified user.
    pub user: Option<String>,
    /// A range of addresses.
    pub ip: Option<Cidr>,
    /// Requests whose path fits in both readings.
    pub endpoint: Option<Template>,
    /// A rule's name; `None` is all rules.
    pub rule: Option<String>,
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Rules are counted and do not act.
    Unlimited,
    /// So many millionths of the quota, more than 1,000,000.
    Times(u64),
}

/// What a grant is made from, beside its text.
#[derive(Clone, Copy, Debug)]
pub struct Giving<'a> {
    /// The token's name.
    pub admin: &'a str,
    /// Random bits for the id.
    pub random: [u8; 8],
    /// When.
    pub now: Timestamp,
}

impl Grant {
    /// Reads what `POST /v1/overrides` was sent.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(body: &[u8], policy: &Policy, catalogue: &Catalogue, giving: Giving<'_>) -> Result<Self, Mistakes> {
        let longest = policy.admin_api.max_override_minutes;
        let allowed = format!("1 to {longest}, the policy's max_override_minutes");
        let node = body::read(body, &body::OVERRIDE, catalogue).map_err(|mistakes| {
            let mut precise = Mistakes::default();
            for mistake in &mistakes {
                let is_duration = mistake.pointer == "/duration_minutes";
                let allowed = if is_duration { &allowed } else { &mistake.allowed };
                precise.add(Mistake { allowed: allowed.clone(), ..mistake.clone() });
            }
            precise
        })?;
        let mut mistakes = Mistakes::default();
        let minutes = node.get("duration_minutes").and_then(Node::whole).unwrap_or(0);
        if minutes > longest {
            mistakes.add(Mistake::new("/duration_minutes", minutes.to_string(), allowed));
        }
        if node.word("admin_id").is_some_and(|id| id != giving.admin) {
            let found = quoted(node.word("admin_id").unwrap_or_default());
            mistakes.add(Mistake::new("/admin_id", found, format!("\"{}\", the token's name", giving.admin)));
        }
        let target = target(&node, policy, &mut mistakes);
        let allowance = allowance(&node, &mut mistakes);
        let (true, Some(target), Some(allowance)) = (mistakes.is_empty(), target, allowance) else {
            return Err(mistakes);
        };
        #[expect(clippy::arithmetic_side_effects, reason = "a Timestamp saturates")]
        let expires_at = giving.now + Micros::from_secs(minutes.saturating_mul(60));
        Ok(Self {
            id: format!("ov_{}", super::hex(&giving.random)),
            admin: giving.admin.to_owned(),
            target,
            reason: node.word("reason").unwrap_or("other").to_owned(),
            note: node.word("note").unwrap_or_default().to_owned(),
            allowance,
            created_at: giving.now,
            expires_at,
        })
    }

    /// Whether it still acts.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// Whether it is for everybody: a kill switch, or a larger quota for all.
    pub fn is_for_everybody(&self) -> bool {
        self.target.user.is_none() && self.target.ip.is_none() && self.target.endpoint.is_none()
    }

    /// Whether it switches a rule off, or all, for everybody.
    pub fn is_kill_switch(&self) -> bool {
        self.is_for_everybody() && self.allowance == Allowance::Unlimited
    }

    /// Whether it may act on requests of this user and address; of which one is unknown counts as fitting none.
    pub fn may_be_for(&self, user: Option<&str>, address: Option<IpAddr>) -> bool {
        self.target.user.as_deref().is_none_or(|target| user == Some(target))
            && self.target.ip.is_none_or(|range| address.is_some_and(|address| range.contains(address)))
    }

    /// The grant as the API shows it.
    pub fn shown(&self, now: Timestamp) -> Node {
        let mut members = self.members();
        members.push(("created_at".to_owned(), text(&rfc3339::written(self.created_at))));
        members.push(("expires_at".to_owned(), text(&rfc3339::written(self.expires_at))));
        members.push(("expires_in_seconds".to_owned(), number(self.expires_at.since(now).secs_ceil())));
        Node::Object(members)
    }

    /// The grant as it is stored.
    pub(super) fn stored(&self) -> Node {
        let mut members = self.members();
        if let Allowance::Times(ppm) = self.allowance {
            members.push(("ppm".to_owned(), number(ppm)));
        }
        members.push(("created_us".to_owned(), number(self.created_at.micros())));
        members.push(("expires_us".to_owned(), number(self.expires_at.micros())));
        Node::Object(members)
    }

    /// Reads what [`Self::stored`] writes.
    pub(super) fn restored(node: &Node) -> Option<Self> {
        let moment = |name| node.get(name)?.whole().map(Timestamp::from_micros);
        let allowance = match node.get("ppm") {
            Some(ppm) => Allowance::Times(ppm.whole()?),
            None => Allowance::Unlimited,
        };
        let rule = node.word("target_rule").filter(|rule| *rule != "*");
        let target = Target {
            user: node.word("target_user_id").map(str::to_owned),
            ip: node.word("target_ip").map(Cidr::parse).transpose().ok()?,
            endpoint: node.word("target_endpoint").map(Template::parse).transpose().ok()?,
            rule: rule.map(str::to_owned),
        };
        Some(Self {
            id: node.word("override_id")?.to_owned(),
            admin: node.word("admin_id")?.to_owned(),
            target,
            reason: node.word("reason")?.to_owned(),
            note: node.word("note")?.to_owned(),
            allowance,
            created_at: moment("created_us")?,
            expires_at: moment("expires_us")?,
        })
    }

    fn members(&self) -> Vec<(String, Node)> {
        let mut members = vec![("override_id".to_owned(), text(&self.id)), ("admin_id".to_owned(), text(&self.admin))];
        let mut given = |name: &str, value: Option<String>| {
            members.extend(value.map(|value| (name.to_owned(), Node::Text(value))));
        };
        given("target_user_id", self.target.user.clone());
        given("target_ip", self.target.ip.map(|range| range.to_string()));
        given("target_endpoint", self.target.endpoint.as_ref().map(|template| template.as_str().to_owned()));
        let all = self.is_for_everybody().then(|| "*".to_owned());
        given("target_rule", self.target.rule.clone().or(all));
        given("reason", Some(self.reason.clone()));
        given("note", Some(self.note.clone()));
        members.push(self.allowed());
        members
    }

    /// Which grant it is and what it allows.
    pub(crate) fn in_short(&self) -> Node {
        Node::Object(vec![("override_id".to_owned(), text(&self.id)), self.allowed()])
    }

    /// What it allows, as a member.
    fn allowed(&self) -> (String, Node) {
        match self.allowance {
            Allowance::Unlimited => ("unlimited".to_owned(), Node::Boolean(true)),
            Allowance::Times(ppm) => ("rate_multiplier".to_owned(), Node::of_millionths(ppm)),
        }
    }
}

fn target(node: &Node, policy: &Policy, mistakes: &mut Mistakes) -> Option<Target> {
    let named = ["target_user_id", "target_ip", "target_endpoint", "target_rule"];
    if named.iter().all(|name| node.get(name).is_none()) {
        mistakes.add(Mistake::new("", "no target", format!("at least one of {}", named.join(", "))));
        return None;
    }
    let ip = node.word("target_ip").and_then(|range| Cidr::parse(range).ok());
    if let Some(range) = ip
        && range.prefix() < if range.is_ipv4() { WIDEST_IPV4 } else { WIDEST_IPV6 }
    {
        let allowed =
            format!("a range of /{WIDEST_IPV4} or less (IPv6: /{WIDEST_IPV6}); for everybody use target_rule");
        mistakes.add(Mistake::new("/target_ip", quoted(&range.to_string()), allowed));
    }
    let rule = node.word("target_rule").filter(|rule| *rule != "*");
    if let Some(rule) = rule
        && policy.rule(rule).is_none()
    {
        let mistake = Mistake::new("/target_rule", quoted(rule), "the name of a rule of this policy, or \"*\"");
        mistakes.add(mistake.suggesting(rule, policy.rules.iter().map(|known| known.name.as_str())));
    }
    let user = node.word("target_user_id");
    if user.is_some_and(|user| user.trim().is_empty()) {
        mistakes.add(Mistake::new("/target_user_id", "only white space", "a user"));
    }
    if user.is_some() && !policy.identity.has_verified_source() {
        let allowed = "no user: this policy has no verified source of users, so that this would never match";
        mistakes.add(Mistake::new("/target_user_id", "a user", allowed));
    }
    Some(Target {
        user: user.map(str::to_owned),
        ip,
        endpoint: node.word("target_endpoint").and_then(|text| Template::parse(text).ok()),
        rule: rule.map(str::to_owned),
    })
}

fn allowance(node: &Node, mistakes: &mut Mistakes) -> Option<Allowance> {
    let unlimited = node.get("unlimited").and_then(Node::boolean).unwrap_or(false);
    match (unlimited, node.get("rate_multiplier").and_then(Node::millionths)) {
        (true, None) => Some(Allowance::Unlimited),
        // Above 1, as the format says.
        (false, Some(times)) => Some(Allowance::Times(u64::try_from(times).unwrap_or(0))),
        (true, Some(_)) => {
            mistakes.add(Mistake::new("", "both unlimited and rate_multiplier", "one of them"));
            None
        }
        (false, None) => {
            mistakes.add(Mistake::new("", "no allowance", "\"unlimited\": true, or \"rate_multiplier\""));
            None
        }
    }
}

/// The grants that may act on requests of a user and address, as `GET /v1/overrides/check` asks.
///
/// # Errors
/// The address is none.
pub fn check<'g>(
    grants: &'g [Grant],
    user: Option<&str>,
    address: Option<&str>,
    now: Timestamp,
) -> Result<Vec<&'g Grant>, Mistakes> {
    let address = address_of(address)?;
    Ok(grants.iter().filter(|grant| grant.is_in_force(now) && grant.may_be_for(user, address)).collect())
}

/// An address that a call names.
///
/// # Errors
/// It is none.
pub fn address_of(text: Option<&str>) -> Result<Option<IpAddr>, Mistakes> {
    let Some(text) = text else { return Ok(None) };
    match parse_address(text.as_bytes()) {
        Some(address) => Ok(Some(address)),
        None => Err(Mistake::new("/ip_address", quoted(text), "an IPv4 or IPv6 address").into()),
    }
}
