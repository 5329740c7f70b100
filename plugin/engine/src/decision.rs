//! From verdicts to one decision: every limited rule counts, and the strictest action wins.
//! How the decision looks to the client is `response`'s.

use crate::acquire::Outcome;
use crate::policy::Policy;
use crate::response::{self, Response};
use crate::strategy::{Action, Denial, Reason};
use crate::time::Micros;

/// The engine's answer for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the proxy does; for [`Action::Respond`], `response` is how it looks.
    pub action: Action,
    /// What each matching rule says, in the policy's order.
    pub verdicts: Vec<Verdict>,
    /// Why the request was limited; `None` where it was not.
    pub denial: Option<Denial>,
    /// Rate-limit headers for the response, whoever gives it.
    pub headers: Vec<(&'static str, String)>,
    /// The answer to send instead of forwarding.
    pub response: Option<Response>,
}

/// One rule's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rule's index in the policy.
    pub rule: usize,
    /// The rule does not admit the request.
    pub limited: bool,
    /// The verdict counts: the rule is not in shadow and the client is no admin.
    pub enforced: bool,
    /// Units left after this request.
    pub remaining: u64,
    /// How long until the client's cell is like new.
    pub reset_after: Micros,
    /// How long until the charge conforms.
    pub wait: Micros,
    /// How long until the same request would be admitted.
    pub retry_after: Micros,
}

impl Verdict {
    /// Of two cells of one rule, the one that allows less.
    pub(crate) fn stricter(self, other: Self) -> Self {
        let key = |verdict: &Self| (verdict.limited, verdict.wait, core::cmp::Reverse(verdict.remaining));
        if key(&other) > key(&self) { other } else { self }
    }
}

impl Decision {
    /// The decision where no rule applies.
    pub(crate) fn unlimited() -> Self {
        Self { action: Action::Forward, verdicts: Vec::new(), denial: None, headers: Vec::new(), response: None }
    }

    /// The rule that stands for this decision in a log: the one that decided, or the one nearest to its limit.
    pub fn leading_rule(&self, policy: &Policy) -> Option<usize> {
        match &self.denial {
            Some(denial) => policy.rules.iter().position(|rule| rule.name == denial.rule),
            None => self.tightest().map(|verdict| verdict.rule),
        }
    }

    /// One word for a log: `allowed`, `limited`, or `unlimited` where no rule applied.
    pub fn outcome(&self) -> &'static str {
        match (&self.action, self.verdicts.is_empty()) {
            (Action::Respond(_), _) => "limited",
            (Action::Forward, true) => "unlimited",
            (Action::Forward, false) => "allowed",
        }
    }

    /// The verdict nearest to its limit: limited ones first, then the least remaining, then the longest reset.
    pub(crate) fn tightest(&self) -> Option<&Verdict> {
        self.verdicts
            .iter()
            .filter(|verdict| verdict.enforced)
            .min_by_key(|verdict| (!verdict.limited, verdict.remaining, core::cmp::Reverse(verdict.reset_after)))
    }
}

/// Weighs the verdicts. `failed` says that the store gave no answer.
pub(crate) fn decide(
    policy: &Policy,
    mut verdicts: Vec<Verdict>,
    outcome: Outcome,
    failed: bool,
    is_grpc: bool,
) -> Decision {
    let reason = match outcome {
        _ if failed => Reason::StoreFailed,
        Outcome::Contended => Reason::Contended,
        Outcome::Granted | Outcome::Refused => Reason::OverQuota,
    };
    if reason == Reason::Contended {
        for verdict in verdicts.iter_mut().filter(|verdict| verdict.enforced) {
            verdict.limited = true;
        }
    }
    let (action, denial) = match strictest(policy, &verdicts, reason) {
        Some((action, denial)) => (action, Some(denial)),
        None => (Action::Forward, None),
    };
    let mut decision = Decision { action, verdicts, denial, headers: Vec::new(), response: None };
    decision.headers = response::rate_limit_headers(policy, &decision);
    decision.response = response::response(&decision, is_grpc);
    decision
}

/// The strictest action over the limited, enforced rules: reject before anything that forwards; among equals the
/// larger `priority`, then the policy's order.
fn strictest(policy: &Policy, verdicts: &[Verdict], reason: Reason) -> Option<(Action, Denial)> {
    let mut limited: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.limited && verdict.enforced).collect();
    let retry_after = limited.iter().map(|verdict| verdict.retry_after).max()?;
    limited.sort_by_key(|verdict| core::cmp::Reverse(policy.rules.get(verdict.rule).map(|rule| rule.priority)));
    let names: Vec<&str> =
        limited.iter().filter_map(|verdict| policy.rules.get(verdict.rule)).map(|rule| rule.name.as_str()).collect();
    let mut chosen: Option<(Action, Denial)> = None;
    for verdict in limited {
        let Some(rule) = policy.rules.get(verdict.rule) else { continue };
        let others = names.iter().filter(|name| **name != rule.name);
        let denial = Denial {
            rule: rule.name.clone(),
            reason,
            retry_after,
            reserved: None,
            violated: core::iter::once(&rule.name.as_str()).chain(others).map(|name| (*name).to_owned()).collect(),
        };
        let action = rule.strategy.apply(&denial);
        if chosen.as_ref().is_none_or(|(best, _)| strictness(&action) > strictness(best)) {
            chosen = Some((action, denial));
        }
    }
    chosen
}

/// How strict an action is; the stricter wins.
fn strictness(action: &Action) -> u8 {
    match action {
        Action::Respond(_) => 3,
        Action::Forward => 0,
    }
}
