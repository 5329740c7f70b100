//! The Upstash REST protocol, as its documentation and its clients have it, in front of a plain Redis.
//! Not here: who is refused (`threats`), limits (`bounds`), scripts (`scripts`).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::{Gateway, TOKEN};
use crate::servers::Redis;
use crate::skip;

fn gateway(test: &str, flags: &[&str]) -> Option<(Redis, Gateway)> {
    if !skip::has(test, &["redis-server"]) {
        return None;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), flags);
    Some((redis, gateway))
}

#[test]
fn results_and_errors() {
    let Some((_redis, gateway)) = gateway("results_and_errors", &[]) else { return };
    let mut client = gateway.client();
    assert_eq!(client.call(&json!(["PING"])), (200, json!({"result": "PONG"})));
    assert_eq!(client.call(&json!(["SET", "a", 1_795_000_000_123_456_u64])), (200, json!({"result": "OK"})));
    assert_eq!(client.call(&json!(["GET", "a"])), (200, json!({"result": "1795000000123456"})));
    assert_eq!(client.call(&json!(["INCRBY", "a", 1])), (200, json!({"result": 1_795_000_000_123_457_u64})));
    assert_eq!(client.call(&json!(["GET", "none"])), (200, json!({"result": null})));
    assert_eq!(client.call(&json!(["MGET", "a", "none"])), (200, json!({"result": ["1795000000123457", null]})));
    let (status, answer) = client.call(&json!(["HGET", "a", "b"]));
    assert_eq!(status, 400);
    assert_eq!(answer["error"], "WRONGTYPE Operation against a key holding the wrong kind of value");
    let (status, answer) = client.call(&json!(["SET", "a"]));
    assert_eq!((status, answer["error"].as_str()), (400, Some("ERR wrong number of arguments for 'set' command")));
    // What JSON.stringify makes of half a surrogate pair.
    let response = client.send("POST", "/", &[], br#"["ECHO","a\ud800"]"#).unwrap();
    assert_eq!(response.json(), json!({"result": "a\u{fffd}"}));
    for body in ["", "[]", "[[]]", "{}", "[\"GET\",null]", "nonsense"] {
        let response = client.send("POST", "/", &[], body.as_bytes()).unwrap();
        assert_eq!(response.status, 400, "{body}");
        assert!(response.json()["error"].is_string(), "{body}");
    }
}

#[test]
fn integers_beyond_2_to_the_53_keep_their_digits() {
    let Some((_redis, gateway)) = gateway("integers", &[]) else { return };
    let mut client = gateway.client();
    client.call(&json!(["SET", "big", "9007199254740992"]));
    let response = client.post("/", &json!(["INCR", "big"]));
    assert_eq!(response.body, br#"{"result":9007199254740993}"#);
}

#[test]
fn a_pipeline_goes_on_after_an_error() {
    let Some((_redis, gateway)) = gateway("pipeline", &[]) else { return };
    let commands = json!([["SET", "p", "1"], ["HGET", "p", "x"], ["INCR", "p"], ["SCRIPT", "EXISTS", "00"]]);
    let response = gateway.client().post("/pipeline", &commands);
    assert_eq!(response.status, 200);
    assert_eq!(
        response.json(),
        json!([
            {"result": "OK"},
            {"error": "WRONGTYPE Operation against a key holding the wrong kind of value"},
            {"result": 2},
            {"result": [0]}
        ])
    );
    for body in [json!([]), json!(["GET", "a"]), json!([[]]), json!({"a": 1})] {
        assert_eq!(gateway.client().post("/pipeline", &body).status, 400, "{body}");
    }
}

#[test]
fn a_transaction_runs_as_a_whole_or_not_at_all() {
    let Some((redis, gateway)) = gateway("transaction", &[]) else { return };
    let mut client = gateway.client();
    let response = client.post("/multi-exec", &json!([["SET", "t", "1"], ["HGET", "t", "x"], ["INCR", "t"]]));
    assert_eq!(response.status, 200);
    assert_eq!(response.json()[2], json!({"result": 2}));
    assert!(response.json()[1]["error"].as_str().unwrap().starts_with("WRONGTYPE"));
    let response = client.post("/multi-exec", &json!([["SET", "t", "9"], ["SET"]]));
    assert_eq!(response.status, 400);
    assert_eq!(
        response.json()["error"],
        "EXECABORT Transaction discarded because of previous errors. (command 1: ERR wrong number of arguments for \
         'set' command)"
    );
    assert_eq!(redis.ask(&["GET", "t"]), redis::Value::BulkString(b"2".to_vec()));
    assert_eq!(client.post("/multi-exec", &json!([["SCRIPT", "EXISTS", "00"]])).status, 400);
    // The connection is as it was: MULTI did not stay open.
    assert_eq!(client.call(&json!(["GET", "t"])), (200, json!({"result": "2"})));
}

#[test]
fn commands_in_the_path() {
    let Some((_redis, gateway)) = gateway("paths", &[]) else { return };
    let mut client = gateway.client();
    let mut call = |method: &str, path: &str, body: &str| {
        let response = client.send(method, path, &[], body.as_bytes()).unwrap();
        (response.status, response.json())
    };
    assert_eq!(call("GET", "/set/foo/a%20b", ""), (200, json!({"result": "OK"})));
    assert_eq!(call("GET", "/get/foo", ""), (200, json!({"result": "a b"})));
    assert_eq!(call("POST", "/get/foo", ""), (200, json!({"result": "a b"})));
    assert_eq!(call("POST", "/set/foo?EX=100", "{\"a\":\"/\"}"), (200, json!({"result": "OK"})));
    assert_eq!(call("PUT", "/get/foo", ""), (200, json!({"result": "{\"a\":\"/\"}"})));
    assert_eq!(call("GET", "/ttl/foo", ""), (200, json!({"result": 100})));
    assert_eq!(call("GET", "/set/foo/bar?NX&GET", "").0, 200);
    assert_eq!(call("GET", "/mget/foo/none", "").1, json!({"result": ["{\"a\":\"/\"}", null]}));
    assert_eq!(call("GET", "/", "").0, 400);
    assert_eq!(call("GET", "/nothing/here", "").0, 400);
}

#[test]
fn base64_and_resp2() {
    let Some((_redis, gateway)) = gateway("encodings", &[]) else { return };
    let mut client = gateway.client();
    let base64 = [("Upstash-Encoding", "base64")];
    let resp2 = [("Upstash-Response-Format", "resp2")];
    client.send("POST", "/set/bin", &[], b"\xff\xfe").unwrap();
    assert_eq!(client.send("GET", "/get/bin", &base64, b"").unwrap().body, br#"{"result":"//4="}"#);
    assert_eq!(client.send("GET", "/set/a/b", &base64, b"").unwrap().body, br#"{"result":"OK"}"#);
    let response = client.send("GET", "/get/bin", &resp2, b"").unwrap();
    assert_eq!(response.body, b"$2\r\n\xff\xfe\r\n");
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
    let response = client.send("GET", "/hget/bin/x", &resp2, b"").unwrap();
    assert_eq!(response.status, 400);
    assert!(response.body.starts_with(b"-WRONGTYPE "));
    let body = br#"[["GET","bin"],["HGET","bin","x"],["PING"]]"#;
    let response = client.send("POST", "/pipeline", &resp2, body).unwrap();
    assert!(response.body.starts_with(b"*3\r\n$2\r\n\xff\xfe\r\n-WRONGTYPE "));
    assert!(response.body.ends_with(b"+PONG\r\n"));
    let response = client.send("POST", "/multi-exec", &resp2, br#"[["PING"]]"#).unwrap();
    assert_eq!(response.json(), json!([{"result": "PONG"}]), "transactions answer in JSON");
}

#[test]
fn methods_tokens_and_what_is_echoed() {
    let Some((_redis, gateway)) = gateway("methods", &[]) else { return };
    let mut client = gateway.client();
    let response = client.send("DELETE", "/get/a", &[], b"").unwrap();
    assert_eq!((response.status, response.header("allow")), (405, Some("HEAD, GET, POST, PUT")));
    for (method, path) in [("POST", "/metrics"), ("DELETE", "/healthz"), ("PUT", "/healthz")] {
        let response = client.send(method, path, &[], b"").unwrap();
        assert_eq!((response.status, response.header("allow")), (405, Some("HEAD, GET")), "{method} {path}");
        assert!(response.json()["error"].as_str().unwrap().starts_with("ERR "), "{method} {path}");
    }
    for (path, line) in [("/", "Bearer wrong-wrong-wrong-wrong"), ("/get/a", ""), ("/pipeline", TOKEN)] {
        let response = client.send("POST", path, &[("Authorization", line)], b"").unwrap();
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert_eq!(response.json(), json!({"error": "Unauthorized"}), "{path}");
    }
    let response = client.send("POST", "/", &[("upstash-sync-token", "abc=")], b"[\"PING\"]").unwrap();
    assert_eq!(response.header("upstash-sync-token"), Some("abc="));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

#[test]
fn health_and_metrics_need_no_token() {
    let Some((redis, gateway)) = gateway("health", &[]) else { return };
    gateway.call(&json!(["PING"]));
    gateway.call(&json!(["FLUSHALL"]));
    let anonymous = [("Authorization", "")];
    let health = |gateway: &Gateway| gateway.client().send("GET", "/healthz", &anonymous, b"").unwrap();
    let response = health(&gateway);
    assert_eq!((response.status, response.body.as_slice()), (200, &b"ok\n"[..]));
    let response = gateway.client().send("GET", "/metrics", &anonymous, b"").unwrap();
    let text = String::from_utf8(response.body).unwrap();
    for line in [
        "tidegate_gateway_requests_total{result=\"ok\"} 1",
        "tidegate_gateway_requests_total{result=\"not_allowed\"} 1",
        "tidegate_gateway_connected 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    let (pings, began) = (redis.calls("ping"), Instant::now());
    for _ in 0..100 {
        assert_eq!(health(&gateway).status, 200);
    }
    let asked = u128::from(redis.calls("ping") - pings);
    // One answer serves each thread for 0.1 s.
    assert!(asked <= 4 * (began.elapsed().as_millis() / 100 + 2), "{asked} in {:?}", began.elapsed());
    drop(redis);
    std::thread::sleep(Duration::from_millis(200));
    let response = health(&gateway);
    assert_eq!(response.status, 503, "{}", String::from_utf8_lossy(&response.body));
}

#[tokio::test]
async fn http2_without_tls_by_prior_knowledge() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let Some((_redis, gateway)) = gateway("h2c", &[]) else { return };
    let stream = tokio::net::TcpStream::connect(&gateway.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<bytes::Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let calls = (0..64).map(|index| {
        let mut sender = sender.clone();
        async move {
            let request = hyper::Request::post("http://gateway.internal/")
                .header("authorization", format!("Bearer {TOKEN}"))
                .body(Full::from(json!(["ECHO", index.to_string()]).to_string()))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, json!({"result": index.to_string()}).to_string());
        }
    });
    futures_util::future::join_all(calls).await;
}
