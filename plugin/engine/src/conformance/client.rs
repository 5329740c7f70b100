//! Lives through a history: one cell, its clock, real time, and the log of what was admitted.

use super::random::{Case, Event, START};
use super::{Admission, Clause, Fault, Promise, inspect};
use crate::algorithm::{Algorithm, Cell, Plan, Quota};
use crate::time::{Micros, Timestamp};

/// A client of one cell.
pub(super) struct Client<'a> {
    pub(super) algorithm: &'a dyn Algorithm,
    pub(super) quota: Quota,
    pub(super) cell: Cell,
    clock: u64,
    /// How far the clock was set back in all.
    behind: u64,
    /// The latest clock that a charge was made at: in real time, and as it was told since the last step back.
    latest_real: u64,
    latest_told: u64,
    log: Vec<Charge>,
    /// The latest release, while every request was made in the order of its clock and none was given back.
    in_order: Option<Timestamp>,
}

/// One request that was admitted and not given back.
#[derive(Clone, Copy)]
struct Charge {
    cost: u64,
    /// What the algorithm was told, and is told when the charge is given back.
    charged_at: Timestamp,
    at: u64,
    told: u64,
}

/// Lives through a history, looking at every state on the way.
pub(super) fn live_through(algorithm: &dyn Algorithm, promise: Promise, case: &Case) -> Result<(), Fault> {
    let mut watched = Client::new(algorithm, case);
    if case.cell == Cell::default() {
        inspect::new_client(&watched)?;
    }
    inspect::state(&watched)?;
    for event in &case.events {
        watched.live(*event, promise)?;
        inspect::state(&watched)?;
    }
    // Once more without looking: what was asked in between must have changed nothing.
    let mut alone = Client::new(algorithm, case);
    for event in &case.events {
        alone.live(*event, promise)?;
    }
    if alone.cell != watched.cell {
        let found = format!("one history that leads to {:?} and, lived again, to {:?}", watched.cell.0, alone.cell.0);
        return Err(Fault::new(Clause::Pure, found));
    }
    Ok(())
}

/// The history as a person reads it, up to what goes wrong.
pub(super) fn story(algorithm: &dyn Algorithm, promise: Promise, case: &Case) -> Vec<String> {
    let mut client = Client::new(algorithm, case);
    let mut story = vec![format!("at {START} us, cell {:?}", case.cell.0)];
    for event in &case.events {
        let what = match *event {
            Event::Pass(time) => format!("{} pass", length(time)),
            Event::Ask(cost) => format!("a request of {cost}"),
            Event::AskInTime(cost) => format!("as soon as it conforms, a request of {cost}"),
            Event::AskLate { cost, late } => format!("a request of {cost} whose clock was read {} early", length(late)),
            Event::Refund(_) => "a refund".to_owned(),
            Event::StepBack(time) => format!("the clock is set back by {}", length(time)),
        };
        let mut outcome = String::new();
        let lived = super::or_panic(|| client.live(*event, promise).map(|text| outcome = text));
        story.push(what + &outcome);
        if lived.is_err() {
            break;
        }
    }
    story
}

/// A length of time as a person reads it.
pub(super) fn length(micros: u64) -> String {
    match micros {
        1.. if micros.is_multiple_of(1_000_000) => format!("{} s", micros / 1_000_000),
        1.. if micros.is_multiple_of(1_000) => format!("{} ms", micros / 1_000),
        _ => format!("{micros} us"),
    }
}

impl<'a> Client<'a> {
    fn new(algorithm: &'a dyn Algorithm, case: &Case) -> Self {
        Self {
            algorithm,
            quota: case.quota,
            cell: case.cell,
            clock: START,
            behind: 0,
            latest_real: 0,
            latest_told: 0,
            log: Vec::new(),
            in_order: Some(Timestamp::default()),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock)
    }

    pub(super) fn largest(&self) -> u64 {
        self.algorithm.largest_cost(&self.quota).max(1)
    }

    pub(super) fn plan(&self, cost: u64) -> Plan {
        self.algorithm.plan(self.cell, &self.quota, cost, self.now())
    }

    /// Reads the cell as a store does: a pull is kept.
    fn pull(&mut self) -> Result<(), Fault> {
        let pulled = self.algorithm.pull(self.cell, &self.quota, self.now());
        if pulled != self.cell && self.behind == 0 {
            let found = format!("pull makes {:?} of {:?}", pulled.0, self.cell.0);
            return Err(Fault::new(Clause::Pull, format!("{found} though the clock never stepped back")));
        }
        self.cell = pulled;
        Ok(())
    }

    /// Asks, and charges where the quota's horizon allows the wait. Says what happened.
    fn ask(&mut self, cost: u64, promise: Promise) -> Result<String, Fault> {
        let cost = cost.clamp(1, self.largest());
        self.pull()?;
        let plan = self.plan(cost);
        if plan.wait > self.quota.horizon {
            return Ok(format!(": limited for {}", length(plan.wait.0)));
        }
        let charged_at = self.now() + plan.wait;
        if self.in_order.is_some_and(|latest| charged_at < latest) {
            let found = format!("a request is released at {} us, before others", charged_at.micros());
            return Err(Fault::new(Clause::NoOvertaking, found));
        }
        self.in_order = self.in_order.map(|latest| latest.max(charged_at));
        self.cell = plan.cell;
        // Whoever charges after others is decided after them, whatever its own clock said.
        self.latest_real = self.latest_real.max(self.clock + self.behind);
        self.latest_told = self.latest_told.max(self.clock);
        let at = self.latest_real.max(charged_at.micros() + self.behind);
        let told = self.latest_told.max(charged_at.micros());
        self.log.push(Charge { cost, charged_at, at, told });
        self.judge(promise)?;
        let when = if plan.wait == Micros::ZERO { "now".to_owned() } else { format!("in {}", length(plan.wait.0)) };
        Ok(format!(": admitted {when}, cell {:?}", self.cell.0))
    }

    fn judge(&self, promise: Promise) -> Result<(), Fault> {
        let moment = Timestamp::from_micros;
        let admission = |one: &Charge| Admission { cost: one.cost, at: moment(one.at), told: moment(one.told) };
        let mut log: Vec<Admission> = self.log.iter().map(admission).collect();
        log.sort_by_key(|one| one.at);
        promise.judge(&self.quota, &log, self.behind > 0).map_err(|found| Fault::new(Clause::NeverOver, found))
    }

    fn refund(&mut self, index: usize) -> Result<String, Fault> {
        self.pull()?;
        let Some(index) = index.checked_rem(self.log.len()) else {
            return Ok(" of nothing".to_owned());
        };
        let unused = self.log.remove(index);
        self.in_order = None;
        let now = self.now();
        self.cell = self.algorithm.refund(self.cell, &self.quota, unused.cost, unused.charged_at, now);
        let made_for = unused.charged_at.micros();
        Ok(format!(
            " of {} that were charged for {made_for} us, at {} us: cell {:?}",
            unused.cost, self.clock, self.cell.0
        ))
    }

    fn live(&mut self, event: Event, promise: Promise) -> Result<String, Fault> {
        match event {
            Event::Pass(time) => self.clock += time,
            Event::Ask(cost) => return self.ask(cost, promise),
            Event::AskInTime(cost) => {
                self.pull()?;
                let wait = self.plan(cost.clamp(1, self.largest())).wait;
                // What never ends is for `inspect` to report.
                self.clock = (self.now() + wait).micros();
                return self.ask(cost, promise);
            }
            Event::AskLate { cost, late } => {
                self.in_order = None;
                self.clock -= late;
                let told = self.ask(cost, promise);
                self.clock += late;
                return told;
            }
            Event::Refund(index) => return self.refund(index),
            Event::StepBack(time) => {
                self.in_order = None;
                self.clock -= time;
                self.behind += time;
                self.latest_told = 0;
            }
        }
        Ok(String::new())
    }
}
