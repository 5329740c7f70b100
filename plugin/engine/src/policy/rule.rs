//! One rule of a policy: its match, quota, algorithm and strategy, and what must hold between them.

use core::num::NonZeroU64;

use sha2::{Digest, Sha256};

use super::identity::ranges;
use super::json::Node;
use super::mistake::{Mistake, Mistakes, entry, member, quoted};
use crate::address::Cidr;
use crate::algorithm::{Algorithm, Quota};
use crate::catalogue::Catalogue;
use crate::sorted::Sorted;
use crate::strategy::{Action, Denial, Reason, Reduced, Relief, Strategy};
use crate::template::Template;
use crate::time::Micros;

/// One limit with its match, quota, algorithm and strategy.
#[derive(Debug)]
pub struct Rule {
    /// Unique within the policy, `[A-Za-z0-9_-]{1,64}`.
    pub name: String,
    /// Which part of the identity enters the key.
    pub scope: Scope,
    /// How much is admitted; `horizon` is the strategy's.
    pub quota: Quota,
    /// How it is counted.
    pub algorithm: &'static dyn Algorithm,
    /// What happens to a limited request.
    pub strategy: Box<dyn Strategy>,
    /// Path templates, any of which matches; empty matches every path.
    pub endpoints: Vec<Template>,
    /// Upper-case methods, any of which matches (GET covers HEAD); empty matches every method.
    pub methods: Vec<String>,
    /// Verified user ids, any of which matches; empty matches everybody.
    pub user_ids: Vec<String>,
    /// Address ranges, any of which matches; empty matches every address.
    pub ip_addresses: Vec<Cidr>,
    /// Larger decides first among equally strict actions.
    pub priority: i64,
    /// A rule that is not enabled matches nothing.
    pub enabled: bool,
    /// Evaluated and counted, never acted on.
    pub shadow: bool,
    /// Units that one request takes; 0 conforms and charges nothing.
    pub cost: u64,
    /// Indices of the rules that this one switches off where it matches.
    pub replaces: Vec<usize>,
    /// What decides when the store fails.
    pub on_store_error: OnStoreError,
    /// The share of the quota that local cells enforce when the store fails, in millionths: 1 to 1,000,000.
    pub local_share_ppm: u32,
    /// Hash of scope, algorithm, rate, window and burst: changing one of these starts the counters afresh.
    pub tag: u64,
}

/// Which part of the identity enters a rule's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One cell for everything that matches.
    Global,
    /// A cell a user.
    PerUser,
    /// A cell an address (or address prefix).
    PerIp,
    /// A cell a template, or a normalised path where the rule names no endpoints.
    PerEndpoint,
}

/// What decides for a rule when the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreError {
    /// Local cells, with the rule's `local_share`.
    Local,
    /// The rule is skipped.
    Allow,
    /// The request is refused.
    Deny,
}

/// What a rule is built from, besides its own node.
pub(super) struct Surroundings<'a> {
    /// The document's `defaults`, filled in.
    pub(super) defaults: &'a Node,
    /// What names of algorithms and strategies mean.
    pub(super) catalogue: &'a Catalogue,
    /// Whether the store runs scripts of its own, which know the built-in algorithms only.
    pub(super) store_is_redis: bool,
}

impl Rule {
    /// `quota.rate` as a plain number.
    pub fn rate(&self) -> u64 {
        NonZeroU64::get(self.quota.rate)
    }

    /// `quota.window`.
    pub fn window(&self) -> Micros {
        self.quota.window
    }

    /// The reduced form that the rule's strategy gives below its ceiling, if it has one. Strategies are pure, so asking is
    /// looking.
    pub fn reduced(&self) -> Option<Reduced> {
        self.strategy.ceiling_ppm()?;
        let denial = Denial {
            rule: self.name.clone(),
            reason: Reason::OverQuota,
            relief: Relief::BelowCeiling,
            retry_after: Micros::ZERO,
            violated: Vec::new(),
        };
        if let Action::Degrade(reduced) = self.strategy.apply(&denial) { Some(reduced) } else { None }
    }

    /// Builds the rule at `index` from a node that fits the format, all but `replaces`.
    pub(super) fn build(node: &Node, index: usize, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let pointer = entry("/rules", index);
        let scope = Scope::named(node.word("scope")?);
        let algorithm = algorithm(node, &pointer, around, mistakes);
        let strategy = strategy(node, &pointer, around, mistakes);
        let burst = burst(node, &pointer, mistakes);
        let (algorithm, strategy) = (algorithm?, strategy?);
        let mut quota = Quota {
            rate: NonZeroU64::new(node.get("rate")?.whole()?)?,
            window: Micros::from_secs(node.get("window_seconds")?.whole()?),
            burst: burst?,
            horizon: Micros::ZERO,
        };
        quota.horizon = strategy.horizon().min(algorithm.longest_line(&quota));
        check_ceiling(&*strategy, &quota, &pointer, mistakes);
        Some(Self {
            name: node.word("name")?.to_owned(),
            scope,
            cost: cost(node, &pointer, &quota, algorithm, mistakes)?,
            tag: tag(scope, algorithm.name(), &quota),
            quota,
            algorithm,
            strategy,
            endpoints: node.words("endpoints")?.iter().map(|text| Template::parse(text).ok()).collect::<Option<_>>()?,
            methods: node.words("methods")?.iter().map(|method| method.to_ascii_uppercase()).collect(),
            user_ids: node.words("user_ids")?,
            ip_addresses: ranges(node)?,
            priority: node.get("priority")?.integer()?,
            enabled: node.get("enabled")?.boolean()?,
            shadow: node.word("mode")? == "shadow",
            replaces: Vec::new(),
            on_store_error: match node.word("on_store_error")? {
                "local" => OnStoreError::Local,
                "allow" => OnStoreError::Allow,
                _ => OnStoreError::Deny,
            },
            local_share_ppm: u32::try_from(node.get("local_share")?.millionths()?).ok()?,
        })
    }

    /// The index of the rule of that name. Where there is none, adds a mistake at `pointer`.
    pub(super) fn named(
        name: &str,
        names: &Sorted<&str, usize>,
        pointer: &str,
        mistakes: &mut Mistakes,
    ) -> Option<usize> {
        let index = names.get(&name).copied();
        if index.is_none() && !mistakes.is_full() {
            let mistake = Mistake::new(pointer, quoted(name), "the name of a rule of this policy");
            mistakes.add(mistake.suggesting(name, names.iter().map(|(known, _)| *known)));
        }
        index
    }
}

impl Scope {
    fn named(name: &str) -> Self {
        match name {
            "global" => Self::Global,
            "per_user" => Self::PerUser,
            "per_ip" => Self::PerIp,
            _ => Self::PerEndpoint,
        }
    }

    /// The word that policies use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::PerUser => "per_user",
            Self::PerIp => "per_ip",
            Self::PerEndpoint => "per_endpoint",
        }
    }
}

/// A rule's own member, or that of the document's defaults, with the pointer to it.
fn own_or_default<'a>(
    node: &'a Node,
    pointer: &str,
    name: &str,
    around: &Surroundings<'a>,
) -> Option<(&'a Node, String)> {
    match node.get(name) {
        Some(own) => Some((own, member(pointer, name))),
        None => around.defaults.get(name).map(|default| (default, member("/defaults", name))),
    }
}

fn algorithm(
    node: &Node,
    pointer: &str,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<&'static dyn Algorithm> {
    let (name, place) = own_or_default(node, pointer, "algorithm", around)?;
    let name = name.text()?;
    if around.store_is_redis && !around.catalogue.is_built_in(name) {
        let found = format!("{}, an algorithm that this plugin adds", quoted(name));
        mistakes.add(Mistake::new(
            &place,
            found,
            "a built-in algorithm, since counters in Redis are counted by scripts",
        ));
        return None;
    }
    around.catalogue.algorithm(name)
}

fn strategy(
    node: &Node,
    pointer: &str,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Box<dyn Strategy>> {
    let (options, place) = own_or_default(node, pointer, "strategy", around)?;
    let kind = around.catalogue.strategy(options.word("type")?)?;
    (kind.build)(options, &place).map_err(|mistake| mistakes.add(mistake)).ok()
}

fn burst(node: &Node, pointer: &str, mistakes: &mut Mistakes) -> Option<NonZeroU64> {
    let rate = node.get("rate")?.whole()?;
    let Some(burst) = node.get("burst") else { return NonZeroU64::new(rate) };
    let burst = burst.whole()?;
    let most = rate.saturating_mul(2);
    if burst > most {
        let allowed = format!("at most {most}, twice the rate");
        mistakes.add(Mistake::new(&member(pointer, "burst"), burst.to_string(), allowed));
        return None;
    }
    NonZeroU64::new(burst)
}

fn cost(node: &Node, pointer: &str, quota: &Quota, algorithm: &dyn Algorithm, mistakes: &mut Mistakes) -> Option<u64> {
    let cost = node.get("cost")?.whole()?;
    let most = quota.rate.get().min(algorithm.largest_cost(quota));
    if cost > most {
        let why = if most == quota.rate.get() {
            "the rate".to_owned()
        } else {
            format!("more than that at once is never admitted by {} with burst {}", algorithm.name(), quota.burst)
        };
        let allowed = format!("at most {most}: {why}");
        mistakes.add(Mistake::new(&member(pointer, "cost"), cost.to_string(), allowed));
        return None;
    }
    Some(cost)
}

/// Every algorithm holds rates up to 10^7 (a sliding window's counts are 24 bits wide), a ceiling's rate too.
fn check_ceiling(strategy: &dyn Strategy, quota: &Quota, pointer: &str, mistakes: &mut Mistakes) {
    const HIGHEST: u64 = 10_000_000;
    let Some(ppm) = strategy.ceiling_ppm() else { return };
    let ceiling = quota.rate.get().saturating_mul(ppm).div_ceil(1_000_000);
    if ceiling > HIGHEST {
        let found = format!("a ceiling of {ceiling} in a window");
        mistakes.add(Mistake::new(&member(pointer, "strategy"), found, "rate x ceiling of at most 10000000"));
    }
}

/// The first eight bytes of SHA-256 over what a cell's meaning depends on, each part of fixed length but the name,
/// which its length precedes.
fn tag(scope: Scope, algorithm: &str, quota: &Quota) -> u64 {
    let length = u64::try_from(algorithm.len()).unwrap_or(u64::MAX);
    let digest = Sha256::new()
        .chain_update([scope as u8])
        .chain_update(length.to_le_bytes())
        .chain_update(algorithm)
        .chain_update(quota.rate.get().to_le_bytes())
        .chain_update(quota.window.0.to_le_bytes())
        .chain_update(quota.burst.get().to_le_bytes())
        .finalize();
    digest.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
