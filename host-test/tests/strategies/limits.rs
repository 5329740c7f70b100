//! Beyond a throttle's limits requests are refused as `retry_after` refuses them.

use serde_json::json;
use xtask::load::{Answer, Request};

use crate::bench::{Bodies, policy, send, serve, with_status};

fn gets(count: usize) -> impl Iterator<Item = Request> {
    (0..count).map(|n| Request::get(&format!("/{n}")))
}

/// All that did not pass were told when to come back.
fn assert_refused_as_retry_after(answers: &[Answer]) {
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.status, 429);
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json().unwrap()["violated-policies"], json!(["slow"]));
    }
}

#[test]
fn past_the_longest_delay() {
    let rules = json!([{"name": "slow", "scope": "global", "rate": 10, "window_seconds": 1, "burst": 1,
        "strategy": {"type": "throttle", "max_delay_ms": 500, "max_waiting": 100, "max_waiting_per_key": 100}}]);
    let Some(bench) = serve("throttle, max_delay_ms", &policy(rules), Bodies::Unseen) else { return };
    let answers = send(&bench.http2(30), gets(30));
    // One at once and five that wait 100 to 500 ms; more where the thirty take long to come.
    let passed = with_status(&answers, 200);
    assert!((6..=14).contains(&passed), "{passed} passed");
    assert_refused_as_retry_after(&answers);
    assert_eq!(bench.count("verdicts_total.slow.delayed"), passed as u64 - 1);
    assert_eq!(bench.count("verdicts_total.slow.limited"), 30 - passed as u64);
}

#[test]
fn past_the_most_that_a_worker_holds() {
    let rules = json!([{"name": "slow", "scope": "global", "rate": 5, "window_seconds": 1, "burst": 1,
        "strategy": {"type": "throttle", "max_delay_ms": 60_000, "max_waiting": 5, "max_waiting_per_key": 100}}]);
    let Some(bench) = serve("throttle, max_waiting", &policy(rules), Bodies::Unseen) else { return };
    let answers = send(&bench.http1(80), gets(80));
    // Two workers hold five each.
    let passed = with_status(&answers, 200);
    assert!((6..=20).contains(&passed), "{passed} passed");
    assert_refused_as_retry_after(&answers);
}

#[test]
fn past_the_most_that_a_worker_holds_for_one_client() {
    let rules = json!([{"name": "slow", "scope": "per_user", "rate": 5, "window_seconds": 1, "burst": 1,
        "strategy": {"type": "throttle", "max_delay_ms": 60_000, "max_waiting": 100, "max_waiting_per_key": 3}}]);
    let Some(bench) = serve("throttle, max_waiting_per_key", &policy(rules), Bodies::Unseen) else { return };
    let of = |user: &'static str, count| gets(count).map(move |request| request.header("x-user", user));
    let answers = send(&bench.http1(90), of("greedy", 80).chain(of("modest", 3)));
    let (greedy, modest) = answers.split_at(80);
    let passed = with_status(greedy, 200);
    assert!((4..=16).contains(&passed), "{passed} passed");
    assert_eq!(with_status(modest, 200), 3, "another client is not kept out");
    assert_refused_as_retry_after(&answers);
}

#[test]
fn a_leaky_bucket_is_a_queue_as_deep_as_its_burst() {
    let rules = json!([{"name": "slow", "scope": "global", "rate": 10, "window_seconds": 1, "burst": 7,
        "algorithm": "leaky_bucket",
        "strategy": {"type": "throttle", "max_delay_ms": 60_000, "max_waiting": 100, "max_waiting_per_key": 100}}]);
    let Some(bench) = serve("throttle, leaky bucket", &policy(rules), Bodies::Unseen) else { return };
    let answers = send(&bench.http2(30), gets(30));
    let passed = with_status(&answers, 200);
    assert!((8..=16).contains(&passed), "{passed} passed");
    assert_refused_as_retry_after(&answers);
}
