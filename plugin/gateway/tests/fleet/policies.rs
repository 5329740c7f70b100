//! The policies of a fleet that users start from, as they stand: each does what it says while Redis is away, and counts
//! over the fleet again once it is back. Not here: their other strategies and modes (`failing`).

use std::time::Duration;

use serde_json::Value;
use xtask::envoy::{Cluster, Plugin};
use xtask::load::Request;
use xtask::workspace;

use crate::http::Gateway;
use crate::process::wait_for;
use crate::proxies::{Fleet, count};
use crate::servers::Redis;
use crate::skip;

/// How long workers may take to find out on a machine that is busy with more.
const PATIENCE: Duration = Duration::from_secs(30);

struct Parts {
    fleet: Fleet,
    namespace: String,
    redis: Redis,
    _gateway: Gateway,
}

/// Two proxies with the policy of this name, whose cluster is a gateway without a token.
fn start(name: &str) -> Option<Parts> {
    if !skip::has(name, &["redis-server"]) {
        return None;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start_open(&redis.url(), &[]);
    let text = std::fs::read_to_string(workspace::root().join("policies").join(name).with_extension("json")).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    let cluster = Cluster::new(policy["store"]["cluster"].as_str().unwrap(), gateway.address.parse().unwrap());
    let namespace = policy["namespace"].as_str().unwrap().to_owned();
    let fleet = Fleet::start_with(name, 2, &cluster, &Plugin::new(&text))?;
    Some(Parts { fleet, namespace, redis, _gateway: gateway })
}

impl Parts {
    fn count(&self, name: &str) -> u64 {
        let name = format!("wasmcustom.tidegate.{}.{name}", self.namespace);
        self.fleet.envoys.iter().map(|envoy| envoy.stat(&name).unwrap()).sum()
    }

    /// How many of so many requests to one proxy, a few at once, pass; the others are refused.
    fn passing(&self, proxy: usize, requests: usize, request: &Request) -> usize {
        let answers = self.fleet.send_to(proxy, requests, 8, request);
        assert_eq!(count(&answers, 200) + count(&answers, 429), requests);
        count(&answers, 200)
    }

    /// Ends Redis and lets every worker find out: until none of a burst fails on each proxy. How many passed meanwhile.
    fn stops(&mut self, request: &Request) -> usize {
        self.redis.kill();
        let mut passed = 0;
        for proxy in 0..2 {
            wait_for("all workers to leave the store alone", PATIENCE, || {
                let before = self.count("store_calls_total.failed");
                passed += self.passing(proxy, 40, request);
                (self.count("store_calls_total.failed") == before).then_some(())
            });
        }
        assert_eq!(self.count("store_healthy"), 0);
        passed
    }

    /// Starts an empty Redis, and waits until nobody is spared. How many passed meanwhile.
    fn comes_back(&mut self, request: &Request) -> usize {
        self.redis.restart(&[]);
        let mut passed = 0;
        wait_for("all workers to ask again", PATIENCE, || {
            let before = self.count("store_calls_total.spared");
            passed += (0..2).map(|proxy| self.passing(proxy, 20, request)).sum::<usize>();
            (self.count("store_calls_total.spared") == before).then_some(())
        });
        assert_eq!(self.count("store_healthy"), 2);
        passed
    }

    /// Whether nothing went wrong that a slow machine may bring about: a call that took longer than the policy's 20 ms.
    fn is_calm(&self, since: u64) -> bool {
        self.count("store_calls_total.failed") == since
    }
}

#[test]
fn exact_deny_gives_no_paid_call_away() {
    let Some(mut at) = start("fleet-exact-deny") else { return };
    let paid = Request::get("/v1/generate");
    let sign_in = Request::new("POST", "/login");
    let warm: usize = (0..2).map(|proxy| at.passing(proxy, 20, &paid)).sum();
    let at_first = at.passing(0, 2, &sign_in);
    if at.is_calm(0) {
        assert_eq!((warm, at_first), (40, 2));
        assert_eq!(at.count("store_calls_total.answered"), 42);
    }
    at.stops(&paid);
    for proxy in 0..2 {
        assert_eq!(at.passing(proxy, 50, &paid), 0, "without Redis, 429");
    }
    // A quarter of twelve on each proxy, and the first has let two through already.
    assert_eq!([at.passing(0, 20, &sign_in), at.passing(1, 20, &sign_in)], [3 - at_first, 3]);
    let taken = at.comes_back(&paid);
    let failed = at.count("store_calls_total.failed");
    let paid_again: usize = (0..2).map(|proxy| at.passing(proxy, 20, &paid)).sum();
    let sign_ins: usize = (0..2).map(|proxy| at.passing(proxy, 10, &sign_in)).sum();
    println!("fleet-exact-deny: {paid_again} of 40 and {sign_ins} of 20 passed once it was back");
    if at.is_calm(failed) {
        let left = 40.min(1_000_usize.saturating_sub(taken));
        assert_eq!((paid_again, sign_ins), (left, 12), "the fleet's limit, from an empty Redis");
    }
    at.fleet.assert_nothing_died();
}

#[test]
fn lease_local_goes_on_with_what_one_proxy_may() {
    let Some(mut at) = start("fleet-lease-local") else { return };
    let request = Request::get("/api");
    // The address's 600 over both proxies, and what flows back meanwhile: ten a second.
    let started = std::time::Instant::now();
    let warm: usize = (0..2).map(|proxy| at.passing(proxy, 200, &request)).sum();
    assert_eq!(warm, 400);
    let leased = at.count("store_calls_total.leased");
    if at.is_calm(0) {
        assert!(leased > 200, "{leased}");
    }
    let tried = at.stops(&request);
    let passed: usize = (0..2).map(|proxy| at.passing(proxy, 1_000, &request)).sum();
    let flowed = 10 * (usize::try_from(started.elapsed().as_secs()).unwrap() + 1);
    println!("fleet-lease-local: {tried} + {passed} passed meanwhile, {leased} of 400 were leased before");
    // Each proxy by itself admits 600, less the 200 that it has let through already.
    assert!(tried + passed <= 2 * (400 + flowed), "{tried} + {passed}");
    assert!(tried + passed >= 400, "nobody is locked out: {tried} + {passed}");
    let tried = at.comes_back(&request);
    let answered = at.count("store_calls_total.answered");
    let passed: usize = (0..2).map(|proxy| at.passing(proxy, 1_000, &request)).sum();
    assert!(at.count("store_calls_total.answered") > answered);
    let flowed = 10 * (usize::try_from(started.elapsed().as_secs()).unwrap() + 1);
    println!("fleet-lease-local: {tried} + {passed} passed once it was back");
    // No more than the fleet's 600 of an empty Redis; and hardly less, but for what leases hold.
    assert!(passed <= 600 + flowed && tried + passed >= 300, "{tried} + {passed}");
    at.fleet.assert_nothing_died();
}

#[test]
fn allow_skips_what_is_fair_and_keeps_what_protects() {
    let Some(mut at) = start("fleet-allow") else { return };
    let request = Request::get("/api");
    let warm: usize = (0..2).map(|proxy| at.passing(proxy, 300, &request)).sum();
    if at.is_calm(0) {
        assert!((285..=320).contains(&warm), "the address's 300 over both proxies: {warm}");
    }
    at.stops(&request);
    // What `stops` took of the service's 500 a second is back.
    std::thread::sleep(Duration::from_millis(1_100));
    let passed = at.passing(0, 450, &request);
    assert_eq!(passed, 450, "fairness is skipped");
    std::thread::sleep(Duration::from_millis(1_100));
    let started = std::time::Instant::now();
    let answers = at.fleet.send_to(0, 3_000, 32, &request);
    let most = 500.0 * (1.0 + started.elapsed().as_secs_f64());
    let passed = count(&answers, 200);
    println!("fleet-allow: {passed} of 3000 passed meanwhile in {:?}", started.elapsed());
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let is_bounded = passed as f64 <= most;
    assert!(is_bounded && passed >= 450, "what protects the service is not skipped: {passed}, at most {most}");
    at.comes_back(&request);
    let passed: usize = (0..2).map(|proxy| at.passing(proxy, 400, &request)).sum();
    assert!(passed <= 340, "fair again: {passed}");
    at.fleet.assert_nothing_died();
}
