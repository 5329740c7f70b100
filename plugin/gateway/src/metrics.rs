//! Counters, gauges and one histogram, written in Prometheus's text format.
//! Not here: labels that a caller chooses. Every label comes from a fixed set.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency histogram in microseconds: from what a local Redis takes to the longest timeout.
const BUCKETS: [u64; 12] = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 300_000, 1_000_000];

/// How a request ended; the labels of `tidegate_gateway_requests_total`. All but the first two are `Failure::label`s.
const RESULTS: [&str; 14] = [
    "ok",
    ABANDONED,
    "malformed",
    "not_allowed",
    "store_error",
    "unauthorized",
    "forbidden",
    "method",
    "slow_body",
    "large_body",
    "busy",
    "unreachable",
    "unreadable",
    "timed_out",
];

/// The label of a request whose caller left before its answer.
pub const ABANDONED: &str = "abandoned";

/// All of the process's numbers. Relaxed ordering throughout: each stands alone.
#[derive(Default)]
pub struct Metrics {
    results: [AtomicU64; RESULTS.len()],
    buckets: [AtomicU64; BUCKETS.len()],
    latency_us: AtomicU64,
    latency_count: AtomicU64,
    /// Commands sent to Redis, those inside batches each.
    pub commands: AtomicU64,
    /// Scripts sent in full because Redis had forgotten them.
    pub scripts_resent: AtomicU64,
    /// Times that a new set of connections to Redis was opened, the first included.
    pub connects: AtomicU64,
    /// Tries to open one that failed.
    pub failed_connects: AtomicU64,
}

/// Numbers that live elsewhere and are read when somebody asks.
pub struct Gauges {
    /// Whether there are connections to Redis.
    pub connected: bool,
    /// Requests being worked on.
    pub in_flight: usize,
    /// Names in the script cache.
    pub scripts: usize,
}

impl Metrics {
    /// Counts one request. `label` is one of `RESULTS`; `took` only counts where Redis was asked.
    pub fn count(&self, label: &str, took: Option<Duration>) {
        if let Some(counter) = RESULTS.iter().position(|known| *known == label).and_then(|at| self.results.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
        let Some(took) = took else { return };
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS.iter().position(|bound| took <= *bound).and_then(|at| self.buckets.get(at)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.latency_us.fetch_add(took, Relaxed);
        self.latency_count.fetch_add(1, Relaxed);
    }

    /// The text of `/metrics`.
    pub fn text(&self, gauges: &Gauges) -> String {
        let mut out = String::with_capacity(4_096);
        head(&mut out, "requests_total", "counter", "Command requests by how they ended.");
        for (label, counter) in RESULTS.iter().zip(&self.results) {
            let _ = writeln!(out, "tidegate_gateway_requests_total{{result=\"{label}\"}} {}", counter.load(Relaxed));
        }
        self.histogram(&mut out);
        for (name, kind, help, value) in [
            ("commands_total", "counter", "Commands sent to Redis.", self.commands.load(Relaxed)),
            ("scripts_resent_total", "counter", "Scripts sent in full.", self.scripts_resent.load(Relaxed)),
            ("connects_total", "counter", "Sets of connections opened.", self.connects.load(Relaxed)),
            ("failed_connects_total", "counter", "Tries to connect that failed.", self.failed_connects.load(Relaxed)),
            ("connected", "gauge", "1 while there are connections to Redis.", u64::from(gauges.connected)),
            ("in_flight", "gauge", "Requests being worked on.", gauges.in_flight as u64),
            ("scripts", "gauge", "Names in the script cache.", gauges.scripts as u64),
        ] {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "tidegate_gateway_{name} {value}");
        }
        out
    }

    fn histogram(&self, out: &mut String) {
        head(out, "latency_seconds", "histogram", "From a read request to its result, where Redis was asked.");
        let mut below = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            let bound = seconds(*bound);
            let _ = writeln!(out, "tidegate_gateway_latency_seconds_bucket{{le=\"{bound}\"}} {below}");
        }
        let count = self.latency_count.load(Relaxed).max(below);
        let _ = writeln!(out, "tidegate_gateway_latency_seconds_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "tidegate_gateway_latency_seconds_sum {}", seconds(self.latency_us.load(Relaxed)));
        let _ = writeln!(out, "tidegate_gateway_latency_seconds_count {count}");
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP tidegate_gateway_{name} {help}\n# TYPE tidegate_gateway_{name} {kind}");
}

/// Microseconds as seconds, exactly: 250 is `0.000250`.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn every_failure_has_its_counter() {
        for failure in [
            Failure::Malformed(String::new()),
            Failure::NotAllowed(String::new()),
            Failure::Store(String::new()),
            Failure::Unauthorized,
            Failure::TokenInUrl,
            Failure::FromBrowser(""),
            Failure::Method(""),
            Failure::SlowBody,
            Failure::LargeBody,
            Failure::Busy,
            Failure::Unreachable,
            Failure::Unreadable,
            Failure::TimedOut,
        ] {
            assert!(RESULTS.contains(&failure.label()), "{}", failure.label());
        }
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_the_count() {
        let metrics = Metrics::default();
        for us in [100, 251, 700, 5_000_000] {
            metrics.count("ok", Some(Duration::from_micros(us)));
        }
        metrics.count("busy", None);
        let text = metrics.text(&Gauges { connected: true, in_flight: 3, scripts: 1 });
        for line in [
            "tidegate_gateway_requests_total{result=\"ok\"} 4",
            "tidegate_gateway_requests_total{result=\"busy\"} 1",
            "tidegate_gateway_latency_seconds_bucket{le=\"0.000250\"} 1",
            "tidegate_gateway_latency_seconds_bucket{le=\"0.001000\"} 3",
            "tidegate_gateway_latency_seconds_bucket{le=\"1.000000\"} 3",
            "tidegate_gateway_latency_seconds_bucket{le=\"+Inf\"} 4",
            "tidegate_gateway_latency_seconds_sum 5.001051",
            "tidegate_gateway_latency_seconds_count 4",
            "tidegate_gateway_connected 1",
            "tidegate_gateway_in_flight 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
