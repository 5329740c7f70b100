//! Exactly as many of 5,000 concurrent requests pass as the limit says, whatever worker they come to.
//! Windows are a year long, so that no quota flows back while the test runs. (A fixed window of 366 days ends once in
//! 366 days; a test that runs across that moment fails.)

use serde_json::{Value, json};
use xtask::load::{Client, Request};

use crate::proxy::{Proxy, YEAR};
use crate::wire::Reply;

const REQUESTS: usize = 5_000;
const LIMIT: u64 = 1_000;

fn policy(algorithm: &str) -> Value {
    json!({"version": 1, "namespace": "race", "rules": [{
        "name": "all", "scope": "global", "rate": LIMIT, "window_seconds": YEAR, "algorithm": algorithm,
    }]})
}

/// Sends 5,000 requests at once on 5,000 connections and returns how many were let through and how many refused.
fn race(proxy: &Proxy, request: impl Fn(usize) -> Request) -> (u64, u64) {
    let client = Client::http1(proxy.address(), REQUESTS).unwrap();
    count(client.send_all((0..REQUESTS).map(request).collect()))
}

fn count(answers: Vec<anyhow::Result<xtask::load::Answer>>) -> (u64, u64) {
    let (mut passed, mut refused) = (0, 0);
    for answer in answers {
        match answer.unwrap().status {
            200 => passed += 1,
            429 => refused += 1,
            status => panic!("a request got {status}"),
        }
    }
    (passed, refused)
}

fn exactly(algorithm: &str, expected: u64) {
    let Some(mut proxy) = Proxy::start(&format!("5,000 at once, {algorithm}"), &policy(algorithm)) else { return };
    let (passed, refused) = race(&proxy, |_| Request::get("/"));
    let (workers, contended) = (proxy.connections_by_worker(), proxy.metric("contended_total"));
    println!(
        "{algorithm}: {passed} of {REQUESTS} passed a limit of {expected}; connections by worker {workers:?}, \
         contended {contended}"
    );
    assert_eq!((passed, refused), (expected, REQUESTS as u64 - expected));
    assert_eq!(proxy.upstream.requests(), expected);
    assert_eq!(proxy.metric("verdicts_total.all.allowed"), expected);
    proxy.assert_both_workers_served();

    let by_http2 = Client::http2(proxy.address(), 8, REQUESTS).unwrap();
    let (passed, refused) = count(by_http2.send_all((0..REQUESTS).map(|_| Request::get("/")).collect()));
    assert_eq!((passed, refused), (0, REQUESTS as u64), "the quota is used up for HTTP/2 as well");
    proxy.assert_unharmed();
}

#[test]
fn a_token_bucket_admits_its_burst() {
    exactly("token_bucket", LIMIT);
}

#[test]
fn a_fixed_window_admits_its_rate() {
    exactly("fixed_window", LIMIT);
}

#[test]
fn a_sliding_window_admits_its_rate() {
    exactly("sliding_window", LIMIT);
}

/// One every 8.8 hours, and none ahead.
#[test]
fn a_leaky_bucket_admits_one() {
    exactly("leaky_bucket", 1);
}

#[test]
fn of_several_rules_the_tightest_decides_and_the_wider_are_charged_no_more() {
    let rule = |name: &str, scope: &str, rate: u64, algorithm: &str| json!({"name": name, "scope": scope, "rate": rate, "window_seconds": YEAR, "algorithm": algorithm});
    let policy = json!({
        "version": 1,
        "namespace": "several",
        "identity": {"user": [{"header": "x-user-id", "trust": "verified"}]},
        "rules": [
            rule("everybody", "global", 3_000, "token_bucket"),
            rule("address", "per_ip", 800, "sliding_window"),
            rule("user", "per_user", 500, "fixed_window"),
        ],
    });
    let Some(mut proxy) = Proxy::start("5,000 at once, three rules", &policy) else { return };
    let from =
        |user: &str, address: &str| Request::get("/").header("x-user-id", user).header("x-forwarded-for", address);
    let (passed, refused) = race(&proxy, |_| from("alice", "192.0.2.1"));
    println!("three rules: {passed} of {REQUESTS} passed limits of 3000, 800 and 500");
    assert_eq!((passed, refused), (500, 4_500));
    assert_eq!(proxy.upstream.requests(), 500);
    proxy.assert_both_workers_served();

    let client = Client::http1(proxy.address(), 1).unwrap();
    let told = |request: Request| Reply::from(client.send(&request).unwrap()).status_and_left();
    assert_eq!(told(from("bob", "192.0.2.1")), "200 everybody=2499 address=299 user=499");
    assert_eq!(told(from("carol", "192.0.2.2")), "200 everybody=2498 address=799 user=499");
    assert_eq!(told(from("alice", "192.0.2.3")), "429 user=0", "a refusal names what refused");
    proxy.assert_unharmed();
}

/// Five users in a race of their own, all at once: each gets exactly its own limit.
#[test]
fn clients_that_race_side_by_side_get_exactly_their_own() {
    let policy = json!({"version": 1, "namespace": "side", "identity": {"user": [{"header": "x-user-id", "trust": "verified"}]},
        "rules": [{"name": "user", "scope": "per_user", "rate": 100, "window_seconds": YEAR}]});
    let Some(proxy) = Proxy::start("5,000 at once, five users", &policy) else { return };
    let client = Client::http1(proxy.address(), REQUESTS).unwrap();
    let request = |n: usize| Request::get("/").header("x-user-id", format!("user-{}", n % 5));
    let mut passed = [0; 5];
    for (n, answer) in client.send_all((0..REQUESTS).map(request).collect()).into_iter().enumerate() {
        passed[n % 5] += u64::from(answer.unwrap().status == 200);
    }
    println!("five users at once: {passed:?} of 1000 each passed limits of 100");
    assert_eq!(passed, [100; 5]);
}
