//! How the gateway ends: requests in flight finish, nobody else can hold it up, and a second signal is the last word.
//! Not here: limits while it runs (`bounds`).

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::bounds::busy;
use crate::http::{Client, Gateway, TOKEN};
use crate::process::{Process, free_port, wait_for};
use crate::servers::Redis;
use crate::skip;

/// How long the gateway takes to end, with status 0.
fn end(gateway: &mut Gateway) -> Duration {
    let began = Instant::now();
    let status = wait_for("the end", Duration::from_secs(20), || gateway.process.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    began.elapsed()
}

#[test]
fn sigterm_lets_requests_in_flight_finish() {
    if !skip::has("graceful end", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let mut gateway = Gateway::start(&redis.url(), &["--allow-scripts", "--timeout-ms", "5000"]);
    let mut slow = gateway.client();
    let mut idle = gateway.client();
    assert_eq!(idle.call(&json!(["PING"])).0, 200);
    let body = busy(800).to_string();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n");
    slow.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    gateway.process.signal(Signal::TERM);
    let response = slow.read().unwrap();
    assert_eq!(response.json(), json!({"result": "done"}));
    assert!(end(&mut gateway) < Duration::from_secs(3));
    assert!(gateway.client().send("GET", "/healthz", &[], b"").is_err(), "nobody listens any more");
    assert!(gateway.log().contains("\"stopped\""));
}

#[test]
fn it_runs_until_it_is_told_whatever_it_logs() {
    if !skip::has("log levels", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    for level in ["error", "warn", "info"] {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-gateway"));
        command.env_clear().args(["--redis", &redis.url(), "--listen", &address, "--log-level", level]);
        let mut gateway = Process::start(command.stderr(Stdio::null()));
        wait_for("the gateway", Duration::from_secs(20), || TcpStream::connect(&address).ok());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(Client::to(address).call(&json!(["PING"])), (200, json!({"result": "PONG"})), "{level}");
        gateway.signal(Signal::TERM);
        let status = wait_for("the end", Duration::from_secs(10), || gateway.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{level}");
    }
}

#[test]
fn whoever_has_not_asked_yet_does_not_hold_it_up() {
    if !skip::has("an end with silent connections", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    for beginning in ["", "P", "POST / HTTP/1.1\r\nHost: ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut gateway = Gateway::start(&redis.url(), &["--drain-ms", "15000"]);
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.write_all(beginning.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        gateway.process.signal(Signal::TERM);
        let took = end(&mut gateway);
        assert!(took < Duration::from_secs(3), "{beginning:?} held it up for {took:?}");
        assert!(!gateway.log().contains("still open"), "{}", gateway.log());
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    if !skip::has("a second signal", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let mut gateway = Gateway::start(&redis.url(), &["--drain-ms", "15000"]);
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n[");
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    gateway.process.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    assert!(gateway.process.0.try_wait().unwrap().is_none(), "a body on its way is waited for");
    gateway.process.signal(Signal::INT);
    let took = end(&mut gateway);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(gateway.log().contains("again: stopped at once"), "{}", gateway.log());
}
