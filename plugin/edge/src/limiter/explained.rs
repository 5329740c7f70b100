//! What is asked beside the way of requests: why a request is decided as it is, and how often what was. Charges nothing.

use tidegate_engine::acquire::CellReply;
use tidegate_engine::policy::Node;
use tidegate_engine::{AskedCell, Micros, Pending, Step, Timestamp};
use wasm_bindgen::prelude::wasm_bindgen;

use super::{Limiter, timestamp, units};
use crate::describe::{list, millis, number, object, text};
use crate::remote;

#[wasm_bindgen]
impl Limiter {
    /// Which rules a request meets, under which key, and what is left: JSON. Charges nothing, counts nothing. Where
    /// `states` is not empty it holds the cells' states, 24 bytes each, in the order of the keys told before; where
    /// `answer` is not empty it is what a store says of them.
    pub fn explain(&mut self, request: &str, cost: f64, states: &[u8], answer: &str, now_us: f64) -> String {
        let now = timestamp(now_us);
        let Ok(Step::Pending(pending)) = self.ask(request, units(cost), now) else { return "[]".to_owned() };
        self.explained(&pending, states, answer, now)
    }

    /// The question about a request's cells, for stores that can look at them; nothing where no rule applies.
    pub fn explain_question(&mut self, request: &str, cost: f64, now_us: f64) -> String {
        let Ok(Step::Pending(pending)) = self.ask(request, units(cost), timestamp(now_us)) else {
            return String::new();
        };
        self.question(&pending)
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
