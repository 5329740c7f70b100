//! One request's way through the engine: [`Engine::check`] asks for cells, [`Pending::resume`] makes of the answer a
//! [`Decision`]. No I/O, no clock: whoever calls keeps the wait between the two.

mod direct;
mod look;

use core::num::NonZeroU64;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::acquire::{Acquire, CellRequest, Outcome, Reply, StoreError};
use crate::admin::grant::{Allowance, Grant};
use crate::admin::granted::Granted;
use crate::algorithm::{Algorithm, Quota};
use crate::decision::{Decision, Reservation, Verdict, decide};
use crate::identity::{Identity, Subject};
use crate::matching::{Match, Matcher, fixed_subjects};
use crate::policy::{Anonymous, Policy, Rule, Scope, Store, UserSource};
use crate::request::Request;
use crate::sorted::Sorted;
use crate::strategy::{Reason, Reduced, Relief};
use crate::table::WAYS;
use crate::time::{Micros, Timestamp};

pub use direct::{AskedCell, Keyed, KeyedCell};

/// A policy ready to decide. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    parts: Arc<Parts>,
    lifted: Arc<Lifted>,
}

/// What grants change.
#[derive(Debug, Default)]
struct Lifted {
    granted: Granted,
    /// The quotas of rules that a grant multiplies, sorted by rule and millionths.
    enlarged: Vec<((usize, u64), Counted)>,
    /// The same, by id.
    by_id: Sorted<u64, Limit>,
}

#[derive(Debug)]
struct Parts {
    policy: Policy,
    matcher: Matcher,
    /// What each rule counts, in the policy's order.
    counted: Vec<Counted>,
    /// What this proxy's own cells count, by id: the same, or the shares that stand in for a store elsewhere.
    by_id: Sorted<u64, Limit>,
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
    /// Below its ceiling it answers by itself, which a gRPC client would take for a broken answer.
    answers: bool,
}

/// A quota with its algorithm and the id that its cells carry.
#[derive(Clone, Copy, Debug)]
struct Limit {
    id: u64,
    /// The id whose group its cells are kept in. A quota that a grant multiplies lies beside the rule's own, so that a
    /// group has at most twice as many cells as ids, and no request's cells of one group outgrow a bucket.
    home: u64,
    algorithm: &'static dyn Algorithm,
    quota: Quota,
}

/// What the engine wants next.
#[derive(Debug)]
// Too large only where pointers have 64 bits.
#[cfg_attr(
    target_pointer_width = "64",
    expect(clippy::large_enum_variant, reason = "one lives on the stack at a time, and both are taken apart at once")
)]
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
    /// The quota that would count, if a grant did not lift or enlarge it.
    lifted: bool,
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
        let ids: Vec<u64> = counted.iter().flat_map(Counted::limits).map(|limit| limit.id).collect();
        let by_id =
            Sorted::of(own_cells(&policy, policy.rules.iter().zip(&counted)).map(|(_, limit)| (limit.id, limit)));
        let mut reserved_headers: Vec<String> = Vec::new();
        for name in policy.rules.iter().flat_map(|rule| rule.strategy.request_headers()) {
            if !reserved_headers.iter().any(|known| known == name) {
                reserved_headers.push(name.to_owned());
            }
        }
        let needs_peer = looks_at_addresses(&policy);
        let groups = groups(&ids);
        let parts = Parts { policy, matcher, counted, by_id, reserved_headers, groups, needs_peer };
        Self { parts: Arc::new(parts), lifted: Arc::default() }
    }

    /// The same policy under these grants instead of those before.
    #[must_use]
    pub fn with_grants(&self, grants: &[Grant]) -> Self {
        let rules = &self.policy().rules;
        let granted = Granted::new(grants, self.policy());
        let enlarge =
            |pair: (usize, u64)| Some((pair, self.parts.counted.get(pair.0)?.times(rules.get(pair.0)?, pair.1)));
        let enlarged: Vec<_> = granted.multiplied(rules.len()).into_iter().filter_map(enlarge).collect();
        let of_rules = enlarged.iter().filter_map(|((rule, _), counted)| Some((rules.get(*rule)?, counted)));
        let by_id = Sorted::of(own_cells(self.policy(), of_rules).map(|(_, limit)| (limit.id, limit)));
        Self { parts: Arc::clone(&self.parts), lifted: Arc::new(Lifted { granted, enlarged, by_id }) }
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
        self.parts.needs_peer || self.lifted.granted.look_at_addresses()
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
        [&self.parts.by_id, &self.lifted.by_id]
            .into_iter()
            .find_map(|limits| limits.get(&id).map(|limit| (limit.algorithm, &limit.quota)))
    }

    /// Every subject that no client chooses, with the id of the cells that count it: they can be made ahead.
    pub fn fixed_cells(&self) -> Vec<(Subject, u64)> {
        let policy = self.policy();
        let cells = own_cells(policy, policy.rules.iter().zip(&self.parts.counted));
        cells
            .flat_map(|(rule, limit)| fixed_subjects(rule, &policy.identity).map(move |subject| (subject, limit.id)))
            .collect()
    }

    /// Decides, or says which cells it takes to decide.
    pub fn check(&self, request: &Request<'_>, now: Timestamp) -> Step {
        let policy = self.policy();
        let identity = Identity::of(request, &policy.identity);
        let granted = self.lifted.granted.applying(policy, request, &identity, now);
        let matches = self.parts.matcher.matches(policy, request, &identity, &granted);
        if matches.is_empty() {
            return Step::Done(Decision::unlimited());
        }
        let is_admin = policy.admins.hold(&identity);
        let is_grpc = request.is_grpc();
        let is_plain = !is_grpc && !request.is_upgrade();
        let mut asked = Asked::default();
        for Match { rule: index, subject } in matches {
            let (Some(rule), Some(counted)) = (policy.rules.get(index), self.parts.counted.get(index)) else {
                continue;
            };
            let counts = !rule.shadow && !is_admin;
            let allowance = granted.for_rule(index).filter(|_| counts).map(|grant| grant.allowance);
            let lifted = allowance == Some(Allowance::Unlimited);
            let enforced = counts && !lifted;
            let enlarged = match allowance {
                Some(Allowance::Times(ppm)) => self.enlarged(index, ppm),
                _ => None,
            };
            let before = enlarged.map(|_| counted.own);
            let counted = enlarged.unwrap_or(counted);
            let may_wait = rule
                .strategy
                .queue()
                .is_none_or(|queue| is_plain && (queue.allow_unverified || identity.verified_user().is_some()));
            let parts = match counted.ceiling {
                Some(ceiling) if enforced => {
                    let own = if counted.answers && is_grpc { Part::Whole } else { Part::BelowCeiling };
                    [(own, Some(counted.own)), (Part::Ceiling, Some(ceiling))]
                }
                _ => [(Part::Whole, Some(counted.own)), (Part::Ceiling, None)],
            };
            let subject = asked.subject(subject);
            for (part, limit) in parts {
                let Some(limit) = limit else { continue };
                let must = enforced && part != Part::BelowCeiling;
                asked.claims.push(Claim { rule: index, enforced, lifted, part });
                asked.cells.push(self.cell(subject, &limit, rule.cost, must, may_wait));
            }
            if let Some(own) = before {
                asked.claims.push(Claim { rule: index, enforced: false, lifted: true, part: Part::Whole });
                asked.cells.push(self.cell(subject, &own, rule.cost, false, false));
            }
        }
        let acquire = Acquire { now, subjects: asked.subjects, cells: asked.cells };
        Step::Pending(Pending { engine: self.clone(), claims: asked.claims, is_grpc, acquire })
    }

    /// A rule's quotas under a grant that multiplies them.
    fn enlarged(&self, rule: usize, ppm: u64) -> Option<&Counted> {
        let enlarged = &self.lifted.enlarged;
        let position = enlarged.binary_search_by_key(&(rule, ppm), |(pair, _)| *pair).ok()?;
        enlarged.get(position).map(|(_, counted)| counted)
    }

    fn cell(&self, subject: usize, limit: &Limit, cost: u64, must: bool, may_wait: bool) -> CellRequest {
        let Limit { id, home, algorithm, quota } = *limit;
        let group = group(home, self.parts.groups);
        CellRequest { subject, rule_id: id, group, algorithm, quota, cost, must, may_wait }
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
        let limit = |ppm, quota| {
            let id = cell_id(&rule.name, rule.tag, ppm);
            Limit { id, home: id, algorithm: rule.algorithm, quota }
        };
        let own = limit(0, rule.quota);
        let ceiling = rule.strategy.ceiling_ppm().map(|ppm| {
            let (rate, burst) = (times(rule.quota.rate, ppm), times(rule.quota.burst, ppm));
            limit(ppm, Quota { rate, burst, ..rule.quota })
        });
        Self { own, ceiling, answers: matches!(rule.reduced(), Some(Reduced::Respond { .. })) }
    }

    /// The quotas under a grant of so many millionths, in cells of their own: what a client spends under a grant is no
    /// debt after it. Algorithms are exact up to a rate of 10^7.
    fn times(&self, rule: &Rule, ppm: u64) -> Self {
        const HIGHEST: NonZeroU64 = NonZeroU64::MIN.saturating_add(9_999_999);
        let enlarge = |limit: &Limit, part: u64| Limit {
            id: cell_id(&rule.name, rule.tag ^ part, ppm),
            quota: Quota {
                rate: times(limit.quota.rate, ppm).min(HIGHEST.max(limit.quota.rate)),
                burst: times(limit.quota.burst, ppm).min(HIGHEST.max(limit.quota.burst)),
                ..limit.quota
            },
            ..*limit
        };
        Self {
            own: enlarge(&self.own, u64::MAX),
            ceiling: self.ceiling.as_ref().map(|ceiling| enlarge(ceiling, u64::MAX - 1)),
            answers: self.answers,
        }
    }

    fn limits(&self) -> impl Iterator<Item = Limit> {
        core::iter::once(self.own).chain(self.ceiling)
    }
}

/// `count` times `ppm` millionths, at least `count`. Rounded up: 1.5 times a rate of 1 is 2, for what is more than the
/// quota must admit more.
fn times(count: NonZeroU64, ppm: u64) -> NonZeroU64 {
    let product = u128::from(count.get()).saturating_mul(u128::from(ppm)).div_ceil(1_000_000);
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

    /// The longest body that this request may be queued with; `None` where no rule can queue it.
    pub fn longest_queued_body(&self) -> Option<usize> {
        let cells = self.claims.iter().zip(&self.acquire.cells).filter(|(_, cell)| cell.must && cell.may_wait);
        let rules = cells.filter_map(|(claim, _)| self.engine.policy().rules.get(claim.rule));
        rules.filter_map(|rule| rule.strategy.queue().map(|queue| queue.max_body_bytes)).max()
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
        let Some(Reply { cells, outcome }) = reply else { return Step::Done(self.fail(None)) };
        let policy = self.engine.policy();
        let verdicts = self.claims.iter().zip(&self.acquire.cells).zip(&cells).map(|((claim, request), reply)| {
            let conforms = reply.wait == Micros::ZERO;
            Verdict {
                rule: claim.rule,
                enforced: claim.enforced,
                granted: claim.lifted && !conforms,
                limited: !conforms,
                relief: match claim.part {
                    Part::BelowCeiling => Relief::BelowCeiling,
                    _ if request.must && request.admits(reply.wait) => Relief::Reserved(reply.wait),
                    _ => Relief::None,
                },
                // A ceiling is no quota of which anything is told.
                rate: if claim.part == Part::Ceiling { 0 } else { request.quota.rate.get() },
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

/// What this proxy's own cells count, rule by rule: the quotas, or where a store elsewhere counts those, the shares that
/// stand in for it.
fn own_cells<'p>(
    policy: &Policy,
    rules: impl Iterator<Item = (&'p Rule, &'p Counted)>,
) -> impl Iterator<Item = (&'p Rule, Limit)> {
    let is_elsewhere = matches!(policy.store, Store::Redis(_));
    rules.flat_map(move |(rule, counted)| {
        counted.limits().map(move |limit| (rule, if is_elsewhere { direct::share(limit, rule) } else { limit }))
    })
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

/// The least power of two of groups such that none holds more than half a bucket: a policy of up to eight rules has one.
/// Cells move when it changes, so powers, which change a few times while a policy grows.
fn groups(rule_ids: &[u64]) -> u32 {
    let fits = |groups: u32| {
        (0..groups).all(|wanted| rule_ids.iter().filter(|id| group(**id, groups) == wanted).count() <= WAYS / 2)
    };
    (0..MAX_GROUPS.ilog2()).map(|power| 1 << power).find(|groups| fits(*groups)).unwrap_or(MAX_GROUPS)
}

fn group(rule_id: u64, groups: u32) -> u32 {
    rule_id.checked_rem(u64::from(groups)).and_then(|group| u32::try_from(group).ok()).unwrap_or(0)
}
