//! Everything that the dashboard and the rules ask, asked of a Prometheus that scrapes a real Envoy: no answer may be
//! empty. So a mistyped metric or label fails here, and not on the day when somebody looks.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dashboard::{self, list, word};
use crate::prometheus::{Prometheus, Sample};
use crate::site::{NAMESPACE, Site};
use crate::{metrics_page, prometheus, promql};

#[test]
fn every_query_finds_something_in_a_real_prometheus() {
    let Some(site) = Site::start("queries") else { return };
    let mut findings = Vec::new();
    let variables = variables(&site.prometheus, &mut findings);
    panels(&site.prometheus, &variables, &mut findings);
    recording_rules(&site.prometheus, &mut findings);
    alerts(&site.prometheus, &mut findings);
    metrics_page::compare(&site.envoy.prometheus().unwrap(), &mut findings);
    assert!(findings.is_empty(), "{}", findings.join("\n"));

    // Where the links of rules lead.
    let metrics = site.call("GET", "/v1/metrics/hard", None).json().unwrap();
    assert_eq!(list(&metrics["rules"]["hard"]["violations"]["users"]).len(), 2, "{metrics}");

    // And alerts fire: jobs failed for good, and a policy with a mistake is refused.
    let fires = |name: &str| {
        let firing = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        prometheus::eventually(name, || !site.prometheus.query(&firing).unwrap().is_empty());
    };
    fires("TidegateQueueFailsJobs");
    site.send_a_bad_policy();
    fires("TidegatePolicyRefused");
    let quiet = site.prometheus.query("ALERTS{alertname=~\"TidegateVm.*|TidegateGivesUp.*|TidegateDown\"}").unwrap();
    assert!(quiet.is_empty(), "{quiet:?}");
}

/// The values of the dashboard's variables, as Grafana puts them into queries: all, as one regular expression.
fn variables(prometheus: &Prometheus, findings: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::from([("__rate_interval".into(), "1m".into()), ("__range".into(), "1h".into())]);
    for variable in list(&dashboard::json()["templating"]["list"]).iter().filter(|one| one["type"] == "query") {
        let query = word(&variable["query"], "query");
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).unwrap();
        let found = prometheus.label_values(&filled(selector, &values), label).unwrap();
        let name = word(variable, "name");
        if found.is_empty() {
            findings.push(format!("variable {name}: {query} finds nothing"));
        }
        values.insert(name.to_owned(), format!("({})", found.join("|")));
    }
    assert_eq!(values["namespace"], format!("({NAMESPACE})"));
    assert_eq!(values["rule"], "(graceful|hard|queue|retry|shadow|throttle)");
    values
}

/// The text with its variables replaced.
fn filled(text: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
}

fn panels(prometheus: &Prometheus, variables: &BTreeMap<String, String>, findings: &mut Vec<String>) {
    let dashboard = dashboard::json();
    let queries = dashboard::queries(&dashboard);
    assert!(queries.len() > 40);
    for query in queries {
        let expression = filled(&query.expression, variables);
        match prometheus.query(&expression) {
            Err(error) => findings.push(format!("{}: {error}: {expression}", query.place)),
            Ok(samples) if !has_a_number(&samples) => {
                findings.push(format!("{} finds nothing ({} series): {expression}", query.place, samples.len()));
            }
            Ok(samples) => {
                let missing =
                    query.labels.iter().filter(|label| samples.iter().any(|one| !one.labels.contains_key(*label)));
                findings.extend(missing.map(|label| format!("{}: no label {label}: {expression}", query.place)));
            }
        }
        each_series_exists(prometheus, &query.place, &expression, findings);
    }
}

fn has_a_number(samples: &[Sample]) -> bool {
    samples.iter().any(|sample| sample.value.is_finite())
}

/// Looks for everything that an expression reads by itself: an `or` hides what is missing on one side.
fn each_series_exists(prometheus: &Prometheus, place: &str, expression: &str, findings: &mut Vec<String>) {
    for selector in promql::selectors(expression) {
        // A series that an alert wants to be absent or zero is there all the same, so only its value differs.
        let found = prometheus.query(&format!("last_over_time({selector}[1h])")).unwrap();
        if found.is_empty() {
            findings.push(format!("{place}: there is no {selector}"));
        }
    }
}

fn recording_rules(prometheus: &Prometheus, findings: &mut Vec<String>) {
    for rule in rules(prometheus, "recording", findings) {
        let (name, expression) = (word(&rule, "name"), word(&rule, "query"));
        for query in [name, expression] {
            if !has_a_number(&prometheus.query(query).unwrap()) {
                findings.push(format!("recording rule {name}: {query} finds nothing"));
            }
        }
        each_series_exists(prometheus, name, expression, findings);
    }
}

fn alerts(prometheus: &Prometheus, findings: &mut Vec<String>) {
    for rule in rules(prometheus, "alerting", findings) {
        each_series_exists(prometheus, word(&rule, "name"), word(&rule, "query"), findings);
    }
}

/// The rules of a kind; what ails one is a finding.
fn rules(prometheus: &Prometheus, kind: &str, findings: &mut Vec<String>) -> Vec<Value> {
    let mut rules = prometheus.rules();
    rules.retain(|rule| rule["type"] == kind);
    assert!(rules.len() >= 7, "only {} {kind} rules", rules.len());
    for rule in rules.iter().filter(|rule| rule["health"] != "ok") {
        findings.push(format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"]));
    }
    rules
}
