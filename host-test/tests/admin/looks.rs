//! Looking at one client's counters and at what would happen to a request: they tell, and clear, what decides.

use serde_json::{Value, json};
use tidegate_host_test::{LogLevel, Request};

use crate::console::{Console, console, console_of, per_user, policy};
use crate::tidegate::{messages, passed, rule};

/// The first rule that a look at a counter shows.
fn look(at: &Console, query: &str) -> Value {
    at.get(&format!("/v1/counters?{query}"))["rules"][0].clone()
}

fn explained(at: &Console, request: &Value) -> Value {
    at.write("POST", "/v1/explain", &request.to_string(), 200)
}

#[test]
fn a_soft_limits_ceiling_is_shown_and_cleared_with_it() {
    let graceful = r#", "strategy": {"type": "graceful", "forward": {}, "ceiling": 2.0}"#;
    let Some(at) = console_of(&policy("", &rule("soft", "per_user", 2, 60, graceful))) else { return };
    assert_eq!(at.passing("u", 6), 4, "two, and two in a reduced form");
    let of_u = look(&at, "rule=soft&key=u");
    assert_eq!((&of_u["remaining"], &of_u["limit"]), (&json!(0), &json!(2)));
    assert_eq!((&of_u["ceiling"]["remaining"], &of_u["ceiling"]["limit"]), (&json!(0), &json!(4)));
    at.write("DELETE", "/v1/counters?rule=soft&key=u", "", 204);
    let of_u = look(&at, "rule=soft&key=u");
    assert_eq!((&of_u["remaining"], &of_u["ceiling"]["remaining"]), (&json!(2), &json!(4)));
    assert_eq!(at.passing("u", 6), 4);
    at.sound();
}

#[test]
fn a_multiplied_quota_is_shown_and_cleared_while_its_grant_counts() {
    let Some(at) = console() else { return };
    let id = at.grant(r#""target_user_id": "u", "rate_multiplier": 3"#);
    assert_eq!(at.passing("u", 12), 9);
    let of_u = look(&at, "rule=api_per_user&key=u");
    assert_eq!((&of_u["remaining"], &of_u["limit"], &of_u["enforced"]), (&json!(0), &json!(9), &json!(true)));
    assert_eq!(of_u["granted"], json!({"override_id": id, "rate_multiplier": 3}));
    assert_eq!(look(&at, "rule=api_per_user&key=v")["granted"], Value::Null, "nobody else's");
    at.write("DELETE", "/v1/counters?rule=api_per_user&key=u", "", 204);
    assert_eq!(look(&at, "rule=api_per_user&key=u")["remaining"], json!(9));
    assert_eq!(at.passing("u", 12), 9);
    // What is cleared is like new under every grant, and without one.
    at.write("DELETE", "/v1/counters?rule=api_per_user&key=u", "", 204);
    at.write("DELETE", &format!("/v1/overrides/{id}"), "", 204);
    assert_eq!(at.passing("u", 9), 3);
    at.sound();
}

#[test]
fn explain_knows_grants_kill_switches_and_admins() {
    let rules = [per_user(), rule("all", "global", 50, 60, ""), rule("dark", "global", 5, 60, r#", "mode": "shadow""#)];
    let more = r#""admins": {"user_ids": ["boss"], "ip_addresses": ["10.9.0.0/16"]},"#;
    let Some(at) = console_of(&policy(more, &rules.join(","))) else { return };
    let enforced = |said: &Value| {
        let rules = said["rules"].as_array().unwrap().iter();
        rules.map(|rule| rule["enforced"].as_bool().unwrap()).collect::<Vec<bool>>()
    };
    let of = |user: &str| explained(&at, &json!({"path": "/", "user_id": user, "ip_address": "10.0.0.1"}));
    let plain = of("u");
    assert_eq!((enforced(&plain), &plain["is_admin"]), (vec![true, true, false], &json!(false)));
    assert!(plain["rules"][0].get("granted").is_none() && plain["rules"][0]["killed"] == json!(false), "{plain}");
    let admins = [of("boss"), explained(&at, &json!({"path": "/", "ip_address": "10.9.1.1"}))];
    for said in admins {
        assert_eq!((enforced(&said), &said["is_admin"]), (vec![false, false, false], &json!(true)), "{said}");
    }
    let id = at.grant(r#""target_user_id": "u", "unlimited": true, "target_rule": "api_per_user""#);
    let lifted = of("u");
    assert_eq!(enforced(&lifted), [false, true, false]);
    assert_eq!(lifted["rules"][0]["granted"], json!({"override_id": id, "unlimited": true}));
    assert_eq!((&lifted["rules"][0]["killed"], &of("v")["rules"][0]["enforced"]), (&json!(false), &json!(true)));
    let id = at.grant(r#""target_rule": "all", "unlimited": true"#);
    let killed = of("v");
    assert_eq!((enforced(&killed), &killed["rules"][1]["killed"]), (vec![true, false, false], &json!(true)));
    assert_eq!(killed["rules"][1]["granted"]["override_id"], json!(id));
    // One for an endpoint, which only a request has.
    at.grant(r#""target_endpoint": "/big/*", "rate_multiplier": 3, "target_rule": "api_per_user""#);
    let big = explained(&at, &json!({"path": "/big/x", "user_id": "v", "ip_address": "10.0.0.1"}));
    assert_eq!((&big["rules"][0]["limit"], &big["rules"][0]["remaining"]), (&json!(9), &json!(9)));
    at.sound();
}

#[test]
fn whoever_nobody_verified_is_named_by_the_digest_that_metrics_show() {
    let Some(at) = console() else { return };
    let passing = || {
        let sent =
            (0..6).map(|worker| at.host.request(worker % 2, &at.id, Request::get("/").header("x-api-key", "s3cret")));
        sent.filter(passed).count()
    };
    assert_eq!(passing(), 3);
    at.host.advance(std::time::Duration::from_secs(1));
    let metrics = at.get("/v1/metrics/api_per_user");
    let key = metrics["rules"]["api_per_user"]["violations"]["users"][0]["key"].as_str().unwrap().to_owned();
    let query = format!("rule=api_per_user&kind=unverified&key={key}");
    let of_it = look(&at, &query);
    assert_eq!((&of_it["remaining"], &of_it["key"]["value"]), (&json!(0), &json!(key)));
    // Whoever has the value asks in a body, which no log has.
    let said = explained(&at, &json!({"path": "/", "headers": {"x-api-key": "s3cret"}}));
    assert_eq!((&said["rules"][0]["key"], &said["rules"][0]["remaining"]), (&of_it["key"], &json!(0)));
    at.write("DELETE", &format!("/v1/counters?{query}"), "", 204);
    assert_eq!(at.get("/v1/audit")["entries"][0]["detail"]["key"], json!({"kind": "unverified", "value": key}));
    assert_eq!(passing(), 3);
    for other in ["s3cret", "sha256:", "sha256:+0112233445566778899aabbccddeeff", &key[7..], &key[..38]] {
        let path = format!("/v1/counters?rule=api_per_user&kind=unverified&key={}", other.replace('+', "%2b"));
        let said = at.write("GET", &path, "", 422);
        let mistake = &said["mistakes"][0];
        assert_eq!(mistake["pointer"], "/key", "{other}");
        assert!(mistake["allowed"].as_str().unwrap().starts_with("sha256: and 32 hexadecimal digits"), "{said}");
        assert!(!said.to_string().contains("s3cret"));
    }
    assert!(!messages(&at.host, LogLevel::Trace).iter().any(|line| line.contains("s3cret")));
    at.sound();
}

#[test]
fn without_an_address_nobodys_counter_is_shown() {
    let rules = [rule("ip", "per_ip", 9, 60, ""), per_user()];
    let Some(at) = console_of(&policy("", &rules.join(","))) else { return };
    let said = explained(&at, &json!({"path": "/", "user_id": "u"}));
    let why = "it counts by address, and no ip_address is given";
    assert_eq!(said["rules"][1], json!({"rule": "ip", "applies": false, "why_not": why}));
    assert_eq!(said["rules"][0]["key"], json!({"kind": "user", "value": "u"}));
    // Without user either, the rule by user counts by address too.
    let said = explained(&at, &json!({"path": "/"}));
    assert!(said["rules"].as_array().unwrap().iter().all(|rule| rule["why_not"] == why), "{said}");
    at.sound();
}
