//! What operators see of decisions: the access log's rule and outcome, counters a rule, and Prometheus with labels.

use serde_json::{Value, json};

use crate::proxy::Proxy;
use crate::wire::{Wire, request};

const DAY: u64 = 24 * 3600;

fn policy() -> Value {
    let rule = |name: &str, rate: u64, mode: &str, endpoints: &[&str]| {
        json!({"name": name, "scope": "per_user", "rate": rate, "window_seconds": DAY, "mode": mode,
            "endpoints": endpoints})
    };
    json!({
        "version": 1,
        "namespace": "seen",
        "identity": {"user": [{"header": "x-user-id", "trust": "verified"}]},
        "rules": [
            rule("wide", 10, "enforce", &["/api/*"]),
            rule("narrow", 3, "enforce", &["/api/search"]),
            rule("trial", 1, "shadow", &["/api/*"]),
        ],
    })
}

#[test]
fn each_decision_reaches_access_log_and_metrics() {
    let Some(mut proxy) = Proxy::start("access log and metrics", &policy()) else { return };
    let mut wires: Vec<Wire> = (0..12).map(|_| Wire::connect(proxy.address())).collect();
    // Path, how often, and what each of them gets: status, and outcome and rule in the log.
    let sequence = [
        ("/other", 4, 200, None, None),
        ("/api/search", 3, 200, Some("allowed"), Some("narrow")),
        ("/api/search", 2, 429, Some("limited"), Some("narrow")),
        ("/api/items", 7, 200, Some("allowed"), Some("wide")),
        ("/api/items", 5, 429, Some("limited"), Some("wide")),
        // Both refuse; they have the same priority, and the first in the policy decides.
        ("/api/search", 1, 429, Some("limited"), Some("wide")),
    ];
    let mut expected = Vec::new();
    for (path, times, status, outcome, rule) in sequence {
        for _ in 0..times {
            let number = expected.len();
            let request = request("GET", path, &format!("r{number}"), &[("x-user-id", "alice")]);
            let reply = wires[number % 12].send(&request).unwrap();
            assert_eq!(reply.status, status, "request {number} for {path}");
            expected.push((json!(status), json!(outcome), json!(rule)));
        }
    }
    let log = proxy.log_by_authority(expected.len());
    for (number, (status, outcome, rule)) in expected.iter().enumerate() {
        let entry = &log[&format!("r{number}")];
        assert_eq!((&entry["status"], &entry["outcome"], &entry["rule"]), (status, outcome, rule), "{entry}");
        let details = if status == 429 { "tidegate_limited" } else { "via_upstream" };
        assert_eq!(entry["details"], details);
    }

    let metrics = [
        ("requests_total.unlimited", 4),
        ("requests_total.allowed", 10),
        ("requests_total.limited", 8),
        ("verdicts_total.wide.allowed", 12),
        ("verdicts_total.wide.limited", 6),
        ("verdicts_total.narrow.allowed", 3),
        ("verdicts_total.narrow.limited", 3),
        ("verdicts_total.trial.allowed", 1),
        ("verdicts_total.trial.limited", 0),
        ("verdicts_total.trial.shadow_limited", 17),
        ("contended_total", 0),
        ("table_keys", 3),
        ("table_bytes", 120),
        ("table_capacity_bytes", 8_192 * 16 * 40),
        ("table_given_up_total.idle", 0),
        ("table_given_up_total.limiting", 0),
    ];
    for (name, value) in metrics {
        assert_eq!(proxy.metric(name), value, "{name}");
    }
    let lines = [
        r#"tidegate_requests_total{tidegate_namespace="seen",tidegate_outcome="limited"} 8"#,
        r#"tidegate_verdicts_total{tidegate_namespace="seen",tidegate_outcome="allowed",tidegate_rule="wide"} 12"#,
        r#"tidegate_verdicts_total{tidegate_namespace="seen",tidegate_outcome="limited",tidegate_rule="narrow"} 3"#,
        r#"tidegate_verdicts_total{tidegate_namespace="seen",tidegate_outcome="shadow_limited",tidegate_rule="trial"} 17"#,
        r#"tidegate_table_given_up_total{tidegate_namespace="seen",tidegate_outcome="limiting"} 0"#,
        r#"tidegate_table_keys{tidegate_namespace="seen"} 3"#,
        "# TYPE tidegate_verdicts_total counter",
        "# TYPE tidegate_table_bytes gauge",
    ];
    let text = proxy.envoy.prometheus().unwrap();
    let shown: Vec<String> = text.lines().map(sorted_labels).collect();
    for line in lines {
        assert!(shown.contains(&sorted_labels(line)), "{line} is not in\n{}", ours(&text));
    }
    proxy.assert_both_workers_served();
    proxy.assert_unharmed();
}

/// A sample's line with its labels in order; Envoy's order is its own.
fn sorted_labels(line: &str) -> String {
    let Some((name, rest)) = line.split_once('{') else { return line.to_owned() };
    let Some((labels, value)) = rest.split_once('}') else { return line.to_owned() };
    let mut labels: Vec<&str> = labels.split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}{value}", labels.join(","))
}

fn ours(text: &str) -> String {
    let lines = text.lines().filter(|line| line.starts_with("tidegate_"));
    lines.collect::<Vec<_>>().join("\n")
}
