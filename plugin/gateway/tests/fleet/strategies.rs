//! What becomes of a limited request, where Redis counted: held, taken as a job, degraded, as with the proxy's own
//! counters; and of what a client was charged that did not wait for the answer. Not here: the strategies themselves
//! (`host-test`).

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use xtask::load::Request;

use crate::http::Gateway;
use crate::process::wait_for;
use crate::proxies::{Fleet, YEAR, count, counted, policy};
use crate::servers::Redis;
use crate::skip;

struct Parts {
    fleet: Fleet,
    redis: Redis,
    _gateway: Gateway,
}

#[expect(clippy::needless_pass_by_value, reason = "calls then read like the policy")]
fn start(test: &str, rule: Value) -> Option<Parts> {
    if !skip::has(test, &["redis-server"]) {
        return None;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--timeout-ms", "5000"]);
    let policy = policy(json!({"timeout_ms": 5000, "mode": "exact"}), json!([rule]));
    let fleet = Fleet::start(test, 2, &gateway.address, &policy)?;
    Some(Parts { fleet, redis, _gateway: gateway })
}

#[test]
fn throttled_requests_of_two_proxies_keep_one_pace() {
    let rule = json!({
        "name": "all", "scope": "global", "rate": 20, "window_seconds": 1, "burst": 40, "algorithm": "leaky_bucket",
        "strategy": {"type": "throttle", "max_delay_ms": 5000, "max_waiting": 500, "max_waiting_per_key": 500}
    });
    let Some(mut parts) = start("fleet, throttle", rule) else { return };
    let fleet = &mut parts.fleet;
    let answers = fleet.send(40, 20, &Request::get("/"));
    assert_eq!(count(&answers, 200), 40);
    let times: Vec<_> = fleet.upstream.arrivals().into_iter().map(|arrival| arrival.time).collect();
    let all = times.iter().max().unwrap().duration_since(*times.iter().min().unwrap()).unwrap();
    println!("fleet, throttle: 40 requests over {all:?}, 1.95 s by the limit");
    // One every 50 ms over both proxies. Each is held no shorter than its time; the first may be late.
    assert!(all > Duration::from_millis(1_800), "{all:?}");
    assert_eq!(fleet.count("store_calls_total.failed"), 0);
    fleet.assert_nothing_died();
}

#[test]
fn queued_requests_keep_the_bodies_that_came_while_redis_was_asked() {
    let rule = json!({
        "name": "all", "scope": "per_user", "rate": 20, "window_seconds": 1, "burst": 1,
        "strategy": {
            "type": "queue", "cluster": "upstream", "authority": "jobs", "max_queued": 100, "max_body_bytes": 65536,
            "max_attempts": 3, "backoff_ms": 100, "timeout_ms": 5000, "max_wait_seconds": 60, "result_ttl_seconds": 60
        }
    });
    let Some(mut parts) = start("fleet, queue", rule) else { return };
    let fleet = &mut parts.fleet;
    let body: Vec<u8> = (0..40_000_u32).map(|number| b'a' + u8::try_from(number % 23).unwrap()).collect();
    let request = Request::new("POST", "/reports").header("x-user", "alice").body(body.clone());
    let answers = fleet.send(20, 10, &request);
    let (passed, taken) = (count(&answers, 200), count(&answers, 202));
    println!("fleet, queue: {passed} passed at once, {taken} taken as jobs");
    assert_eq!(passed + taken, 20);
    assert!(taken > 5, "{taken}");
    wait_for("all jobs", Duration::from_secs(20), || (fleet.upstream.requests() >= 20).then_some(()));
    let arrivals = fleet.upstream.arrivals();
    let sizes: Vec<usize> = arrivals.iter().map(|arrival| arrival.body.len()).collect();
    assert_eq!(sizes, [40_000; 20], "whole, and once");
    assert!(arrivals.iter().all(|arrival| arrival.body == body));
    fleet.assert_nothing_died();
}

#[test]
fn degraded_requests_have_one_ceiling() {
    let rule = json!({
        "name": "all", "scope": "global", "rate": 10, "window_seconds": YEAR, "algorithm": "fixed_window",
        "strategy": {"type": "graceful", "respond": {"status": 203, "body": {"less": true}}, "ceiling": 3.0}
    });
    let Some(mut parts) = start("fleet, graceful", rule) else { return };
    let fleet = &mut parts.fleet;
    let answers = fleet.send(80, 8, &Request::get("/"));
    assert_eq!([200, 203, 429].map(|status| count(&answers, status)), [10, 20, 50]);
    fleet.assert_nothing_died();
}

#[test]
fn who_leaves_while_redis_is_asked_gets_the_charge_back() {
    let rule =
        json!({"name": "all", "scope": "global", "rate": 100, "window_seconds": YEAR, "algorithm": "fixed_window"});
    let Some(mut parts) = start("fleet, leaving", rule) else { return };
    let fleet = &mut parts.fleet;
    assert_eq!(fleet.send(2, 1, &Request::get("/")).len(), 2);
    parts.redis.process.signal(Signal::STOP);
    let address = fleet.envoys[0].address("main").unwrap();
    for _ in 0..6 {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        // Long enough to be read and asked for; then its client is gone.
        std::thread::sleep(Duration::from_millis(100));
    }
    parts.redis.process.signal(Signal::CONT);
    wait_for("answers to nobody", Duration::from_secs(10), || {
        (fleet.count("store_calls_total.answered") >= 8).then_some(())
    });
    wait_for("the charges' return", Duration::from_secs(5), || (counted(&[&parts.redis], "all") == 2).then_some(()));
    // Charged twice by the two that stayed, and by the answers to the six; their refunds are calls of their own.
    assert!(parts.redis.calls("evalsha") >= 8 + 6, "{}", parts.redis.calls("evalsha"));
    assert_eq!(fleet.upstream.requests(), 2, "nobody's request is sent on");
    fleet.assert_nothing_died();
}
