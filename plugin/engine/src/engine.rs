//! One request's way through the engine: [`Engine::check`] asks for cells, [`Pending::resume`] makes of the answer a
//! [`Decision`]. No I/O, no clock: whoever calls keeps the wait between the two.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::acquire::{Acquire, CellReply, CellRequest, Outcome, Reply, StoreError};
use crate::algorithm::{Algorithm, Quota};
use crate::decision::{Decision, Verdict, decide};
use crate::identity::{Identity, Subject};
use crate::matching::{Match, Matcher, fixed_subjects};
use crate::policy::{Anonymous, OnStoreError, Policy, Scope, UserSource};
use crate::request::Request;
use crate::table::WAYS;
use crate::time::Timestamp;

/// A policy ready to decide. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    policy: Policy,
    matcher: Matcher,
    /// The id of each rule's cells, in the policy's order.
    rule_ids: Vec<u64>,
    /// The same ids, sorted, each with its rule's index.
    by_id: Vec<(u64, usize)>,
    /// Into how many groups the rules fall, see [`CellRequest::group`].
    groups: u32,
    needs_peer: bool,
}

/// What the engine wants next.
#[derive(Debug)]
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
    /// The matching rules, one a cell, by index.
    rules: Vec<usize>,
    is_grpc: bool,
    acquire: Acquire,
}

impl Engine {
    /// Prepares a policy.
    pub fn new(policy: Policy) -> Self {
        let matcher = Matcher::new(&policy);
        let rule_ids: Vec<u64> = policy.rules.iter().map(|rule| rule_id(&rule.name, rule.tag)).collect();
        let mut by_id: Vec<(u64, usize)> = rule_ids.iter().enumerate().map(|(index, id)| (*id, index)).collect();
        by_id.sort_unstable();
        let groups = groups(&rule_ids);
        let needs_peer = looks_at_addresses(&policy);
        Self { parts: Arc::new(Parts { policy, matcher, rule_ids, by_id, groups, needs_peer }) }
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

    /// The algorithm and quota of the rule whose cells carry `rule_id`; `None` where no rule does.
    pub fn rule_by_id(&self, rule_id: u64) -> Option<(&'static dyn Algorithm, &Quota)> {
        let position = self.parts.by_id.binary_search_by_key(&rule_id, |(id, _)| *id).ok()?;
        let (_, index) = self.parts.by_id.get(position)?;
        let rule = self.policy().rules.get(*index)?;
        Some((rule.algorithm, &rule.quota))
    }

    /// Every subject that no client chooses, with the id of the rule that counts it: their cells can be made ahead.
    pub fn fixed_cells(&self) -> Vec<(Subject, u64)> {
        let rules = self.policy().rules.iter().zip(&self.parts.rule_ids);
        rules.flat_map(|(rule, id)| fixed_subjects(rule, &self.policy().identity).map(|subject| (subject, *id))).collect()
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
        let mut subjects: Vec<Subject> = Vec::new();
        let mut rules = Vec::with_capacity(matches.len());
        let mut cells = Vec::with_capacity(matches.len());
        for Match { rule: index, subject } in matches {
            let (Some(rule), Some(rule_id)) = (policy.rules.get(index), self.parts.rule_ids.get(index)) else { continue };
            let position = subjects.iter().position(|known| *known == subject).unwrap_or_else(|| {
                subjects.push(subject);
                subjects.len() - 1
            });
            rules.push(index);
            cells.push(CellRequest {
                subject: position,
                rule_id: *rule_id,
                group: group(*rule_id, self.parts.groups),
                algorithm: rule.algorithm,
                quota: rule.quota,
                cost: rule.cost,
                must: !rule.shadow && !is_admin,
            });
        }
        let acquire = Acquire { now, subjects, cells };
        Step::Pending(Pending { engine: self.clone(), rules, is_grpc: request.is_grpc(), acquire })
    }
}

impl Pending {
    /// What is asked of the store.
    pub fn acquire(&self) -> &Acquire {
        &self.acquire
    }

    /// Makes the decision from the store's answer. An answer of the wrong shape is no answer.
    pub fn resume(self, reply: Result<Reply, StoreError>) -> Step {
        let reply = reply.ok().filter(|reply| reply.cells.len() == self.acquire.cells.len());
        let failed = reply.is_none();
        let (cells, outcome) = match reply {
            Some(reply) => (reply.cells, reply.outcome),
            None => (vec![CellReply::default(); self.acquire.cells.len()], Outcome::Refused),
        };
        let policy = self.engine.policy();
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(cells.len());
        for ((index, request), reply) in self.rules.iter().zip(&self.acquire.cells).zip(cells) {
            let Some(rule) = policy.rules.get(*index) else { continue };
            let limited = if failed { rule.on_store_error == OnStoreError::Deny } else { !request.admits(reply.wait) };
            let verdict = Verdict {
                rule: *index,
                limited,
                enforced: request.must,
                remaining: reply.remaining,
                reset_after: reply.reset_after,
                wait: reply.wait,
                retry_after: reply.wait.saturating_sub(request.reach()),
            };
            match verdicts.last_mut() {
                Some(last) if last.rule == *index => *last = last.stricter(verdict),
                _ => verdicts.push(verdict),
            }
        }
        Step::Done(decide(policy, verdicts, outcome, failed, self.is_grpc))
    }
}

/// Enough groups for the 1,000 rules that a policy may have: 4,096 groups hold eight each with room to spare.
const MAX_GROUPS: u32 = 4096;

/// The id of a rule's cells: 64 bits of SHA-256 over its name and tag. Changing what the tag covers starts afresh.
fn rule_id(name: &str, tag: u64) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(tag.to_le_bytes());
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

/// The least number of groups such that none holds more than half a bucket: a policy of up to eight rules has one.
fn groups(rule_ids: &[u64]) -> u32 {
    let fits = |groups: u32| {
        (0..groups).all(|wanted| rule_ids.iter().filter(|id| group(**id, groups) == wanted).count() <= WAYS / 2)
    };
    (1..=MAX_GROUPS).find(|groups| fits(*groups)).unwrap_or(MAX_GROUPS)
}

fn group(rule_id: u64, groups: u32) -> u32 {
    u32::try_from(rule_id % u64::from(groups.max(1))).unwrap_or(0)
}
