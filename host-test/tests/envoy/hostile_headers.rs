//! Headers that no honest client sends: whatever they hold, the request counts, against the identity that it should.

use serde_json::{Value, json};
use xtask::load::{Client, Request};

use crate::proxy::{Proxy, YEAR, direct};
use crate::wire::{Reply, Wire};

const RATE: u64 = 1_000;

fn policy(from: &Value) -> Value {
    let rule = |name: &str, scope: &str| json!({"name": name, "scope": scope, "rate": RATE, "window_seconds": YEAR});
    json!({
        "version": 1,
        "namespace": "hostile",
        "identity": {"user": [{"header": "x-api-key"}, {"cookie": "session"}], "ip": {"from": from}},
        "rules": [rule("user", "per_user"), rule("address", "per_ip")],
    })
}

/// How many requests the named rule has admitted for whoever sent this one, itself included.
fn used(reply: &Reply, rule: &str) -> u64 {
    assert_eq!(reply.status, 200, "{reply:?}");
    let (_, left) = reply.left().into_iter().find(|(name, _)| *name == rule).unwrap();
    RATE - left
}

/// Requests whose user cannot be told: each counts under its address.
fn without_user() -> Vec<(&'static str, Request)> {
    let get = || Request::get("/direct");
    let every_byte: Vec<u8> = (0x80..=0xff).collect();
    let large = "x".repeat(60_000);
    let many = (0..60).fold(get(), |request, n| request.header(&format!("x-many-{n}"), "y".repeat(1_000)));
    vec![
        ("no user", get()),
        ("not UTF-8", get().header("x-api-key", b"\xff\xfe")),
        ("every byte above ASCII", get().header("x-api-key", &every_byte).header("x-other", &every_byte)),
        ("twice", get().header("x-api-key", "a").header("x-api-key", "b")),
        ("twice the same", get().header("x-api-key", "a").header("x-api-key", "a")),
        ("empty", get().header("x-api-key", "")),
        ("a cookie without value", get().header("cookie", "session")),
        ("a cookie twice", get().header("cookie", "session=a; session=b")),
        ("cookies that are no UTF-8", get().header("cookie", b"\xff=\xfe; session=\xff; \x80")),
        ("60 KB in one header", get().header("x-large", large)),
        ("60 KB in 60 headers", many),
    ]
}

#[test]
fn a_request_whose_user_cannot_be_told_counts_under_its_address() {
    let started = Proxy::start_with("hostile headers", &policy(&json!("connection")), |settings| {
        settings.listeners[0].routes = vec![direct("/")];
    });
    let Some(mut proxy) = started else { return };
    let http1 = Client::http1(proxy.address(), 1).unwrap();
    let http2 = Client::http2(proxy.address(), 1, 1).unwrap();
    let mut sent = 0;
    for (client, address) in [(&http1, "192.0.2.1"), (&http2, "192.0.2.2")] {
        for (n, (what, request)) in (1..).zip(without_user()) {
            let reply: Reply = client.send(&request.header("x-forwarded-for", address)).unwrap().into();
            assert_eq!((used(&reply, "user"), used(&reply, "address")), (n, n), "{what}");
            sent += 1;
        }
    }
    // Ids of 8 KB are told apart by their last byte.
    let id = |last: char| format!("{}{last}", "i".repeat(8_191));
    for (last, expected) in [('a', 1), ('b', 1), ('a', 2)] {
        let request = Request::get("/direct").header("x-api-key", id(last)).header("x-forwarded-for", "192.0.2.3");
        assert_eq!(used(&http1.send(&request).unwrap().into(), "user"), expected);
        sent += 1;
    }
    // A user who is called like an address is not that address.
    for (key, expected) in [(Some("192.0.2.4"), 1), (None, 1), (Some("192.0.2.4"), 2), (None, 2)] {
        let request = Request::get("/direct").header("x-forwarded-for", "192.0.2.4");
        let request = key.iter().fold(request, |request, key| request.header("x-api-key", key));
        assert_eq!(used(&http1.send(&request).unwrap().into(), "user"), expected);
        sent += 1;
    }
    assert_eq!(proxy.metric("requests_total.allowed"), sent);
    println!("hostile headers: {sent} requests, each counted once");
    proxy.assert_unharmed();
}

/// What a client may put into X-Forwarded-For, and whose cell it then counts in: `None` is the peer's.
fn forwarded() -> Vec<(Vec<Vec<u8>>, Option<&'static str>)> {
    let one = |line: &str| vec![line.as_bytes().to_vec()];
    vec![
        (one("1.2.3.4"), Some("1.2.3.4")),
        (one("9.9.9.9, 1.2.3.4"), Some("1.2.3.4")),
        (vec![b"1.2.3.4".to_vec(), b"9.9.9.9".to_vec()], Some("9.9.9.9")),
        (one(&format!("{}1.2.3.4", "9.9.9.9, ".repeat(5_000))), Some("1.2.3.4")),
        (one("::ffff:1.2.3.4"), Some("1.2.3.4")),
        (one("::ffff:102:304"), Some("1.2.3.4")),
        (one("2001:db8::1"), Some("2001:db8::ffff")),
        (one("1.2.3.4, 2001:db8:0:0:dead:beef::7"), Some("2001:db8::ffff")),
        (one("1.2.3.4, x"), None),
        (one("1.2.3.4, 010.0.0.1"), None),
        (one("1.2.3.4, 1.2.3.999"), None),
        (one("1.2.3.4,"), None),
        (one(","), None),
        (one(&",".repeat(5_000)), None),
        (vec![b"1.2.3.4, \xff\xfe".to_vec()], None),
    ]
}

/// Sends every list and compares the cell that it counts in with the cell of the address that it should count as.
fn check_addresses(test: &str, from: &Value, lists: Vec<(Vec<Vec<u8>>, Option<&str>)>) {
    let started = Proxy::start_with(test, &policy(from), |settings| settings.listeners[0].routes = vec![direct("/")]);
    let Some(mut proxy) = started else { return };
    let mut wire = Wire::connect(proxy.address());
    let mut send = |lines: &[Vec<u8>]| {
        let mut bytes = b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec();
        for line in lines {
            bytes.extend_from_slice(&[b"x-forwarded-for: ", line.as_slice(), b"\r\n"].concat());
        }
        used(&wire.send(&[bytes.as_slice(), b"\r\n"].concat()).unwrap(), "address")
    };
    let count = lists.len();
    for (lines, expected) in lists {
        let reference: Vec<Vec<u8>> = expected.iter().map(|address| address.as_bytes().to_vec()).collect();
        let before = send(&reference);
        let used = send(&lines);
        let shown = String::from_utf8_lossy(&lines[0]).chars().take(60).collect::<String>();
        assert_eq!(used, before + 1, "{shown:?} should count as {expected:?}");
    }
    println!("{test}: {count} lists, each counted as the address that it should");
    proxy.assert_unharmed();
}

#[test]
fn the_address_that_envoy_tells_is_the_one_that_counts() {
    // Envoy takes no port here.
    let lists = forwarded().into_iter().chain([(vec![b"1.2.3.4:80".to_vec()], None)]).collect();
    check_addresses("addresses as Envoy tells them", &json!("connection"), lists);
}

/// Envoy appends the peer's address to the header, so the proxy in front stands second from the right.
#[test]
fn an_address_that_the_policy_reads_itself_is_the_nth_from_the_right() {
    let from = json!({"x_forwarded_for": {"trusted_hops": 2}});
    let lists = forwarded().into_iter().chain([(vec![b"x, 1.2.3.4:80".to_vec()], Some("1.2.3.4"))]).collect();
    check_addresses("addresses as X-Forwarded-For has them", &from, lists);
}
