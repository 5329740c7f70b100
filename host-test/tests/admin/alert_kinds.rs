//! Each kind of alert in the shipped .wasm, what alerts cost while nothing happens, and what a new policy does to them.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_host_test::{CallKind, Host, Request, Status, Thread};

use crate::alerts::{FLOOD, WORKERS, body, counted, gauge, second, taken, ten, told, watched};
use crate::console::{Console, admin_api, plugin};
use crate::tidegate::{self, from, passing, rule, with_settings};

/// Workers without an admin API.
fn without_api(alerts: &str, rules: &str) -> Option<Console> {
    let policy = with_settings(&format!(r#""alerts": [{alerts}],"#), rules);
    let host = Host::builder().workers(2).cluster("pager").build();
    let id = host.load(plugin(&policy)?).unwrap_or_else(|error| panic!("{error}"));
    Some(Console { host, id })
}

#[test]
fn a_hit_rate_is_that_of_its_rule_and_no_traffic_ends_it() {
    let rules = [
        rule("tight", "per_user", 1, 86_400, r#", "endpoints": ["/tight"]"#),
        rule("wide", "per_user", 1_000_000, 86_400, r#", "endpoints": ["/wide"]"#),
    ];
    let alerts = r#"{"name": "tight", "when": "hit_rate_above", "value": 0.5, "rule": "tight"},
        {"name": "wide", "when": "hit_rate_above", "value": 0.01, "rule": "wide"},
        {"name": "all", "when": "hit_rate_above", "value": 0.5}"#;
    let Some(at) = without_api(alerts, &rules.join(",")) else { return };
    let send = |path: &str, count: usize| {
        passing(&at.host, &at.id, 2, count, &Request::get(path).header("x-user", "u"));
    };
    for _ in 0..8 {
        send("/tight", 4);
        send("/wide", 40);
        send("/unlimited", 10);
        second(&at.host);
    }
    let firing = |host: &Host| ["tight", "wide", "all"].map(|name| gauge(host, name));
    assert_eq!(firing(&at.host), [1, 0, 0], "a tenth of all is limited");
    for _ in 0..12 {
        second(&at.host);
    }
    assert_eq!(firing(&at.host), [0, 0, 0]);
    let lines = told(&at.host, "tight");
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["rule"], &lines[1]["value"]), (&json!("tight"), &json!(0)));
    at.sound();
}

#[test]
fn a_store_that_fails_is_told_and_one_that_works_again_too() {
    let alert = r#"{"name": "down", "when": "store_unhealthy", "for_seconds": 2}"#;
    let Some(at) = without_api(alert, &rule("r", "per_user", 1, 86_400, "")) else { return };
    for _ in 0..5 {
        at.host.refuse_calls("proxy_get_shared_data", Status::InternalFailure);
        passing(&at.host, &at.id, 2, 4, &from("u"));
        at.host.refuse_calls("proxy_get_shared_data", Status::Ok);
        second(&at.host);
    }
    assert_eq!(gauge(&at.host, "down"), 1);
    assert_eq!(at.host.metrics().counter("tidegate.default.store_failures_total"), Some(20));
    for _ in 0..15 {
        passing(&at.host, &at.id, 2, 4, &from("u"));
        second(&at.host);
    }
    assert_eq!(gauge(&at.host, "down"), 0);
    let lines = told(&at.host, "down");
    let shown: Vec<[&Value; 3]> = lines.iter().map(|it| [&it["status"], &it["threshold"], &it["value"]]).collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(
        (shown[0][0], shown[0][1], shown[1][0], shown[1][2]),
        (&json!("firing"), &Value::Null, &json!("resolved"), &json!(0))
    );
    at.sound();
}

#[test]
fn the_top_violator_is_named_without_an_admin_api_and_a_secret_is_not() {
    let alert = r#"{"name": "one", "when": "top_violator_share_above", "value": 0.7, "for_seconds": 5,
        "webhook": {"cluster": "pager", "authority": "pager"}}"#;
    for (header, value, shown) in
        [("x-user", "zo\u{eb}", "zo\u{eb}".to_owned()), ("x-api-key", "s3cret", "sha256:".to_owned())]
    {
        let Some(at) = without_api(alert, &rule("r", "per_user", 1, 86_400, "")) else { return };
        let mut calls = Vec::new();
        for number in 0..20 {
            // Nine of ten rejections are one client's, from changing addresses.
            for request in 0..20_u32 {
                let user = if request % 10 == 0 { "another" } else { value };
                let peer = format!("10.{number}.{request}.1:9");
                at.host.request(request as usize % 2, &at.id, Request::get("/").header(header, user).peer(&peer));
            }
            second(&at.host);
            calls.extend(taken(&at.host));
        }
        assert_eq!(calls.len(), 1);
        let top = body(&calls[0])["top_violator"].clone();
        assert_eq!(top["kind"], "user");
        assert!(top["key"].as_str().unwrap().starts_with(&shown), "{top}");
        assert!(!format!("{:?}{calls:?}", at.host.logs()).contains("s3cret"));
        assert!(calls[0].body.is_ascii());
        at.sound();
    }
}

#[test]
fn while_nothing_happens_one_vm_looks_once_a_second_and_the_others_hardly_ever() {
    let Some(at) = watched(FLOOD) else { return };
    second(&at.host);
    at.host.reset_calls();
    at.host.advance(Duration::from_mins(1));
    let calls = at.host.calls();
    let (reads, writes) = (calls.count("proxy_get_shared_data"), calls.of_kind(CallKind::WritesShared));
    assert!((58..=61).contains(&writes), "{writes} writes");
    // Each of the four others looks when the turn that it saw would end, four to five seconds later.
    assert!((60 + 4 * 11..=61 + 4 * 16).contains(&reads), "{reads} reads");
    let Some(quiet) = without_api("", &rule("r", "per_user", 1, 60, "")) else { return };
    quiet.host.advance(Duration::from_secs(5));
    quiet.host.reset_calls();
    quiet.host.advance(Duration::from_hours(1));
    assert_eq!(quiet.host.calls().total(), 0, "without alerts nothing ticks");
}

#[test]
fn a_new_policy_decides_at_once_though_the_old_one_lives_on() {
    let Some(at) = watched(FLOOD) else { return };
    for _ in 0..8 {
        ten(&at.host, &at.id, "a");
        taken(&at.host);
    }
    assert_eq!((gauge(&at.host, "flood"), counted(&at.host)), (1, (1, 0)));
    // The alert stays, with another threshold: it keeps its state, and resolves by the new one.
    let policy = |alerts: &str| {
        with_settings(
            &format!(r#"{}"alerts": [{alerts}],"#, admin_api("")),
            &rule("per_user", "per_user", 1, 86_400, ""),
        )
    };
    at.host.reconfigure(&at.id, policy(&FLOOD.replace("\"value\": 2", "\"value\": 500"))).unwrap();
    for _ in 0..4 {
        ten(&at.host, &at.id, "a");
        taken(&at.host);
    }
    assert_eq!((gauge(&at.host, "flood"), counted(&at.host)), (0, (2, 0)));
    // Fires again under the first policy; then the alert goes while it fires.
    at.host.reconfigure(&at.id, policy(&FLOOD.replace("\"cooldown_seconds\": 60", "\"cooldown_seconds\": 0"))).unwrap();
    for _ in 0..8 {
        ten(&at.host, &at.id, "a");
        taken(&at.host);
    }
    assert_eq!(gauge(&at.host, "flood"), 1);
    at.host.reconfigure(&at.id, policy("")).unwrap();
    let told_before = told(&at.host, "flood").len();
    for _ in 0..30 {
        ten(&at.host, &at.id, "a");
        assert!(taken(&at.host).is_empty());
    }
    assert_eq!((gauge(&at.host, "flood"), told(&at.host, "flood").len()), (0, told_before));
    at.host.drain(&at.id);
    at.sound();
}

#[test]
fn bytes_in_shared_data_that_nobody_wrote_start_alerts_anew() {
    let Some(at) = watched(FLOOD) else { return };
    second(&at.host);
    let data = at.host.shared_data("tidegate");
    let keys: Vec<Vec<u8>> =
        data.iter().map(|(key, _)| key.to_vec()).filter(|key| key.len() == 9 && key[8] == b'W').collect();
    assert_eq!(keys.len(), 1);
    for junk in
        [&b"\xff\xfe"[..], b"", b"{}", b"a b 9 99999999999999999999\n", b"x y 9007199254740991 9007199254740991\nflood"]
    {
        at.host.put_shared_data("tidegate", &keys[0], junk);
        for _ in 0..6 {
            ten(&at.host, &at.id, "a");
        }
        assert_eq!(at.get("/v1/status")["alerts"][0]["state"], "firing", "{junk:?}");
    }
    at.sound();
}

#[test]
fn the_turn_is_written_by_compare_and_swap_so_that_two_at_once_tell_once() {
    let Some(at) = watched(FLOOD) else { return };
    for _ in 0..3 {
        ten(&at.host, &at.id, "a");
    }
    // All VMs stand still until the turn is over; then each of the others looks while one is between reading and writing.
    for thread in std::iter::once(Thread::Main).chain((0..WORKERS).map(Thread::Worker)) {
        at.host.before_call(thread, "proxy_set_shared_data", 1, |host| host.advance(Duration::from_secs(6)));
    }
    for _ in 0..12 {
        ten(&at.host, &at.id, "a");
        taken(&at.host);
    }
    assert_eq!((told(&at.host, "flood").len(), counted(&at.host)), (1, (1, 0)));
    tidegate::assert_nothing_died(&at.host);
}
