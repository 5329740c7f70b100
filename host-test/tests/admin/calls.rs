//! Every call, and every status that refuses one.

use serde_json::{Value, json};
use tidegate_engine::admin::audit;
use tidegate_host_test::{LogLevel, Request};

use crate::console::{READ, WRITE, console, console_of, per_user, policy};
use crate::tidegate::{from, messages, rule};

#[test]
fn every_answer_is_json_that_nobody_stores() {
    let Some(at) = console() else { return };
    for (method, path, body, status) in [
        ("GET", "/v1/status", "", 200),
        ("GET", "/v1/rules", "", 200),
        ("GET", "/v1/rules/api_per_user", "", 200),
        ("GET", "/v1/rules/none", "", 404),
        ("GET", "/v1/overrides", "", 200),
        ("GET", "/v1/overrides/check?user_id=u&ip_address=::1", "", 200),
        ("GET", "/v1/overrides/check?ip_address=x", "", 422),
        ("GET", "/v1/metrics", "", 200),
        ("GET", "/v1/metrics/none", "", 404),
        ("POST", "/v1/metrics/none/reset", "", 404),
        ("GET", "/v1/counters?rule=api_per_user&key=u", "", 200),
        ("GET", "/v1/counters?rule=none&key=u", "", 422),
        ("GET", "/v1/counters?rule=api_per_user", "", 422),
        ("GET", "/v1/audit?after=0", "", 200),
        ("GET", "/v1/audit?after=x", "", 422),
        ("GET", "/v1/rules?x=1", "", 422),
        ("GET", "/v1/nothing", "", 404),
        ("GET", "", "", 404),
        ("GET", "/", "", 404),
        ("PATCH", "/v1/rules/x", "", 405),
        ("DELETE", "/v1/rules/api_per_user", "", 409),
        ("DELETE", "/v1/rules/none", "", 404),
        ("DELETE", "/v1/overrides/ov_0", "", 404),
        ("PUT", "/v1/rules/x", "{}", 422),
        ("PUT", "/v1/rules/x", "{", 422),
        ("PUT", "/v1/rules/x", r#"{"name": "y", "scope": "global", "rate": 1, "window_seconds": 1}"#, 422),
        ("PUT", "/v1/rules/a%20b", r#"{"scope": "global", "rate": 1, "window_seconds": 1}"#, 422),
        ("POST", "/v1/overrides", "{}", 422),
        ("POST", "/v1/explain", r#"{"path": "/"}"#, 200),
        ("POST", "/v1/explain", r#"{"path": 7}"#, 422),
    ] {
        let said = at.call(WRITE, method, path, body);
        assert_eq!(said.status, status, "{method} {path}: {}", said.body);
        assert_eq!(said.header("cache-control"), "no-store", "{method} {path}");
        assert_eq!(said.header("x-content-type-options"), "nosniff");
        let kind = if status < 400 { "application/json" } else { "application/problem+json" };
        assert_eq!(said.header("content-type"), kind, "{method} {path}");
        assert!(said.stream.upstream_request().is_none(), "{method} {path}");
    }
    assert_eq!(at.call(WRITE, "PATCH", "/v1/rules/x", "").header("allow"), "GET, PUT, DELETE");
    at.sound();
}

#[test]
fn every_mistake_of_a_rule_is_told_with_pointers_into_it() {
    let Some(at) = console() else { return };
    let said =
        at.write("PUT", "/v1/rules/x", r#"{"scope": "per_usr", "rate": 0, "window_seconds": 60, "brust": 1}"#, 422);
    let pointers: Vec<&str> =
        said["mistakes"].as_array().unwrap().iter().map(|mistake| mistake["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/scope", "/rate", "/brust"], "{said}");
    assert_eq!(said["mistakes"][2]["suggestion"], "burst");
    let said =
        at.write("PUT", "/v1/rules/x", r#"{"scope": "global", "rate": 5, "window_seconds": 60, "burst": 50}"#, 422);
    assert_eq!(said["mistakes"][0]["pointer"], "/burst", "what the whole policy's check finds");
    let said = at.write(
        "PUT",
        "/v1/rules/x",
        r#"{"scope": "global", "rate": 5, "window_seconds": 60, "replaces": ["api_per_usr"]}"#,
        422,
    );
    assert_eq!(said["mistakes"][0]["suggestion"], "api_per_user");
    assert_eq!(at.get("/v1/rules")["generation"], 0, "nothing was changed");
}

#[test]
fn bodies_have_a_type_and_a_size() {
    let Some(at) = console() else { return };
    let post = |content: Option<&str>, body: &[u8]| {
        let request = Request::post("/.tidegate/v1/overrides", body).header("authorization", format!("bearer {WRITE}"));
        at.send(1, content.iter().fold(request, |request, content| request.header("content-type", content)))
    };
    let good = br#"{"target_user_id": "u", "unlimited": true, "reason": "other", "duration_minutes": 5}"#;
    assert_eq!(post(None, good).status, 415);
    assert_eq!(post(Some("text/plain"), good).status, 415);
    assert_eq!(post(Some("application/json; charset=utf-8"), good).status, 201);
    assert_eq!(post(Some("application/json"), &vec![b' '; 65_537]).status, 413);
    let nested = "[".repeat(60_000);
    assert_eq!(post(Some("application/json"), nested.as_bytes()).status, 422);
    assert_eq!(post(Some("application/json"), &[0xff, 0xfe]).status, 422);
    // In pieces, and with trailers.
    let request = Request::new("POST", "/.tidegate/v1/overrides")
        .header("authorization", format!("Bearer {WRITE}"))
        .header("content-type", "application/json");
    let stream = at.host.request(0, &at.id, request.open());
    stream.send_body(&good[..20], false);
    stream.send_body(&good[20..], false);
    assert_eq!(stream.status(), 0);
    stream.send_trailers([("x-t", "1")].into_iter().collect());
    assert_eq!(stream.status(), 201);
    assert_eq!(at.get("/v1/overrides")["overrides"].as_array().unwrap().len(), 2);
    at.sound();
}

#[test]
fn counters_are_looked_at_and_cleared_without_being_charged() {
    let rules = [
        per_user(),
        rule("all", "global", 50, 60, ""),
        rule("ip", "per_ip", 40, 60, ""),
        rule("path", "per_endpoint", 30, 60, r#", "endpoints": ["/*"]"#),
    ];
    let Some(at) = console_of(&policy("", &rules.join(","))) else { return };
    assert_eq!(at.passing("u", 9), 3);
    let left = |query: &str| at.get(&format!("/v1/counters?rule={query}"))["rules"][0]["remaining"].clone();
    for _ in 0..3 {
        assert_eq!(left("api_per_user&key=u"), 0);
        assert_eq!((left("all"), left("ip&key=127.0.0.1"), left("path&key=/*")), (json!(47), json!(37), json!(27)));
    }
    assert_eq!(left("api_per_user&key=v"), 3);
    at.write("DELETE", "/v1/counters?rule=api_per_user&key=u", "", 204);
    at.write("DELETE", "/v1/counters?rule=all", "", 204);
    assert_eq!((left("api_per_user&key=u"), left("all")), (json!(3), json!(50)));
    assert_eq!(at.passing("u", 9), 3);
    let last = at.get("/v1/audit")["entries"][0].clone();
    assert_eq!((&last["action"], &last["detail"]["key"]["value"]), (&json!("counter_cleared"), &json!("u")));
    at.sound();
}

#[test]
fn explain_tells_what_would_happen_and_charges_nothing() {
    let rules = [per_user(), rule("post", "global", 50, 60, r#", "methods": ["POST"]"#)];
    let Some(at) = console_of(&policy("", &rules.join(","))) else { return };
    at.passing("u", 1);
    let body = r#"{"path": "/a?b", "user_id": "u", "ip_address": "10.0.0.1"}"#;
    for _ in 0..5 {
        let said = at.write("POST", "/v1/explain", body, 200);
        let shown = &said["rules"][0];
        assert_eq!((&shown["rule"], &shown["remaining"]), (&json!("api_per_user"), &json!(2)));
        assert_eq!(shown["key"], json!({"kind": "user", "value": "u"}));
        assert_eq!(said["rules"][1]["why_not"], "the method is none of its");
    }
    let by_header = at.write("POST", "/v1/explain", r#"{"path": "/", "headers": {"X-API-Key": "s3cret"}}"#, 200);
    assert_eq!(by_header["rules"][0]["key"]["kind"], "unverified");
    assert!(!by_header.to_string().contains("s3cret"));
}

#[test]
fn status_tells_what_is_at_work() {
    let Some(at) = console() else { return };
    at.passing("u", 4);
    let status = at.get("/v1/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["policy"]["sha256"], xtask::envoy::fetch::hex_sha256(policy("", &per_user()).as_bytes()));
    assert_eq!((&status["workers"], &status["generation"], &status["waiting"]), (&json!(2), &json!(0), &json!(0)));
    assert_eq!((&status["table"]["keys"], &status["table"]["given_up_limiting"]), (&json!(1), &json!(0)));
    assert_eq!(status["store"], json!({"type": "local", "healthy": true, "survives_restart": false}));
}

#[test]
fn the_audit_trail_holds_and_its_lines_stand_in_the_log() {
    let Some(at) = console() else { return };
    let id = at.grant(r#""target_user_id": "<img src=x onerror=alert(1)> \u202e zoë", "unlimited": true"#);
    at.write("DELETE", &format!("/v1/overrides/{id}"), "", 204);
    for number in 0..300 {
        at.write(
            "PUT",
            "/v1/rules/x",
            &format!(r#"{{"scope": "global", "rate": {}, "window_seconds": 60}}"#, 1000 + number),
            200,
        );
    }
    let shown = at.get("/v1/audit");
    assert_eq!((shown["head"]["seq"].as_u64(), &shown["truncated"]), (Some(302), &json!(true)));
    let head = shown["head"]["hash"].as_str().unwrap();
    assert_eq!(audit::verify(shown.to_string().as_bytes(), Some((302, head))), Ok(256));
    let lines: Vec<String> =
        messages(&at.host, LogLevel::Info).into_iter().filter(|line| line.starts_with("{\"seq\"")).collect();
    assert!(lines.iter().all(|line| line.is_ascii()));
    assert_eq!(audit::verify(lines.join("\n").as_bytes(), Some((302, head))), Ok(302), "the log has all of it");
    let tampered = lines.join("\n").replace("\"rate\":1100", "\"rate\":9");
    assert_eq!(audit::verify(tampered.as_bytes(), None), Err(audit::Fault::Edited(103)));
    assert_eq!(at.get("/v1/audit?after=300")["entries"].as_array().map(Vec::len), Some(2));
    at.sound();
}

#[test]
fn two_workers_that_change_at_once_lose_nothing() {
    let Some(at) = console() else { return };
    for number in 0..40 {
        let id = at.id.clone();
        // Just before worker 0 stores its change, worker 1 makes one.
        at.host.before_call(tidegate_host_test::Thread::Worker(0), "proxy_set_shared_data", 1, move |host| {
            let body = format!(
                r#"{{"target_user_id": "b{number}", "unlimited": true, "reason": "other", "duration_minutes": 5}}"#
            );
            let request = Request::post("/.tidegate/v1/overrides", body)
                .header("authorization", format!("Bearer {WRITE}"))
                .header("content-type", "application/json");
            host.request(1, &id, request);
        });
        at.grant(&format!(r#""target_user_id": "a{number}", "unlimited": true"#));
    }
    assert_eq!(at.get("/v1/overrides")["overrides"].as_array().map(Vec::len), Some(80));
    let shown = at.get("/v1/audit");
    assert_eq!(audit::verify(shown.to_string().as_bytes(), None), Ok(80));
    assert_eq!((at.passing("a39", 6), at.passing("b39", 6), at.passing("c", 6)), (6, 6, 3));
    at.sound();
}

#[test]
fn a_request_costs_one_metric_read_more() {
    let (Some(with), Some(without)) = (console(), console_of(&crate::tidegate::policy(&per_user()))) else { return };
    let calls = |at: &crate::console::Console| {
        at.host.request(0, &at.id, from("u"));
        at.host.reset_calls();
        at.host.request(0, &at.id, from("u"));
        at.host.calls().iter().collect::<std::collections::BTreeMap<_, _>>()
    };
    let (with, without) = (calls(&with), calls(&without));
    for (name, count) in &with {
        let more = count - without.get(name).copied().unwrap_or(0);
        let allowed = match *name {
            // The generation; and what is left, once a rule.
            "proxy_get_metric" | "proxy_increment_metric" => 1,
            _ => 0,
        };
        assert!(more <= allowed, "{name}: {more} more");
    }
}

#[test]
fn a_token_that_may_only_look() {
    let Some(at) = console() else { return };
    for path in ["/v1/status", "/v1/rules", "/v1/overrides", "/v1/metrics", "/v1/audit"] {
        assert_eq!(at.call(READ, "GET", path, "").status, 200);
    }
    let rule = r#"{"scope": "global", "rate": 1, "window_seconds": 60}"#;
    for (method, path, body) in [
        ("PUT", "/v1/rules/x", rule),
        ("DELETE", "/v1/rules/api_per_user", ""),
        ("POST", "/v1/overrides", "{}"),
        ("DELETE", "/v1/overrides/ov_1", ""),
        ("POST", "/v1/metrics/api_per_user/reset", ""),
        ("DELETE", "/v1/counters?rule=api_per_user&key=u", ""),
    ] {
        assert_eq!(at.call(READ, method, path, body).status, 403, "{method} {path}");
    }
    assert_eq!(at.call(READ, "POST", "/v1/explain", r#"{"path": "/"}"#).status, 200);
    assert_eq!(at.get("/v1/audit")["head"]["seq"], Value::from(0));
}
