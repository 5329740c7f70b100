//! A state at run time that is full, or cannot be written: what an operator must always be able to do still works, and no
//! worker turns in circles over what it cannot do.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_engine::admin::audit;
use tidegate_host_test::LogLevel;

use crate::console::{Console, WRITE, console};
use crate::tidegate::messages;

/// A rule of about 16 bytes for each range, 1,000 at most, and 1,000 for each user.
fn rule(ranges: usize, users: usize) -> String {
    let ranges: Vec<String> = (0..ranges).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let users: Vec<String> = (0..users).map(|n| format!("{n:01000}")).collect();
    let (rate, window_seconds) = (1_000_000, 60);
    json!({"scope": "per_ip", "rate": rate, "window_seconds": window_seconds, "ip_addresses": ranges, "user_ids": users})
        .to_string()
}

/// Ticks with nothing to do would show as calls of the host; ten seconds of them.
fn is_quiet(at: &Console) -> bool {
    at.host.reset_calls();
    at.host.advance(Duration::from_secs(10));
    at.host.calls().iter().map(|(_, count)| count).sum::<u64>() == 0
}

#[test]
fn changes_of_one_rule_never_fill_the_state() {
    let Some(at) = console() else { return };
    for _ in 0..50 {
        at.write("PUT", "/v1/rules/blocked", &rule(1_000, 0), 200);
    }
    let shown = at.get("/v1/audit");
    let head = (shown["head"]["seq"].as_u64().unwrap(), shown["head"]["hash"].as_str().unwrap());
    let kept = audit::verify(shown.to_string().as_bytes(), Some(head)).unwrap();
    assert!((20..50).contains(&kept) && shown["truncated"] == json!(true), "{kept} of 50 entries");
    let lines = messages(&at.host, LogLevel::Info);
    let lines: Vec<&str> = lines.iter().filter(|line| line.starts_with("{\"seq\"")).map(String::as_str).collect();
    assert_eq!(audit::verify(lines.join("\n").as_bytes(), Some(head)), Ok(50), "the log has all of it");
    at.sound();
}

#[test]
fn a_full_state_still_takes_what_an_operator_must_be_able_to_do() {
    let Some(at) = console() else { return };
    let minute = r#""reason": "testing", "duration_minutes": 1, "unlimited": true"#;
    at.write("POST", "/v1/overrides", &format!(r#"{{"target_user_id": "a", {minute}}}"#), 201);
    let id = at.grant(r#""target_user_id": "b", "unlimited": true"#);
    let mut put = 0;
    for users in [60, 6, 1, 0] {
        for number in 0.. {
            let said = at.call(WRITE, "PUT", &format!("/v1/rules/r{users}_{number}"), &rule(1, users));
            if said.status == 409 {
                assert!(said.body["detail"].as_str().unwrap().contains("350000 bytes"), "{}", said.body);
                break;
            }
            assert_eq!(said.status, 200);
            put += 1;
        }
    }
    assert!(put > 5);
    assert_eq!(at.passing("u", 6), 3);
    let kill = at.grant(r#""target_rule": "*", "unlimited": true"#);
    assert_eq!(at.passing("u", 6), 6, "the kill switch is in force");
    for _ in 0..20 {
        at.write("POST", "/v1/metrics/api_per_user/reset", "", 200);
    }
    at.write("DELETE", "/v1/counters?rule=api_per_user&key=u", "", 204);
    at.write("DELETE", &format!("/v1/overrides/{kill}"), "", 204);
    at.write("DELETE", &format!("/v1/overrides/{id}"), "", 204);
    at.host.advance(Duration::from_mins(1));
    assert_eq!(at.host.metrics().gauge("tidegate.default.overrides_active"), Some(0));
    let last = at.get("/v1/audit")["entries"].as_array().unwrap().last().cloned().unwrap();
    assert_eq!(last["action"], "override_expired", "{last}");
    assert!(is_quiet(&at), "{:?}", at.host.calls());
    at.write("PUT", "/v1/rules/r60_0", r#"{"scope": "global", "rate": 9, "window_seconds": 60}"#, 200);
    at.write("DELETE", "/v1/rules/r60_1", "", 204);
    at.sound();
}

#[test]
fn an_end_that_cannot_be_noted_is_tried_once_a_second_and_said_once() {
    let Some(at) = console() else { return };
    at.write(
        "POST",
        "/v1/overrides",
        r#"{"target_user_id": "u", "unlimited": true, "reason": "testing", "duration_minutes": 1}"#,
        201,
    );
    assert_eq!(at.passing("u", 6), 6, "both workers know of it");
    let data = at.host.shared_data("tidegate");
    let (key, good) = data.iter().find(|(key, _)| key.get(8) == Some(&b'A')).unwrap();
    let (key, good) = (key.to_vec(), good.to_vec());
    let mut large: Value = serde_json::from_slice(&good).unwrap();
    large["rules"] = json!([{"name": "x", "more": "x".repeat(499_500)}]);
    at.host.put_shared_data("tidegate", &key, large.to_string());
    at.host.advance(Duration::from_mins(1));
    at.host.reset_calls();
    at.host.advance(Duration::from_secs(10));
    // Two workers, once a second each: what is stored is read to try, and to see how that went.
    let read = at.host.calls().count("proxy_get_shared_data");
    assert!((40..=60).contains(&read), "{:?}", at.host.calls());
    let said = messages(&at.host, LogLevel::Error);
    let said: Vec<&String> = said.iter().filter(|line| line.contains("stay in the list")).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(at.passing("u", 6), 3, "it has ended all the same");
    at.host.advance(Duration::from_secs(2));
    at.host.put_shared_data("tidegate", &key, &good);
    at.host.advance(Duration::from_secs(2));
    let entries = at.get("/v1/audit")["entries"].clone();
    assert_eq!(entries.as_array().unwrap().last().unwrap()["action"], "override_expired");
    assert!(is_quiet(&at), "{:?}", at.host.calls());
    at.sound();
}
