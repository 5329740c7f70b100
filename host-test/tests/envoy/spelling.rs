//! One path in many spellings, and one method in many: a limit holds for all of them.
//! This Envoy normalises nothing, so that the filter sees what the client sent.

use serde_json::json;
use xtask::load::{Client, Request};

use crate::frames::Frames;
use crate::proxy::{Proxy, direct};
use crate::wire::{Wire, request};

const DAY: u64 = 24 * 3600;

#[test]
fn a_limited_path_is_limited_in_every_spelling() {
    let rule = |name: &str, endpoint: &str| json!({"name": name, "scope": "global", "rate": 100, "window_seconds": DAY, "endpoints": [endpoint]});
    let policy = json!({"version": 1, "namespace": "spelling", "rules": [rule("search", "/api/search")]});
    let started = Proxy::start_with("path spellings", &policy, |settings| {
        settings.listeners[0].routes = vec![direct("/")];
    });
    let Some(mut proxy) = started else { return };
    let mut wire = Wire::connect(proxy.address());
    let mut is_counted = |path: &str| {
        let before = proxy.metric("verdicts_total.search.allowed");
        let reply = wire.send(&request("GET", path, "x", &[])).unwrap();
        assert_eq!(reply.status, 200, "{path}");
        let counted = proxy.metric("verdicts_total.search.allowed") - before;
        assert_eq!(counted == 1, reply.header("ratelimit").is_some(), "{path}");
        counted == 1
    };
    let counted = [
        "/api/search",
        "/api/search?q=1",
        "//api//search",
        "/x/%2E./api/search",
        "/x/..;/api/search",
        "/./api/./search",
        "/api/search/",
        "/api/search;v=1",
        "/api%2fsearch",
        "/api%5Csearch",
        "/api\\search",
        "/api/%73earch",
        "/static/..%2fapi/search",
        "/api/search/?",
        "http://other.test/api/search",
        "http://other.test//api/search?x=/",
    ];
    for path in counted {
        assert!(is_counted(path), "{path} should count");
    }
    let not_counted = ["/api/search%252f", "/API/Search", "/api/search.", "/api/searches", "/other?p=/api/search"];
    for path in not_counted {
        assert!(!is_counted(path), "{path} should not count");
    }
    println!("spellings: {} of /api/search counted, {} others not", counted.len(), not_counted.len());
    proxy.assert_unharmed();
}

#[test]
fn a_limited_method_is_limited_in_every_spelling() {
    let rule = |name: &str, methods: &[&str]| json!({"name": name, "scope": "global", "rate": 100, "window_seconds": DAY, "methods": methods});
    let policy = json!({"version": 1, "namespace": "methods", "rules": [
        rule("reads", &["GET"]), rule("writes", &["post"]),
        {"name": "address", "scope": "per_ip", "rate": 1000, "window_seconds": DAY},
    ]});
    let started = Proxy::start_with("odd methods", &policy, |settings| {
        settings.listeners[0].routes = vec![direct("/")];
    });
    let Some(mut proxy) = started else { return };
    let client = Client::http2(proxy.address(), 1, 1).unwrap();
    let mut wire = Wire::connect(proxy.address());
    let counts = || ["reads", "writes", "address"].map(|rule| proxy.metric(&format!("verdicts_total.{rule}.allowed")));
    let mut before = counts();
    let mut rules_of = |method: &str, by_http2: bool| {
        let status = if by_http2 {
            client.send(&Request::new(method, "/")).unwrap().status
        } else {
            wire.send(&request(method, "/", "x", &[("x-http-method-override", "POST")])).unwrap().status
        };
        let now = counts();
        let counted = [now[0] - before[0], now[1] - before[1], now[2] - before[2]];
        before = now;
        (status, counted)
    };
    // HTTP/2 carries any token; HTTP/1 in Envoy knows a list of methods.
    let expected = [
        ("GET", true, [1, 0, 1]),
        ("get", true, [1, 0, 1]),
        ("gEt", true, [1, 0, 1]),
        ("HEAD", true, [1, 0, 1]),
        ("head", true, [1, 0, 1]),
        ("POST", true, [0, 1, 1]),
        ("pOsT", true, [0, 1, 1]),
        ("TRACE", true, [0, 0, 1]),
        ("OPTIONS", true, [0, 0, 1]),
        ("FROBNICATE", true, [0, 0, 1]),
        ("GET", false, [1, 0, 1]),
        ("HEAD", false, [1, 0, 1]),
        ("OPTIONS", false, [0, 0, 1]),
        ("PROPFIND", false, [0, 0, 1]),
    ];
    for (method, by_http2, counted) in expected {
        assert_eq!(rules_of(method, by_http2), (200, counted), "{method}, HTTP/2: {by_http2}");
    }
    println!("methods: {} as they should count, override header ignored", expected.len());
    proxy.assert_unharmed();
}

/// Requests that are hardly requests: each gets one answer, a client's mistake or one that was counted.
#[test]
fn requests_without_a_path_get_a_sane_answer() {
    let policy = json!({"version": 1, "namespace": "pathless", "rules": [
        {"name": "all", "scope": "global", "rate": 100, "window_seconds": DAY},
        {"name": "path", "scope": "per_endpoint", "rate": 100, "window_seconds": DAY},
    ]});
    let Some(mut proxy) = Proxy::start("requests without a path", &policy) else { return };
    let counted = || proxy.metric("verdicts_total.all.allowed");
    // A tunnel is refused by the router, behind the filter, which counts it like any request.
    let first_lines = [
        ("OPTIONS * HTTP/1.1", 404, 0),
        ("GET * HTTP/1.1", 400, 0),
        ("GET http://other.test HTTP/1.1", 200, 1),
        ("GET http://other.test/x HTTP/1.1", 200, 1),
        ("GET  HTTP/1.1", 400, 0),
        ("GET", 400, 0),
        ("CONNECT other.test:443 HTTP/1.1", 404, 1),
        ("GET /% HTTP/1.1", 200, 1),
        ("GET /%zz%00%ff HTTP/1.1", 200, 1),
    ];
    for (line, status, count) in first_lines {
        let before = counted();
        let reply = Wire::connect(proxy.address()).send(format!("{line}\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        assert_eq!((reply.status, counted() - before), (status, count), "{line:?}");
    }
    let method = (":method", "GET");
    let rest = [(":scheme", "http"), (":authority", "x")];
    let pseudo_headers = [
        vec![method, rest[0], rest[1]],
        vec![method, rest[0], rest[1], (":path", "")],
        vec![method, rest[0], rest[1], (":path", "*")],
        vec![rest[0], rest[1], (":path", "/")],
        vec![method, rest[0], rest[1], (":path", "/"), (":path", "/other")],
        vec![method, rest[0], rest[1], (":path", "no-slash")],
    ];
    for headers in pseudo_headers {
        let before = counted();
        let mut frames = Frames::connect(proxy.address());
        let stream = frames.request(&headers, true);
        let status = frames.status(stream);
        let is_refused = status.is_none_or(|status| (400..500).contains(&status));
        assert!(is_refused && counted() == before, "{headers:?} got {status:?}");
    }
    let mut frames = Frames::connect(proxy.address());
    let stream = frames.request(&[method, rest[0], rest[1], (":path", "/")], true);
    assert_eq!(frames.status(stream), Some(200), "the honest one beside them");
    proxy.assert_unharmed();
}
