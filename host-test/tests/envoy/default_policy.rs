//! `policies/default.json` as it ships: 1000 a minute in all, 100 a user, 50 an address, 10 on what is expensive.

use serde_json::{Value, json};
use tidegate_engine::Timestamp;
use xtask::load::{Client, Request};
use xtask::workspace;

use crate::oracle::{Oracle, decided_at, differences};
use crate::proxy::Proxy;
use crate::wire::{Reply, Wire, request};

/// One request as it was sent, and what came back.
struct Sent {
    path: String,
    key: Option<String>,
    address: String,
    reply: Reply,
}

/// Sends requests one at a time, in turn on four HTTP/1 connections and by HTTP/2, so that both workers serve.
struct Sender {
    wires: Vec<Wire>,
    http2: Client,
    sent: Vec<Sent>,
}

impl Sender {
    fn new(proxy: &Proxy) -> Self {
        let wires = (0..12).map(|_| Wire::connect(proxy.address())).collect();
        Self { wires, http2: Client::http2(proxy.address(), 1, 1).unwrap(), sent: Vec::new() }
    }

    fn send(&mut self, path: &str, key: Option<String>, address: String) -> &Reply {
        let number = self.sent.len();
        let authority = format!("r{number}");
        let turn = number % (self.wires.len() + 1);
        let reply = if let Some(wire) = self.wires.get_mut(turn) {
            let mut headers = vec![("x-forwarded-for", address.as_str())];
            headers.extend(key.as_ref().map(|key| ("x-api-key", key.as_str())));
            wire.send(&request("GET", path, &authority, &headers)).unwrap()
        } else {
            let request = Request::get(path).authority(&authority).header("x-forwarded-for", &address);
            let request = key.iter().fold(request, |request, key| request.header("x-api-key", key));
            self.http2.send(&request).unwrap().into()
        };
        self.sent.push(Sent { path: path.into(), key, address, reply });
        &self.sent[number].reply
    }
}

/// The most that a bucket of this many a minute admits between two moments: what it holds, and what flows in.
fn most(per_minute: u64, first: Timestamp, last: Timestamp) -> u64 {
    per_minute + last.since(first).0 * per_minute / 60_000_000
}

#[test]
fn each_limit_of_the_default_policy_holds_and_clients_are_told() {
    let text = std::fs::read_to_string(workspace::default_policy()).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    let Some(mut proxy) = Proxy::start("the default policy", &policy) else { return };
    let mut sender = Sender::new(&proxy);
    let key = |name: &str| Some(name.to_owned());

    for _ in 0..60 {
        sender.send("/", None, "198.51.100.1".into());
    }
    let by_address = 0..sender.sent.len();
    for n in 0..15 {
        sender.send("/api/search?q=1", key("alice"), format!("10.1.0.{n}"));
    }
    let by_endpoint = by_address.end..sender.sent.len();
    for n in 0..110 {
        sender.send("/items", key("bob"), format!("10.2.0.{n}"));
    }
    let by_user = by_endpoint.end..sender.sent.len();
    for n in 0..60 {
        sender.send("/", key(&format!("made-up-{n}")), "198.51.100.2".into());
    }
    let by_address_again = by_user.end..sender.sent.len();
    // Until everybody together is too much; a machine that makes less than 17 a second never gets there.
    for n in 0..20_000 {
        let address = format!("10.3.{}.{}", n / 250, n % 250);
        if sender.send("/", key(&format!("user-{n}")), address).status != 200 {
            break;
        }
    }
    let all = 0..sender.sent.len();

    let sent = &sender.sent;
    let log = proxy.log_by_authority(sent.len());
    let entry = |n: usize| &log[&format!("r{n}")];
    let limits = [
        ("api_per_ip", 50, by_address),
        ("expensive_operations", 10, by_endpoint),
        ("api_per_user", 100, by_user),
        ("api_per_ip", 50, by_address_again),
        ("api_global", 1000, all),
    ];
    for (rule, per_minute, range) in limits {
        let refused = |n: &usize| sent[*n].reply.status == 429 && entry(*n)["rule"] == rule;
        let allowed = range.clone().filter(|n| sent[*n].reply.status == 200).count() as u64;
        let limited = range.clone().filter(refused).count();
        let most = most(per_minute, decided_at(entry(range.start)), decided_at(entry(range.end - 1)));
        println!("{rule}: {} sent, {allowed} allowed (at most {most}), {limited} limited by it", range.len());
        assert!((per_minute..=most).contains(&allowed), "{rule}: {allowed} allowed, {per_minute} to {most} expected");
        assert!(limited > 0, "{rule} never limited");
    }

    let mut oracle = Oracle::new(&policy);
    for (n, one) in sent.iter().enumerate() {
        let mut lines = vec![(":method", "GET"), (":path", one.path.as_str())];
        lines.extend(one.key.as_ref().map(|key| ("x-api-key", key.as_str())));
        let expected = oracle.decide(&lines, &one.address, decided_at(entry(n)));
        let differences = differences(&expected, &one.reply, entry(n));
        assert!(differences.is_empty(), "request {n}: {differences:?}");
    }
    println!("default policy: {} requests, all as the engine says", sent.len());
    proxy.assert_both_workers_served();
    proxy.assert_unharmed();
}

#[test]
fn a_client_of_either_protocol_sees_its_limits_and_its_refusal() {
    let text = std::fs::read_to_string(workspace::default_policy()).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    let Some(proxy) = Proxy::start("what a client sees", &policy) else { return };
    let http1 = Client::http1(proxy.address(), 1).unwrap();
    let http2 = Client::http2(proxy.address(), 1, 1).unwrap();
    for (client, user) in [(http1, "first"), (http2, "second")] {
        let search = Request::get("/api/search").header("x-api-key", user);
        let first: Reply = client.send(&search).unwrap().into();
        assert_eq!(first.status, 200);
        assert_eq!(
            first.header("ratelimit-policy"),
            Some(
                "\"api_global\";q=1000;w=60, \"api_per_user\";q=100;w=60, \"api_per_ip\";q=50;w=60, \
                 \"expensive_operations\";q=10;w=60"
            )
        );
        let left = first.header("ratelimit").unwrap();
        assert!(left.contains("\"api_per_user\";r=99;t=1") && left.ends_with("\"expensive_operations\";r=9;t=6"));

        let refused: Reply = (0..40)
            .map(|_| Reply::from(client.send(&search).unwrap()))
            .find(|reply| reply.status != 200)
            .expect("40 in a row should be more than 10 a minute");
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=6).contains(&retry_after), "a tenth of a minute at most, not {retry_after} s");
        let left = format!("\"expensive_operations\";r=0;t={retry_after}");
        assert_eq!(refused.header("ratelimit"), Some(left.as_str()));
        let problem: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(
            (&problem["status"], &problem["violated-policies"]),
            (&json!(429), &json!(["expensive_operations"]))
        );
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
}
