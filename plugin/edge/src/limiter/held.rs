//! What outlives a decision: requests that wait, requests that a queue of the caller's is to take, and exceptions.
//! Who sleeps, and what a queue is, is JavaScript's business.

use wasm_bindgen::prelude::wasm_bindgen;

use super::counts::Outcome;
use super::{Limiter, taken, timestamp, whole};
use crate::grants::Given;
use crate::table::Quotas;

#[wasm_bindgen]
impl Limiter {
    /// Keeps what the last decision charged for later, until [`Limiter::release`]. Returns its id, 0 for nothing.
    pub fn hold(&mut self) -> u32 {
        let Some(reservation) = self.reservation.take() else { return 0 };
        self.ids = self.ids.wrapping_add(1).max(1);
        self.held.push((self.ids, reservation));
        self.ids
    }

    /// Ends a wait; `give_back` where the request is not sent on after all.
    pub fn release(&mut self, id: u32, give_back: bool, now_us: f64) {
        let Some(reservation) = taken(&mut self.held, id) else { return };
        self.waiting.leave(&reservation);
        if give_back {
            let quotas = Quotas { engine: &self.engine, extra: &self.extra };
            self.table.refund(&quotas, &reservation, timestamp(now_us));
        }
    }

    /// A queue has taken the request: its place is counted until its moment.
    pub fn queued(&mut self, id: u32) {
        taken(&mut self.held, id);
    }

    /// No queue has taken it, so it is refused; `give_back` where its cells are in memory.
    pub fn not_queued(&mut self, id: u32, give_back: bool, now_us: f64) {
        self.counts.instead(Outcome::Queued, Outcome::Limited);
        self.release(id, give_back, now_us);
    }

    /// Gives an exception from `now_us` until `until_us` for `targets`: user, address, endpoint and rule, each ended by a
    /// NUL; an empty text is no target. `millionths` of a quota, or 0 to lift the rules. Returns what is wrong, or nothing.
    pub fn grant(&mut self, id: &str, now_us: f64, until_us: f64, targets: &str, millionths: f64) -> String {
        let mut fields = targets.split('\0');
        let targets = [(); 4].map(|()| fields.next().unwrap_or_default());
        let (now, until) = (timestamp(now_us), timestamp(until_us));
        let given = Given { id, now, until, targets, millionths: whole(millionths) };
        match self.grants.give(&self.engine, &given) {
            Ok(engine) => self.engine = engine,
            Err(wrong) => return wrong,
        }
        String::new()
    }

    /// Ends an exception; false where there is none of that id.
    pub fn revoke(&mut self, id: &str, now_us: f64) -> bool {
        let engine = self.grants.take_back(&self.engine, id, timestamp(now_us));
        let is_known = engine.is_some();
        self.engine = engine.unwrap_or_else(|| self.engine.clone());
        is_known
    }
}
