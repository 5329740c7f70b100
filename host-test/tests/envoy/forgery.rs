//! What only Tidegate or a filter before it may say, said by a client: removed, not believed, or counted all the same.

use std::time::Duration;

use serde_json::{Value, json};
use xtask::envoy::Filter;
use xtask::load::{Client, Request};

use crate::frames::Frames;
use crate::proxy::Proxy;
use crate::wire::Wire;

const DAY: u64 = 24 * 3600;

fn policy(rate: u64) -> Value {
    json!({
        "version": 1,
        "namespace": "forgery",
        "identity": {"user": [{"header": "x-api-key"}]},
        "admins": {"user_ids": ["admin_123"]},
        "rules": [
            {"name": "user", "scope": "per_user", "rate": rate, "window_seconds": DAY},
            {"name": "address", "scope": "per_ip", "rate": rate, "window_seconds": DAY},
        ],
    })
}

#[test]
fn headers_of_ours_do_not_reach_the_upstream() {
    let Some(mut proxy) = Proxy::start("forged headers", &policy(100)) else { return };
    let forged = ["X_Tidegate_Degraded", "x-tidegate-degraded", "X-Tidegate-Rule", "x-tidegate_x", "x_tidegate-"];
    let mut request = b"GET / HTTP/1.1\r\nhost: x\r\nx-tidegat: kept\r\nx-tidegates: kept\r\n".to_vec();
    for name in forged {
        request.extend_from_slice(format!("{name}: r\r\n{name}: r2\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    assert_eq!(Wire::connect(proxy.address()).send(&request).unwrap().status, 200);
    let by_http2 = forged.iter().fold(Request::get("/"), |request, name| request.header(name, "r"));
    let by_http2 = by_http2.header("x-tidegat", "kept").header("x-tidegates", "kept");
    assert_eq!(Client::http2(proxy.address(), 1, 1).unwrap().send(&by_http2).unwrap().status, 200);

    let arrivals = proxy.upstream.arrivals();
    assert_eq!(arrivals.len(), 2);
    for arrival in arrivals {
        let ours = |name: &str| name.replace('_', "-").starts_with("x-tidegate-");
        let names: Vec<String> = arrival.headers.keys().map(ToString::to_string).collect();
        assert!(!names.iter().any(|name| ours(name)), "{names:?}");
        assert!(["x-tidegat", "x-tidegates"].iter().all(|name| names.iter().any(|kept| kept == name)), "{names:?}");
    }
    proxy.assert_unharmed();
}

/// The next filter tells what it sees of the trailers.
#[test]
fn trailers_of_ours_do_not_reach_the_next_filter() {
    let script = r#"
        function envoy_on_request(handle)
          local trailers = handle:trailers()
          if trailers ~= nil then
            for name, value in pairs(trailers) do handle:logWarn("trailer seen: " .. name .. "=" .. value) end
          end
        end"#;
    let started = Proxy::start_with("forged trailers", &policy(100), |settings| {
        settings.listeners[0].filters.push(Filter::Other(json!({
            "name": "envoy.filters.http.lua",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                "default_source_code": {"inline_string": script},
            },
        })));
    });
    let Some(mut proxy) = started else { return };
    let mut frames = Frames::connect(proxy.address());
    let headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/")];
    let stream = frames.request(&headers, false);
    frames.data(stream, b"body");
    let trailers = [
        ("x-tidegate-degraded", "forged"),
        ("x_tidegate_degraded", "forged"),
        ("x-other", "kept"),
        ("x-tidegate-rule", "forged"),
    ];
    frames.trailers(stream, &trailers);
    assert_eq!(frames.status(stream), Some(200));
    let lines = proxy.log_lines();
    let seen: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once("trailer seen: ")?.1)).collect();
    assert_eq!(seen, ["x-other=kept"]);
    proxy.assert_unharmed();
}

#[test]
fn made_up_users_are_held_by_their_address_and_are_no_admins() {
    let Some(mut proxy) = Proxy::start("made-up users", &policy(50)) else { return };
    let client = Client::http2(proxy.address(), 4, 100).unwrap();
    let from = |address: &str, key: &str| Request::get("/").header("x-forwarded-for", address).header("x-api-key", key);
    let passed = |requests: Vec<Request>| {
        let answers = client.send_all(requests);
        answers.into_iter().filter(|answer| answer.as_ref().unwrap().status == 200).count()
    };
    let many = (0..10_000).map(|n| from("192.0.2.1", &format!("made-up-{n}"))).collect();
    assert_eq!(passed(many), 50, "of 10,000 users from one address");
    let admins = (0..200).map(|n| from(&format!("10.0.0.{n}"), "admin_123")).collect();
    assert_eq!(passed(admins), 50, "of 200 requests that say they are the admin's");
    let same_id = (0..200).map(|_| from("192.0.2.2", "me").header("x-request-id", "the-same")).collect();
    assert_eq!(passed(same_id), 50, "of 200 requests with one id");
    let one_network = (0..200).map(|n| from(&format!("2001:db8:1:2:{n}::{n}"), &format!("six-{n}"))).collect();
    assert_eq!(passed(one_network), 50, "of 200 requests from one /64");
    println!("made-up users: 50 of 10,000 passed from one address");
    proxy.assert_unharmed();
}

/// RFC 9112, 6.3: what has both lengths is an attack, or might as well be.
#[test]
fn smuggled_requests_are_refused_or_count_for_themselves() {
    let Some(mut proxy) = Proxy::start("request smuggling", &policy(100)) else { return };
    let counted = || proxy.metric("requests_total.allowed") + proxy.metric("requests_total.limited");
    let both = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden \
                HTTP/1.1\r\nhost: x\r\n\r\n";
    let two_lengths = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 40\r\n\r\nbody";
    let odd_encoding = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n";
    for (request, statuses) in [(both, [400, 400]), (two_lengths, [400, 400]), (odd_encoding, [400, 501])] {
        let bytes = xtask::load::raw(proxy.address(), request.as_bytes(), Duration::from_secs(20)).unwrap();
        let answer = String::from_utf8_lossy(&bytes).into_owned();
        let is_one = answer.matches("HTTP/1.1 ").count() == 1;
        assert!(is_one && statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}"))), "{answer}");
    }
    assert_eq!((counted(), proxy.upstream.requests()), (0, 0), "nothing was charged or sent on");

    // Two honest requests in one packet are two.
    let mut wire = Wire::connect(proxy.address());
    wire.write(b"POST /one HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbodyGET /two HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    assert_eq!((wire.reply(false).unwrap().status, wire.reply(false).unwrap().status), (200, 200));
    assert_eq!((counted(), proxy.upstream.requests()), (2, 2));
    proxy.assert_unharmed();
}
