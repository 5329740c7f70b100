//! `throttle` lets requests through evenly, in order, over both workers and both protocols, with every algorithm.

use std::time::{Duration, SystemTime};

use serde_json::json;
use xtask::load::{Client, Request};
use xtask::upstream::Arrival;

use crate::bench::{Bench, Bodies, alone, percentile, policy, send, serve, serve_with, with_status};

/// When each request arrived, in milliseconds after the first.
pub(crate) fn arrived_at(arrivals: &[Arrival]) -> Vec<f64> {
    let mut times: Vec<SystemTime> = arrivals.iter().map(|arrival| arrival.time).collect();
    times.sort_unstable();
    let first = times.first().copied().unwrap_or(SystemTime::UNIX_EPOCH);
    times.iter().map(|time| time.duration_since(first).unwrap_or_default().as_secs_f64() * 1e3).collect()
}

/// The most arrivals in any stretch of so many milliseconds.
pub(crate) fn most_within(times: &[f64], stretch: f64) -> usize {
    let count = |from: &f64| times.iter().filter(|time| **time >= *from && **time < *from + stretch).count();
    times.iter().map(count).max().unwrap_or(0)
}

fn two_hundred_arrive_evenly(protocol: &str, client: impl FnOnce(&Bench) -> Client) {
    let _alone = alone();
    let rules = json!([{"name": "even", "scope": "global", "rate": 50, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": 10_000, "max_waiting": 1_000, "max_waiting_per_key": 1_000}}]);
    let Some(mut bench) = serve("throttle", &policy(rules), Bodies::Unseen) else { return };
    let client = client(&bench);
    let answers = send(&client, (0..200).map(|n| Request::get(&format!("/{n}"))));
    assert_eq!(with_status(&answers, 200), 200, "none is lost");

    let times = arrived_at(&bench.upstream.arrivals());
    assert_eq!(times.len(), 200);
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (median, took, most) = (percentile(gaps.clone(), 50), times[199], most_within(&times, 1_000.0));
    println!(
        "throttle 50/s, 200 at once, {protocol}: {took:.0} ms (3980 are due), gaps ms p1 {:.1} p50 {median:.1} p99 {:.1}, \
         at most {most} in 1 s",
        percentile(gaps.clone(), 1),
        percentile(gaps, 99)
    );
    // 199 gaps of 20 ms. A tick is never early; how late it is is the machine's.
    assert!((3_900.0..5_500.0).contains(&took), "{took}");
    assert!((12.0..28.0).contains(&median), "{median}");
    assert!(most <= 50 + 15, "{most} in one second");
    assert_eq!(bench.count("requests_total.delayed"), 199);
    assert_eq!((bench.count("waiting"), bench.count("abandoned_total")), (0, 0));
    bench.assert_nothing_died();
}

#[test]
fn two_hundred_at_once_arrive_evenly_over_http1() {
    two_hundred_arrive_evenly("HTTP/1", |bench| bench.http1(200));
}

#[test]
fn two_hundred_at_once_arrive_evenly_over_http2() {
    two_hundred_arrive_evenly("HTTP/2", |bench| bench.http2(200));
}

/// How many pairs of neighbours came in another order than they were sent in.
fn overtaken(bench: &Bench, user: &str) -> usize {
    let of_user = |arrival: &Arrival| arrival.headers.get("x-user").is_some_and(|value| value == user);
    let arrivals = bench.upstream.arrivals();
    let numbers: Vec<u32> = arrivals
        .iter()
        .filter(|arrival| of_user(arrival))
        .map(|arrival| arrival.path.trim_start_matches('/').parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), 30, "{user}");
    numbers.windows(2).filter(|pair| pair[0] > pair[1]).count()
}

fn three_users_in_turn() -> Vec<Request> {
    let request = |n: u64| {
        let user = ["ann", "bob", "cy"][(n % 3) as usize];
        Request::get(&format!("/{n}")).header("x-user", user).at(Duration::from_millis(n * 10))
    };
    (0..90).map(request).collect()
}

#[test]
fn the_order_of_each_key_is_kept() {
    let rules = json!([{"name": "each", "scope": "per_user", "rate": 20, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": 10_000, "max_waiting_per_key": 100}}]);
    // One worker alone keeps the order exactly.
    let Some(bench) =
        serve_with("throttle, order", &policy(rules.clone()), Bodies::Unseen, |settings| settings.concurrency = 1)
    else {
        return;
    };
    let answers = send(&bench.http2(90), three_users_in_turn());
    assert_eq!(with_status(&answers, 200), 90);
    for user in ["ann", "bob", "cy"] {
        assert_eq!(overtaken(&bench, user), 0, "{user}");
    }
    // Of two workers one may tick later than the other; its moments are 50 ms apart.
    let Some(bench) = serve("throttle, order", &policy(rules), Bodies::Unseen) else { return };
    let answers = send(&bench.http1(90), three_users_in_turn());
    assert_eq!(with_status(&answers, 200), 90);
    let overtaken: usize = ["ann", "bob", "cy"].into_iter().map(|user| overtaken(&bench, user)).sum();
    println!("throttle, two workers: {overtaken} of 87 neighbours of one key changed places");
    assert!(overtaken <= 3, "{overtaken}");
}

#[test]
fn every_algorithm_holds_until_it_admits() {
    for (algorithm, burst, most) in
        [("token_bucket", 5, 25), ("leaky_bucket", 40, 21), ("fixed_window", 20, 40), ("sliding_window", 20, 20)]
    {
        let rules = json!([{"name": "all", "scope": "global", "rate": 20, "window_seconds": 1, "burst": burst,
            "algorithm": algorithm, "strategy": {"type": "throttle", "max_delay_ms": 8_000, "max_waiting": 100,
                "max_waiting_per_key": 100}}]);
        let Some(mut bench) = serve("throttle, algorithms", &policy(rules), Bodies::Unseen) else { return };
        let answers = send(&bench.http2(60), (0..60).map(|n| Request::get(&format!("/{n}"))));
        let passed = with_status(&answers, 200);
        let times = arrived_at(&bench.upstream.arrivals());
        let (took, found) = (times.last().copied().unwrap_or_default(), most_within(&times, 1_000.0));
        println!("throttle 20/s, 60 at once, {algorithm}: {passed} passed in {took:.0} ms, at most {found} in 1 s");
        // Only the leaky bucket has a depth: what its `burst` holds, and the one that passes at once.
        let wanted = if algorithm == "leaky_bucket" { 41 } else { 60 };
        // One more for every 50 ms that the sixty take to come.
        assert!((wanted..=(wanted + 12).min(60)).contains(&passed), "{algorithm}: {passed}");
        assert_eq!(passed + with_status(&answers, 429), 60);
        // What is late meets what is on time.
        assert!(found <= most + 6, "{algorithm}: {found} in one second");
        assert_eq!(bench.count("waiting"), 0);
        bench.assert_nothing_died();
    }
}
