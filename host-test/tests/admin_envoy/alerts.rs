//! An alert in a real Envoy with two workers and a receiver on loopback: one call when it fires, one when it resolves.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::envoy::{Cluster, Envoy, Filter, Plugin, Settings, fetch};
use xtask::load::{Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

/// What the receiver was sent so far.
fn received(receiver: &Upstream) -> Vec<Value> {
    receiver.arrivals().iter().map(|arrival| serde_json::from_slice(&arrival.body).unwrap()).collect()
}

fn policy() -> Value {
    json!({
        "version": 1,
        "namespace": "watched",
        "store": {"type": "local", "max_keys": 1024},
        "rules": [{"name": "none", "scope": "global", "rate": 1, "window_seconds": 86_400}],
        "alerts": [{
            "name": "flood", "when": "rejections_per_second_above", "value": 5, "for_seconds": 2,
            "cooldown_seconds": 600,
            "webhook": {"cluster": "receiver", "authority": "receiver.test", "path": "/alerts?from=tidegate", "token": "t0ken"}
        }],
    })
}

/// Waits until `is_so`, while traffic flows or does not.
fn until(what: &str, seconds: u64, mut step: impl FnMut(), mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "never: {what}");
        step();
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_call_when_it_fires_and_one_when_it_resolves() {
    if !workspace::wasm_file().is_file() {
        return skip::tell("admin_envoy: alerts", "the .wasm is not built; `cargo xtask build` does");
    }
    let (upstream, receiver) = (Upstream::start().unwrap(), Upstream::start().unwrap());
    let filters = vec![Filter::Discovered(Plugin::new(&policy().to_string()))];
    let mut settings = Settings::new(upstream.address(), filters);
    settings.clusters.push(Cluster::new("receiver", receiver.address()));
    let mut envoy = Envoy::start(&fetch::binary(IfMissing::Install).unwrap(), &settings).unwrap();
    let address = envoy.address("main").unwrap();
    let clients: Vec<Client> = (0..16).map(|_| Client::http1(address, 1).unwrap()).collect();
    // 16 requests each 50 ms or more, nearly all refused, over connections that reach both workers.
    let traffic = || clients.iter().for_each(|client| drop(client.send(&Request::get("/"))));
    until("it fires", 30, traffic, || receiver.requests() > 0);
    // It goes on firing for a while, and nothing more is sent.
    let start = Instant::now();
    until("three seconds pass", 30, traffic, || start.elapsed() > Duration::from_secs(3));
    let gauge = |envoy: &Envoy| {
        let text = envoy.prometheus().unwrap();
        let line = text.lines().find(|line| line.starts_with("tidegate_alert_firing{")).unwrap_or_default().to_owned();
        assert!(
            line.contains(r#"tidegate_alert="flood""#) && line.contains(r#"tidegate_namespace="watched""#),
            "{text}"
        );
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(gauge(&envoy), "1");
    assert_eq!(receiver.requests(), 1);
    until("it resolves", 30, || (), || receiver.requests() > 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(gauge(&envoy), "0");
    let sent = received(&receiver);
    assert_eq!(sent.len(), 2, "{sent:#?}");
    assert_eq!((&sent[0]["status"], &sent[1]["status"]), (&json!("firing"), &json!("resolved")));
    assert_eq!(sent[0]["id"], sent[1]["id"]);
    assert!(sent[0]["value"].as_f64().unwrap() > 5.0);
    let arrivals = receiver.arrivals();
    assert_eq!((arrivals[0].method.as_str(), arrivals[0].path.as_str()), ("POST", "/alerts?from=tidegate"));
    assert_eq!(envoy.stat("wasmcustom.tidegate.watched.alerts_sent_total").unwrap(), 2);
    assert_eq!(envoy.stat("wasmcustom.tidegate.watched.alerts_failed_total").unwrap(), 0);
    let lines = envoy.flushed_log_lines().unwrap();
    let told = lines.iter().filter(|line| line.contains(r#""alert":"flood""#)).count();
    assert_eq!(told, 2, "one line for each");
    assert!(!lines.iter().any(|line| line.contains("t0ken")));
    assert!(envoy.is_running());
}
