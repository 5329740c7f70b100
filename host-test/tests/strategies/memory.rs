//! What a held request costs in memory, and that all of it is free again when the clients leave.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::bench::{Bench, Bodies, alone, policy, serve};
use crate::raw_http2::Connection;

const HELD: u32 = 1_000;

/// Asks so often over HTTP/1, each on a connection of its own, with a body of this length.
fn ask_http1(bench: &Bench, length: usize) -> Vec<TcpStream> {
    let ask = |_| {
        let mut stream = TcpStream::connect(bench.address()).unwrap();
        let method = if length == 0 { "GET" } else { "POST" };
        let head = format!("{method} / HTTP/1.1\r\nHost: t\r\nx-user: held\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; length]).unwrap();
        stream
    };
    (0..=HELD).map(ask).collect()
}

/// The same over ten connections of HTTP/2.
fn ask_http2(bench: &Bench, length: usize) -> Vec<Connection> {
    let mut connections: Vec<Connection> = (0..10).map(|_| Connection::open(bench.address())).collect();
    for n in 0..=HELD {
        let stream = n / 10 * 2 + 1;
        let connection = &mut connections[n as usize % 10];
        connection.request(stream, if length == 0 { "GET" } else { "POST" }, "/", "held");
        if length > 0 {
            connection.data(stream, &vec![b'x'; length], true);
        }
    }
    connections
}

/// What Envoy allocates for each of a thousand requests that are held until their clients leave, and may at most.
fn measure<C>(what: &str, length: usize, most: u64, ask: impl Fn(&Bench, usize) -> Vec<C>) {
    // One in 0.6 s: none but the first passes while this is measured.
    let rules = json!([{"name": "held", "scope": "per_user", "rate": HELD, "window_seconds": 600, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": 600_000, "max_waiting": 5_000, "max_waiting_per_key": 5_000}}]);
    let Some(mut bench) = serve("throttle, memory", &policy(rules), Bodies::Unseen) else { return };
    let before = bench.envoy.allocated_bytes().unwrap();
    let clients = ask(&bench, length);
    bench.wait_for("waiting", HELD.into());
    // What is sent of a body comes after its headers.
    sleep(Duration::from_millis(500));
    let bytes = bench.envoy.allocated_bytes().unwrap().saturating_sub(before) / u64::from(HELD);
    drop(clients);
    bench.wait_for("waiting", 0);
    println!("throttle, memory: {bytes} bytes for each of {HELD} held {what}");
    assert!(bytes < most, "{bytes} bytes");
    bench.assert_nothing_died();
}

#[test]
fn a_held_request_costs_some_kilobytes() {
    let _alone = alone();
    measure("GETs over HTTP/1", 0, 35_000, ask_http1);
    measure("GETs over HTTP/2", 0, 20_000, ask_http2);
    measure("POSTs of 10 KB over HTTP/1", 10_240, 60_000, ask_http1);
    measure("POSTs of 10 KB over HTTP/2", 10_240, 40_000, ask_http2);
}
