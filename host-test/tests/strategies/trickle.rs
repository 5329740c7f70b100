//! Request bodies that come a byte a second: what a thousand of them keep, and for how long.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use xtask::load::Request;

use crate::bench::{Bodies, alone, policy, serve_with, within};
use crate::raw_http2::Connection;

const CONNECTIONS: u32 = 20;
const STREAMS: u32 = 50;

#[test]
fn a_thousand_bodies_that_trickle_keep_the_queue_for_half_a_minute_and_nothing_else() {
    let _alone = alone();
    let count = CONNECTIONS * STREAMS;
    // The last of them find no room.
    let rules = json!([{"name": "jobs", "scope": "per_user", "rate": 1, "window_seconds": 1, "burst": 1,
        "endpoints": ["/jobs"], "strategy":
        {"type": "queue", "cluster": "upstream", "authority": "jobs.test", "max_queued": count - 100}}]);
    let one_worker = |settings: &mut xtask::envoy::Settings| settings.concurrency = 1;
    let Some(mut bench) = serve_with("trickle", &policy(rules), Bodies::Seen, one_worker) else { return };
    let client = bench.http1(4);
    let post = |user: &str| client.send(&Request::new("POST", "/jobs").header("x-user", user).body("work")).unwrap();
    assert_eq!(post("slow").status, 200);
    let before = bench.envoy.resident_bytes().unwrap();

    let started = Instant::now();
    let mut connections: Vec<Connection> = (0..CONNECTIONS).map(|_| Connection::open(bench.address())).collect();
    let streams = || (0..STREAMS).map(|number| number * 2 + 1);
    for connection in &mut connections {
        streams().for_each(|stream| connection.request(stream, "POST", "/jobs", "slow"));
    }
    assert!(within(Duration::from_secs(10), || bench.count("requests_total.limited") >= 90), "the queue is full");
    let mut others = Vec::new();
    while started.elapsed() < Duration::from_secs(25) {
        for connection in &mut connections {
            streams().for_each(|stream| connection.data(stream, b"x", false));
        }
        // Somebody else's first request passes, and its second finds the queue full.
        let user = format!("other-{}", others.len());
        others.push((post(&user).status, post(&user).status, client.send(&Request::get("/else")).unwrap().status));
        sleep(Duration::from_secs(1));
    }
    assert!(others.iter().all(|seen| *seen == (200, 429, 200)), "{others:?}");
    let grown = bench.envoy.resident_bytes().unwrap().saturating_sub(before) >> 20;
    println!("trickle: {count} POSTs at a byte a second for 25 s, Envoy grew by {grown} MB");
    assert!(grown < 100, "{grown} MB");

    let is_free = within(Duration::from_secs(20), || {
        let user = format!("later-{}", started.elapsed().as_millis());
        post(&user);
        post(&user).status == 202
    });
    println!("trickle: the queue was free again after {:.1?}", started.elapsed());
    assert!(is_free, "the bodies had 30 s");
    assert!(started.elapsed() > Duration::from_secs(29));
    let arrivals = bench.upstream.arrivals();
    let of_slow = arrivals.iter().filter(|one| one.headers.get("x-user").is_some_and(|user| user == "slow")).count();
    assert!(of_slow < 10, "{of_slow} went on, which the rule admitted while they came");
    drop(connections);
    bench.wait_for("queue_waiting.jobs", 0);
    bench.assert_nothing_died();
}
