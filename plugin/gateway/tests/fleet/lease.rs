//! One limit over a fleet whose proxies charge ahead: never more than the limit, hardly less, hardly a round trip, and
//! what nobody spends goes back. Not here: what a lease may live, and how large it gets (`host-test`, the engine).

use std::time::Duration;

use serde_json::{Value, json};
use xtask::load::Request;

use crate::http::Gateway;
use crate::process::wait_for;
use crate::proxies::{Fleet, YEAR, count, counted, policy};
use crate::servers::Redis;
use crate::skip;

const ALGORITHMS: [&str; 4] = ["token_bucket", "fixed_window", "sliding_window", "leaky_bucket"];

fn store() -> Value {
    json!({"timeout_ms": 2000, "mode": "lease"})
}

#[test]
fn of_ten_thousand_requests_over_three_proxies_no_more_than_the_limit_passes_and_hardly_less() {
    if !skip::has("fleet, lease", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    for algorithm in ALGORITHMS {
        redis.ask(&["FLUSHALL"]);
        let rules =
            json!([{"name": "all", "scope": "global", "rate": 2000, "window_seconds": YEAR, "algorithm": algorithm}]);
        let Some(mut fleet) = Fleet::start("fleet, lease", 3, &gateway.address, &policy(store(), rules)) else {
            return;
        };
        let answers = fleet.send(10_000, 32, &Request::get("/"));
        let passed = count(&answers, 200);
        let (asked, leased) = (fleet.count("store_calls_total.answered"), fleet.count("store_calls_total.leased"));
        println!("fleet, lease, {algorithm}: {passed} of {} passed; {asked} asked, {leased} leased", answers.len());
        if algorithm == "leaky_bucket" {
            assert_eq!(passed, 1, "never leased; what is leased here are refusals of the last second");
        } else {
            assert!((1_900..=2_000).contains(&passed), "{algorithm}: {passed}");
            assert!(leased > 1_000, "{algorithm}: {leased}");
        }
        assert_eq!(passed + count(&answers, 429), answers.len());
        assert_eq!(fleet.upstream.requests(), passed as u64);
        assert_eq!(fleet.count("store_calls_total.failed"), 0);
        fleet.assert_nothing_died();
    }
}

#[test]
fn a_steady_load_below_the_limit_is_answered_without_a_round_trip() {
    if !skip::has("fleet, steady lease", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    // 1,000 a second, of 4,000 that may pass.
    let load: Vec<Request> = (0..2_400).map(|number| Request::get("/").at(Duration::from_millis(3) * number)).collect();
    for algorithm in ["token_bucket", "fixed_window", "sliding_window"] {
        redis.ask(&["FLUSHALL"]);
        let rules =
            json!([{"name": "all", "scope": "global", "rate": 240_000, "window_seconds": 60, "algorithm": algorithm}]);
        let Some(mut fleet) = Fleet::start("fleet, steady lease", 3, &gateway.address, &policy(store(), rules)) else {
            return;
        };
        let answers = fleet.send_each(&load, 8);
        let (asked, leased) = (fleet.count("store_calls_total.answered"), fleet.count("store_calls_total.leased"));
        let all = answers.len() as u64;
        println!("fleet, steady lease, {algorithm}: {all} requests, {leased} leased, {asked} calls");
        assert_eq!(count(&answers, 200), answers.len());
        assert!(leased * 100 >= all * 98, "{algorithm}: {leased} of {all}");
        fleet.assert_nothing_died();
    }
}

#[test]
fn what_one_proxy_does_not_spend_another_does() {
    if !skip::has("fleet, unspent leases", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let rules =
        json!([{"name": "all", "scope": "global", "rate": 2000, "window_seconds": YEAR, "algorithm": "fixed_window"}]);
    let Some(mut fleet) = Fleet::start("fleet, unspent leases", 2, &gateway.address, &policy(store(), rules)) else {
        return;
    };
    // The first proxy ends with something ahead: its last request is made to ask for a lease that nobody spends.
    let mut first = 0;
    let ahead = wait_for("a lease that is not spent", Duration::from_secs(20), || {
        first += count(&fleet.send_to(0, 20, 4, &Request::get("/")), 200) as u64;
        Some(counted(&[&redis], "all") - first).filter(|ahead| *ahead > 0)
    });
    // Half a second untouched; twice that until the next look at it.
    wait_for("its return", Duration::from_secs(5), || (counted(&[&redis], "all") == first).then_some(()));
    let second = count(&fleet.send_to(1, 4_000, 16, &Request::get("/")), 200) as u64;
    println!("fleet, unspent leases: {first} passed and {ahead} came back, then {second} passed elsewhere");
    assert_eq!(first + second, 2_000);
    assert_eq!(counted(&[&redis], "all"), 2_000);
    fleet.assert_nothing_died();
}
