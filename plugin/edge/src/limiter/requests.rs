//! Requests, whose rules the engine finds, and whatever asks a store elsewhere: the question, and going on with the answer.

use tidegate_engine::acquire::Reply;
use tidegate_engine::identity::{Kind, Subject};
use tidegate_engine::policy::OnStoreError;
use tidegate_engine::strategy::Action;
use tidegate_engine::{Keyed, Pending, Step, Timestamp};
use wasm_bindgen::prelude::wasm_bindgen;

use super::{ASK_STORE, Limiter, out, taken, timestamp, units};
use crate::remote;
use crate::table::Quotas;
use crate::wire::Told;

#[wasm_bindgen]
impl Limiter {
    /// Decides over a request (see `wire`), with counters in memory. Its texts wait for [`Limiter::texts`]. Where
    /// `may_wait` is false, nothing is charged for later.
    pub fn check_request(&mut self, request: &str, cost: f64, now_us: f64, may_wait: bool) -> u32 {
        let now = timestamp(now_us);
        match self.ask(request, units(cost), now, may_wait) {
            Err(wrong) => self.wrong(wrong),
            Ok(Step::Done(decision)) => self.done(&decision),
            Ok(Step::Pending(pending)) => self.settle(pending),
        }
    }

    /// As [`Limiter::check_request`], for counters elsewhere: where the store must be asked, its question waits for
    /// [`Limiter::texts`] and the request is kept under the id in the buffer until [`Limiter::resume`].
    pub fn begin_request(&mut self, request: &str, cost: f64, now_us: f64, may_wait: bool) -> u32 {
        let now = timestamp(now_us);
        match self.ask(request, units(cost), now, may_wait) {
            Err(wrong) => self.wrong(wrong),
            Ok(Step::Done(decision)) => self.done(&decision),
            Ok(Step::Pending(pending)) => self.ask_store(pending),
        }
    }

    /// As [`Limiter::begin_request`] for one rule and a key.
    pub fn begin_key(&mut self, rule: usize, key: &str, cost: f64, now_us: f64, may_wait: bool) -> u32 {
        let now = timestamp(now_us);
        let Some(mut pending) = self.pending_key(rule, key, units(cost), now) else { return self.unlimited() };
        self.keep_waiting_where_room(&mut pending, now, may_wait);
        self.ask_store(pending)
    }

    /// The first rule that was to count a request by its address and was told none; -1 where there was none such.
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a policy has at most 1,000 rules")]
    pub fn unaddressed(&self) -> i32 {
        self.unaddressed.map_or(-1, |rule| rule as i32)
    }

    /// Goes on with a request that asked its store: with the answer, or with an empty text where there is none. Then
    /// `on_error` decides: 0 as each rule says, 1 `local`, 2 `allow`, 3 `deny`.
    pub fn resume(&mut self, id: u32, answer: &str, on_error: u32) -> u32 {
        let Some(pending) = taken(&mut self.asking, id) else { return self.unlimited() };
        if let Some(reply) = remote::reply(answer) {
            return self.finish(pending, reply);
        }
        let instead = match on_error {
            1 => Some(OnStoreError::Local),
            2 => Some(OnStoreError::Allow),
            3 => Some(OnStoreError::Deny),
            _ => None,
        };
        match pending.after_store_error(instead) {
            Ok(local) => self.settle(local),
            Err(failed) => {
                let decision = failed.fail(instead);
                self.done(&decision)
            }
        }
    }
}

/// Why a request cannot be decided over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wrong {
    /// The rule of this index never admits its cost.
    CostOf(usize),
    /// What was told as its address is none.
    Address,
}

impl Limiter {
    /// A request's question, with the grants and the room for waiting applied.
    pub(super) fn ask(
        &mut self,
        request: &str,
        cost: Option<u64>,
        now: Timestamp,
        may_wait: bool,
    ) -> Result<Step, Wrong> {
        let told = Told::read(request, self.engine.metadata_sources().count());
        if !told.has_readable_peer() {
            return Err(Wrong::Address);
        }
        let step = told.with(|request| self.engine.check(request, now));
        let Step::Pending(mut pending) = step else { return Ok(step) };
        if self.unaddressed.is_none() {
            let is_nobodys = |subject: &Subject| subject.kind == Kind::Address && subject.value.is_empty();
            self.unaddressed = pending.asked().find(|asked| is_nobodys(asked.subject)).map(|asked| asked.rule);
        }
        if let Some(cost) = cost {
            pending.charge_cost(cost).map_err(Wrong::CostOf)?;
        }
        self.keep_waiting_where_room(&mut pending, now, may_wait);
        Ok(Step::Pending(pending))
    }

    /// The question for a rule and a key; `None` where the rule does not count it.
    pub(super) fn pending_key(&self, rule: usize, key: &str, cost: Option<u64>, now: Timestamp) -> Option<Pending> {
        match self.engine.check_key(rule, key, cost, now)? {
            Keyed::Unlimited => None,
            Keyed::Cells(pending) => Some(pending),
            Keyed::Cell(cell) => {
                let value = if cell.kind == Kind::Global { Vec::new() } else { key.as_bytes().to_vec() };
                Some(self.engine.pending_key(cell, value, now))
            }
        }
    }

    pub(super) fn keep_waiting_where_room(&mut self, pending: &mut Pending, now: Timestamp, may_wait: bool) {
        let waiting = &mut self.waiting;
        pending.keep_waiting_only_where(|rule, cell, subject| may_wait && waiting.has_room(rule, cell, subject, now));
    }

    /// Decides with the counters in memory.
    pub(super) fn settle(&mut self, pending: Pending) -> u32 {
        let quotas = Quotas { engine: &self.engine, extra: &self.extra };
        let reply = self.table.acquire(&quotas, pending.acquire());
        self.finish(pending, reply)
    }

    fn finish(&mut self, pending: Pending, reply: Reply) -> u32 {
        match pending.resume(Ok(reply)) {
            Step::Done(mut decision) => {
                let reservation = decision.reservation.take();
                let outcome = self.done(&decision);
                if matches!(decision.action, Action::Delay(_) | Action::Enqueue(_)) {
                    if let Some(reservation) = &reservation {
                        self.waiting.enter(reservation);
                    }
                    self.reservation = reservation;
                }
                outcome
            }
            // The engine asks once a request.
            Step::Pending(pending) => self.ask_store(pending),
        }
    }

    /// Keeps the request until its store answers.
    fn ask_store(&mut self, pending: Pending) -> u32 {
        self.texts = self.question(&pending);
        self.ids = self.ids.wrapping_add(1).max(1);
        self.asking.push((self.ids, pending));
        self.out[out::ID] = f64::from(self.ids);
        ASK_STORE
    }

    pub(super) fn question(&self, pending: &Pending) -> String {
        let rules: Vec<usize> = pending.asked().map(|asked| asked.rule).collect();
        remote::question(self.engine.policy(), &rules, pending.acquire())
    }
}
