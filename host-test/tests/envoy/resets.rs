//! Requests that are given up as soon as they are made (CVE-2023-44487, "rapid reset"): nothing is left behind, and
//! none passes above the limit.

use serde_json::json;
use xtask::load::{Client, Request};

use crate::frames::Frames;
use crate::proxy::{Proxy, eventually};

const LIMIT: u64 = 100;
const RESETS: u64 = 10_000;
/// Envoy closes a connection after 500 early resets.
const EACH: u64 = 400;

#[test]
fn ten_thousand_requests_given_up_at_once_leave_nothing_behind() {
    let policy = json!({"version": 1, "namespace": "resets", "rules": [
        {"name": "all", "scope": "global", "rate": LIMIT, "window_seconds": 24 * 3600},
    ]});
    let Some(mut proxy) = Proxy::start("rapid resets", &policy) else { return };
    let headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/")];
    for _ in 0..RESETS / EACH {
        let mut frames = Frames::connect(proxy.address());
        for _ in 0..EACH {
            let stream = frames.request(&headers, false);
            frames.reset(stream);
        }
        // A whole request last: when it is answered, all before it were read.
        let last = frames.request(&headers, true);
        assert!(frames.status(last).is_some());
    }
    let sent = RESETS + RESETS / EACH;
    eventually("no request is active", || proxy.envoy.stat("http.main.downstream_rq_active").unwrap() == 0);
    let stats = |name: &str| proxy.envoy.stat(&format!("http.main.{name}")).unwrap();
    let (seen, resets) = (stats("downstream_rq_total"), stats("downstream_rq_rx_reset"));
    let (allowed, limited) = (proxy.metric("verdicts_total.all.allowed"), proxy.metric("verdicts_total.all.limited"));
    println!(
        "rapid resets: {sent} requests sent, {seen} seen by Envoy, {resets} reset; {allowed} allowed, {limited} limited, \
         {} reached the upstream",
        proxy.upstream.requests()
    );
    assert_eq!(seen, sent);
    assert_eq!(allowed, LIMIT);
    assert_eq!(allowed + limited, sent, "each that Envoy saw was decided once");
    assert!(proxy.upstream.requests() <= LIMIT);
    assert_eq!(Client::http1(proxy.address(), 1).unwrap().send(&Request::get("/")).unwrap().status, 429);
    proxy.assert_unharmed();
}
