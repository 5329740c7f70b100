//! The filter's metrics in the host: what each rule said, what was decided, how full the table is. Names are parts
//! joined by dots, so that a host's tag rules can take namespace, rule and outcome out of them; how many there are
//! depends on the policy alone.

use tidegate_engine::policy::Policy;
use tidegate_engine::strategy::{Action, Relief};
use tidegate_engine::table::GivenUp;
use tidegate_engine::{Decision, Micros, Verdict};

use crate::host::{Metric, MetricKind, define_metric};

/// All metrics of one deployment. Defined while the plugin is configured: a metric defined later would start from zero
/// after an update of the plugin's code.
#[derive(Debug)]
pub(crate) struct Counters {
    /// For each rule, a counter for each of [`VERDICTS`].
    rules: Vec<[Metric; VERDICTS.len()]>,
    /// A counter for each of [`OUTCOMES`].
    outcomes: [Metric; OUTCOMES.len()],
    contended: Metric,
    /// Requests that left while they were held.
    pub(crate) abandoned: Metric,
    /// Requests that are held now.
    pub(crate) waiting: Metric,
    release_lag: Metric,
    given_up_idle: Metric,
    given_up_limiting: Metric,
    /// Cells that the table keeps now.
    pub(crate) table_keys: Metric,
    /// Bytes of cells that the table keeps now.
    pub(crate) table_bytes: Metric,
    /// Bytes of cells that the table keeps when every bucket is full.
    pub(crate) table_capacity_bytes: Metric,
}

/// What a decision may be, as [`Decision::outcome`] says it.
const OUTCOMES: [&str; 6] = ["allowed", "degraded", "delayed", "queued", "limited", "unlimited"];

/// What a rule may say of a request. A relief counts where the request got it; a request that another rule refuses is
/// `limited` by every rule that did not admit it.
const VERDICTS: [&str; 6] = ["allowed", "degraded", "delayed", "queued", "limited", "shadow_limited"];

impl Counters {
    /// Defines a policy's metrics.
    pub(crate) fn define(policy: &Policy) -> Self {
        let name = |parts: &str| format!("tidegate.{}.{parts}", policy.namespace);
        let counter = |parts: &str| define_metric(MetricKind::Counter, &name(parts));
        let gauge = |parts: &str| define_metric(MetricKind::Gauge, &name(parts));
        let verdicts = |rule: &str| VERDICTS.map(|verdict| counter(&format!("verdicts_total.{rule}.{verdict}")));
        Self {
            rules: policy.rules.iter().map(|rule| verdicts(&rule.name)).collect(),
            outcomes: OUTCOMES.map(|outcome| counter(&format!("requests_total.{outcome}"))),
            contended: counter("contended_total"),
            abandoned: counter("abandoned_total"),
            waiting: gauge("waiting"),
            release_lag: define_metric(MetricKind::Histogram, &name("release_lag_us")),
            given_up_idle: counter("table_given_up_total.idle"),
            given_up_limiting: counter("table_given_up_total.limiting"),
            table_keys: gauge("table_keys"),
            table_bytes: gauge("table_bytes"),
            table_capacity_bytes: gauge("table_capacity_bytes"),
        }
    }

    /// Counts a decision and every verdict in it.
    pub(crate) fn count(&self, decision: &Decision) {
        add_one(&OUTCOMES, &self.outcomes, decision.outcome());
        for verdict in &decision.verdicts {
            if let Some(rule) = self.rules.get(verdict.rule) {
                add_one(&VERDICTS, rule, word(verdict, decision));
            }
        }
    }

    /// Counts a request that was held and is sent on, so much later than it was reserved for.
    pub(crate) fn count_released(&self, late: Micros) {
        self.waiting.add(-1);
        self.release_lag.set(late.0);
    }

    /// Counts a request that found its cells changing under every try.
    pub(crate) fn count_contended(&self) {
        self.contended.add(1);
    }

    /// Counts cells that a full bucket gave up.
    pub(crate) fn count_given_up(&self, given_up: GivenUp) {
        for (metric, count) in [(self.given_up_idle, given_up.idle), (self.given_up_limiting, given_up.limiting)] {
            if count > 0 {
                metric.add(i64::from(count));
            }
        }
    }
}

fn add_one(words: &[&str], metrics: &[Metric], word: &str) {
    if let Some((_, metric)) = words.iter().zip(metrics).find(|(known, _)| **known == word) {
        metric.add(1);
    }
}

/// The one of [`VERDICTS`] that a verdict is.
fn word(verdict: &Verdict, decision: &Decision) -> &'static str {
    match (verdict.limited, verdict.enforced, &decision.action, verdict.relief) {
        (false, ..) => "allowed",
        (true, false, ..) => "shadow_limited",
        (true, true, Action::Degrade(_) | Action::Delay(_) | Action::Enqueue(_), Relief::BelowCeiling) => "degraded",
        (true, true, Action::Delay(_), Relief::Reserved(_)) => "delayed",
        (true, true, Action::Enqueue(_), Relief::Reserved(_)) => "queued",
        (true, true, ..) => "limited",
    }
}
