//! The filter's metrics in the host: what each rule said, what was decided, how full the table is. Names are parts
//! joined by dots, so that a host's tag rules can take namespace, rule and outcome out of them; how many there are
//! depends on the policy alone.

use core::cell::RefCell;

use tidegate_engine::alert::meter::Totals;
use tidegate_engine::policy::{Policy, Rule};
use tidegate_engine::strategy::{Action, Relief};
use tidegate_engine::table::{ENTRY_BYTES, Geometry, GivenUp};
use tidegate_engine::{Decision, Micros, Verdict};

use crate::host::{self, Level, Metric, MetricKind, define_metric};

/// All metrics of one deployment. Defined while the plugin is configured: a metric defined later would start from zero
/// after an update of the plugin's code.
#[derive(Debug)]
pub(crate) struct Counters {
    /// What all of their names start with: the policy's namespace, and more where another instance of the plugin has that.
    namespace: String,
    /// The counters of each of the policy's rules, in its order.
    rules: RefCell<Vec<RuleCounters>>,
    /// Those of every rule that there ever was, by name: defining one again would grow the host's map.
    known: RefCell<Vec<(String, RuleCounters)>>,
    /// A counter for each of [`OUTCOMES`].
    outcomes: [Metric; OUTCOMES.len()],
    contended: Metric,
    /// Requests that were decided without the store, because it failed.
    store_failures: Metric,
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

/// One rule's counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleCounters {
    /// A counter for each of [`VERDICTS`].
    verdicts: [Metric; VERDICTS.len()],
    /// Requests that were not limited and left at most a fifth.
    near_limit: Metric,
    /// The sum of what requests left.
    remaining: Metric,
}

/// What a decision may be, as [`Decision::outcome`] says it.
const OUTCOMES: [&str; 6] = ["allowed", "degraded", "delayed", "queued", "limited", "unlimited"];

/// What a rule may say of a request. A relief counts where the request got it; a request that another rule refuses is
/// `limited` by every rule that did not admit it.
pub(crate) const VERDICTS: [&str; 7] =
    ["allowed", "degraded", "delayed", "queued", "limited", "shadow_limited", "granted"];

impl Counters {
    /// Defines a policy's metrics for the `instance` of the plugin whose hash this is.
    pub(crate) fn define(policy: &Policy, instance: [u8; 8]) -> Self {
        let namespace = claim(&policy.namespace, instance);
        let counter = |parts: &str| metric(MetricKind::Counter, &namespace, parts);
        let gauge = |parts: &str| metric(MetricKind::Gauge, &namespace, parts);
        let counters = Self {
            rules: RefCell::default(),
            known: RefCell::default(),
            outcomes: OUTCOMES.map(|outcome| counter(&format!("requests_total.{outcome}"))),
            contended: counter("contended_total"),
            store_failures: counter("store_failures_total"),
            abandoned: counter("abandoned_total"),
            waiting: gauge("waiting"),
            release_lag: metric(MetricKind::Histogram, &namespace, "release_lag_us"),
            given_up_idle: counter("table_given_up_total.idle"),
            given_up_limiting: counter("table_given_up_total.limiting"),
            table_keys: gauge("table_keys"),
            table_bytes: gauge("table_bytes"),
            table_capacity_bytes: gauge("table_capacity_bytes"),
            namespace,
        };
        counters.adopt(policy);
        counters
    }

    /// Counts the rules of another policy of this deployment; a rule that stays keeps its counters.
    pub(crate) fn adopt(&self, policy: &Policy) {
        *self.rules.borrow_mut() = policy.rules.iter().map(|rule| self.of_rule(&rule.name)).collect();
    }

    /// Defines another metric of this instance.
    pub(crate) fn metric(&self, kind: MetricKind, parts: &str) -> Metric {
        metric(kind, &self.namespace, parts)
    }

    /// What a metric of this instance is called in the host.
    pub(crate) fn name(&self, parts: &str) -> String {
        name(&self.namespace, parts)
    }

    fn of_rule(&self, rule: &str) -> RuleCounters {
        let mut known = self.known.borrow_mut();
        if let Some((_, counters)) = known.iter().find(|(name, _)| name == rule) {
            return *counters;
        }
        let counter = |part: &str| self.metric(MetricKind::Counter, part);
        let counters = RuleCounters {
            verdicts: VERDICTS.map(|verdict| counter(&format!("verdicts_total.{rule}.{verdict}"))),
            near_limit: counter(&format!("near_limit_total.{rule}")),
            remaining: counter(&format!("remaining_total.{rule}")),
        };
        known.push((rule.to_owned(), counters));
        counters
    }

    /// What a rule's counters stand at: those of [`VERDICTS`], then near the limit, then the sum of what was left.
    pub(crate) fn read(&self, rule: usize) -> Vec<u64> {
        let rules = self.rules.borrow();
        let Some(rule) = rules.get(rule) else { return Vec::new() };
        rule.verdicts.iter().chain([&rule.near_limit, &rule.remaining]).map(|metric| metric.value()).collect()
    }

    /// Cells that a full bucket gave up and that still limited somebody, since the proxy started.
    pub(crate) fn given_up_limiting(&self) -> u64 {
        self.given_up_limiting.value()
    }

    /// Counts a decision and every verdict in it.
    pub(crate) fn count(&self, decision: &Decision) {
        add_one(&OUTCOMES, &self.outcomes, decision.outcome());
        for verdict in &decision.verdicts {
            if let Some(rule) = self.rules.borrow().get(verdict.rule) {
                add_one(&VERDICTS, &rule.verdicts, word(verdict, decision));
            }
        }
    }

    /// Counts how much each rule had left, which only the admin API tells.
    pub(crate) fn count_remaining(&self, decision: &Decision, policy: &Policy) {
        let rules = self.rules.borrow();
        for verdict in &decision.verdicts {
            let (Some(counters), Some(rule)) = (rules.get(verdict.rule), policy.rules.get(verdict.rule)) else {
                continue;
            };
            if verdict.remaining > 0 {
                counters.remaining.add(i64::try_from(verdict.remaining).unwrap_or(i64::MAX));
            }
            if !verdict.limited && is_near(verdict, rule) {
                counters.near_limit.add(1);
            }
        }
    }

    /// Counts a request that was held and is sent on, so much later than it was reserved for.
    pub(crate) fn count_released(&self, late: Micros) {
        self.release_lag.set(late.0);
    }

    /// Counts a request that found its cells changing under every try.
    pub(crate) fn count_contended(&self) {
        self.contended.add(1);
    }

    /// Counts a request that is decided without the store.
    pub(crate) fn count_store_failure(&self) {
        self.store_failures.add(1);
    }

    /// What an alert on a rule, or on all of them, is fed with.
    pub(crate) fn totals(&self, rule: Option<usize>) -> Totals {
        let (words, counts): (&[&str], Vec<u64>) = match rule {
            Some(rule) => (&VERDICTS, self.read(rule)),
            None => (&OUTCOMES, self.outcomes.iter().map(|metric| metric.value()).collect()),
        };
        let mut totals = Totals { store_failures: self.store_failures.value(), ..Totals::default() };
        for (word, count) in words.iter().zip(counts) {
            if *word != "unlimited" {
                totals.requests = totals.requests.saturating_add(count);
            }
            if matches!(*word, "limited" | "degraded" | "delayed" | "queued") {
                totals.limited = totals.limited.saturating_add(count);
            }
            if *word == "limited" {
                totals.rejected = count;
            }
        }
        totals
    }

    /// Has the gauges tell of a table of this size, in which nothing is counted yet.
    pub(crate) fn show_table(&self, geometry: Geometry) {
        self.table_capacity_bytes.set(geometry.largest_bytes());
        self.table_keys.set(0);
        self.table_bytes.set(0);
    }

    /// Counts cells that a table keeps more, or less. One whose policy was replaced by a policy of another size is not told
    /// of any more.
    pub(crate) fn count_keys(&self, geometry: Geometry, grown: i64) {
        #[expect(clippy::cast_possible_wrap, reason = "a small constant")]
        const BYTES: i64 = ENTRY_BYTES as i64;
        if grown != 0 && self.table_capacity_bytes.value() == geometry.largest_bytes() {
            self.table_keys.add(grown);
            self.table_bytes.add(grown.saturating_mul(BYTES));
        }
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

fn metric(kind: MetricKind, namespace: &str, parts: &str) -> Metric {
    define_metric(kind, &name(namespace, parts))
}

fn name(namespace: &str, parts: &str) -> String {
    ["tidegate.", namespace, ".", parts].concat()
}

/// The namespace that an instance's metrics are under: the policy's, where no other instance has it. Gauges decide how much
/// is queued and held, and the host has one of each name.
fn claim(namespace: &str, instance: [u8; 8]) -> String {
    let [first, second, third, fourth, ..] = instance;
    let instance = u64::from(u32::from_le_bytes([first, second, third, fourth]).max(1));
    let owner = metric(MetricKind::Gauge, namespace, "instance");
    match owner.value() {
        0 => owner.set(instance),
        known if known == instance => {}
        _ => {
            let own = format!("{namespace}-{instance:08x}");
            let why =
                ["another instance of the plugin has the namespace ", namespace, ": metrics of this one are under "];
            let what = "; give each instance a namespace of its own";
            host::log(Level::Warn, &[&why.concat(), own.as_str(), what].concat());
            return own;
        }
    }
    namespace.to_owned()
}

fn add_one(words: &[&str], metrics: &[Metric], word: &str) {
    if let Some((_, metric)) = words.iter().zip(metrics).find(|(known, _)| **known == word) {
        metric.add(1);
    }
}

/// Whether at most a fifth is left.
fn is_near(verdict: &Verdict, rule: &Rule) -> bool {
    verdict.remaining.saturating_mul(5) <= rule.algorithm.largest_cost(&rule.quota)
}

/// The one of [`VERDICTS`] that a verdict is.
pub(crate) fn word(verdict: &Verdict, decision: &Decision) -> &'static str {
    if verdict.granted && !(verdict.limited && verdict.enforced) {
        return "granted";
    }
    match (verdict.limited, verdict.enforced, &decision.action, verdict.relief) {
        (false, ..) => "allowed",
        (true, false, ..) => "shadow_limited",
        (true, true, Action::Degrade(_) | Action::Delay(_) | Action::Enqueue(_), Relief::BelowCeiling) => "degraded",
        (true, true, Action::Delay(_), Relief::Reserved(_)) => "delayed",
        (true, true, Action::Enqueue(_), Relief::Reserved(_)) => "queued",
        (true, true, ..) => "limited",
    }
}
