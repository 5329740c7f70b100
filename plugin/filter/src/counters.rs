//! The filter's metrics in the host: what each rule said, what was decided, how full the table is. Names are parts
//! joined by dots, so that a host's tag rules can take namespace, rule and outcome out of them; how many there are
//! depends on the policy alone.

use tidegate_engine::policy::Policy;
use tidegate_engine::table::GivenUp;
use tidegate_engine::{Decision, Verdict};

use crate::host::{Metric, MetricKind, define_metric};

/// All metrics of one deployment. Defined while the plugin is configured: a metric defined later would start from zero
/// after an update of the plugin's code.
#[derive(Debug)]
pub(crate) struct Counters {
    rules: Vec<RuleCounters>,
    allowed: Metric,
    limited: Metric,
    unlimited: Metric,
    contended: Metric,
    given_up_idle: Metric,
    given_up_limiting: Metric,
    /// Cells that the table keeps now.
    pub(crate) table_keys: Metric,
    /// Bytes of cells that the table keeps now.
    pub(crate) table_bytes: Metric,
    /// Bytes of cells that the table keeps when every bucket is full.
    pub(crate) table_capacity_bytes: Metric,
}

#[derive(Debug)]
struct RuleCounters {
    allowed: Metric,
    limited: Metric,
    shadow_limited: Metric,
}

impl Counters {
    /// Defines a policy's metrics.
    pub(crate) fn define(policy: &Policy) -> Self {
        let name = |parts: &str| format!("tidegate.{}.{parts}", policy.namespace);
        let counter = |parts: &str| define_metric(MetricKind::Counter, &name(parts));
        let gauge = |parts: &str| define_metric(MetricKind::Gauge, &name(parts));
        let rule = |rule: &str| RuleCounters {
            allowed: counter(&format!("verdicts_total.{rule}.allowed")),
            limited: counter(&format!("verdicts_total.{rule}.limited")),
            shadow_limited: counter(&format!("verdicts_total.{rule}.shadow_limited")),
        };
        Self {
            rules: policy.rules.iter().map(|known| rule(&known.name)).collect(),
            allowed: counter("requests_total.allowed"),
            limited: counter("requests_total.limited"),
            unlimited: counter("requests_total.unlimited"),
            contended: counter("contended_total"),
            given_up_idle: counter("table_given_up_total.idle"),
            given_up_limiting: counter("table_given_up_total.limiting"),
            table_keys: gauge("table_keys"),
            table_bytes: gauge("table_bytes"),
            table_capacity_bytes: gauge("table_capacity_bytes"),
        }
    }

    /// Counts a decision and every verdict in it.
    pub(crate) fn count(&self, decision: &Decision) {
        match decision.outcome() {
            "limited" => self.limited.add(1),
            "unlimited" => self.unlimited.add(1),
            _ => self.allowed.add(1),
        }
        for verdict in &decision.verdicts {
            if let Some(rule) = self.rules.get(verdict.rule) {
                rule.of(verdict).add(1);
            }
        }
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

impl RuleCounters {
    fn of(&self, verdict: &Verdict) -> Metric {
        match (verdict.limited, verdict.enforced) {
            (false, _) => self.allowed,
            (true, true) => self.limited,
            (true, false) => self.shadow_limited,
        }
    }
}
