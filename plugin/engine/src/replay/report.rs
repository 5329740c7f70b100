//! What a replay found, as plain numbers.

use std::collections::BTreeMap;

use super::offenders::{Offender, Offenders};
use super::run::Decided;
use crate::table::GivenUp;
use crate::time::{Micros, Timestamp};

/// What a whole replay found.
#[derive(Debug)]
pub struct Report {
    /// Entries that were replayed.
    pub requests: u64,
    /// Entries that were answered 429 when they were logged.
    pub answered_429: u64,
    /// The time of the earliest entry.
    pub first: Option<Timestamp>,
    /// The time of the last entry.
    pub last: Option<Timestamp>,
    /// Entries so far out of order that they were decided at the time of the one before them.
    pub late: u64,
    /// How far the worst of them was.
    pub latest_by: Micros,
    /// How often the log's clock stepped back by more than an hour; it was followed, with counters that began anew.
    pub clock_steps: u64,
    /// What the policy would have done.
    pub run: RunReport,
    /// What the other policy would have done, and what it would have changed.
    pub candidate: Option<Changes>,
}

/// What one policy would have done.
#[derive(Debug)]
pub struct RunReport {
    /// How the requests ended.
    pub outcomes: Outcomes,
    /// What each rule would have said, in the policy's order.
    pub rules: Vec<RuleReport>,
    /// Counters given up because there were more clients than `max_keys`.
    pub given_up: GivenUp,
}

/// How many requests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// No rule applied.
    pub unlimited: u64,
    /// Forwarded.
    pub allowed: u64,
    /// Served in a reduced form.
    pub degraded: u64,
    /// Held, then forwarded.
    pub delayed: u64,
    /// Stored to be carried out later.
    pub queued: u64,
    /// Refused.
    pub limited: u64,
}

/// What one rule said of the requests that it applied to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule's name.
    pub name: String,
    /// Requests that it applied to: the sum of those below.
    pub total: u64,
    /// It had nothing against them.
    pub allowed: u64,
    /// It refused them.
    pub limited: u64,
    /// It let them wait.
    pub delayed: u64,
    /// It let them be carried out later.
    pub queued: u64,
    /// It let them through in a reduced form.
    pub degraded: u64,
    /// It would have limited them, were it not in shadow or the client no admin.
    pub shadow_limited: u64,
    /// When it first had something against a request.
    pub first_limited: Option<Timestamp>,
    /// Whom it had most often something against.
    pub offenders: Vec<Offender>,
}

/// What another policy would have done, and what it would have changed.
#[derive(Debug)]
pub struct Changes {
    /// What it would have done.
    pub run: RunReport,
    /// Requests that would have ended in another way, by both ways, in alphabetical order.
    pub changes: Vec<Change>,
    /// Who would have been refused by the other policy only.
    pub newly_limited: Vec<Offender>,
}

/// Requests that end in one way under one policy and in another way under the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How they end under the policy.
    pub from: &'static str,
    /// How they end under the other one.
    pub to: &'static str,
    /// How many.
    pub requests: u64,
}

impl Outcomes {
    /// Counts one; the word is `Decision::outcome`'s.
    pub(super) fn add(&mut self, outcome: &str) {
        let place = match outcome {
            "unlimited" => &mut self.unlimited,
            "degraded" => &mut self.degraded,
            "delayed" => &mut self.delayed,
            "queued" => &mut self.queued,
            "limited" => &mut self.limited,
            _ => &mut self.allowed,
        };
        *place = place.saturating_add(1);
    }
}

/// Two policies' decisions, compared as they are made.
#[derive(Debug)]
pub(super) struct Comparison {
    changes: BTreeMap<(&'static str, &'static str), u64>,
    newly_limited: Offenders,
}

impl Comparison {
    pub(super) fn new(most_offenders: usize) -> Self {
        Self { changes: BTreeMap::new(), newly_limited: Offenders::new(most_offenders) }
    }

    pub(super) fn add(&mut self, at: Timestamp, current: &Decided, other: Decided) {
        if current.outcome == other.outcome {
            return;
        }
        let count = self.changes.entry((current.outcome, other.outcome)).or_default();
        *count = count.saturating_add(1);
        if other.outcome == "limited"
            && let Some(subject) = other.limited
        {
            self.newly_limited.add(&subject, at);
        }
    }

    pub(super) fn report(self, run: RunReport) -> Changes {
        let changes = self.changes.into_iter().map(|((from, to), requests)| Change { from, to, requests }).collect();
        Changes { run, changes, newly_limited: self.newly_limited.most_frequent() }
    }
}
