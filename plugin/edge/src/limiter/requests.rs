//! Requests, whose rules the engine finds, and whatever asks a store elsewhere: the question, and going on with the answer.

use tidegate_engine::acquire::Reply;
use tidegate_engine::identity::Kind;
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
    /// Decides over a request (see `wire`), with counters in memory. Its texts wait for [`Limiter::texts`].
    pub fn check_request(&mut self, request: &str, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        match self.ask(request, units(cost), now) {
            Err(rule) => self.too_large(rule),
            Ok(Step::Done(decision)) => self.done(&decision),
            Ok(Step::Pending(pending)) => self.settle(pending),
        }
    }

    /// As [`Limiter::check_request`], for counters elsewhere: where the store must be asked, its question waits for
    /// [`Limiter::texts`] and the request is kept under the id in the buffer until [`Limiter::resume`].
    pub fn begin_request(&mut self, request: &str, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        match self.ask(request, units(cost), now) {
            Err(rule) => self.too_large(rule),
            Ok(Step::Done(decision)) => self.done(&decision),
            Ok(Step::Pending(pending)) => self.ask_store(pending),
        }
    }

    /// As [`Limiter::begin_request`] for one rule and a key.
    pub fn begin_key(&mut self, rule: usize, key: &str, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        let Some(mut pending) = self.engine.check_key(rule, key, units(cost), now).and_then(|keyed| match keyed {
            Keyed::Unlimited => None,
            Keyed::Cells(pending) => Some(pending),
            Keyed::Cell(cell) => {
                let value = if cell.kind == Kind::Global { Vec::new() } else { key.as_bytes().to_vec() };
                Some(self.engine.pending_key(cell, value, now))
            }
        }) else {
            return self.unlimited();
        };
        self.keep_waiting_where_room(&mut pending, now);
        self.ask_store(pending)
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

impl Limiter {
    /// A request's question, with the grants and the room for waiting applied; `Err` is a rule that never admits it.
    pub(super) fn ask(&mut self, request: &str, cost: Option<u64>, now: Timestamp) -> Result<Step, usize> {
        let told = Told::read(request, self.engine.metadata_sources().count());
        let step = told.with(|request| self.engine.check(request, now));
        let Step::Pending(mut pending) = step else { return Ok(step) };
        if let Some(cost) = cost {
            pending.charge_cost(cost)?;
        }
        self.keep_waiting_where_room(&mut pending, now);
        Ok(Step::Pending(pending))
    }

    fn keep_waiting_where_room(&mut self, pending: &mut Pending, now: Timestamp) {
        let waiting = &mut self.waiting;
        pending.keep_waiting_only_where(|rule, cell, subject| waiting.has_room(rule, cell, subject, now));
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
