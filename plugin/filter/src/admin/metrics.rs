//! `/v1/metrics`: every rule's counters since its last reset, from the host's own metrics, which all workers share.

use tidegate_engine::admin::runtime::{Baseline, Runtime};
use tidegate_engine::admin::{answer, numbers, object};
use tidegate_engine::policy::Node;
use tidegate_engine::{Response, Timestamp};

use crate::counters::VERDICTS;
use crate::root::Deployment;
use crate::violations::Merged;

impl Deployment {
    /// One rule's metrics, or all, since the resets that `runtime` knows of.
    pub(super) fn metrics(&self, runtime: &Runtime, only: Option<&str>) -> Response {
        let engine = self.engine();
        let violations = self.violations.as_ref().map(|violations| violations.borrow().merged(&runtime.baselines));
        let mut shown = Vec::new();
        for (index, rule) in engine.policy().rules.iter().enumerate() {
            if only.is_none_or(|only| only == rule.name) {
                let counts = self.counted(index, &rule.name, runtime);
                shown.push((rule.name.clone(), rule_metrics(&counts, &rule.name, violations.as_ref())));
            }
        }
        if only.is_some() && shown.is_empty() {
            return answer::problem(404, "There is no such rule.");
        }
        answer::json(200, &object(&mut [("rules", Node::Object(shown))]))
    }

    /// A rule's counters since its last reset.
    fn counted(&self, index: usize, rule: &str, runtime: &Runtime) -> Vec<u64> {
        let counts = self.counters.read(index);
        match runtime.baselines.iter().find(|baseline| baseline.rule == rule) {
            None => counts,
            Some(baseline) => {
                let before = baseline.counts.iter().copied().chain(core::iter::repeat(0));
                counts.into_iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect()
            }
        }
    }

    /// Where a rule's counters stand now; `None` where there is no such rule.
    pub(super) fn baseline(&self, rule: &str, now: Timestamp) -> Option<Baseline> {
        let engine = self.engine();
        let index = engine.policy().index_of(rule)?;
        Some(Baseline { rule: rule.to_owned(), at: now, counts: self.counters.read(index) })
    }
}

fn rule_metrics(counts: &[u64], rule: &str, violations: Option<&Merged>) -> Node {
    let count = |word: &str| {
        let at = VERDICTS.iter().position(|known| *known == word);
        at.and_then(|at| counts.get(at)).copied().unwrap_or(0)
    };
    let last = |from_end: usize| counts.iter().rev().nth(from_end).copied().unwrap_or(0);
    let sum = |words: &[&str]| words.iter().fold(0_u64, |sum, word| sum.saturating_add(count(word)));
    let total = sum(&VERDICTS);
    let limited = sum(&["limited", "degraded", "delayed", "queued"]);
    let mut members = numbers(&[
        ("total", total),
        ("allowed", count("allowed")),
        ("limited", limited),
        ("rejected", count("limited")),
        ("delayed", count("delayed")),
        ("queued", count("queued")),
        ("degraded", count("degraded")),
        ("shadow_limited", count("shadow_limited")),
        ("granted", count("granted")),
        ("near_limit", last(1)),
    ]);
    members.push(("average_remaining".to_owned(), share(last(0), total, 100)));
    members.push(("hit_rate".to_owned(), share(limited, total, 10_000)));
    members.push(("violations".to_owned(), violations.map_or(Node::Null, |violations| violations.shown(rule))));
    Node::Object(members)
}

/// A quotient, cut to so many parts.
fn share(of: u64, all: u64, parts: u32) -> Node {
    let cut = u128::from(of).saturating_mul(parts.into()).checked_div(all.into()).unwrap_or(0);
    let millionths = cut.saturating_mul(1_000_000).checked_div(parts.into()).unwrap_or(0);
    Node::of_millionths(u64::try_from(millionths).unwrap_or(u64::MAX))
}
