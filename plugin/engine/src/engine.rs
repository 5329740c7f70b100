//! One request's way through the engine: [`Engine::check`] asks for cells, [`Pending::resume`] makes of the answer a
//! [`Decision`]. No I/O, no clock: whoever calls keeps the wait between the two.

mod direct;

use core::num::NonZeroU64;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::acquire::{Acquire, CellRequest, Outcome, Reply, StoreError};
use crate::algorithm::{Algorithm, Quota};
use crate::decision::{Decision, Reservation, Verdict, decide};
use crate::identity::{Identity, Subject};
use crate::matching::{Match, Matcher, Obstacle, fixed_subjects};
use crate::policy::{Anonymous, OnStoreError, Policy, Rule, Scope, UserSource};
use crate::request::Request;
use crate::strategy::{Reason, Relief};
use crate::table::WAYS;
use crate::time::{Micros, Timestamp};

pub use direct::{AskedCell, Keyed, KeyedCell};

/// A policy ready to decide. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    policy: Policy,
    matcher: Matcher,
    /// What each rule counts, in the policy's order.
    counted: Vec<Counted>,
    /// The same, sorted by id.
    by_id: Vec<Limit>,
    /// The lower-case names of request headers that only strategies may set.
    reserved_headers: Vec<String>,
    /// Into how many groups the rules fall, see [`CellRequest::group`].
    groups: u32,
    needs_peer: bool,
}

/// The quotas that a rule counts.
#[derive(Clone, Copy, Debug)]
struct Counted {
    own: Limit,
    ceiling: Option<Limit>,
}

/// A quota with its algorithm and the id that its cells carry.
#[derive(Clone, Copy, Debug)]
struct Limit {
    id: u64,
    algorithm: &'static dyn Algorithm,
    quota: Quota,
}

/// What the engine wants next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives on the stack at a time, and both are taken apart at once")]
pub enum Step {
    /// An answer from the store.
    Pending(Pending),
    /// Nothing: this is the decision.
    Done(Decision),
}

/// A request that waits for the store's answer.
#[derive(Debug)]
pub struct Pending {
    engine: Engine,
    /// What each cell of the acquire stands for.
    claims: Vec<Claim>,
    is_grpc: bool,
    acquire: Acquire,
}

/// What one cell of an acquire stands for.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// The rule's index.
    rule: usize,
    /// Its verdict counts.
    enforced: bool,
    part: Part,
}

/// Which of a rule's quotas a cell counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The rule's own.
    Whole,
    /// The rule's own, where a ceiling is the limit.
    BelowCeiling,
    /// The ceiling.
    Ceiling,
}

impl Engine {
    /// Prepares a policy.
    pub fn new(policy: Policy) -> Self {
        let matcher = Matcher::new(&policy);
        let counted: Vec<Counted> = policy.rules.iter().map(Counted::of).collect();
        let mut by_id: Vec<Limit> = counted.iter().flat_map(Counted::limits).collect();
        by_id.sort_unstable_by_key(|limit| limit.id);
        let ids: Vec<u64> = by_id.iter().map(|limit| limit.id).collect();
        let mut reserved_headers: Vec<String> =
            policy.rules.iter().flat_map(|rule| rule.strategy.request_headers()).map(str::to_owned).collect();
        reserved_headers.sort_unstable();
        reserved_headers.dedup();
        let needs_peer = looks_at_addresses(&policy);
        let groups = groups(&ids);
        Self { parts: Arc::new(Parts { policy, matcher, counted, by_id, reserved_headers, groups, needs_peer }) }
    }

    /// The policy that decides.
    pub fn policy(&self) -> &Policy {
        &self.parts.policy
    }

    /// The host metadata that [`Request::metadata`] must carry, in this order: each a path of names.
    pub fn metadata_sources(&self) -> impl Iterator<Item = &[String]> {
        self.policy().identity.user.iter().filter_map(|source| match source {
            UserSource::Metadata(path) => Some(path.as_slice()),
            _ => None,
        })
    }

    /// Whether [`Request::peer`] can make a difference: only where a rule or the admins look at addresses.
    pub fn needs_peer(&self) -> bool {
        self.parts.needs_peer
    }

    /// Whether only Tidegate may set the request header of this name: `x-tidegate-*`, and whatever a strategy of this
    /// policy sets. Upper case and `_` for `-` are seen through, as upstreams do.
    pub fn reserves_header(&self, name: &[u8]) -> bool {
        let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let starts_with = |prefix: &[u8]| {
            name.len() >= prefix.len() && name.iter().zip(prefix).all(|(byte, wanted)| plain(*byte) == plain(*wanted))
        };
        let is = |reserved: &String| name.len() == reserved.len() && starts_with(reserved.as_bytes());
        starts_with(b"x-tidegate-") || self.parts.reserved_headers.iter().any(is)
    }

    /// The algorithm and quota that count the cells of `id`; `None` where no rule does.
    pub fn limit_by_id(&self, id: u64) -> Option<(&'static dyn Algorithm, &Quota)> {
        let position = self.parts.by_id.binary_search_by_key(&id, |limit| limit.id).ok()?;
        self.parts.by_id.get(position).map(|limit| (limit.algorithm, &limit.quota))
    }

    /// Every subject that no client chooses, with the id of the cells that count it: they can be made ahead.
    pub fn fixed_cells(&self) -> Vec<(Subject, u64)> {
        let identity = &self.policy().identity;
        let rules = self.policy().rules.iter().zip(&self.parts.counted);
        let of_rule = |(rule, counted): (&Rule, &Counted)| {
            let subjects: Vec<Subject> = fixed_subjects(rule, identity).collect();
            counted.limits().flat_map(|limit| subjects.clone().into_iter().map(move |one| (one, limit.id))).collect()
        };
        rules.flat_map(|pair| -> Vec<(Subject, u64)> { of_rule(pair) }).collect()
    }

    /// The index of each rule that does not apply to a request, with the first of its conditions that is not met.
    pub(crate) fn obstacles(&self, request: &Request<'_>, identity: &Identity) -> Vec<(usize, Obstacle)> {
        let mut found = Vec::new();
        self.parts.matcher.examine(self.policy(), request, identity, |rule, obstacle| found.push((rule, obstacle)));
        found
    }

    /// Decides, or says which cells it takes to decide.
    pub fn check(&self, request: &Request<'_>, now: Timestamp) -> Step {
        let policy = self.policy();
        let identity = Identity::of(request, &policy.identity);
        let matches = self.parts.matcher.matches(policy, request, &identity);
        if matches.is_empty() {
            return Step::Done(Decision::unlimited());
        }
        let is_admin = policy.admins.hold(&identity);
        let is_plain = !request.is_grpc() && !request.is_upgrade();
        let mut asked = Asked::default();
        for Match { rule: index, subject } in matches {
            let (Some(rule), Some(counted)) = (policy.rules.get(index), self.parts.counted.get(index)) else {
                continue;
            };
            let enforced = !rule.shadow && !is_admin;
            let may_wait = rule
                .strategy
                .queue()
                .is_none_or(|queue| is_plain && (queue.allow_unverified || identity.verified_user().is_some()));
            let parts = match counted.ceiling {
                Some(ceiling) if enforced => [(Part::BelowCeiling, Some(counted.own)), (Part::Ceiling, Some(ceiling))],
                _ => [(Part::Whole, Some(counted.own)), (Part::Ceiling, None)],
            };
            let subject = asked.subject(subject);
            for (part, limit) in parts {
                let Some(Limit { id, algorithm, quota }) = limit else { continue };
                asked.claims.push(Claim { rule: index, enforced, part });
                asked.cells.push(CellRequest {
                    subject,
                    rule_id: id,
                    group: group(id, self.parts.groups),
                    algorithm,
                    quota,
                    cost: rule.cost,
                    must: enforced && part != Part::BelowCeiling,
                    may_wait,
                });
            }
        }
        let acquire = Acquire { now, subjects: asked.subjects, cells: asked.cells };
        Step::Pending(Pending { engine: self.clone(), claims: asked.claims, is_grpc: request.is_grpc(), acquire })
    }
}

/// What a request asks for, while it is put together.
#[derive(Default)]
struct Asked {
    subjects: Vec<Subject>,
    claims: Vec<Claim>,
    cells: Vec<CellRequest>,
}

impl Asked {
    fn subject(&mut self, subject: Subject) -> usize {
        self.subjects.iter().position(|known| *known == subject).unwrap_or_else(|| {
            self.subjects.push(subject);
            self.subjects.len().saturating_sub(1)
        })
    }
}

impl Counted {
    fn of(rule: &Rule) -> Self {
        let own = Limit { id: cell_id(&rule.name, rule.tag, 0), algorithm: rule.algorithm, quota: rule.quota };
        let ceiling = rule.strategy.ceiling_ppm().map(|ppm| Limit {
            id: cell_id(&rule.name, rule.tag, ppm),
            algorithm: rule.algorithm,
            quota: Quota { rate: times(rule.quota.rate, ppm), burst: times(rule.quota.burst, ppm), ..rule.quota },
        });
        Self { own, ceiling }
    }

    fn limits(&self) -> impl Iterator<Item = Limit> {
        core::iter::once(self.own).chain(self.ceiling)
    }
}

/// `count` times `ppm` millionths, rounded down, at least `count`.
fn times(count: NonZeroU64, ppm: u64) -> NonZeroU64 {
    let product = u128::from(count.get()).saturating_mul(u128::from(ppm)) / 1_000_000;
    u64::try_from(product).ok().and_then(NonZeroU64::new).map_or(count, |product| product.max(count))
}

impl Pending {
    /// What is asked of the store.
    pub fn acquire(&self) -> &Acquire {
        &self.acquire
    }

    /// For each cell of [`Pending::acquire`] the index of its rule, and whether it counts the rule's ceiling.
    pub fn cell_rules(&self) -> impl Iterator<Item = (usize, bool)> {
        self.claims.iter().map(|claim| (claim.rule, claim.part == Part::Ceiling))
    }

    /// Takes away from cells the right to wait, where `has_room` says no for the rule and its cell. To be called before
    /// the acquire: a request that nobody can hold must not reserve.
    pub fn keep_waiting_only_where(&mut self, mut has_room: impl FnMut(&Rule, &CellRequest, &Subject) -> bool) {
        let policy = self.engine.policy();
        for (claim, cell) in self.claims.iter().zip(&mut self.acquire.cells) {
            if !cell.must || !cell.may_wait || cell.quota.horizon == Micros::ZERO {
                continue;
            }
            let (Some(rule), Some(subject)) = (policy.rules.get(claim.rule), self.acquire.subjects.get(cell.subject))
            else {
                continue;
            };
            cell.may_wait = has_room(rule, cell, subject);
        }
    }

    /// Makes the decision from the store's answer. An answer of the wrong shape is no answer.
    pub fn resume(self, reply: Result<Reply, StoreError>) -> Step {
        let reply = reply.ok().filter(|reply| reply.cells.len() == self.acquire.cells.len());
        let policy = self.engine.policy();
        let Some(Reply { cells, outcome }) = reply else {
            let verdicts = self.claims.iter().filter_map(|claim| {
                let limited = policy.rules.get(claim.rule)?.on_store_error == OnStoreError::Deny;
                Some(Verdict { limited, ..Verdict::conforming(claim.rule, claim.enforced) })
            });
            let verdicts = Verdict::merge(verdicts);
            return Step::Done(decide(policy, verdicts, Reason::StoreFailed, self.is_grpc));
        };
        let verdicts = self.claims.iter().zip(&self.acquire.cells).zip(&cells).map(|((claim, request), reply)| {
            let conforms = reply.wait == Micros::ZERO;
            Verdict {
                rule: claim.rule,
                enforced: claim.enforced,
                limited: !conforms,
                relief: match claim.part {
                    Part::BelowCeiling => Relief::BelowCeiling,
                    _ if request.must && request.admits(reply.wait) => Relief::Reserved(reply.wait),
                    _ => Relief::None,
                },
                remaining: reply.remaining,
                reset_after: reply.reset_after,
                retry_after: reply.wait.saturating_sub(request.reach()),
            }
        });
        let reason = if outcome == Outcome::Contended { Reason::Contended } else { Reason::OverQuota };
        let mut decision = decide(policy, Verdict::merge(verdicts), reason, self.is_grpc);
        decision.reservation = Some(Reservation { acquire: self.acquire, cells });
        Step::Done(decision)
    }
}

/// The id of the cells that count a rule's quota, or its ceiling of `ppm` millionths: 64 bits of SHA-256. Changing what
/// the tag covers starts afresh.
fn cell_id(name: &str, tag: u64, ppm: u64) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(tag.to_le_bytes());
    hasher.update(ppm.to_le_bytes());
    hasher.update(name.as_bytes());
    let digest = hasher.finalize();
    digest.iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

fn looks_at_addresses(policy: &Policy) -> bool {
    let anonymous_by_address = policy.identity.anonymous == Anonymous::PerIp;
    !policy.admins.ip_addresses.is_empty()
        || policy.rules.iter().any(|rule| {
            !rule.ip_addresses.is_empty()
                || rule.scope == Scope::PerIp
                || (rule.scope == Scope::PerUser && anonymous_by_address)
        })
}

/// Enough groups for the 1,000 rules that a policy may have: 4,096 groups hold eight each with room to spare.
const MAX_GROUPS: u32 = 4096;

/// The least number of groups such that none holds more than half a bucket: a policy of up to eight rules has one.
fn groups(rule_ids: &[u64]) -> u32 {
    let fits = |groups: u32| {
        (0..groups).all(|wanted| rule_ids.iter().filter(|id| group(**id, groups) == wanted).count() <= WAYS / 2)
    };
    (1..=MAX_GROUPS).find(|groups| fits(*groups)).unwrap_or(MAX_GROUPS)
}

fn group(rule_id: u64, groups: u32) -> u32 {
    rule_id.checked_rem(u64::from(groups)).and_then(|group| u32::try_from(group).ok()).unwrap_or(0)
}
