//! Real traffic through a real Envoy, several thousand times faster than it was recorded: every answer equals what the
//! engine says, run natively over the same requests at the microseconds that the filter decided them for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_engine::table::GivenUp;

use crate::oracle::{Oracle, decided_at, differences};
use crate::proxy::Proxy;
use crate::site_log::{self, Logged};
use crate::wire::{Reply, Wire, request};

/// How long the whole log takes when it is replayed in its own rhythm.
const REPLAY: Duration = Duration::from_secs(40);
/// Connections that the replay takes turns on: enough that both workers get some.
const CONNECTIONS: usize = 16;

fn send(wire: &mut Wire, number: usize, logged: &Logged) -> Reply {
    let headers = [("x-forwarded-for", logged.client.as_str()), ("user-agent", logged.user_agent.as_str())];
    wire.send(&request(&logged.method, &logged.path, &format!("r{number}"), &headers)).unwrap()
}

/// Compares all answers, in the order of the log, with the engine's, and prints the figures.
fn compare(title: &str, proxy: &Proxy, policy: &Value, requests: &[Logged], replies: &[Reply], took: Duration) {
    let log = proxy.log_by_authority(requests.len());
    assert_eq!((replies.len(), log.len()), (requests.len(), requests.len()));
    let mut oracle = Oracle::new(policy);
    let mut limited_by: BTreeMap<String, usize> = BTreeMap::new();
    let (mut allowed, mut mismatches, mut examples) = (0_u64, 0, Vec::new());
    for (number, (logged, reply)) in requests.iter().zip(replies).enumerate() {
        let entry = &log[&format!("r{number}")];
        let lines = [(":method", logged.method.as_str()), (":path", logged.path.as_str())];
        let expected = oracle.decide(&lines, &logged.client, decided_at(entry));
        let mut reply = reply.clone();
        if logged.method == "HEAD" {
            // Its answer has no body; what it would have been, nobody can see.
            reply.body = expected.body.clone().into_bytes();
        }
        let mut differences = differences(&expected, &reply, entry);
        if entry["client"] != logged.client.as_str() {
            differences.push(format!("client: {} sent, {} seen", logged.client, entry["client"]));
        }
        if !differences.is_empty() {
            mismatches += 1;
            examples.push(format!("request {number} {logged:?}: {differences:?}"));
        }
        match (expected.outcome.as_str(), expected.rule) {
            ("limited", Some(rule)) => *limited_by.entry(rule).or_default() += 1,
            _ => allowed += 1,
        }
    }
    examples.truncate(10);
    let limited: usize = limited_by.values().sum();
    println!(
        "{title}: {} requests in {:.1} s, {allowed} allowed, {limited} limited {limited_by:?}, {mismatches} mismatches; \
         connections by worker {:?}",
        requests.len(),
        took.as_secs_f64(),
        proxy.connections_by_worker(),
    );
    assert_eq!(mismatches, 0, "{examples:#?}");
    assert_eq!(oracle.given_up(), GivenUp::default(), "the policy's max_keys is too small for an exact comparison");
    assert_eq!(proxy.metric("table_given_up_total.idle") + proxy.metric("table_given_up_total.limiting"), 0);
    assert_eq!(proxy.metric("requests_total.allowed"), allowed);
    assert_eq!(proxy.metric("requests_total.limited"), limited as u64);
    assert_eq!(proxy.upstream.requests(), allowed);
    assert!(limited > requests.len() / 20 && limited < requests.len() * 3 / 4, "the policy should limit a good part");
    proxy.assert_both_workers_served();
}

/// All scopes and algorithms. A second of the replay is 87 minutes of the log, so windows are short.
fn policy() -> Value {
    json!({
        "version": 1,
        "namespace": "site",
        "headers": "draft11",
        "rules": [
            {"name": "site", "scope": "global", "rate": 160, "window_seconds": 1, "algorithm": "sliding_window"},
            {"name": "client", "scope": "per_ip", "rate": 16, "window_seconds": 2, "burst": 8,
                "algorithm": "token_bucket"},
            {"name": "assets", "scope": "per_endpoint", "rate": 40, "window_seconds": 3, "algorithm": "fixed_window",
                "endpoints": ["/favicon.ico", "/style2.css", "/reset.css", "/images/*"], "priority": 5},
            {"name": "page", "scope": "per_endpoint", "rate": 500, "window_seconds": 1, "algorithm": "leaky_bucket",
                "methods": ["GET"]},
            {"name": "watched", "scope": "per_ip", "rate": 2, "window_seconds": 10, "mode": "shadow"},
        ],
    })
}

#[test]
fn seven_thousand_real_requests_are_answered_as_the_engine_says() {
    let title = "real traffic in strict order";
    let Some(requests) = site_log::read(title) else { return };
    let policy = policy();
    let Some(mut proxy) = Proxy::start(title, &policy) else { return };
    let mut wires: Vec<Wire> = (0..CONNECTIONS).map(|_| Wire::connect(proxy.address())).collect();
    let last = requests.iter().map(|request| request.after_first).max().unwrap();
    let start = Instant::now();
    let mut replies = Vec::with_capacity(requests.len());
    for (number, logged) in requests.iter().enumerate() {
        // The rhythm of the log; that the machine keeps it is not needed for the comparison.
        let due = REPLAY.mul_f64(logged.after_first.as_secs_f64() / last.as_secs_f64());
        thread::sleep(due.saturating_sub(start.elapsed()));
        replies.push(send(&mut wires[number % CONNECTIONS], number, logged));
    }
    let took = start.elapsed();
    assert!(took < last / 10, "slower than ten times as fast as recorded");
    compare(title, &proxy, &policy, &requests, &replies, took);
    proxy.assert_unharmed();
}

/// Both workers at once, as fast as they can: each client stays in one lane, so that its own order is known.
#[test]
fn lanes_of_real_clients_are_answered_as_the_engine_says() {
    const LANES: usize = 8;
    let title = "real traffic in eight lanes";
    let Some(requests) = site_log::read(title) else { return };
    let rule = |name: &str, rate: u64, window: u64, algorithm: &str| json!({"name": name, "scope": "per_ip", "rate": rate, "window_seconds": window, "algorithm": algorithm});
    let policy = json!({"version": 1, "namespace": "lanes", "rules": [
        rule("token", 8, 1, "token_bucket"), rule("sliding", 12, 1, "sliding_window"), rule("fixed", 50, 3600, "fixed_window"),
    ]});
    let Some(mut proxy) = Proxy::start(title, &policy) else { return };
    let address = proxy.address();
    let start = Instant::now();
    let lanes: Vec<_> = (0..LANES).map(|lane| in_lane(&requests, lane, LANES)).collect();
    let threads: Vec<_> = lanes.into_iter().map(|lane| thread::spawn(move || run_lane(address, lane))).collect();
    let replies: BTreeMap<usize, Reply> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let replies: Vec<Reply> = replies.into_values().collect();
    compare(title, &proxy, &policy, &requests, &replies, start.elapsed());
    proxy.assert_unharmed();
}

/// The requests of the clients that belong to a lane, with their numbers in the log.
fn in_lane(requests: &[Logged], lane: usize, lanes: usize) -> Vec<(usize, Logged)> {
    let is_mine = |client: &str| client.bytes().map(usize::from).sum::<usize>() % lanes == lane;
    requests.iter().cloned().enumerate().filter(|(_, logged)| is_mine(&logged.client)).collect()
}

fn run_lane(address: SocketAddr, requests: Vec<(usize, Logged)>) -> Vec<(usize, Reply)> {
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::connect(address)).collect();
    let turn = |number: usize| number % 4;
    requests.into_iter().map(|(number, logged)| (number, send(&mut wires[turn(number)], number, &logged))).collect()
}
