//! A grant of one minute in a real Envoy with two workers ends on both at its second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use xtask::load::{Client, Request};

use crate::{Session, TOKEN, call};

/// Milliseconds since the epoch: Envoy and this test share the clock.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn a_grant_ends_at_its_second_on_both_workers() {
    let rules = json!([{"name": "none", "scope": "per_user", "rate": 1, "window_seconds": 86_400}]);
    let Some(session) = Session::start("a grant's end", &rules) else { return };
    let clients = &session.clients;
    let send = |client: &Client| client.send(&Request::get("/").header("x-user", "u")).unwrap().status;
    // The day's one request.
    let first = clients.iter().filter(|client| send(client) == 200).count();
    assert_eq!(first, 1);
    let grant = json!({"target_user_id": "u", "reason": "testing", "duration_minutes": 1, "unlimited": true});
    let before = now_ms();
    let (status, given) = call(&clients[0], "POST", "/v1/overrides", &grant);
    let after = now_ms();
    assert_eq!(status, 201, "{given}");
    let mut late = 0;
    while now_ms() < before + 58_000 {
        assert!(clients.iter().all(|client| send(client) == 200), "it holds for its minute");
        std::thread::sleep(Duration::from_millis(500));
    }
    // Around the end each request is decided between its two times: before the earliest end it passes, after the latest
    // it does not.
    while now_ms() < after + 62_000 {
        for client in clients {
            let asked_at = now_ms();
            let status = send(client);
            if now_ms() < before + 60_000 {
                assert_eq!(status, 200, "{} ms before its end", before + 60_000 - asked_at);
            }
            if asked_at > after + 60_000 {
                assert_eq!(status, 429, "{} ms after its end", asked_at - after - 60_000);
                late += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(late > 100, "both workers were asked, often: {late}");
    let audit = call(&clients[0], "GET", "/v1/audit", &Value::Null).1;
    let ended = audit["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "override_expired");
    assert_eq!(ended.count(), 1, "noted once");
    assert!(!audit.to_string().contains(TOKEN));
    session.assert_both_workers_served();
}
