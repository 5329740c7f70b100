//! Protocols other than plain HTTP, at and beyond the limit: gRPC gets gRPC's refusal and nothing else does; a
//! WebSocket counts when it begins.

use serde_json::{Value, json};
use xtask::load::{Answer, Client, Request};

use crate::proxy::Proxy;
use crate::wire::{Reply, Wire, request};

const DAY: u64 = 24 * 3600;

fn policy(rate: u64, strategy: &str) -> Value {
    json!({"version": 1, "namespace": "protocols", "rules": [
        {"name": "address", "scope": "per_ip", "rate": rate, "window_seconds": DAY, "strategy": strategy},
    ]})
}

/// A gRPC message of three bytes.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 3, b'a', b'b', b'c'];

fn grpc(method: &str, content_type: &str) -> Request {
    Request::new(method, "/service/Method").header("content-type", content_type).header("te", "trailers")
}

fn grpc_status(answer: &Answer) -> Option<&str> {
    let value = answer.headers.get("grpc-status").or_else(|| answer.trailers.get("grpc-status"));
    value.map(|value| value.to_str().unwrap())
}

#[test]
fn a_grpc_call_is_refused_in_its_own_protocol() {
    for (strategy, says_when) in [("retry_after", true), ("hard", false)] {
        let Some(mut proxy) = Proxy::start("gRPC", &policy(2, strategy)) else { return };
        let client = Client::http2(proxy.address(), 1, 1).unwrap();
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let passed = client.send(&grpc("POST", content_type).body(MESSAGE)).unwrap();
            assert_eq!((passed.status, grpc_status(&passed), &passed.body[..]), (200, Some("0"), MESSAGE));
            assert!(passed.header("ratelimit").is_some());
        }
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let refused = client.send(&grpc("POST", content_type).body(MESSAGE)).unwrap();
            assert_eq!(refused.status, 200);
            assert!(refused.header("content-type").is_some_and(|value| value.starts_with("application/grpc")));
            // Trailers-only: all of it in the headers, no body.
            assert_eq!((refused.header("grpc-status"), refused.body.len(), refused.trailers.len()), (Some("8"), 0, 0));
            assert!(refused.header("grpc-message").is_some_and(|message| message.contains("address")));
            let pushback: i64 = refused.header("grpc-retry-pushback-ms").unwrap().parse().unwrap();
            if says_when {
                let most = i64::try_from(DAY * 1000 / 2).unwrap();
                assert!((1..=most).contains(&pushback), "{pushback} ms");
                println!("gRPC refusal: grpc-status 8, grpc-retry-pushback-ms {pushback}");
            } else {
                assert_eq!(pushback, -1);
            }
            assert_eq!(refused.header("retry-after").is_some(), says_when);
        }
        proxy.assert_unharmed();
    }
}

#[test]
fn what_only_looks_like_grpc_is_refused_in_plain_http() {
    let Some(mut proxy) = Proxy::start("what looks like gRPC", &policy(1, "retry_after")) else { return };
    let http2 = Client::http2(proxy.address(), 1, 1).unwrap();
    let http1 = Client::http1(proxy.address(), 1).unwrap();
    assert_eq!(http1.send(&Request::get("/")).unwrap().status, 200);
    let looks = [
        ("GET", "application/grpc"),
        ("GET", "application/grpc+proto"),
        ("PUT", "application/grpc"),
        ("HEAD", "application/grpc"),
        ("post", "application/grpc"),
        ("POST", "application/grpc-web"),
        ("POST", "application/grpc-web+proto"),
        ("POST", "application/grpcx"),
        ("POST", "application/grpc;v=1"),
        ("POST", "application/grpc x"),
        ("POST", "text/plain"),
    ];
    for (method, content_type) in looks {
        // HTTP/1 in Envoy takes no method `post`.
        let clients = if method == "post" { vec![&http2] } else { vec![&http1, &http2] };
        for client in clients {
            let answer = client.send(&grpc(method, content_type)).unwrap();
            let what = format!("{method} {content_type}: {answer:?}");
            assert_eq!(answer.status, 429, "{what}");
            assert!(grpc_status(&answer).is_none() && answer.header("grpc-message").is_none(), "{what}");
            assert!(answer.header("grpc-retry-pushback-ms").is_none(), "{what}");
            // What Envoy takes for gRPC too has lost its body on the way, and with it its type.
            let is_grpc_to_envoy = matches!(content_type, "application/grpc" | "application/grpc+proto");
            let told = (!is_grpc_to_envoy).then_some("application/problem+json");
            assert_eq!(answer.header("content-type"), told, "{what}");
            let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=DAY).contains(&retry_after), "{what}");
        }
    }
    proxy.assert_unharmed();
}

#[test]
fn websockets_count_when_they_begin() {
    const LIMIT: usize = 100;
    let Some(mut proxy) = Proxy::start("WebSockets", &policy(LIMIT as u64, "retry_after")) else { return };
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let begin = || {
        let mut wire = Wire::connect(proxy.address());
        let reply: Reply = wire.send(&request("GET", "/socket", "x", &upgrade)).unwrap();
        (wire, reply)
    };
    let mut open = Vec::new();
    for n in 0..LIMIT {
        let (wire, reply) = begin();
        assert_eq!(reply.status, 101, "WebSocket {n}");
        assert!(
            reply.header("ratelimit").is_some_and(|left| left.contains(&format!("r={}", LIMIT - 1 - n))),
            "{reply:?}"
        );
        open.push(wire);
    }
    for _ in 0..3 {
        let (_, reply) = begin();
        assert_eq!((reply.status, reply.header("content-type")), (429, Some("application/problem+json")));
        assert!(reply.header("retry-after").is_some());
    }
    for wire in &mut open {
        wire.write(b"ping").unwrap();
        assert_eq!(wire.bytes(4).unwrap(), b"ping", "what is open goes on");
    }
    println!("WebSockets: {} open at a limit of {LIMIT}, 3 more refused", open.len());
    assert_eq!(proxy.upstream.requests(), LIMIT as u64);
    drop(open);
    proxy.assert_unharmed();
}
