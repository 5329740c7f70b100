//! Limits on bodies, batches, concurrency and time.
//! Not here: a Redis that does not answer (`outage`), the end (`ending`).

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::{Gateway, TOKEN};
use crate::process::wait_for;
use crate::servers::Redis;
use crate::skip;

/// Holds Redis for about `ms` milliseconds.
pub(crate) fn busy(ms: u32) -> serde_json::Value {
    let script = "local t = redis.call('TIME') local stop = t[1] * 1000 + t[2] / 1000 + ARGV[1] \
                  repeat t = redis.call('TIME') until t[1] * 1000 + t[2] / 1000 > stop return 'done'";
    json!(["EVAL", script, 0, ms])
}

#[test]
fn bodies_and_batches_have_a_limit() {
    if !skip::has("bodies", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--max-body-bytes", "70000", "--max-pipeline", "3"]);
    let mut client = gateway.client();
    let id = "x".repeat(60_000);
    assert_eq!(client.call(&json!(["ECHO", id])), (200, json!({"result": id})), "a 60 KB argument passes");
    let large = json!(["ECHO", "x".repeat(70_000)]).to_string();
    let response = gateway.client().send("POST", "/", &[], large.as_bytes());
    // The gateway may close before all is sent; then there is no answer to read.
    assert!(response.is_err() || response.is_ok_and(|response| response.status == 413));
    let head =
        format!("POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut chunked = gateway.client();
    chunked.write(head.as_bytes()).unwrap();
    chunked.write(format!("{:x}\r\n{}\r\n0\r\n\r\n", large.len(), large).as_bytes()).unwrap();
    assert_eq!(chunked.read().unwrap().status, 413);
    let response = client.post("/pipeline", &json!([["PING"], ["PING"], ["PING"], ["PING"]]));
    assert_eq!(response.status, 400);
    assert!(response.json()["error"].as_str().unwrap().contains("at most 3"));
    assert_eq!(gateway.call(&json!(["PING"])).0, 200);
}

#[test]
fn a_body_that_trickles_is_given_up() {
    if !skip::has("slow body", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let mut client = gateway.client();
    let started = Instant::now();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n[");
    client.write(head.as_bytes()).unwrap();
    assert_eq!(client.read().unwrap().status, 408);
    assert!((4..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[test]
fn requests_beyond_the_limit_are_refused_at_once() {
    if !skip::has("concurrency", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let flags = ["--max-in-flight", "1", "--allow-scripts", "--timeout-ms", "5000"];
    let gateway = Gateway::start(&redis.url(), &flags);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| gateway.call(&busy(600)));
        std::thread::sleep(Duration::from_millis(200));
        let started = Instant::now();
        let (status, answer) = gateway.call(&json!(["PING"]));
        assert_eq!(status, 503);
        assert!(answer["error"].as_str().unwrap().starts_with("OVERLOADED"));
        assert!(started.elapsed() < Duration::from_millis(200));
        assert_eq!(slow.join().unwrap(), (200, json!({"result": "done"})));
    });
    assert_eq!(gateway.call(&json!(["PING"])).0, 200);
}

#[test]
fn five_thousand_at_once_are_all_answered() {
    if !skip::has("5,000 at once", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--max-in-flight", "8192", "--timeout-ms", "20000"]);
    // One connection with all requests written before any answer is read would wait in the kernel; 50 with 100 each do
    // the same to the gateway.
    let mut clients: Vec<_> = (0..50).map(|_| gateway.client()).collect();
    std::thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                for index in 0..100 {
                    let body = json!(["ECHO", format!("{number}-{index}")]).to_string();
                    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n");
                    client.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
                }
            });
        }
    });
    // Answers are small, so none is read together with the next one only if they are read one by one: count them.
    let mut answered = 0;
    for client in &mut clients {
        answered += client.drain(100);
    }
    assert_eq!(answered, 5_000);
}

#[test]
fn bodies_held_at_once_have_a_limit() {
    if !skip::has("bodies at once", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--max-body-memory", "2000000"]);
    let head =
        format!("POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000000\r\n\r\n");
    // Half-sent bodies of 900,000 bytes: two have room, a third has not.
    let mut half: Vec<_> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut half {
        client.write(head.as_bytes()).unwrap();
        client.write(&vec![b' '; 900_000]).unwrap();
    }
    let mut third = gateway.client();
    let answer = wait_for("a refusal", Duration::from_secs(4), || {
        let (status, answer) = third.call(&json!(["ECHO", "x".repeat(300_000)]));
        (status != 200).then_some((status, answer))
    });
    assert_eq!(answer.0, 503, "{answer:?}");
    assert!(answer.1["error"].as_str().unwrap().starts_with("OVERLOADED "), "{answer:?}");
    assert_eq!(gateway.call(&json!(["PING"])).0, 200, "small ones still have room");
    drop(half);
    wait_for("room", Duration::from_secs(4), || {
        (gateway.call(&json!(["ECHO", "x".repeat(300_000)])).0 == 200).then_some(())
    });
}

#[test]
fn a_caller_that_leaves_is_counted() {
    if !skip::has("abandoned requests", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts"]);
    assert_eq!(gateway.client().hurried(&busy(250), Duration::from_millis(150)), None);
    wait_for("its count", Duration::from_secs(5), || {
        let metrics = gateway.client().send("GET", "/metrics", &[], b"").unwrap().body;
        let metrics = String::from_utf8(metrics).unwrap();
        let has = |line: &str| metrics.lines().any(|found| found == line);
        (has("tidegate_gateway_requests_total{result=\"abandoned\"} 1")
            && has("tidegate_gateway_latency_seconds_count 1"))
        .then_some(())
    });
}

#[test]
fn a_caller_that_never_reads_is_closed() {
    if !skip::has("a caller that never reads", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let questions = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
    wait_for("its end", Duration::from_secs(40), || match stream.write_all(&questions) {
        Ok(()) => None,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => Some(()),
    });
}
