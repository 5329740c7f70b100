//! How often each rule and each outcome occurred. What the numbers are for is their reader's.

use tidegate_engine::policy::Node;
use tidegate_engine::strategy::{Action, Reduced, Relief};
use tidegate_engine::{Decision, Verdict};

use crate::describe::{number, object};

/// What became of a request, as a number that JavaScript knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Outcome {
    Unlimited = 0,
    Allowed = 1,
    /// Forwarded in a reduced form.
    Degraded = 2,
    /// Answered in a reduced form.
    DegradedAnswer = 3,
    Delayed = 4,
    Queued = 5,
    Limited = 6,
}

impl Outcome {
    /// What a decision comes to.
    pub(super) fn of(decision: &Decision) -> Self {
        match &decision.action {
            Action::Forward if decision.verdicts.is_empty() => Self::Unlimited,
            Action::Forward => Self::Allowed,
            Action::Degrade(Reduced::Forward { .. }) => Self::Degraded,
            Action::Degrade(Reduced::Respond { .. }) => Self::DegradedAnswer,
            Action::Delay(_) => Self::Delayed,
            Action::Enqueue(_) => Self::Queued,
            Action::Respond(_) => Self::Limited,
        }
    }

    /// What the verdict of one rule with one cell comes to.
    pub(super) fn of_verdict(verdict: &Verdict, strategy_queues: bool) -> Self {
        match verdict.relief {
            _ if !verdict.limited || !verdict.enforced => Self::Allowed,
            Relief::None | Relief::BelowCeiling => Self::Limited,
            Relief::Reserved(_) if strategy_queues => Self::Queued,
            Relief::Reserved(_) => Self::Delayed,
        }
    }
}

const OUTCOMES: [(&str, Outcome); 7] = [
    ("unlimited", Outcome::Unlimited),
    ("allowed", Outcome::Allowed),
    ("degraded", Outcome::Degraded),
    ("degraded_answer", Outcome::DegradedAnswer),
    ("delayed", Outcome::Delayed),
    ("queued", Outcome::Queued),
    ("limited", Outcome::Limited),
];

/// The counters of one limiter.
#[derive(Debug)]
pub(super) struct Counts {
    outcomes: [u64; OUTCOMES.len()],
    rules: Vec<OfRule>,
}

/// What one rule said.
#[derive(Clone, Copy, Debug, Default)]
struct OfRule {
    /// The request conformed.
    conforming: u64,
    /// It did not, and that counted.
    limited: u64,
    /// It did not, and the rule is in shadow, lifted, or the client an admin.
    would_limit: u64,
}

impl Counts {
    pub(super) fn new(rules: usize) -> Self {
        Self { outcomes: [0; OUTCOMES.len()], rules: vec![OfRule::default(); rules] }
    }

    /// Counts a decision's outcome.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        if let Some(count) = self.outcomes.get_mut(outcome as usize) {
            *count += 1;
        }
    }

    /// A request that was counted as one outcome came to be another.
    pub(super) fn instead(&mut self, before: Outcome, now: Outcome) {
        if let Some(count) = self.outcomes.get_mut(before as usize) {
            *count = count.saturating_sub(1);
        }
        self.outcome(now);
    }

    /// Counts what one rule said.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        let Some(rule) = self.rules.get_mut(verdict.rule) else { return };
        match (verdict.limited, verdict.enforced) {
            (false, _) => rule.conforming += 1,
            (true, true) => rule.limited += 1,
            (true, false) => rule.would_limit += 1,
        }
    }

    /// The numbers, with the rules' names in the policy's order.
    pub(super) fn nodes<'a>(&self, names: impl Iterator<Item = &'a str>) -> (Node, Node) {
        let outcomes = OUTCOMES.iter().map(|(name, outcome)| {
            let count = self.outcomes.get(*outcome as usize).copied().unwrap_or_default();
            ((*name).to_owned(), number(count))
        });
        let rules = names.zip(&self.rules).map(|(name, rule)| {
            let OfRule { conforming, limited, would_limit } = *rule;
            let counts = [("conforming", conforming), ("limited", limited), ("would_limit", would_limit)];
            (name.to_owned(), object(&mut counts.map(|(name, count)| (name, number(count)))))
        });
        (Node::Object(outcomes.collect()), Node::Object(rules.collect()))
    }
}
