//! From verdicts to one decision: every limited rule counts, and the strictest action wins.
//! How the decision looks to the client is `response`'s.

use core::cmp::Reverse;

use crate::acquire::{Acquire, CellReply};
use crate::policy::Policy;
use crate::response::{self, Response};
use crate::strategy::{Action, Denial, Reason, Reduced, Relief, refuse};
use crate::time::Micros;

/// The engine's answer for one request.
#[derive(Debug)]
pub struct Decision {
    /// What the proxy does; where it answers itself, `response` is how that looks.
    pub action: Action,
    /// What each matching rule says, in the policy's order.
    pub verdicts: Vec<Verdict>,
    /// Why the request was limited; `None` where it was not.
    pub denial: Option<Denial>,
    /// Headers for the response, whoever gives it: rate-limit headers, and the mark of a reduced form.
    pub headers: Vec<(&'static str, String)>,
    /// The answer to send instead of forwarding.
    pub response: Option<Response>,
    /// What is charged for this request; to be given back if it is never sent on.
    pub reservation: Option<Reservation>,
}

/// What a request has charged, and when.
#[derive(Debug)]
pub struct Reservation {
    /// What was asked for.
    pub acquire: Acquire,
    /// What became of each cell.
    pub cells: Vec<CellReply>,
}

/// One rule's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rule's index in the policy.
    pub rule: usize,
    /// The verdict counts: the rule is not in shadow and the client is no admin.
    pub enforced: bool,
    /// The rule would have limited the request, if there were no grant.
    pub granted: bool,
    /// The request does not conform now.
    pub limited: bool,
    /// What the rule has done for a limited request all the same.
    pub relief: Relief,
    /// The rate that counted, where a grant may have multiplied it; 0 is the rule's own.
    pub rate: u64,
    /// Units left after this request.
    pub remaining: u64,
    /// How long until the client's cell is like new.
    pub reset_after: Micros,
    /// How long until the same request would not be refused.
    pub retry_after: Micros,
}

impl Verdict {
    /// The verdict of a rule that has nothing against the request and nothing to tell.
    pub(crate) fn conforming(rule: usize, enforced: bool) -> Self {
        Self {
            rule,
            enforced,
            granted: false,
            limited: false,
            relief: Relief::None,
            rate: 0,
            remaining: 0,
            reset_after: Micros::ZERO,
            retry_after: Micros::ZERO,
        }
    }

    /// Whether the rule refuses the request: it is limited, that counts, and the rule has no relief for it.
    pub fn refuses(&self) -> bool {
        self.enforced && self.limited && self.relief == Relief::None
    }

    /// One verdict a rule from one a cell: of two cells of one rule, the one that allows less. A rule's own quota says
    /// what is left; its ceiling only whether it refuses.
    pub(crate) fn merge(verdicts: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for verdict in verdicts {
            match merged.last_mut() {
                Some(last) if last.rule == verdict.rule => {
                    // Under a grant with a multiplier the larger quota counts; the rule's own only tells what the grant
                    // lets through.
                    let granted = last.granted || verdict.granted;
                    let rate = last.rate.max(verdict.rate);
                    let key = |one: &Self| {
                        (one.enforced, one.refuses(), one.limited, one.retry_after, Reverse(one.remaining))
                    };
                    if key(&verdict) > key(last) {
                        *last = verdict;
                    }
                    (last.granted, last.rate) = (granted, rate);
                }
                _ => merged.push(verdict),
            }
        }
        merged
    }
}

impl Decision {
    /// The decision where no rule applies.
    pub(crate) fn unlimited() -> Self {
        Self {
            action: Action::Forward,
            verdicts: Vec::new(),
            denial: None,
            headers: Vec::new(),
            response: None,
            reservation: None,
        }
    }

    /// The rule that stands for this decision in a log: the one that decided, or the one nearest to its limit.
    pub fn leading_rule(&self, policy: &Policy) -> Option<usize> {
        match &self.denial {
            Some(denial) => policy.index_of(&denial.rule),
            None => self.tightest().map(|verdict| verdict.rule),
        }
    }

    /// One word for a log: `allowed`, `degraded`, `delayed`, `queued`, `limited`, or `unlimited` where no rule applied.
    pub fn outcome(&self) -> &'static str {
        match &self.action {
            Action::Forward if self.verdicts.is_empty() => "unlimited",
            Action::Forward => "allowed",
            Action::Degrade(_) => "degraded",
            Action::Delay(_) => "delayed",
            Action::Enqueue(_) => "queued",
            Action::Respond(_) => "limited",
        }
    }

    /// The verdict nearest to its limit: limited ones first, then the least remaining, then the longest reset.
    pub(crate) fn tightest(&self) -> Option<&Verdict> {
        self.verdicts
            .iter()
            .filter(|verdict| verdict.enforced)
            .min_by_key(|verdict| (!verdict.limited, verdict.remaining, Reverse(verdict.reset_after)))
    }
}

/// Weighs the verdicts.
pub(crate) fn decide(policy: &Policy, mut verdicts: Vec<Verdict>, reason: Reason, is_grpc: bool) -> Decision {
    if reason == Reason::Contended {
        for verdict in verdicts.iter_mut().filter(|verdict| verdict.enforced) {
            (verdict.limited, verdict.relief) = (true, Relief::None);
        }
    }
    let mut decision = Decision { verdicts, ..Decision::unlimited() };
    if let Some((action, denial)) = strictest(policy, &decision.verdicts, reason) {
        (decision.action, decision.denial) = (action, Some(denial));
    }
    if is_grpc && matches!(decision.action, Action::Degrade(Reduced::Respond { .. })) {
        // A reduced answer is HTTP; a gRPC client would take it for a broken one.
        if let Some(denial) = &decision.denial {
            decision.action = refuse(denial);
        }
    }
    decision.headers = response::headers(policy, &decision);
    decision.response = response::response(&decision, is_grpc);
    decision
}

/// The strictest action over the limited, enforced rules; among equally strict ones that of the larger `priority`, then
/// the first in the policy. What waits waits for the longest of the reservations.
fn strictest(policy: &Policy, verdicts: &[Verdict], reason: Reason) -> Option<(Action, Denial)> {
    let priority = |verdict: &Verdict| policy.rules.get(verdict.rule).map(|rule| rule.priority);
    // There are few, and the standard library's sorts are each some kilobytes of the .wasm.
    let mut limited: Vec<&Verdict> = Vec::new();
    for verdict in verdicts.iter().filter(|verdict| verdict.limited && verdict.enforced) {
        let at = limited.partition_point(|other| priority(other) >= priority(verdict));
        limited.insert(at, verdict);
    }
    let retry_after = limited.iter().map(|verdict| verdict.retry_after).max()?;
    let longest = limited.iter().filter_map(|verdict| match verdict.relief {
        Relief::Reserved(wait) => Some(wait),
        Relief::None | Relief::BelowCeiling => None,
    });
    let longest = longest.max().unwrap_or_default();
    let names: Vec<&str> =
        limited.iter().filter_map(|verdict| policy.rules.get(verdict.rule)).map(|rule| rule.name.as_str()).collect();
    let mut chosen: Option<(Action, Denial)> = None;
    for verdict in limited {
        let Some(rule) = policy.rules.get(verdict.rule) else { continue };
        let others = names.iter().filter(|name| **name != rule.name);
        let denial = Denial {
            rule: rule.name.clone(),
            reason,
            relief: match verdict.relief {
                Relief::Reserved(_) => Relief::Reserved(longest),
                other => other,
            },
            retry_after,
            violated: core::iter::once(&rule.name.as_str()).chain(others).map(|name| (*name).to_owned()).collect(),
        };
        let action = match rule.strategy.apply(&denial) {
            // Nothing is charged for a request without relief: a strategy that let it go on would admit it for nothing.
            action if denial.relief == Relief::None && !matches!(action, Action::Respond(_)) => refuse(&denial),
            action => action,
        };
        if chosen.as_ref().is_none_or(|(best, _)| action.strictness() > best.strictness()) {
            chosen = Some((action, denial));
        }
    }
    chosen
}
