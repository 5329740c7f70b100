//! `cargo xtask demo --check`: sends requests until one is limited and checks what a client sees on the way.
//! Not here: exact counts and times, which the end-to-end tests check.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::load::{Answer, Client, Request};

/// After so many allowed requests the policy is taken to limit nothing.
const MOST_REQUESTS: usize = 2_000;

/// Sends the policy's own kind of request until one is answered otherwise than 200. False when something is wrong;
/// everything found is printed.
pub(super) fn run(address: SocketAddr, policy: &str) -> Result<bool> {
    let policy: Value = serde_json::from_str(policy).context("reading the policy as JSON")?;
    let request = probe(&policy);
    let client = Client::http1(address, 1)?;
    let mut faults = Vec::new();
    let first = client.send(&request)?;
    print_answer("first", &first);
    faults.extend(faults_of_allowed(&first, policy["headers"] != "off"));
    let mut allowed = usize::from(first.status == 200);
    let mut last = first;
    while last.status == 200 && allowed < MOST_REQUESTS {
        last = client.send(&request)?;
        allowed = allowed.saturating_add(usize::from(last.status == 200));
    }
    println!("allowed {allowed} before the first other answer");
    print_answer("last", &last);
    faults.extend(faults_of_limited(&last));
    for fault in &faults {
        println!("WRONG: {fault}");
    }
    println!("{}", if faults.is_empty() { "demo check: as it should be" } else { "demo check: failed" });
    Ok(faults.is_empty())
}

/// A request that the first enabled rule with endpoints matches; without such a rule, `GET /`.
fn probe(policy: &Value) -> Request {
    let rules = policy["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let catches_all =
        |rule: &&Value| rule["enabled"] != false && rule["endpoints"].as_array().is_none_or(Vec::is_empty);
    if rules.iter().any(|rule| catches_all(&rule)) {
        return Request::get("/");
    }
    let rule = rules.iter().find(|rule| rule["enabled"] != false).unwrap_or(&Value::Null);
    let template = rule["endpoints"][0].as_str().unwrap_or("/");
    let path: Vec<&str> =
        template.split('/').map(|part| if part.starts_with(['{', '*']) { "1" } else { part }).collect();
    Request::new(rule["methods"][0].as_str().unwrap_or("GET"), &path.join("/"))
}

fn print_answer(which: &str, answer: &Answer) {
    println!("{which}: status {}", answer.status);
    for (name, value) in &answer.headers {
        let name = name.as_str();
        if name.contains("ratelimit") || name == "retry-after" || name == "cache-control" || name == "content-type" {
            println!("  {name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
}

fn faults_of_allowed(answer: &Answer, wants_headers: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if answer.status != 200 {
        faults.push(format!("the first request got {}, expected 200", answer.status));
    }
    let has_headers = answer.headers.contains_key("ratelimit") || answer.headers.contains_key("x-ratelimit-limit");
    if wants_headers && !has_headers {
        faults.push("the first answer has neither RateLimit nor X-RateLimit-Limit".into());
    }
    faults
}

fn faults_of_limited(answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    if answer.status != 429 {
        faults.push(format!("the last request got {}, expected 429 within {MOST_REQUESTS} requests", answer.status));
    }
    match answer.header("retry-after").map(str::parse::<u64>) {
        Some(Ok(1..)) => (),
        Some(_) => faults.push("Retry-After is not a whole number of seconds from 1 upwards".into()),
        None => faults.push("the last answer has no Retry-After".into()),
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, header: Option<(&'static str, &'static str)>) -> Answer {
        let headers = header.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Answer {
            status,
            headers: headers.into_iter().collect(),
            body: bytes::Bytes::new(),
            trailers: hyper::HeaderMap::new(),
            sent: Duration::ZERO,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn each_fault_is_found() {
        assert!(faults_of_allowed(&answer(200, Some(("ratelimit", "x"))), true).is_empty());
        assert!(faults_of_allowed(&answer(200, None), false).is_empty());
        assert_eq!(faults_of_allowed(&answer(200, None), true).len(), 1);
        assert_eq!(faults_of_allowed(&answer(503, None), false).len(), 1);
        assert!(faults_of_limited(&answer(429, Some(("retry-after", "3")))).is_empty());
        assert_eq!(faults_of_limited(&answer(429, Some(("retry-after", "0")))).len(), 1);
        assert_eq!(faults_of_limited(&answer(200, None)).len(), 2);
    }

    #[test]
    fn the_request_is_one_that_the_policy_limits() {
        let only = serde_json::json!({"rules": [
            {"enabled": false, "endpoints": ["/off"]},
            {"endpoints": ["/v1/users/{id}/*"], "methods": ["PUT"]},
        ]});
        let text = format!("{:?}", probe(&only));
        assert!(text.contains("\"PUT\"") && text.contains("\"/v1/users/1/1\""), "{text}");
    }
}
