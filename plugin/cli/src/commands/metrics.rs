//! `tidegate metrics` and `status`: what a running proxy counted, and how it is doing.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Method;

use super::rows::{lines, print, rows, table, text};
use crate::cli::{MetricsArgs, StatusArgs};
use crate::failure::{Answer, Failure};
use crate::remote::encoded;
use crate::screen::{Screen, visible};

/// The columns that come first.
const COLUMNS: [&str; 13] = [
    "name",
    "total",
    "allowed",
    "limited",
    "rejected",
    "delayed",
    "queued",
    "degraded",
    "shadow_limited",
    "granted",
    "near_limit",
    "hit_rate",
    "average_remaining",
];

/// Columns that are left off where no rule has anything in them.
const RARE: [&str; 6] = ["delayed", "queued", "degraded", "shadow_limited", "granted", "near_limit"];

/// What violators are told by: the member, and the word in a heading.
const KINDS: [(&str, &str); 3] = [("users", "user"), ("ips", "address"), ("endpoints", "endpoint")];

pub(super) fn metrics(args: &MetricsArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("metrics")?;
    let path = match &args.rule {
        Some(rule) => format!("/v1/metrics/{}", encoded(rule)),
        None => "/v1/metrics".to_owned(),
    };
    let mut left = if args.watch { args.count } else { Some(1) };
    loop {
        let Some(value) = client.json(&Method::GET, &path, None, &["rules"])? else { return Ok(Answer::No) };
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
    let mut rules = rows(value, "rules");
    if rules.is_empty() {
        return "no rules\n".to_owned();
    }
    let violations: Vec<(String, Value)> = rules.iter_mut().filter_map(taken_out).collect();
    for name in RARE {
        if rules.iter().all(|rule| rule.get(name).is_none_or(|count| count == 0)) {
            rules.iter_mut().filter_map(Value::as_object_mut).for_each(|rule| drop(rule.remove(name)));
        }
    }
    let mut out = table(&rules, &COLUMNS).text(screen);
    for (rule, lists) in violations {
        for (member, word) in KINDS {
            let table = table(&rows(&lists, member), &["key", "count", "error"]);
            if !table.is_empty() {
                out.push_str(&format!("\n{}: rejections by {word}\n{}", visible(&rule), table.text(screen)));
            }
        }
    }
    out
}

/// A rule's lists of violators, which become tables of their own.
fn taken_out(rule: &mut Value) -> Option<(String, Value)> {
    let name = rule.get("name").map(text).unwrap_or_default();
    Some((name, rule.as_object_mut()?.remove("violations")?))
}

pub(super) fn status(args: &StatusArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("workers and stores")?;
    let told = client.json(&Method::GET, "/v1/status", None, &["version", "capabilities"])?;
    let Some(value) = told else { return Ok(Answer::No) };
    print(screen, &value, lines)?;
    Ok(Answer::Yes)
}
