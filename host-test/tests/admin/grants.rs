//! What grants do to requests, on both workers.

use std::time::Duration;

use serde_json::json;
use tidegate_host_test::{LogLevel, Request};

use crate::console::{console, console_of, per_user, policy};
use crate::tidegate::{from, messages, passed, rule};

#[test]
fn the_missions_session() {
    let Some(at) = console_of(&policy("", "")) else { return };
    assert_eq!(at.passing("user_456", 10), 10, "no rule");
    let rule = r#"{"scope": "per_user", "rate": 3, "window_seconds": 60}"#;
    let put = at.write("PUT", "/v1/rules/api_limit", rule, 200);
    assert_eq!((&put["generation"], &put["rule"]["source"]), (&json!(1), &json!("runtime")));
    let listed = at.get("/v1/rules");
    assert_eq!(listed["rules"][0]["name"], "api_limit");
    assert_eq!(listed["rules"][0]["enabled"], true);
    assert_eq!(at.passing("user_456", 10), 3, "both workers count together, at once");
    let id = at.grant(r#""target_user_id": "user_456", "unlimited": true"#);
    assert_eq!(at.passing("user_456", 10), 10);
    assert_eq!(at.passing("somebody", 10), 3, "for nobody else");
    // Each worker writes whom it refused once a second.
    at.host.advance(Duration::from_secs(1));
    let metrics = at.get("/v1/metrics/api_limit");
    let metrics = &metrics["rules"]["api_limit"];
    assert_eq!((&metrics["total"], &metrics["granted"]), (&json!(30), &json!(10)), "{metrics}");
    assert_eq!((&metrics["allowed"], &metrics["limited"]), (&json!(6), &json!(14)));
    assert_eq!(metrics["hit_rate"], json!(0.4666));
    assert_eq!(metrics["near_limit"], 2, "of three, none left");
    let users = &metrics["violations"]["users"];
    for user in ["somebody", "user_456"] {
        let counted = json!({"key": user, "count": 7, "error": 0});
        assert!(users.as_array().unwrap().contains(&counted), "{metrics}");
    }
    at.write("DELETE", &format!("/v1/overrides/{id}"), "", 204);
    assert_eq!(at.passing("user_456", 10), 0, "limited again, and no debt: its own quota is as spent as it was");
    let reset = at.write("POST", "/v1/metrics/api_limit/reset", "", 200);
    assert_eq!(reset["rules"]["api_limit"]["total"], 0);
    assert_eq!(reset["rules"]["api_limit"]["violations"]["users"], json!([]), "{reset}");
    at.write("DELETE", "/v1/rules/api_limit", "", 204);
    assert_eq!(at.passing("user_456", 10), 10);
    let audit = at.get("/v1/audit");
    let actions: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["rule_put", "override_given", "override_revoked", "metrics_reset", "rule_removed"]);
    at.sound();
}

#[test]
fn a_grant_ends_at_its_second_on_every_worker_and_is_noted_once() {
    let Some(at) = console() else { return };
    at.passing("u", 10);
    at.write(
        "POST",
        "/v1/overrides",
        r#"{"target_user_id": "u", "unlimited": true, "reason": "testing", "duration_minutes": 1}"#,
        201,
    );
    assert_eq!(at.passing("u", 4), 4);
    // What has come back of the quota is spent under the grant, all but what comes back with the last microsecond.
    at.host.advance(Duration::from_micros(59_999_999));
    assert_eq!(at.passing("u", 8), 8);
    let active = || at.host.metrics().gauge("tidegate.default.overrides_active");
    assert_eq!(active(), Some(1));
    at.host.advance(Duration::from_micros(1));
    assert_eq!(active(), Some(0), "before any request asks");
    assert_eq!(at.passing("u", 8), 1);
    let audit = at.get("/v1/audit");
    let expired = audit["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "override_expired");
    assert_eq!(expired.count(), 1);
    assert_eq!(at.get("/v1/overrides")["overrides"], json!([]));
    let lines = messages(&at.host, LogLevel::Info);
    assert_eq!(lines.iter().filter(|line| line.contains("override_expired")).count(), 1);
    at.sound();
}

#[test]
fn a_multiplier_is_a_larger_quota_of_its_own() {
    let Some(at) = console() else { return };
    assert_eq!(at.passing("u", 10), 3);
    let id = at.grant(r#""target_user_id": "u", "rate_multiplier": 2.5"#);
    assert_eq!(at.passing("u", 20), 8, "3 times 2.5, rounded up");
    at.write("DELETE", &format!("/v1/overrides/{id}"), "", 204);
    at.host.advance(Duration::from_mins(1));
    assert_eq!(at.passing("u", 10), 3, "no debt is left");
    at.grant(r#""target_user_id": "u", "rate_multiplier": 2"#);
    at.grant(r#""target_user_id": "u", "rate_multiplier": 3, "target_rule": "api_per_user""#);
    assert_eq!(at.passing("u", 20), 9, "the largest counts");
    at.grant(r#""target_user_id": "u", "unlimited": true"#);
    assert_eq!(at.passing("u", 20), 20);
    at.sound();
}

#[test]
fn a_multiplied_quota_is_what_the_headers_show() {
    for (name, base, larger) in
        [("draft11", "\"api_per_user\";q=3;w=60", "\"api_per_user\";q=8;w=60"), ("legacy", "3", "8")]
    {
        let header = if name == "legacy" { "x-ratelimit-limit" } else { "ratelimit-policy" };
        let Some(at) = console_of(&policy(&format!(r#""headers": "{name}","#), &per_user())) else { return };
        let shown = |user: &str| {
            let stream = at.host.request(0, &at.id, from(user));
            let response = stream.response().unwrap_or_default();
            response.headers.text(header).unwrap_or_default()
        };
        assert_eq!(shown("u"), base);
        let id = at.grant(r#""target_user_id": "u", "rate_multiplier": 2.5"#);
        let all: Vec<String> = (0..9).map(|_| shown("u")).collect();
        // Of a refusal too.
        assert!(all.iter().all(|value| value == larger), "{all:?}");
        assert_eq!(shown("another"), base, "for nobody else");
        at.write("DELETE", &format!("/v1/overrides/{id}"), "", 204);
        assert_eq!(shown("u"), base);
        at.grant(r#""target_user_id": "u", "unlimited": true"#);
        assert!(["", base].contains(&shown("u").as_str()), "an unlimited grant names no larger quota");
    }
}

#[test]
fn grants_are_for_verified_users_addresses_and_endpoints_in_both_readings() {
    let Some(at) = console() else { return };
    at.grant(r#""target_user_id": "boss", "unlimited": true"#);
    at.grant(r#""target_ip": "10.1.0.0/16", "unlimited": true"#);
    at.grant(r#""target_endpoint": "/free/*", "unlimited": true"#);
    let passing =
        |request: Request| (0..6).filter(|n| passed(&at.host.request(n % 2, &at.id, request.clone()))).count();
    assert_eq!(passing(from("boss")), 6);
    assert_eq!(passing(Request::get("/").header("x-api-key", "boss")), 3, "nobody verified that one");
    assert_eq!(passing(from("a").peer("10.1.2.3:99")), 6);
    assert_eq!(passing(from("b").peer("10.2.2.3:99")), 3);
    assert_eq!(passing(Request::get("/free/x").header("x-user", "c")), 6);
    assert_eq!(passing(Request::get("/free/../paid").header("x-user", "d")), 3);
    assert_eq!(passing(Request::get("/%66ree/x").header("x-user", "e")), 3, "one reading is not enough");
    let check = |query: &str| at.get(&format!("/v1/overrides/check?{query}"));
    let found = |query: &str| check(query)["overrides"].as_array().unwrap().len();
    assert_eq!((found("user_id=boss"), found("user_id=x"), found("ip_address=10.1.9.9")), (2, 1, 2));
    assert_eq!(check("user_id=boss")["is_admin"], false);
    at.sound();
}

#[test]
fn kill_switches_are_for_one_rule_or_all_and_let_replaced_rules_count() {
    let rules = [
        per_user(),
        rule("default", "per_user", 2, 60, ""),
        rule("special", "per_user", 5, 60, r#", "endpoints": ["/s"], "replaces": ["default"]"#),
    ];
    let Some(at) = console_of(&policy("", &rules.join(","))) else { return };
    at.grant(r#""target_rule": "api_per_user", "unlimited": true"#);
    let passing =
        |request: Request| (0..9).filter(|n| passed(&at.host.request(n % 2, &at.id, request.clone()))).count();
    assert_eq!(passing(from("a")), 2);
    assert_eq!(passing(Request::get("/s").header("x-user", "b")), 5);
    let id = at.grant(r#""target_rule": "special", "unlimited": true"#);
    assert_eq!(passing(Request::get("/s").header("x-user", "c")), 2, "a killed rule replaces nothing");
    at.write("DELETE", &format!("/v1/overrides/{id}"), "", 204);
    at.grant(r#""target_rule": "*", "unlimited": true"#);
    assert_eq!(passing(from("a")), 9);
    at.sound();
}

#[test]
fn rules_that_did_not_change_keep_their_counters() {
    let Some(at) = console() else { return };
    assert_eq!(at.passing("u", 2), 2);
    at.write("PUT", "/v1/rules/other", r#"{"scope": "global", "rate": 1000, "window_seconds": 60}"#, 200);
    assert_eq!(at.passing("u", 9), 1, "one of three was left");
    assert_eq!(at.get("/v1/metrics/api_per_user")["rules"]["api_per_user"]["total"], 11);
    // A limit changed at run time overlays the file's, and the file's is back when it is removed.
    at.write("PUT", "/v1/rules/api_per_user", r#"{"scope": "per_user", "rate": 5, "window_seconds": 60}"#, 200);
    assert_eq!(at.passing("v", 9), 5);
    at.write("DELETE", "/v1/rules/api_per_user", "", 204);
    assert_eq!(at.passing("w", 9), 3);
    at.sound();
}

#[test]
fn what_is_put_at_run_time_outlives_a_reload_and_wins() {
    let Some(at) = console() else { return };
    at.write("PUT", "/v1/rules/api_per_user", r#"{"scope": "per_user", "rate": 5, "window_seconds": 60}"#, 200);
    at.write(
        "PUT",
        "/v1/rules/extra",
        r#"{"scope": "per_user", "rate": 4, "window_seconds": 60, "replaces": ["api_per_user"]}"#,
        200,
    );
    at.grant(r#""target_user_id": "boss", "unlimited": true"#);
    let other = policy("", &rule("api_per_user", "per_user", 2, 60, ""));
    at.host.reconfigure(&at.id, &other).unwrap();
    assert_eq!((at.passing("u", 9), at.passing("boss", 9)), (4, 9));
    let status = at.get("/v1/status");
    assert_eq!(status["runtime"]["rules"], json!(["api_per_user", "extra"]));
    assert_eq!((&status["runtime"]["wins"], &status["runtime"]["applied"]), (&json!("runtime"), &json!(true)));
    // A file that the overlay does not fit: it is kept, not applied, and said.
    let clash = policy("", &rule("a", "per_user", 1, 60, r#", "replaces": ["b"]"#)).replace(
        "\"rules\": [",
        &format!(
            "\"rules\": [{},{},",
            rule("b", "global", 99, 60, r#", "replaces": ["api_per_user"]"#),
            rule("api_per_user", "per_user", 2, 60, "")
        ),
    );
    at.write(
        "PUT",
        "/v1/rules/api_per_user",
        r#"{"scope": "per_user", "rate": 5, "window_seconds": 60, "replaces": ["extra"]}"#,
        422,
    );
    at.write("DELETE", "/v1/rules/extra", "", 204);
    at.write(
        "PUT",
        "/v1/rules/api_per_user",
        r#"{"scope": "per_user", "rate": 5, "window_seconds": 60, "strategy": "hard"}"#,
        200,
    );
    at.host.reconfigure(&at.id, &clash).unwrap();
    assert_eq!(at.get("/v1/status")["runtime"]["applied"], true);
    at.write(
        "PUT",
        "/v1/rules/extra",
        r#"{"scope": "per_user", "rate": 4, "window_seconds": 60, "replaces": ["b"]}"#,
        200,
    );
    at.host.reconfigure(&at.id, policy("", &per_user())).unwrap();
    let status = at.get("/v1/status");
    assert_eq!(status["runtime"]["applied"], false, "{status}");
    assert_eq!(status["runtime"]["rules"], json!(["api_per_user", "extra"]));
    assert!(messages(&at.host, LogLevel::Error).iter().any(|line| line.contains("/rules/1/replaces/0")));
    assert_eq!(at.passing("x", 9), 3, "the file alone");
    at.write("DELETE", "/v1/rules/extra", "", 204);
    assert_eq!(at.passing("y", 9), 5, "what is left fits again");
    at.sound();
}
