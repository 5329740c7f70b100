//! Exactly as many of 5,000 concurrent requests pass as the limit says, whatever worker they come to.
//! Windows are a year long, so that no quota flows back while the test runs. (A fixed window of 366 days ends once in
//! 366 days; a test that runs across that moment fails.)

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use xtask::load::{Client, Request};

use crate::frames::{Event, Frames};
use crate::proxy::{Proxy, YEAR, direct};
use crate::wire::Reply;

const REQUESTS: usize = 5_000;
/// Most of them pass: only who passes writes, and only writers can lose each other's counts.
const LIMIT: u64 = 4_000;
/// How often the sharp race is run, each time with other users.
const ROUNDS: u64 = 5;

/// `/calm` is limited for everybody together, `/sharp` for each user.
fn policy(algorithm: &str) -> Value {
    let rule = |name: &str, scope: &str, endpoint: &str| {
        json!({"name": name, "scope": scope, "rate": LIMIT, "window_seconds": YEAR, "algorithm": algorithm,
            "endpoints": [endpoint]})
    };
    json!({
        "version": 1,
        "namespace": "race",
        "identity": {"user": [{"header": "x-user-id", "trust": "verified"}]},
        "rules": [rule("calm", "global", "/calm"), rule("sharp", "per_user", "/sharp")],
    })
}

/// Sends 5,000 requests at once on 5,000 connections and returns how many were let through and how many refused.
fn race(proxy: &Proxy, request: impl Fn(usize) -> Request) -> (u64, u64) {
    let client = Client::http1(proxy.address(), REQUESTS).unwrap();
    let statuses = client.send_all((0..REQUESTS).map(request).collect());
    count(statuses.into_iter().map(|answer| answer.unwrap().status))
}

/// Sends 5,000 requests of so many users in turn, each of 16 connections all of its share in one piece: both workers
/// have thousands to decide at the same time, which makes them meet in the counters as often as can be.
fn sharp_race(address: SocketAddr, users: usize, round: u64) -> (u64, u64) {
    const CONNECTIONS: usize = 16;
    let start = Barrier::new(CONNECTIONS);
    let statuses = thread::scope(|scope| {
        let one = |connection: usize, start: &Barrier| {
            let mut frames = Frames::connect(address);
            let head = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/sharp")];
            let numbers = (connection..REQUESTS).step_by(CONNECTIONS);
            let count = numbers.clone().count();
            for number in numbers {
                let user = format!("user-{round}-{}", number / CONNECTIONS % users);
                frames.request(&[head.as_slice(), &[("x-user-id", &user)]].concat(), true);
            }
            start.wait();
            frames.flush();
            let (mut statuses, mut ended) = (Vec::new(), 0);
            while ended < count {
                match frames.event() {
                    Event::Status { status, .. } => statuses.push(status),
                    Event::End { .. } => ended += 1,
                    other => panic!("{other:?} on connection {connection}"),
                }
            }
            statuses
        };
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let start = &start;
                scope.spawn(move || one(connection, start))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<u16>>()
    });
    count(statuses.into_iter())
}

fn count(statuses: impl Iterator<Item = u16>) -> (u64, u64) {
    let (mut passed, mut refused) = (0, 0);
    for status in statuses {
        match status {
            200 => passed += 1,
            429 => refused += 1,
            status => panic!("a request got {status}"),
        }
    }
    (passed, refused)
}

/// Runs both races against a limit that lets `expected` requests of one client through; the sharp one with so many
/// users at once.
fn exactly(algorithm: &str, expected: u64, users: usize) {
    let started = Proxy::start_with(&format!("5,000 at once, {algorithm}"), &policy(algorithm), |settings| {
        let calm = json!({"match": {"prefix": "/calm"}, "route": {"cluster": "upstream", "timeout": "0s"}});
        settings.listeners[0].routes = vec![calm, direct("/sharp")];
    });
    let Some(mut proxy) = started else { return };
    let all = REQUESTS as u64;
    let calm = race(&proxy, |_| Request::get("/calm"));
    let workers = proxy.connections_by_worker();
    proxy.assert_both_workers_served();
    let sharp: Vec<(u64, u64)> = (0..ROUNDS).map(|round| sharp_race(proxy.address(), users, round)).collect();
    let of_all_users = expected * users as u64;
    println!(
        "{algorithm}: {} of {REQUESTS} passed a limit of {expected} (connections by worker {workers:?}); by HTTP/2 in one \
         piece {:?} of {REQUESTS} passed a limit of {of_all_users}; contended {}",
        calm.0,
        sharp.iter().map(|(passed, _)| passed).collect::<Vec<_>>(),
        proxy.metric("contended_total"),
    );
    assert_eq!(calm, (expected, all - expected));
    assert!(sharp.iter().all(|counts| *counts == (of_all_users, all - of_all_users)), "{sharp:?}");
    assert_eq!(proxy.upstream.requests(), expected);
    let counted =
        ["calm.allowed", "calm.limited", "sharp.allowed"].map(|it| proxy.metric(&format!("verdicts_total.{it}")));
    assert_eq!(counted, [expected, all - expected, of_all_users * ROUNDS]);
    proxy.assert_unharmed();
}

#[test]
fn a_token_bucket_admits_its_burst() {
    exactly("token_bucket", LIMIT, 1);
}

#[test]
fn a_fixed_window_admits_its_rate() {
    exactly("fixed_window", LIMIT, 1);
}

#[test]
fn a_sliding_window_admits_its_rate() {
    exactly("sliding_window", LIMIT, 1);
}

/// One every 8.8 hours, and none ahead.
#[test]
fn a_leaky_bucket_admits_one_a_client() {
    exactly("leaky_bucket", 1, 250);
}

#[test]
fn of_several_rules_the_tightest_decides_and_the_wider_are_charged_no_more() {
    let rule = |name: &str, scope: &str, rate: u64, algorithm: &str| json!({"name": name, "scope": scope, "rate": rate, "window_seconds": YEAR, "algorithm": algorithm});
    let policy = json!({
        "version": 1,
        "namespace": "several",
        "identity": {"user": [{"header": "x-user-id", "trust": "verified"}]},
        "rules": [
            rule("everybody", "global", 4_500, "token_bucket"),
            rule("address", "per_ip", 3_800, "sliding_window"),
            rule("user", "per_user", 3_500, "fixed_window"),
        ],
    });
    let Some(mut proxy) = Proxy::start("5,000 at once, three rules", &policy) else { return };
    let from =
        |user: &str, address: &str| Request::get("/").header("x-user-id", user).header("x-forwarded-for", address);
    let (passed, refused) = race(&proxy, |_| from("alice", "192.0.2.1"));
    println!("three rules: {passed} of {REQUESTS} passed limits of 4500, 3800 and 3500");
    assert_eq!((passed, refused), (3_500, 1_500));
    assert_eq!(proxy.upstream.requests(), 3_500);
    proxy.assert_both_workers_served();

    let client = Client::http1(proxy.address(), 1).unwrap();
    let told = |request: Request| Reply::from(client.send(&request).unwrap()).status_and_left();
    assert_eq!(told(from("bob", "192.0.2.1")), "200 everybody=999 address=299 user=3499");
    assert_eq!(told(from("carol", "192.0.2.2")), "200 everybody=998 address=3799 user=3499");
    assert_eq!(told(from("alice", "192.0.2.3")), "429 user=0", "a refusal names what refused");
    proxy.assert_unharmed();
}

/// Five users in a race of their own, all at once: each gets exactly its own limit.
#[test]
fn clients_that_race_side_by_side_get_exactly_their_own() {
    let policy = json!({"version": 1, "namespace": "side", "identity": {"user": [{"header": "x-user-id", "trust": "verified"}]},
        "rules": [{"name": "user", "scope": "per_user", "rate": 800, "window_seconds": YEAR}]});
    let Some(proxy) = Proxy::start("5,000 at once, five users", &policy) else { return };
    let client = Client::http1(proxy.address(), REQUESTS).unwrap();
    let request = |n: usize| Request::get("/").header("x-user-id", format!("user-{}", n % 5));
    let mut passed = [0; 5];
    for (n, answer) in client.send_all((0..REQUESTS).map(request).collect()).into_iter().enumerate() {
        passed[n % 5] += u64::from(answer.unwrap().status == 200);
    }
    println!("five users at once: {passed:?} of 1000 each passed limits of 800");
    assert_eq!(passed, [800; 5]);
}
