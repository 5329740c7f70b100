//! Held requests with bodies arrive whole: HTTP/1 and HTTP/2, whether or not the plugin sees bodies.

use std::time::Duration;

use serde_json::json;
use xtask::envoy::fetch::hex_sha256;
use xtask::load::{Client, Request};

use crate::bench::{Bench, Bodies, alone, policy, send, serve};

const MB: usize = 1 << 20;

/// Bytes that differ from body to body and from place to place.
fn body(number: usize, length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..9_973).map(|at| (at * 31 + (at >> 9) + number * 7) as u8).collect();
    let mut body = block.repeat(length / block.len() + 1);
    body.truncate(length);
    body
}

fn arrive_whole(bench: &Bench, client: &Client, count: usize, length: usize) {
    let bodies: Vec<Vec<u8>> = (0..count).map(|number| body(number, length)).collect();
    let requests = bodies.iter().map(|body| Request::new("POST", "/upload").body(body.clone()));
    let before = bench.envoy.resident_bytes().unwrap();
    let delayed = bench.count("requests_total.delayed");
    let answers = send(client, requests);
    for (answer, body) in answers.iter().zip(&bodies) {
        assert_eq!(answer.status, 200);
        let got = answer.json().unwrap();
        assert_eq!((&got["method"], &got["body_bytes"]), (&json!("POST"), &json!(length)));
        assert_eq!(got["body_sha256"], json!(hex_sha256(body)));
    }
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or(Duration::ZERO);
    println!(
        "  {count} POSTs of {} MB: {} of them held, the slowest took {slowest:.1?}, Envoy grew by {} MB",
        length / MB,
        bench.count("requests_total.delayed") - delayed,
        bench.envoy.resident_bytes().unwrap().saturating_sub(before) / (1 << 20),
    );
    // Those that a slow client sends late find their moment come.
    assert!(bench.count("requests_total.delayed") - delayed >= count as u64 / 3, "they were held");
}

fn every_size_and_protocol(bodies: Bodies) {
    let _alone = alone();
    let rules = json!([{"name": "uploads", "scope": "global", "rate": 20, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": 20_000}}]);
    let Some(mut bench) = serve("throttle, bodies", &policy(rules), bodies) else { return };
    println!("throttle, request bodies, {bodies:?} by the plugin:");
    arrive_whole(&bench, &bench.http1(20), 20, MB);
    arrive_whole(&bench, &bench.http2(20), 20, MB);
    // Three at once, of which at least two wait.
    arrive_whole(&bench, &bench.http1(3), 3, 50 * MB);
    assert_eq!(bench.count("waiting"), 0);
    bench.assert_nothing_died();
}

#[test]
fn bodies_that_the_plugin_does_not_see() {
    every_size_and_protocol(Bodies::Unseen);
}

#[test]
fn bodies_that_the_plugin_sees() {
    every_size_and_protocol(Bodies::Seen);
}
