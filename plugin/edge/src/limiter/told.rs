//! How a decision is told: numbers into the buffer, texts for whoever asks. What they mean to a client is the engine's.

use tidegate_engine::policy::Rule;
use tidegate_engine::strategy::{Action, Reduced, Relief};
use tidegate_engine::{Decision, Micros, Verdict};
use wasm_bindgen::prelude::wasm_bindgen;

use super::counts::Outcome;
use super::requests::Wrong;
use super::{COST_TOO_LARGE, HAS_TEXTS, Limiter, NO_ADDRESS, NOT_ENFORCED, out, whole};
use crate::wire;

#[wasm_bindgen]
impl Limiter {
    /// The texts of a decision that [`Limiter::check_buffered`] told in numbers: `wait_us`, `remaining`, `reset_us` and
    /// `retry_us` are what it left in the buffer.
    pub fn key_texts(
        &self,
        rule: usize,
        outcome: u32,
        wait_us: f64,
        remaining: f64,
        reset_us: f64,
        retry_us: f64,
    ) -> String {
        let wait = Micros(whole(wait_us));
        let delayed = [Outcome::Delayed as u32, Outcome::Queued as u32].contains(&(outcome & 7));
        let decision = self.engine.decide_one(Verdict {
            rule,
            enforced: outcome & NOT_ENFORCED == 0,
            granted: false,
            limited: wait > Micros::ZERO,
            relief: if delayed { Relief::Reserved(wait) } else { Relief::None },
            rate: 0,
            remaining: whole(remaining),
            reset_after: Micros(whole(reset_us)),
            retry_after: Micros(whole(retry_us)),
        });
        self.texts_of(&decision)
    }

    /// The texts of the last decision, or the question to the store.
    pub fn texts(&mut self) -> String {
        core::mem::take(&mut self.texts)
    }

    /// What the last decision changes about a request that is forwarded in a reduced form.
    pub fn reduced(&mut self) -> String {
        core::mem::take(&mut self.reduced)
    }
}

impl Limiter {
    /// Tells a decision: numbers into the buffer, texts for [`Limiter::texts`].
    pub(super) fn done(&mut self, decision: &Decision) -> u32 {
        let outcome = Outcome::of(decision);
        self.reservation = None;
        self.counts.outcome(outcome);
        decision.verdicts.iter().for_each(|verdict| self.counts.verdict(verdict));
        let policy = self.engine.policy();
        let leading = decision.leading_rule(policy);
        let verdict = decision.verdicts.iter().find(|verdict| Some(verdict.rule) == leading);
        let rate = leading.and_then(|rule| policy.rules.get(rule)).map_or(0, Rule::rate);
        let wait = match decision.action {
            Action::Delay(wait) | Action::Enqueue(wait) => wait,
            _ => Micros::ZERO,
        };
        self.texts = self.texts_of(decision);
        if let Action::Degrade(Reduced::Forward { headers, path }) = &decision.action {
            self.reduced = wire::reduced(path.as_deref(), headers);
        }
        match verdict.copied() {
            Some(mut verdict) => {
                // A client that must come back must wait for every rule that refused it.
                verdict.retry_after = decision.denial.as_ref().map_or(verdict.retry_after, |denial| denial.retry_after);
                self.write(rate.max(verdict.rate), &verdict, wait);
            }
            None => self.out[out::RULE] = -1.0,
        }
        outcome as u32 | HAS_TEXTS
    }

    fn texts_of(&self, decision: &Decision) -> String {
        let policy = self.engine.policy();
        let rule = decision.leading_rule(policy).and_then(|rule| policy.rules.get(rule));
        let reason = decision.denial.as_ref().map_or("", |denial| denial.reason.as_str());
        wire::texts(decision, rule.map_or("", |rule| rule.name.as_str()), reason)
    }

    pub(super) fn unlimited(&mut self) -> u32 {
        self.counts.outcome(Outcome::Unlimited);
        self.reservation = None;
        self.out[out::RULE] = -1.0;
        Outcome::Unlimited as u32
    }

    #[expect(clippy::cast_precision_loss, reason = "a policy has at most 1,000 rules")]
    pub(super) fn wrong(&mut self, wrong: Wrong) -> u32 {
        match wrong {
            Wrong::Address => NO_ADDRESS,
            Wrong::CostOf(rule) => {
                self.out[out::RULE] = rule as f64;
                COST_TOO_LARGE
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and lengths that matter are below 2^53")]
    pub(super) fn write(&mut self, rate: u64, verdict: &Verdict, wait: Micros) {
        self.out[out::RATE] = rate as f64;
        self.out[out::REMAINING] = verdict.remaining as f64;
        self.out[out::RESET_US] = verdict.reset_after.0 as f64;
        self.out[out::RETRY_US] = verdict.retry_after.0 as f64;
        self.out[out::WAIT_US] = wait.0 as f64;
        self.out[out::RULE] = verdict.rule as f64;
    }
}
