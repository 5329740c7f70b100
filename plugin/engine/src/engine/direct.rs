//! Questions that code asks by name: one rule and one key instead of a request, and what is changed about a request's
//! question before it goes to a store. Decisions are made elsewhere, by the same code as for requests.

use core::num::NonZeroU64;

use super::{Claim, Engine, Limit, Part, Pending};
use crate::acquire::{Acquire, CellReply, CellRequest};
use crate::admin::grant::Allowance;
use crate::algorithm::{Algorithm, Quota};
use crate::decision::{Decision, Reservation, Verdict, decide};
use crate::identity::{Kind, Subject};
use crate::policy::{OnStoreError, Rule, Scope};
use crate::strategy::{Reason, Relief};
use crate::time::{Micros, Timestamp};

/// How one rule counts one key: a single cell, so that a caller can ask its store without building an [`Acquire`].
#[derive(Clone, Copy, Debug)]
pub struct KeyedCell {
    /// The rule's index.
    pub rule: usize,
    /// Whether the verdict counts: the rule is not in shadow and the key is no admin.
    pub enforced: bool,
    /// Whether a grant lifts the rule: then the verdict does not count.
    pub lifted: bool,
    /// Whose cell it is: [`Kind::Global`] has no value, every other kind has the key.
    pub kind: Kind,
    /// The cell; its `subject` is 0.
    pub request: CellRequest,
}

/// One cell of a pending request with what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct AskedCell<'a> {
    /// The rule's index.
    pub rule: usize,
    /// Whether the verdict counts.
    pub enforced: bool,
    /// Whom the cell is counted for.
    pub subject: &'a Subject,
    /// The cell.
    pub request: &'a CellRequest,
}

/// What rule a key is asked for, and whether it applies.
#[derive(Debug)]
pub enum Keyed {
    /// The rule is disabled, or is for other users only.
    Unlimited,
    /// One cell decides.
    Cell(KeyedCell),
    /// Several cells decide: `graceful` counts its ceiling too, a grant with a multiplier the rule's own quota.
    Cells(Pending),
}

impl Engine {
    /// How the rule number `rule` counts `key`, which code vouches for: it is a verified user, whatever the rule's scope
    /// is, but for a `global` rule, which has one cell for all. `cost` stands in for the rule's own; the caller has seen
    /// to it that the rule can admit it. Endpoints, methods and addresses of the rule are not looked at: there is no
    /// request. A key never queues. `None` where there is no such rule.
    pub fn check_key(&self, rule: usize, key: &str, cost: Option<u64>, now: Timestamp) -> Option<Keyed> {
        let policy = self.policy();
        let (index, rule, counted) = (rule, policy.rules.get(rule)?, self.parts.counted.get(rule)?);
        if !rule.enabled || (!rule.user_ids.is_empty() && !rule.user_ids.iter().any(|user| user == key)) {
            return Some(Keyed::Unlimited);
        }
        let counts = !rule.shadow && !policy.admins.user_ids.iter().any(|admin| admin == key);
        let granted = self.lifted.granted.of_identity(Some(key), None, now);
        let allowance = granted.for_rule(index).filter(|_| counts).map(|grant| grant.allowance);
        let lifted = allowance == Some(Allowance::Unlimited);
        let enforced = counts && !lifted;
        let enlarged = match allowance {
            Some(Allowance::Times(ppm)) => self.enlarged(index, ppm),
            _ => None,
        };
        let kind = if rule.scope == Scope::Global { Kind::Global } else { Kind::VerifiedUser };
        let cell = |limit: Limit, must: bool| CellRequest {
            subject: 0,
            rule_id: limit.id,
            group: super::group(limit.home, self.parts.groups),
            algorithm: limit.algorithm,
            quota: limit.quota,
            cost: cost.unwrap_or(rule.cost),
            must,
            may_wait: rule.strategy.queue().is_none(),
        };
        let limits = *enlarged.unwrap_or(counted);
        let ceiling = limits.ceiling.filter(|_| enforced);
        if ceiling.is_none() && enlarged.is_none() {
            let request = cell(limits.own, enforced);
            return Some(Keyed::Cell(KeyedCell { rule: index, enforced, lifted, kind, request }));
        }
        let own = if ceiling.is_some() { Part::BelowCeiling } else { Part::Whole };
        let mut parts = vec![(Claim { rule: index, enforced, lifted, part: own }, limits.own)];
        parts.extend(ceiling.map(|ceiling| (Claim { rule: index, enforced, lifted, part: Part::Ceiling }, ceiling)));
        if enlarged.is_some() {
            parts.push((Claim { rule: index, enforced: false, lifted: true, part: Part::Whole }, counted.own));
        }
        let must = |claim: &Claim| claim.enforced && claim.part != Part::BelowCeiling;
        let value = if kind == Kind::Global { Vec::new() } else { key.as_bytes().to_vec() };
        let acquire = Acquire {
            now,
            subjects: vec![Subject { kind, value }],
            cells: parts.iter().map(|(claim, limit)| cell(*limit, must(claim))).collect(),
        };
        let claims = parts.into_iter().map(|(claim, _)| claim).collect();
        Some(Keyed::Cells(Pending { engine: self.clone(), claims, is_grpc: false, acquire }))
    }

    /// The same question as a pending request, for a store elsewhere; `value` is the key, nothing for [`Kind::Global`].
    pub fn pending_key(&self, cell: KeyedCell, value: Vec<u8>, now: Timestamp) -> Pending {
        let (rule, enforced, lifted) = (cell.rule, cell.enforced, cell.lifted);
        let claims = vec![Claim { rule, enforced, lifted, part: Part::Whole }];
        let subjects = vec![Subject { kind: cell.kind, value }];
        let acquire = Acquire { now, subjects, cells: vec![cell.request] };
        Pending { engine: self.clone(), claims, is_grpc: false, acquire }
    }

    /// The decision over one verdict of [`KeyedCell::verdict`].
    pub fn decide_one(&self, verdict: Verdict) -> Decision {
        decide(self.policy(), vec![verdict], Reason::OverQuota, false)
    }

    /// The quotas that local cells enforce for rules that do not get all of theirs while a store fails, by id.
    pub fn local_shares(&self) -> Vec<(u64, &'static dyn Algorithm, Quota)> {
        let shares = self
            .policy()
            .rules
            .iter()
            .zip(&self.parts.counted)
            .flat_map(|(rule, counted)| counted.limits().map(|limit| share(limit, rule)));
        shares.map(|limit| (limit.id, limit.algorithm, limit.quota)).collect()
    }
}

impl KeyedCell {
    /// What the cell's answer says of the rule: how long the charge must wait, what is left, when the cell is like new.
    pub fn verdict(&self, wait: Micros, remaining: u64, reset_after: Micros) -> Verdict {
        let reserved = self.request.must && self.request.admits(wait);
        Verdict {
            rule: self.rule,
            enforced: self.enforced,
            limited: wait > Micros::ZERO,
            relief: if reserved { Relief::Reserved(wait) } else { Relief::None },
            rate: self.request.quota.rate.get(),
            remaining,
            reset_after,
            retry_after: wait.saturating_sub(self.request.reach()),
            granted: self.lifted && wait > Micros::ZERO,
        }
    }
}

impl Pending {
    /// What is asked for, cell by cell.
    pub fn asked(&self) -> impl Iterator<Item = AskedCell<'_>> {
        self.claims.iter().zip(&self.acquire.cells).filter_map(|(claim, request)| {
            let subject = self.acquire.subjects.get(request.subject)?;
            Some(AskedCell { rule: claim.rule, enforced: claim.enforced, subject, request })
        })
    }

    /// Takes `cost` for the cost of every cell. `Err` is the index of a rule that could never admit it.
    ///
    /// # Errors
    /// The index of the first rule whose largest cost is smaller; nothing is changed then.
    pub fn charge_cost(&mut self, cost: u64) -> Result<(), usize> {
        let too_small = |(_, cell): &(&Claim, &CellRequest)| {
            cell.must && cell.algorithm.largest_cost(&cell.quota).min(cell.quota.rate.get()) < cost
        };
        if let Some((claim, _)) = self.claims.iter().zip(&self.acquire.cells).find(too_small) {
            return Err(claim.rule);
        }
        self.acquire.cells.iter_mut().for_each(|cell| cell.cost = cost);
        Ok(())
    }

    /// What is left to ask of local cells after the store failed; `Err` where that failure decides already. A rule that
    /// says `deny` denies, one that says `allow` is not counted, and the others count their `local_share`.
    /// `instead` stands in for what the rules say.
    ///
    /// # Errors
    /// The same request, to be resumed with [`crate::acquire::StoreError`].
    pub fn after_store_error(mut self, instead: Option<OnStoreError>) -> Result<Self, Self> {
        let engine = self.engine.clone();
        let says = |claim: &Claim| {
            let rule = engine.policy().rules.get(claim.rule)?;
            Some((instead.unwrap_or(rule.on_store_error), rule))
        };
        let denies = |claim: &Claim| claim.enforced && matches!(says(claim), Some((OnStoreError::Deny, _)));
        if self.claims.iter().any(denies) {
            return Err(self);
        }
        let mut kept = (Vec::new(), Vec::new());
        for (claim, mut cell) in self.claims.iter().copied().zip(self.acquire.cells.iter().copied()) {
            let Some((OnStoreError::Local, rule)) = says(&claim) else { continue };
            stand_in(&mut cell, rule);
            kept.0.push(claim);
            kept.1.push(cell);
        }
        if kept.1.is_empty() {
            return Err(self);
        }
        (self.claims, self.acquire.cells) = kept;
        Ok(self)
    }

    /// The same question put to the cells that stand in when the store fails, each charged where it conforms: so they
    /// hold what this proxy let through.
    pub fn rehearsal(&self) -> Acquire {
        let policy = self.engine.policy();
        let mut cells = self.acquire.cells.clone();
        for (claim, cell) in self.claims.iter().zip(&mut cells) {
            if let Some(rule) = policy.rules.get(claim.rule) {
                stand_in(cell, rule);
            }
            (cell.must, cell.may_wait) = (false, false);
        }
        Acquire { now: self.acquire.now, subjects: self.acquire.subjects.clone(), cells }
    }

    /// What a store has charged for this question.
    pub fn into_reservation(self, cells: Vec<CellReply>) -> Reservation {
        Reservation { acquire: self.acquire, cells }
    }

    /// The decision where a store failed and `instead` stands in for what the rules say. Those that deny do; the others
    /// are skipped, and a client is told nothing of them, for what is left is not known.
    pub fn fail(self, instead: Option<OnStoreError>) -> Decision {
        let policy = self.engine.policy();
        let verdicts = self.claims.iter().filter_map(|claim| {
            let denies = instead.unwrap_or(policy.rules.get(claim.rule)?.on_store_error) == OnStoreError::Deny;
            Some(Verdict { limited: denies, ..Verdict::conforming(claim.rule, claim.enforced && denies) })
        });
        decide(policy, Verdict::merge(verdicts), Reason::StoreFailed, self.is_grpc)
    }
}

/// What the cells count that stand in for a store's.
pub(super) fn share(limit: Limit, rule: &Rule) -> Limit {
    let (id, quota) = (share_id(limit.id, rule.local_share_ppm), shared(limit.algorithm, limit.quota, rule));
    Limit { id, quota, ..limit }
}

fn stand_in(cell: &mut CellRequest, rule: &Rule) {
    cell.rule_id = share_id(cell.rule_id, rule.local_share_ppm);
    cell.quota = shared(cell.algorithm, cell.quota, rule);
}

/// All of a quota, in millionths.
const WHOLE: u32 = 1_000_000;

/// Cells that count a share are other cells than those that count the whole. A whole share is the whole.
fn share_id(id: u64, ppm: u32) -> u64 {
    if ppm == WHOLE { id } else { id.rotate_left(32) ^ u64::from(ppm) }
}

/// A rule's share of a quota, rounded down, but enough for one of its requests: a share that never admits any would
/// refuse for ever.
fn shared(algorithm: &dyn Algorithm, quota: Quota, rule: &Rule) -> Quota {
    let least = NonZeroU64::new(rule.cost).unwrap_or(NonZeroU64::MIN);
    let part = |count: NonZeroU64| {
        let product = u128::from(count.get()).saturating_mul(u128::from(rule.local_share_ppm)) / 1_000_000;
        u64::try_from(product).ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN)
    };
    let share = Quota { rate: part(quota.rate), burst: part(quota.burst).max(least.min(quota.burst)), ..quota };
    if algorithm.largest_cost(&share) >= rule.cost { share } else { Quota { rate: share.rate.max(least), ..share } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::grant::{Grant, Target};
    use crate::catalogue::Catalogue;
    use crate::engine::Step;
    use crate::memory::Memory;
    use crate::policy::Policy;
    use crate::request::Request;
    use crate::strategy::Action;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn engine(rules: &str, more: &str) -> Engine {
        let text = format!(r#"{{"version": 1, "rules": [{rules}]{more}}}"#);
        Engine::new(Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap())
    }

    fn rule(more: &str) -> String {
        format!(r#"{{"name": "r", "scope": "per_user", "rate": 2, "window_seconds": 60{more}}}"#)
    }

    /// The question for a key, put as a store is asked.
    fn pending(engine: &Engine, key: &str) -> Pending {
        match engine.check_key(0, key, None, NOW).unwrap() {
            Keyed::Cell(cell) => {
                let value = if cell.kind == Kind::Global { Vec::new() } else { key.as_bytes().to_vec() };
                engine.pending_key(cell, value, NOW)
            }
            Keyed::Cells(pending) => pending,
            Keyed::Unlimited => panic!("{key} is not limited"),
        }
    }

    fn decide_in(memory: &mut Memory, engine: &Engine, pending: Pending) -> Decision {
        let reply = memory.acquire(engine, pending.acquire());
        match pending.resume(Ok(reply)) {
            Step::Done(decision) => decision,
            Step::Pending(_) => panic!("the engine asks once"),
        }
    }

    #[test]
    fn a_key_shares_its_cell_with_the_verified_user_of_that_name() {
        let engine = engine(&rule(""), r#", "identity": {"user": [{"header": "x-user", "trust": "verified"}]}"#);
        let headers: [crate::Header<'_>; 3] = [(b":method", b"GET"), (b":path", b"/"), (b"x-user", b"alice")];
        let request = Request { headers: &headers, peer: b"", metadata: &[] };
        let mut memory = Memory::new(1024, [0; 16]);
        let Step::Pending(asked) = engine.check(&request, NOW) else { panic!("the rule applies") };
        assert_eq!(decide_in(&mut memory, &engine, asked).verdicts[0].remaining, 1);
        let by_key = pending(&engine, "alice");
        assert_eq!(decide_in(&mut memory, &engine, by_key).verdicts[0].remaining, 0);
    }

    #[test]
    fn one_cell_says_what_the_whole_question_says() {
        let engine = engine(&rule(r#", "strategy": {"type": "throttle", "max_delay_ms": 30000}"#), "");
        let mut memory = Memory::new(1024, [0; 16]);
        for _ in 0..4 {
            let Keyed::Cell(cell) = engine.check_key(0, "k", None, NOW).unwrap() else { panic!("one cell") };
            let asked = pending(&engine, "k");
            let reply = memory.acquire(&engine, asked.acquire());
            let one = reply.cells[0];
            let Step::Done(whole) = asked.resume(Ok(reply)) else { panic!("the engine asks once") };
            let verdict = cell.verdict(one.wait, one.remaining, one.reset_after);
            assert_eq!(vec![verdict], whole.verdicts);
            let alone = engine.decide_one(verdict);
            assert_eq!((alone.action, alone.headers), (whole.action, whole.headers));
        }
    }

    #[test]
    fn rules_for_others_and_admins_do_not_limit_a_key() {
        let engine = engine(&rule(r#", "user_ids": ["alice", "root"]"#), r#", "admins": {"user_ids": ["root"]}"#);
        assert!(matches!(engine.check_key(0, "bob", None, NOW), Some(Keyed::Unlimited)));
        assert!(matches!(engine.check_key(0, "root", None, NOW), Some(Keyed::Cell(cell)) if !cell.enforced));
        assert!(matches!(engine.check_key(0, "alice", None, NOW), Some(Keyed::Cell(cell)) if cell.enforced));
        assert!(engine.check_key(1, "alice", None, NOW).is_none());
    }

    #[test]
    fn a_cost_that_can_never_be_admitted_changes_nothing() {
        let engine = engine(&rule(""), "");
        let mut asked = pending(&engine, "k");
        assert_eq!(asked.charge_cost(3), Err(0));
        assert_eq!(asked.acquire().cells[0].cost, 1);
        assert_eq!(asked.charge_cost(2), Ok(()));
        assert_eq!(asked.acquire().cells[0].cost, 2);
    }

    fn grant(user: &str, allowance: Allowance) -> Grant {
        Grant {
            id: "ov_1".to_owned(),
            admin: "ops".to_owned(),
            target: Target { user: Some(user.to_owned()), ip: None, endpoint: None, rule: None },
            reason: "testing".to_owned(),
            note: String::new(),
            allowance,
            created_at: NOW,
            expires_at: NOW + Micros::from_secs(60),
        }
    }

    #[test]
    fn what_is_lifted_is_counted_and_never_refused() {
        let plain = engine(&rule(""), "");
        let lifting = plain.with_grants(&[grant("k", Allowance::Unlimited)]);
        let mut memory = Memory::new(1024, [0; 16]);
        for _ in 0..5 {
            let asked = pending(&lifting, "k");
            assert_eq!(decide_in(&mut memory, &lifting, asked).action, Action::Forward);
        }
        let asked = pending(&plain, "k");
        assert!(matches!(decide_in(&mut memory, &plain, asked).action, Action::Respond(_)));
    }

    #[test]
    fn a_multiplied_quota_is_a_keys_own_and_leaves_no_debt() {
        for strategy in ["", r#", "strategy": {"type": "graceful", "forward": {}, "ceiling": 1.5}"#] {
            let plain = engine(&rule(strategy), "");
            let enlarged = plain.with_grants(&[grant("k", Allowance::Times(3_000_000))]);
            let mut memory = Memory::new(1024, [0; 16]);
            let mut admitted = |engine: &Engine, key: &str, count: usize| {
                let forwarded = |_: &usize| {
                    let asked = pending(engine, key);
                    decide_in(&mut memory, engine, asked).action == Action::Forward
                };
                (0..count).filter(forwarded).count()
            };
            assert_eq!(admitted(&enlarged, "k", 10), 6, "{strategy}");
            assert_eq!(admitted(&enlarged, "other", 10), 2, "{strategy}");
            // What conformed to the rule's own quota was charged there; what went beyond was not.
            assert_eq!(admitted(&plain, "k", 1), 0, "{strategy}");
        }
    }

    #[test]
    fn a_share_is_enough_for_one_request() {
        for algorithm in ["token_bucket", "leaky_bucket", "fixed_window", "sliding_window"] {
            let text = format!(
                r#"{{"name": "r", "scope": "per_user", "rate": 10, "window_seconds": 60, "cost": 5, "local_share": 0.2,
                    "algorithm": "{algorithm}"}}"#
            );
            let engine = engine(&text, "");
            let mut memory = Memory::new(1024, [0; 16]);
            let mut decide = |key| {
                let asked = pending(&engine, key).after_store_error(None).unwrap();
                decide_in(&mut memory, &engine, asked)
            };
            assert_eq!(decide("k").action, Action::Forward, "{algorithm}");
            let denial = decide("k").denial.expect("the share is used up");
            assert!(denial.retry_after <= Micros::from_secs(150), "{algorithm}: {}", denial.retry_after);
        }
    }

    #[test]
    fn what_can_never_conform_is_not_told_when() {
        let engine = engine(&rule(r#", "strategy": {"type": "throttle"}"#), r#", "headers": "both""#);
        let mut memory = Memory::new(1024, [0; 16]);
        let mut asked = pending(&engine, "k");
        asked.acquire.cells.iter_mut().for_each(|cell| cell.cost = 3);
        let decision = decide_in(&mut memory, &engine, asked);
        let names: Vec<_> = decision.response.as_ref().unwrap().headers.iter().map(|(name, _)| name.as_ref()).collect();
        assert!(!names.contains(&"retry-after") && !names.contains(&"x-ratelimit-reset"), "{names:?}");
        let told = &decision.headers.iter().find(|(name, _)| *name == "ratelimit").unwrap().1;
        assert_eq!(told, r#""r";r=2"#);
    }

    #[test]
    fn a_failed_store_is_decided_over_as_the_rules_say() {
        let of = |says: &str| engine(&rule(&format!(r#", "on_store_error": "{says}", "local_share": 0.5"#)), "");
        let (local, allow, deny) = (of("local"), of("allow"), of("deny"));
        let share = pending(&local, "k").after_store_error(None).unwrap();
        assert_eq!(share.acquire().cells[0].quota.rate.get(), 1);
        assert!(local.local_shares().iter().any(|(id, ..)| *id == share.acquire().cells[0].rule_id));
        let allowed = pending(&allow, "k").after_store_error(None).unwrap_err().fail(None);
        assert_eq!(
            (allowed.action, allowed.headers),
            (Action::Forward, Vec::new()),
            "nothing is known of what is left"
        );
        let denied = pending(&deny, "k").after_store_error(None).unwrap_err().fail(None);
        assert_eq!(denied.denial.unwrap().reason, Reason::StoreFailed);
        assert!(pending(&deny, "k").after_store_error(Some(OnStoreError::Local)).is_ok());
    }
}
