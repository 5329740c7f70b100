//! A million clients, each seen once: the table stays as large as configured, and who is limited stays limited.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::frames::{Event, Frames};
use crate::proxy::{Proxy, direct};

const DAY: u64 = 24 * 3600;
/// Distinct users, each from an address of its own.
const CLIENTS: u64 = 1_000_000;
/// Connections, enough that both workers get some.
const CONNECTIONS: u64 = 16;
/// How many strangers come between two requests of the limited client.
const BETWEEN: u64 = 1_000;
/// Requests a day for one user, and for one address.
const RATE: u64 = 5;
/// The first of them, who fill the table.
const FIRST: u64 = 100_000;
/// What Envoy may grow by while the table fills: the table's 5.2 MB, and Envoy's own buffers for the flood.
const GROWTH_AT_FIRST: u64 = 48 << 20;
/// What it may grow by while nine times as many come to the full table. One that kept every client would grow by 150 MB.
const GROWTH_AFTER: u64 = 24 << 20;

fn policy() -> Value {
    let rule = |name: &str, scope: &str| json!({"name": name, "scope": scope, "rate": RATE, "window_seconds": DAY});
    json!({
        "version": 1,
        "namespace": "flood",
        "identity": {"user": [{"header": "x-api-key"}]},
        "rules": [rule("user", "per_user"), rule("address", "per_ip")],
    })
}

/// How the answers of one connection fell out.
#[derive(Debug, Default)]
struct Tally {
    strangers_passed: u64,
    /// Requests of the limited user, of the limited address.
    limited_refused: [u64; 2],
    wrong: u64,
}

/// Who sends a request.
#[derive(Clone, Copy)]
enum Client {
    Stranger,
    /// The limited user (0), or somebody at the limited address (1).
    Limited(usize),
}

/// One connection's requests, as (who, key, address): strangers, and after every thousand the limited user from a new
/// address and a new user from the limited address.
fn requests(numbers: Range<u64>) -> impl Iterator<Item = (Client, String, String)> {
    numbers.flat_map(|number| {
        let [_, a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
        let mut list = vec![(Client::Stranger, format!("key-{number}"), format!("11.{a}.{b}.{c}"))];
        if number % BETWEEN == BETWEEN - 1 {
            list.push((Client::Limited(0), "mallory".into(), format!("12.{a}.{b}.{c}")));
            list.push((Client::Limited(1), format!("new-{number}"), "192.0.2.66".into()));
        }
        list
    })
}

/// Sends a connection's requests, so many at once, and judges the answers.
fn flood_connection(address: SocketAddr, numbers: Range<u64>) -> Tally {
    const AT_ONCE: usize = 100;
    let mut frames = Frames::connect(address);
    let mut tally = Tally::default();
    let mut requests = requests(numbers).peekable();
    while requests.peek().is_some() {
        let mut clients = BTreeMap::new();
        for (client, key, from) in requests.by_ref().take(AT_ONCE) {
            clients.insert(send(&mut frames, &key, &from), client);
        }
        frames.flush();
        let mut open = clients.len();
        while open > 0 {
            match frames.event() {
                Event::Status { stream, status } => match (clients[&stream], status) {
                    (Client::Stranger, 200) => tally.strangers_passed += 1,
                    (Client::Limited(which), 429) => tally.limited_refused[which] += 1,
                    _ => tally.wrong += 1,
                },
                Event::End { .. } => open -= 1,
                other => panic!("Envoy says {other:?}"),
            }
        }
    }
    tally
}

/// Sends the requests of these strangers over all connections at once.
fn flood(address: SocketAddr, numbers: Range<u64>) -> Tally {
    let each = (numbers.end - numbers.start).div_ceil(CONNECTIONS);
    let share = |n: u64| {
        let start = numbers.start + n * each;
        start.min(numbers.end)..(start + each).min(numbers.end)
    };
    let threads: Vec<_> =
        (0..CONNECTIONS).map(share).map(|numbers| thread::spawn(move || flood_connection(address, numbers))).collect();
    let mut tally = Tally::default();
    for thread in threads {
        tally.add(&thread.join().unwrap());
    }
    tally
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.strangers_passed += other.strangers_passed;
        self.limited_refused[0] += other.limited_refused[0];
        self.limited_refused[1] += other.limited_refused[1];
        self.wrong += other.wrong;
    }
}

fn send(frames: &mut Frames, key: &str, from: &str) -> u32 {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "f"), (":path", "/")];
    let headers = [pseudo.as_slice(), &[("x-api-key", key), ("x-forwarded-for", from)]].concat();
    frames.request(&headers, true)
}

#[test]
fn a_million_clients_neither_grow_the_table_nor_free_a_limited_one() {
    let policy = policy();
    let started = Proxy::start_with("a million keys", &policy, |settings| {
        settings.listeners[0].routes = vec![direct("/")];
    });
    let Some(mut proxy) = started else { return };
    let address = proxy.address();
    let mut frames = Frames::connect(address);
    for n in 0..RATE {
        for (key, from) in [("mallory", format!("13.0.0.{n}")), (&format!("old-{n}"), "192.0.2.66".into())] {
            let stream = send(&mut frames, key, &from);
            assert_eq!(frames.status(stream), Some(200));
        }
    }
    let rss = || proxy.envoy.resident_bytes().unwrap();
    let (rss_before, start) = (rss(), Instant::now());
    let mut tally = flood(address, 0..FIRST);
    let rss_filled = rss();
    tally.add(&flood(address, FIRST..CLIENTS));
    let (rss_after, took) = (rss(), start.elapsed());

    let [keys, bytes, capacity, idle, limiting] = [
        "table_keys",
        "table_bytes",
        "table_capacity_bytes",
        "table_given_up_total.idle",
        "table_given_up_total.limiting",
    ]
    .map(|name| proxy.metric(name));
    println!(
        "{CLIENTS} users from as many addresses in {:.0} s: RSS {} MB before, {} MB after the first {FIRST}, \
         {} MB at the end; table {keys} keys, {bytes} of {capacity} bytes; given up: {idle} idle, {limiting} limiting; \
         limited user and address refused {:?} times; contended {}; connections by worker {:?}",
        took.as_secs_f64(),
        mega(rss_before),
        mega(rss_filled),
        mega(rss_after),
        tally.limited_refused,
        proxy.metric("contended_total"),
        proxy.connections_by_worker(),
    );
    assert_eq!(tally.wrong, 0);
    assert_eq!(tally.strangers_passed, CLIENTS, "who comes for the first time is let in");
    assert_eq!(tally.limited_refused, [CLIENTS / BETWEEN; 2]);
    assert_eq!(limiting, 0, "no cell was given up that limited somebody");
    assert!(idle > CLIENTS, "two cells a client cannot all have stayed");
    // 65,536 keys by default: 8,192 buckets of 16 entries of 40 bytes.
    assert_eq!(capacity, 8_192 * 16 * 40);
    assert!(
        bytes <= capacity && keys * 40 == bytes && bytes > capacity / 2,
        "{keys} keys, {bytes} of {capacity} bytes"
    );
    assert!(rss_filled < rss_before + GROWTH_AT_FIRST && rss_after < rss_filled + GROWTH_AFTER);
    proxy.assert_both_workers_served();
    proxy.assert_unharmed();
}

/// Whole mebibytes and a tenth, for people.
fn mega(bytes: u64) -> String {
    let tenths = (bytes * 10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}
