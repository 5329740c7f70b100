//! What decides without an answer: each rule's own mode where the store fails, this proxy's own counters where the proxy is
//! full, and no second quota on the way from one to the other and back.

use tidegate_host_test::{Answer, Cluster, Response};

use crate::played::{MS, Proxy, done, granted, passed, proxy, store_of};
use crate::tidegate::rule;

fn with(name: &str, rate: u32, mode: &str, further: &str) -> String {
    let members = format!(r#", "algorithm": "fixed_window", "on_store_error": "{mode}"{further}"#);
    rule(name, "per_user", rate, 3_600, &members)
}

/// How many of twenty requests pass while the store answers none.
fn passing(at: &Proxy) -> usize {
    (0..20).filter(|_| passed(&at.fails())).count()
}

/// The breaker stays closed: every one of them asks.
const PATIENT: &str = r#", "breaker": {"failures": 1000, "open_ms": 600000}"#;

#[test]
fn each_mode_does_what_it_says() {
    for (mode, expected) in [("local", 5), ("allow", 20), ("deny", 0)] {
        let Some(at) = proxy(PATIENT, &[with("r", 10, mode, r#", "local_share": 0.5"#)]) else { return };
        assert_eq!(passing(&at), expected, "{mode}");
        assert_eq!(at.counted(), [0, 20, 0, 0, 0], "{mode}");
        assert_eq!(at.host.metrics().counter("tidegate.default.store_failures_total"), Some(20));
        at.sound();
    }
}

#[test]
fn a_request_of_several_rules_obeys_each() {
    let cases: [(&[&str], usize); 4] =
        [(&["local", "allow"], 4), (&["local", "deny"], 0), (&["allow", "deny"], 0), (&["local", "allow", "deny"], 0)];
    for (modes, expected) in cases {
        let rules: Vec<String> = modes.iter().map(|mode| with(mode, 4, mode, "")).collect();
        let Some(at) = proxy(PATIENT, &rules) else { return };
        assert_eq!(passing(&at), expected, "{modes:?}");
        // What was refused by one rule has charged no other.
        let stream = at.from("b");
        at.says(granted(&vec![[0, 1, 3, 3_600_000_000, 0]; modes.len()]));
        assert!(passed(&stream));
        at.sound();
    }
}

#[test]
fn where_the_proxy_is_full_its_own_counters_decide_whatever_the_rule_says() {
    // Refused at once; taken by Envoy, which then has no stream for it.
    let overflow = Response::new(503)
        .header("content-type", "text/plain")
        .header("x-envoy-overloaded", "true")
        .body("upstream connect error or disconnect/reset before headers. reset reason: overflow");
    for mode in ["local", "allow", "deny"] {
        let breaker = r#", "breaker": {"failures": 1, "open_ms": 1000}"#;
        let Some(at) = proxy(breaker, &[with("r", 4, mode, r#", "local_share": 0.5"#)]) else { return };
        at.host.set_cluster("redis", Cluster::Healthy { max_requests: 1 });
        let first = at.from("a");
        let beside: Vec<_> = (0..6).map(|_| at.from("b")).collect();
        assert_eq!(beside.iter().filter(|stream| passed(stream)).count(), 2, "{mode}: half of four");
        assert_eq!(store_of(&beside[0]).as_deref(), Some(&b"busy"[..]));
        at.says(Answer::Response(overflow.clone()));
        assert!(passed(&first), "{mode}: the first of two");
        assert_eq!(store_of(&first).as_deref(), Some(&b"busy"[..]));
        assert_eq!((at.counted(), at.is_healthy()), ([0, 0, 7, 0, 0], true), "{mode}: no failure");
        at.sound();
    }
}

#[test]
fn another_proxys_overflow_is_a_failure() {
    // What came from behind has Envoy's note of how long it took.
    let Some(at) = proxy("", &[with("r", 4, "deny", "")]) else { return };
    let stream = at.from("a");
    let theirs = Response::new(503).header("x-envoy-overloaded", "true").header("x-envoy-upstream-service-time", "3");
    at.says(Answer::Response(theirs));
    assert_eq!((stream.status(), at.counted()), (429, [0, 1, 0, 0, 0]));
    let stream = at.from("a");
    at.says(Answer::Response(Response::new(503).body("no healthy upstream")));
    assert_eq!((stream.status(), at.counted()), (429, [0, 2, 0, 0, 0]), "and so is a store that is not there");
    at.sound();
}

#[test]
fn a_try_that_overflows_waits_as_long_again() {
    let Some(at) = proxy(r#", "breaker": {"failures": 1, "open_ms": 300}"#, &[with("r", 4, "deny", "")]) else {
        return;
    };
    at.fails();
    at.host.advance(300 * MS);
    at.says(Answer::Response(Response::new(503).header("x-envoy-overloaded", "true")));
    assert_eq!((at.counted(), at.is_healthy()), ([0, 1, 1, 0, 0], false));
    at.host.advance(299 * MS);
    assert!(!at.is_asked());
    at.host.advance(MS);
    at.says(done());
    assert!(at.is_healthy());
    at.sound();
}

#[test]
fn a_step_to_its_own_counters_and_back_gives_no_second_quota() {
    let breaker = r#", "breaker": {"failures": 1, "open_ms": 100}"#;
    let Some(at) = proxy(breaker, &[with("r", 10, "local", r#", "local_share": 0.5"#)]) else { return };
    for left in (7..10).rev() {
        let stream = at.from("a");
        at.says(granted(&[[0, 1, left, 3_600_000_000, 0]]));
        assert!(passed(&stream));
    }
    // The store fails: of this proxy's five three are gone already.
    assert!(passed(&at.fails()));
    let spared = |count: usize| (0..count).filter(|_| passed(&at.from("a"))).count();
    assert_eq!(spared(10), 1, "the fifth");
    at.host.advance(100 * MS);
    at.says(done());
    // It is back, and knows nothing of those two: its word counts from here on.
    for left in (0..7).rev() {
        let stream = at.from("a");
        at.says(granted(&[[0, 1, left, 3_600_000_000, 0]]));
        assert!(passed(&stream));
    }
    at.fails();
    assert_eq!(spared(10), 0, "and its own are spent");
    at.sound();
}
