//! Each warning, told by the smallest policy that draws it.

use crate::catalogue::Catalogue;
use crate::policy::Policy;

/// The warnings that a policy with these rules and other members draws, one line each.
fn warnings(rules: &str, more: &str) -> Vec<String> {
    let text = format!("{{\"version\": 1, {more} \"rules\": [{rules}]}}");
    let policy = Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    policy.warnings.iter().map(|warning| format!("{}: {}", warning.pointer, warning.message)).collect()
}

fn rule(name: &str, scope: &str, more: &str) -> String {
    format!("{{\"name\": \"{name}\", \"scope\": \"{scope}\", \"rate\": 10, \"window_seconds\": 60{more}}}")
}

#[track_caller]
fn draws(rules: &[String], more: &str, expected: &[&str]) {
    let found = warnings(&rules.join(","), more);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        let (pointer, words) = expected.split_once(": ").unwrap();
        assert!(found.starts_with(&format!("{pointer}: ")) && found.contains(words), "{found}\nnot: {expected}");
    }
}

#[test]
fn a_sound_policy_draws_none() {
    draws(&[rule("a", "per_ip", ", \"burst\": 20"), rule("b", "per_user", "")], "", &[]);
}

#[test]
fn burst_without_effect() {
    let window = rule("a", "global", r#", "burst": 5, "algorithm": "sliding_window""#);
    let leaky = rule("b", "global", r#", "burst": 5, "algorithm": "leaky_bucket""#);
    draws(&[window, leaky], "", &["/rules/0/burst: no effect on sliding_window", "/rules/1/burst: depth of the queue"]);
}

#[test]
fn users_that_clients_make_up() {
    let source = r#""identity": {"user": [{"header": "x-api-key"}]},"#;
    let user = rule("u", "per_user", r#", "endpoints": ["/a/b", "/c/{id}"]"#);
    draws(core::slice::from_ref(&user), source, &["/rules/0/scope: make up"]);
    draws(&[user.clone(), rule("i", "per_ip", "")], source, &[]);
    draws(&[user.clone(), rule("i", "per_ip", r#", "endpoints": ["/a/*", "/c/*"]"#)], source, &[]);
    draws(&[user.clone(), rule("i", "per_ip", r#", "endpoints": ["/a/*"]"#)], source, &["/rules/0/scope: make up"]);
    draws(&[user, rule("i", "per_ip", r#", "mode": "shadow""#)], source, &["/rules/0/scope: make up"]);
}

#[test]
fn a_source_that_clients_put_before_a_verified_one() {
    let sources =
        r#""identity": {"user": [{"metadata": ["a", "b"]}, {"cookie": "s"}, {"header": "x", "trust": "verified"}]},"#;
    let expected = "/identity/user/1: anybody can send this, and /identity/user/2 is then not looked at";
    let ip = rule("i", "per_ip", "");
    draws(&[rule("u", "per_user", ""), ip.clone()], sources, &[expected]);
    draws(&[rule("u", "global", r#", "user_ids": ["mallory"]"#), ip.clone()], sources, &[expected]);
    draws(core::slice::from_ref(&ip), sources, &[]);
    let ordered = r#""identity": {"user": [{"metadata": ["a", "b"]}, {"cookie": "s"}]},"#;
    draws(&[rule("u", "per_user", ""), ip], ordered, &[]);
}

#[test]
fn what_matches_to_the_letter_only() {
    let admins = r#""admins": {"user_ids": ["root", "root "]},"#;
    let ids = rule("a", "global", r#", "user_ids": ["\u3000al", "al", "a l"]"#);
    draws(&[ids], admins, &["/admins/user_ids/1: space at an end", "/rules/0/user_ids/0: space at an end"]);
    let methods = rule("a", "global", r#", "methods": ["GET", "*", "all"]"#);
    draws(&[methods], "", &["/rules/0/methods/1: write no \"methods\"", "/rules/0/methods/2: every method"]);
    let endpoints =
        rule("a", "global", r#", "endpoints": ["/v1/:id", "/v1/<int:id>/x", "/v1/[id]", "/v1/a:b", "/v1/{id}/:"]"#);
    let expected = [
        "/rules/0/endpoints/0: \":id\" stands for itself alone; for any one segment, write \"{id}\"",
        "/rules/0/endpoints/1: write \"{id}\"",
        "/rules/0/endpoints/2: write \"{id}\"",
    ];
    draws(&[endpoints], "", &expected);
}

#[test]
fn exceptions_that_no_client_can_meet() {
    let exception = |endpoints: &str| {
        [rule("a", "per_ip", ""), rule("b", "global", &format!(r#", "replaces": ["a"], "endpoints": [{endpoints}]"#))]
    };
    let expected = ["/rules/1/endpoints/0: percent-encoded", "/rules/1/endpoints/2: percent-encoded"];
    draws(&exception(r#""/my files/*", "/ok/{id}", "/caf\u00e9""#), "", &expected);
    draws(&[rule("b", "global", r#", "endpoints": ["/my files/*"]"#)], "", &[]);
}

#[test]
fn what_can_never_match() {
    let source = r#""identity": {"user": [{"cookie": "session"}]}, "admins": {"user_ids": ["root"]},"#;
    let user = rule("a", "global", r#", "user_ids": ["alice"]"#);
    draws(&[user], source, &["/admins/user_ids: \"trust\": \"verified\"", "/rules/0/user_ids: can never match"]);
    let nobody = r#""identity": {"user": [], "anonymous": "skip"},"#;
    draws(&[rule("a", "per_user", "")], nobody, &["/rules/0/scope: never matches"]);
}

#[test]
fn what_never_limits() {
    draws(&[rule("a", "global", ", \"cost\": 0")], "", &["/rules/0/cost: never limits"]);
    draws(&[], "", &["/rules: no rule"]);
    let admins = r#""admins": {"ip_addresses": ["10.0.0.0/8", "::/0"]},"#;
    draws(&[rule("a", "global", "")], admins, &["/admins/ip_addresses/1: every address"]);
}

#[test]
fn long_windows_in_memory() {
    let long = r#"{"name": "a", "scope": "global", "rate": 1, "window_seconds": 3601}"#.to_owned();
    draws(&[long], "", &["/rules/0/window_seconds: restarts"]);
}

#[test]
fn rules_twice() {
    let twins = [rule("a", "global", ""), rule("b", "global", ", \"burst\": 10")];
    draws(&twins, "", &["/rules/1: the same as /rules/0"]);
    draws(&[rule("a", "global", ""), rule("b", "global", ", \"mode\": \"shadow\"")], "", &[]);
}

#[test]
fn endpoints_behind_wider_ones() {
    let endpoints = rule("a", "per_endpoint", r#", "endpoints": ["/v1/me", "/v1/{id}", "/v1/you"]"#);
    draws(&[endpoints], "", &["/rules/0/endpoints/2: /rules/0/endpoints/1 matches all of this first"]);
}

#[test]
fn replacing_in_vain_and_always() {
    let disabled = rule("b", "global", r#", "burst": 5, "enabled": false, "replaces": ["a"]"#);
    draws(&[rule("a", "global", ""), disabled], "", &["/rules/1/replaces: disabled"]);
    let wider = rule("b", "global", r#", "burst": 5, "replaces": ["a"]"#);
    draws(&[rule("a", "per_ip", ""), wider], "", &["/rules/0: never applies: /rules/1"]);
    let narrower = rule("b", "global", r#", "endpoints": ["/b"], "replaces": ["a"]"#);
    draws(&[rule("a", "per_ip", ""), narrower], "", &[]);
}

#[test]
fn a_job_that_is_more_than_the_gateway_takes() {
    let queue = |sizes: &str| {
        let strategy = format!(r#", "strategy": {{"type": "queue", "cluster": "c", "authority": "a"{sizes}}}"#);
        [rule("a", "per_ip", &strategy)]
    };
    let store = |protocol: &str| {
        format!(r#""store": {{"type": "redis", "cluster": "r", "authority": "g", "protocol": "{protocol}"}},"#)
    };
    for member in ["max_body_bytes", "max_result_bytes"] {
        let large = queue(&format!(r#", "{member}": 1048576"#));
        draws(&large, &store("upstash"), &["/rules/0/strategy: --max-body-bytes 1463640"]);
        draws(&large, &store("webdis"), &[]);
        draws(&large, "", &[]);
        draws(&queue(&format!(r#", "{member}": 737280"#)), &store("upstash"), &[]);
    }
    draws(&queue(""), &store("upstash"), &[]);
}

#[test]
fn a_throttle_that_waits_less_than_a_fixed_window() {
    let text = format!("{{\"version\": 1, \"rules\": [{}]}}", rule("a", "global", r#", "algorithm": "fixed_window""#));
    let policy = Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap();
    let about = |strategy: &str| {
        super::about_throttle(&policy.rules[0], &crate::policy::json::parse(strategy.as_bytes()).unwrap())
    };
    assert!(about(r#"{"type": "throttle", "max_delay_ms": 59999}"#).is_some());
    assert!(about(r#"{"type": "throttle", "max_delay_ms": 60000}"#).is_none());
    assert!(about(r#"{"type": "hard"}"#).is_none());
}
