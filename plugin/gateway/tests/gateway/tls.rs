//! TLS on both sides: a Redis with a certificate, and HTTPS; wrong authorities, names and dates are refused.
//! Not here: certificates on disk that stay; each test makes its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::authority::{Authority, redis_with};
use crate::http::{Gateway, TOKEN};
use crate::servers::Redis;
use crate::skip;

#[test]
fn a_redis_with_tls_is_verified() {
    if !skip::has("redis with TLS", &["redis-server"]) {
        return;
    }
    let (ours, other) = (Authority::new(), Authority::new());
    let good = ours.sign("localhost", 2100);
    let (port, _redis) = redis_with(&good, &ours.file(), "no");
    let url = format!("rediss://localhost:{port}");
    let ca = ours.file();
    let answer = |url: &str, ca: &Path| {
        let gateway = Gateway::start(url, &["--redis-ca", ca.to_str().unwrap()]);
        std::thread::sleep(Duration::from_millis(300));
        (gateway.call(&json!(["PING"])).0, gateway.log())
    };
    assert_eq!(answer(&url, &ca).0, 200);
    let (status, log) = answer(&url, &other.file());
    assert_eq!(status, 503, "wrong authority: {log}");
    assert!(log.contains("certificate"), "{log}");
    assert_eq!(answer(&format!("rediss://127.0.0.1:{port}"), &ca).0, 503, "wrong name");
    let system = Gateway::start(&url, &[]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(system.call(&json!(["PING"])).0, 503, "the system's authorities do not know ours");
    let (port, _redis) = redis_with(&ours.sign("localhost", 2021), &ca, "no");
    let (status, log) = answer(&format!("rediss://localhost:{port}"), &ca);
    assert_eq!(status, 503, "wrong date: {log}");
}

#[test]
fn a_redis_that_asks_for_client_certificates() {
    if !skip::has("redis with mutual TLS", &["redis-server"]) {
        return;
    }
    let ours = Authority::new();
    let (port, _redis) = redis_with(&ours.sign("localhost", 2100), &ours.file(), "yes");
    let (url, client, ca) = (format!("rediss://localhost:{port}"), ours.sign("client", 2100), ours.file());
    let flags = ["--redis-ca", ca.to_str().unwrap(), "--redis-cert", client.cert.to_str().unwrap()];
    let with = Gateway::start(&url, &[&flags[..], &["--redis-key", client.key.to_str().unwrap()]].concat());
    assert_eq!(with.call(&json!(["PING"])).0, 200);
    let without = Gateway::start(&url, &flags[..2]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(without.call(&json!(["PING"])).0, 503);
}

#[test]
fn https_with_http1_and_http2() {
    if !skip::has("HTTPS", &["redis-server", "curl"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let ours = Authority::new();
    let (identity, ca) = (ours.sign("localhost", 2100), ours.file());
    let flags = ["--tls-cert", identity.cert.to_str().unwrap(), "--tls-key", identity.key.to_str().unwrap()];
    let gateway = Gateway::start(&redis.url(), &flags);
    let port = gateway.address.rsplit_once(':').unwrap().1;
    let curl = |version: &str, ca: &Path| {
        let out = std::process::Command::new("curl")
            .args(["-sS", version, "--cacert", ca.to_str().unwrap(), "-w", " %{http_version}", "-d", "[\"PING\"]"])
            .args(["-H", &format!("Authorization: Bearer {TOKEN}"), &format!("https://localhost:{port}/")])
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(curl("--http1.1", &ca), "{\"result\":\"PONG\"} 1.1");
    assert_eq!(curl("--http2", &ca), "{\"result\":\"PONG\"} 2");
    assert_eq!(curl("--http1.1", &Authority::new().file()).trim(), "0", "a caller that does not know our authority");
    let mut plain = gateway.client();
    plain.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(plain.read().is_err(), "no plain HTTP on the TLS port");
    // Somebody who connects and says nothing takes nobody's place.
    let silent = Arc::new(std::net::TcpStream::connect(&gateway.address).unwrap());
    assert_eq!(curl("--http1.1", &ca), "{\"result\":\"PONG\"} 1.1");
    drop(silent);
    let (status, log) = Gateway::run(&redis.url(), &["--tls-cert", "/dev/null", "--tls-key", flags[3]]);
    assert_eq!(status, Some(2), "{log}");
}
