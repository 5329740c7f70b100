//! What is asked beside the way of requests: why a request is decided as it is, and how often what was. Charges nothing.

use tidegate_engine::acquire::CellReply;
use tidegate_engine::policy::{Node, OnStoreError};
use tidegate_engine::{AskedCell, Micros, Pending, Step, Timestamp};
use wasm_bindgen::prelude::wasm_bindgen;

use super::requests::Wrong;
use super::{Limiter, timestamp, units};
use crate::describe::{list, millis, number, object, text};
use crate::remote;
use crate::table::Quotas;

#[wasm_bindgen]
impl Limiter {
    /// Which rules a request meets, or what the rule number `rule` says of a key, where that is not negative: under which
    /// key, and what is left, as JSON; nothing where the request's address is none. Charges nothing, counts nothing. Where
    /// `states` is not empty it holds the cells' states, 24 bytes each, in the order of the keys told before; where
    /// `answer` is not empty it is what a store says of them.
    pub fn explain(&mut self, rule: i32, subject: &str, cost: f64, states: &[u8], answer: &str, now_us: f64) -> String {
        let now = timestamp(now_us);
        match self.looked_at(rule, subject, units(cost), now) {
            Ok(Some(pending)) => self.explained(&pending, states, answer, now),
            Err(Wrong::Address) => String::new(),
            Ok(None) | Err(Wrong::CostOf(_)) => "[]".to_owned(),
        }
    }

    /// The question about the cells of what [`Limiter::explain`] explains, for stores that can look at them; nothing where
    /// no rule applies.
    pub fn explain_question(&mut self, rule: i32, subject: &str, cost: f64, now_us: f64) -> String {
        let looked_at = self.looked_at(rule, subject, units(cost), timestamp(now_us));
        looked_at.ok().flatten().map_or_else(String::new, |pending| self.question(&pending))
    }

    /// Forgets what memory counts for a rule and a key, also while a store elsewhere fails.
    pub fn reset_key(&mut self, rule: usize, key: &str, now_us: f64) {
        let Some(pending) = self.pending_key(rule, key, None, timestamp(now_us)) else { return };
        let quotas = Quotas { engine: &self.engine, extra: &self.extra };
        self.table.clear(&quotas, pending.acquire());
        if let Ok(stand_in) = pending.after_store_error(Some(OnStoreError::Local)) {
            self.table.clear(&quotas, stand_in.acquire());
        }
    }

    /// Counts and gauges, as JSON.
    pub fn metrics(&self, now_us: f64) -> String {
        let names = self.engine.policy().rules.iter().map(|rule| rule.name.as_str());
        let (outcomes, rules) = self.counts.nodes(names);
        let (cells, given_up) = self.table.gauges();
        let gauges = object(&mut [
            ("outcomes", outcomes),
            ("rules", rules),
            ("cells", number(cells as u64)),
            ("cell_bytes", number(self.table.bytes() as u64)),
            ("given_up_idle", number(given_up.idle.into())),
            ("given_up_limiting", number(given_up.limiting.into())),
            ("waiting", number(self.waiting.count(timestamp(now_us)) as u64)),
            ("asking", number(self.asking.len() as u64)),
        ]);
        gauges.to_json()
    }
}

/// How a cell stands: what is left, when it is like new, and whether the request would conform.
struct Standing {
    remaining: u64,
    reset_after: Micros,
    conforms: bool,
}

impl Limiter {
    /// The question about a request, or about a key where `rule` is not negative; `None` where no rule applies.
    fn looked_at(
        &mut self,
        rule: i32,
        subject: &str,
        cost: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Pending>, Wrong> {
        if let Ok(rule) = usize::try_from(rule) {
            return Ok(self.pending_key(rule, subject, cost, now));
        }
        match self.ask(subject, cost, now, true)? {
            Step::Pending(pending) => Ok(Some(pending)),
            Step::Done(_) => Ok(None),
        }
    }

    fn explained(&self, pending: &Pending, states: &[u8], answer: &str, now: Timestamp) -> String {
        let policy = self.engine.policy();
        let standings = self.standings(pending, states, answer, now);
        let explained = list(pending.asked().zip(standings), |(asked, standing)| {
            let (request, rule) = (asked.request, policy.rules.get(asked.rule));
            let name = rule.map_or("", |rule| rule.name.as_str());
            object(&mut [
                ("rule", text(name)),
                ("enforced", Node::Boolean(asked.enforced)),
                ("key", text(&remote::key(&policy.namespace, asked.subject, name, request.rule_id))),
                ("limit", number(request.quota.rate.get())),
                ("cost", number(request.cost)),
                ("remaining", number(standing.remaining)),
                ("resetAfterMs", millis(standing.reset_after)),
                ("conforms", Node::Boolean(standing.conforms)),
                ("strategy", text(rule.map_or("", |rule| rule.strategy.name()))),
            ])
        });
        explained.to_json()
    }

    fn standings(&self, pending: &Pending, states: &[u8], answer: &str, now: Timestamp) -> Vec<Standing> {
        let told = remote::reply(answer).map(|reply| reply.cells);
        if let Some(told) = told.filter(|told| told.len() == pending.acquire().cells.len()) {
            // A cell that is like new takes any cost that its rule ever admits, also one that takes them one by one.
            let of = |(asked, cell): (AskedCell<'_>, CellReply)| Standing {
                remaining: cell.remaining,
                reset_after: cell.reset_after,
                conforms: cell.remaining >= asked.request.cost || cell.reset_after == Micros::ZERO,
            };
            return pending.asked().zip(told).map(of).collect();
        }
        let cells = remote::states(states, pending.acquire().cells.len());
        let cells = cells.unwrap_or_else(|| self.table.cells(pending.acquire()));
        let of = |(asked, cell): (AskedCell<'_>, _)| {
            let request = asked.request;
            let cell = request.algorithm.pull(cell, &request.quota, now);
            let standing = request.algorithm.standing(cell, &request.quota, now);
            let (_, wait) = request.charge(cell, now);
            Standing {
                remaining: standing.remaining,
                reset_after: standing.reset_after,
                conforms: wait == Micros::ZERO,
            }
        };
        pending.asked().zip(cells).map(of).collect()
    }
}
