//! `tidegate metrics` and `status`: what a running proxy counted, and how it is doing.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Method;

use super::rows::{lines, print, rows, table};
use crate::cli::{MetricsArgs, StatusArgs};
use crate::failure::{Answer, Failure};
use crate::remote::encoded;
use crate::screen::{Screen, visible};

/// The columns that come first.
const COLUMNS: [&str; 14] = [
    "name",
    "rule",
    "total",
    "allowed",
    "limited",
    "rejected",
    "delayed",
    "queued",
    "degraded",
    "shadow_limited",
    "near_limit",
    "hit_rate",
    "average_remaining",
    "since",
];

/// Lists of violators, as the rows of tables of their own.
const VIOLATORS: [&str; 4] = ["violations", "violations_by_user", "violations_by_ip", "violations_by_endpoint"];

pub(super) fn metrics(args: &MetricsArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("metrics")?;
    let path = match &args.rule {
        Some(rule) => format!("/v1/metrics/{}", encoded(rule)),
        None => "/v1/metrics".to_owned(),
    };
    let mut left = if args.watch { args.count } else { Some(1) };
    loop {
        let Some(value) = client.json(&Method::GET, &path, None)? else { return Ok(Answer::No) };
        if args.watch && !screen.is_json {
            screen.clear()?;
        }
        print(screen, &value, |value| shown(value, screen))?;
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(Answer::Yes);
        }
        std::thread::sleep(Duration::from_secs(args.interval));
    }
}

fn shown(value: &Value, screen: Screen) -> String {
    let rules = rows(value, "rules");
    let mut out = if rules.is_empty() { "no rules\n".to_owned() } else { table(&rules, &COLUMNS).text(screen) };
    for rule in &rules {
        let sources = VIOLATORS.iter().filter_map(|name| Some((*name, rule.get(*name)?)));
        for (name, violators) in sources {
            let of_rule = rule.get("name").or_else(|| rule.get("rule")).and_then(Value::as_str).unwrap_or_default();
            for (kind, violators) in lists(name, violators) {
                let table = table(&rows(&violators, ""), &["key", "id", "count", "error"]);
                if !table.is_empty() {
                    out.push_str(&format!("\n{}: {}\n", visible(of_rule), visible(&kind.replace('_', " "))));
                    out.push_str(&table.text(screen));
                }
            }
        }
    }
    out
}

/// `{"user": [...], "ip": [...]}` as two lists, a list as one.
fn lists(name: &str, value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(members) => {
            members.iter().map(|(kind, list)| (format!("{name}_by_{kind}"), list.clone())).collect()
        }
        list => vec![(name.to_owned(), list.clone())],
    }
}

pub(super) fn status(args: &StatusArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("workers and stores")?;
    let Some(value) = client.json(&Method::GET, "/v1/status", None)? else { return Ok(Answer::No) };
    print(screen, &value, lines)?;
    Ok(Answer::Yes)
}
