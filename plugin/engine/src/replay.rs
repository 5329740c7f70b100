//! Runs a log through the engine on the log's own clock and counts what each rule would have done, and what another
//! policy would change. Memory is bounded, however long the log is. Reading log lines and showing the counts is the
//! caller's; requests wait for nobody here, so that a rule that holds requests may hold any number at once.

mod offenders;
mod order;
mod report;
mod run;

pub use offenders::{Offender, Offenders};
pub use report::{Change, Changes, Outcomes, Report, RuleReport, RunReport};

use crate::described::Described;
use crate::engine::Engine;
use crate::time::{Micros, Timestamp};
use order::Order;
use report::Comparison;
use run::Run;

/// One request of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was made.
    pub at: Timestamp,
    /// What is known of it.
    pub request: Described,
    /// The status that it was answered with.
    pub status: Option<u16>,
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    order: Order,
    current: Run,
    candidate: Option<(Run, Comparison)>,
    requests: u64,
    answered_429: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Replay {
    /// Entries that are out of order by less than this are put in order: servers log a request when it ends, under the
    /// time when it began.
    pub const IN_ORDER_WITHIN: Micros = Micros::from_secs(60);

    /// A replay that has seen nothing, of a policy and perhaps of another one beside it. Each rule names at most
    /// `most_offenders` of those it limits.
    pub fn new(policy: Engine, candidate: Option<Engine>, most_offenders: usize) -> Self {
        let beside = |engine| (Run::new(engine, most_offenders), Comparison::new(most_offenders));
        Self {
            order: Order::new(Self::IN_ORDER_WITHIN),
            current: Run::new(policy, most_offenders),
            candidate: candidate.map(beside),
            requests: 0,
            answered_429: 0,
            first: None,
            last: None,
        }
    }

    /// Takes the next entry of the log.
    pub fn push(&mut self, entry: Entry) {
        self.order.push(entry);
        while let Some(entry) = self.order.next() {
            self.run(&entry);
        }
    }

    /// Ends the log.
    pub fn finish(mut self) -> Report {
        self.order.end();
        while let Some(entry) = self.order.next() {
            self.run(&entry);
        }
        Report {
            requests: self.requests,
            answered_429: self.answered_429,
            first: self.first,
            last: self.last,
            late: self.order.late(),
            latest_by: self.order.latest_by(),
            clock_steps: self.order.clock_steps(),
            run: self.current.report(),
            candidate: self.candidate.map(|(run, comparison)| comparison.report(run.report())),
        }
    }

    fn run(&mut self, entry: &Entry) {
        self.requests = self.requests.saturating_add(1);
        self.answered_429 = self.answered_429.saturating_add(u64::from(entry.status == Some(429)));
        self.first = Some(self.first.map_or(entry.at, |first| first.min(entry.at)));
        self.last = Some(self.last.map_or(entry.at, |last| last.max(entry.at)));
        let current = self.current.decide(entry);
        if let Some((run, comparison)) = &mut self.candidate {
            let other = run.decide(entry);
            comparison.add(entry.at, &current, other);
        }
    }
}

#[cfg(test)]
mod tests;
