//! One policy over one log: decides each entry with the in-memory store and counts what each rule says.

use super::Entry;
use super::offenders::Offenders;
use super::report::{Outcomes, RuleReport, RunReport};
use crate::decision::{Decision, Verdict};
use crate::engine::{Engine, Pending, Step};
use crate::identity::Subject;
use crate::memory::Memory;
use crate::policy::{Rule, Store};
use crate::strategy::Relief;
use crate::table::GivenUp;
use crate::time::{Micros, Timestamp};

/// How many keys are counted at once for a policy whose counters live in a store without such a bound.
const MAX_KEYS: u32 = 65_536;

#[derive(Debug)]
pub(super) struct Run {
    engine: Engine,
    memory: Memory,
    /// The time of the entry before.
    clock: Timestamp,
    /// What memories before this one gave up.
    given_up: GivenUp,
    outcomes: Outcomes,
    rules: Vec<RuleReport>,
    offenders: Vec<Offenders>,
}

/// What a run says of one entry.
#[derive(Debug)]
pub(super) struct Decided {
    /// The decision's word, see [`Decision::outcome`].
    pub(super) outcome: &'static str,
    /// Whom the deciding rule counts the entry for, where it is limited.
    pub(super) limited: Option<Subject>,
}

impl Run {
    pub(super) fn new(engine: Engine, most_offenders: usize) -> Self {
        let rules: Vec<RuleReport> = engine.policy().rules.iter().map(RuleReport::of).collect();
        Self {
            memory: fresh(&engine),
            clock: Timestamp::default(),
            given_up: GivenUp::default(),
            outcomes: Outcomes::default(),
            offenders: rules.iter().map(|_| Offenders::new(most_offenders)).collect(),
            rules,
            engine,
        }
    }

    /// Entries come in order. An earlier one means that the log's clock stepped back, as where another log begins:
    /// counters from the old clock's future would limit clients that no proxy would have limited.
    pub(super) fn decide(&mut self, entry: &Entry) -> Decided {
        if entry.at < self.clock {
            self.given_up = self.all_given_up();
            self.memory = fresh(&self.engine);
        }
        self.clock = entry.at;
        let engine = self.engine.clone();
        let decision = entry.request.as_request(&engine, |request| match engine.check(request, entry.at) {
            Step::Done(decision) => (decision, Vec::new()),
            Step::Pending(pending) => self.resume(pending),
        });
        let (decision, limited_cells) = decision;
        self.outcomes.add(decision.outcome());
        for verdict in &decision.verdicts {
            self.count(verdict, entry.at);
        }
        for (rule, subject) in &limited_cells {
            if let Some(offenders) = self.offenders.get_mut(*rule) {
                offenders.add(subject, entry.at);
            }
        }
        let deciding = decision.denial.as_ref().and_then(|_| decision.leading_rule(self.engine.policy()));
        let limited = limited_cells.into_iter().find(|(rule, _)| Some(*rule) == deciding).map(|(_, subject)| subject);
        Decided { outcome: decision.outcome(), limited }
    }

    pub(super) fn report(self) -> RunReport {
        let given_up = self.all_given_up();
        let tops = self.offenders.iter().map(Offenders::most_frequent);
        let rules =
            self.rules.into_iter().zip(tops).map(|(rule, offenders)| RuleReport { offenders, ..rule }).collect();
        RunReport { outcomes: self.outcomes, rules, given_up }
    }

    fn all_given_up(&self) -> GivenUp {
        let (before, now) = (self.given_up, self.memory.given_up());
        GivenUp { idle: before.idle.saturating_add(now.idle), limiting: before.limiting.saturating_add(now.limiting) }
    }

    /// The decision, and for each rule that limits the request the subject of its first cell that does.
    fn resume(&mut self, pending: Pending) -> (Decision, Vec<(usize, Subject)>) {
        let reply = self.memory.acquire(&self.engine, pending.acquire());
        let acquire = pending.acquire();
        let mut limited: Vec<(usize, Subject)> = Vec::new();
        for ((cell, reply), (rule, _)) in acquire.cells.iter().zip(&reply.cells).zip(pending.cell_rules()) {
            if reply.wait > Micros::ZERO
                && limited.last().is_none_or(|(last, _)| *last != rule)
                && let Some(subject) = acquire.subjects.get(cell.subject)
            {
                limited.push((rule, subject.clone()));
            }
        }
        match pending.resume(Ok(reply)) {
            Step::Done(decision) => (decision, limited),
            // A store is asked once a request.
            Step::Pending(_) => (Decision::unlimited(), limited),
        }
    }

    fn count(&mut self, verdict: &Verdict, at: Timestamp) {
        let queues = self.engine.policy().rules.get(verdict.rule).is_some_and(|rule| rule.strategy.queue().is_some());
        let Some(counts) = self.rules.get_mut(verdict.rule) else { return };
        let place = match (verdict.limited, verdict.enforced, verdict.relief) {
            (false, ..) => &mut counts.allowed,
            (true, false, _) => &mut counts.shadow_limited,
            (true, true, Relief::None) => &mut counts.limited,
            (true, true, Relief::BelowCeiling) => &mut counts.degraded,
            (true, true, Relief::Reserved(_)) if queues => &mut counts.queued,
            (true, true, Relief::Reserved(_)) => &mut counts.delayed,
        };
        *place = place.saturating_add(1);
        counts.total = counts.total.saturating_add(1);
        if verdict.limited && counts.first_limited.is_none() {
            counts.first_limited = Some(at);
        }
    }
}

/// Counters that nobody used yet. A replay must give the same twice; whoever fills a bucket on purpose only spoils this
/// replay.
fn fresh(engine: &Engine) -> Memory {
    let store = &engine.policy().store;
    Memory::new(if let Store::Local { max_keys } = store { *max_keys } else { MAX_KEYS }, [0; 16])
}

impl RuleReport {
    fn of(rule: &Rule) -> Self {
        Self { name: rule.name.clone(), ..Self::default() }
    }
}
