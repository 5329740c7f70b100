//! Clients that leave while their requests are held free their places at once, and give back what they had reserved.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use xtask::envoy::Settings;
use xtask::load::Request;

use crate::bench::{Bench, Bodies, policy, serve, serve_with, within};
use crate::raw_http2::Connection;

const MINUTE: u64 = 60_000;

/// A request by hand, on a connection of its own.
fn ask(bench: &Bench, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(bench.address()).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).unwrap();
    stream
}

#[test]
fn who_leaves_frees_its_place_and_gives_back_its_slot() {
    let rules = json!([{"name": "slow", "scope": "global", "rate": 1, "window_seconds": 2, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": MINUTE, "max_waiting": 1, "max_waiting_per_key": 1}}]);
    // One worker, which holds one request.
    let one = |settings: &mut Settings| settings.concurrency = 1;
    let Some(mut bench) = serve_with("throttle, clients that leave", &policy(rules), Bodies::Unseen, one) else {
        return;
    };
    let client = bench.http1(1);
    assert_eq!(client.send(&Request::get("/first")).unwrap().status, 200);
    for n in 1..=4 {
        let held = ask(&bench, "/held");
        bench.wait_for("waiting", 1);
        assert_eq!(client.send(&Request::get("/no-room")).unwrap().status, 429);
        drop(held);
        bench.wait_for("waiting", 0);
        bench.wait_for("abandoned_total", n);
    }
    // Four slots of two seconds each are free again: who comes now waits for the first request's alone.
    let after = client.send(&Request::get("/after")).unwrap();
    println!("throttle, after four clients with slots of 2 s left one by one: the next waited {:.2?}", after.took);
    assert_eq!(after.status, 200);
    assert!(after.took < Duration::from_millis(2_500), "{:?}", after.took);
    let arrived: Vec<String> = bench.upstream.arrivals().into_iter().map(|arrival| arrival.path).collect();
    assert_eq!(arrived, ["/first", "/after"]);
    bench.assert_nothing_died();
}

#[test]
fn a_slot_that_others_were_promised_behind_is_forfeited() {
    let rules = json!([{"name": "slow", "scope": "global", "rate": 2, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": MINUTE}}]);
    let Some(mut bench) = serve("throttle, forfeited slots", &policy(rules), Bodies::Unseen) else { return };
    let mut asked: Vec<TcpStream> = Vec::new();
    for n in 0..6 {
        asked.push(ask(&bench, "/"));
        assert!(within(Duration::from_secs(5), || bench.count("requests_total.delayed") == n));
    }
    drop(asked);
    bench.wait_for("abandoned_total", 5);
    let after = bench.http1(1).send(&Request::get("/after")).unwrap();
    println!("throttle, after five clients with slots of 0.5 s left together: the next waited {:.2?}", after.took);
    // At most the five slots, as if they had been used; at least the first request's own.
    assert_eq!(after.status, 200);
    assert!(after.took < Duration::from_secs(4), "{:?}", after.took);
    bench.assert_nothing_died();
}

#[test]
fn who_leaves_from_the_middle_of_the_line_leaves_the_others_their_moments() {
    let rules = json!([{"name": "slow", "scope": "global", "rate": 4, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": MINUTE}}]);
    let Some(mut bench) = serve("throttle, leaving the middle", &policy(rules), Bodies::Unseen) else { return };
    let mut asked: Vec<TcpStream> = Vec::new();
    for n in 0..8 {
        asked.push(ask(&bench, &format!("/{n}")));
        sleep(Duration::from_millis(5));
    }
    bench.wait_for("waiting", 7);
    drop(asked.remove(6));
    drop(asked.remove(5));
    bench.wait_for("abandoned_total", 2);
    bench.wait_for("waiting", 0);
    // Who is let go stops waiting a moment before the upstream sees it.
    within(Duration::from_secs(5), || bench.upstream.arrivals().len() >= 6);
    let mut arrived: Vec<String> = bench.upstream.arrivals().into_iter().map(|arrival| arrival.path).collect();
    arrived.sort();
    assert_eq!(arrived, ["/0", "/1", "/2", "/3", "/4", "/7"]);
    bench.assert_nothing_died();
}

#[test]
fn ten_thousand_requests_reset_at_once_leave_nothing() {
    let rules = json!([{"name": "slow", "scope": "per_user", "rate": 1, "window_seconds": 60, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": 120_000, "max_waiting": 300, "max_waiting_per_key": 2}}]);
    let Some(mut bench) = serve("throttle, resets", &policy(rules), Bodies::Unseen) else { return };
    let all = |bench: &Bench| {
        ["allowed", "delayed", "limited"].map(|outcome| bench.count(&format!("requests_total.{outcome}")))
    };
    let mut left = Vec::new();
    for round in 1..=4 {
        // Envoy ends a connection after 500 early resets.
        for connection_number in 0..50 {
            let mut connection = Connection::open(bench.address());
            for n in 0..200 {
                let stream = n * 2 + 1;
                connection.request(stream, "GET", "/", &format!("user-{}", (connection_number * 200 + n) % 97));
                connection.reset(stream);
            }
        }
        let all_came = || all(&bench).iter().sum::<u64>() == round * 10_000;
        assert!(within(Duration::from_secs(20), all_came), "{:?}", all(&bench));
        bench.wait_for("waiting", 0);
        left.push(bench.left_bytes());
    }
    let counts = all(&bench);
    let abandoned = bench.count("abandoned_total");
    println!(
        "throttle, four times 10,000 requests reset at once: allowed, held, refused {counts:?}, {abandoned} gave their \
         place back, Envoy has {left:?} bytes after each"
    );
    assert_eq!(counts[1], abandoned, "nobody who waited is left");
    // Nobody may have been let through more often than its rate: 97 users, once a minute.
    assert!(counts[0] <= 97 * 2, "{counts:?}");
    assert!(left[3] < left[0] + (1 << 20), "35 bytes a request: {left:?}");
    bench.assert_nothing_died();
}
