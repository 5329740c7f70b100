//! What must not work: each test is a row of the threat table for the gateway, with its concrete inputs.
//! Not here: crossed replies (`crossed`), TLS (`tls`), and units for the same rules beside the code.

use serde_json::{Value, json};

use crate::http::{Gateway, TOKEN};
use crate::servers::Redis;
use crate::skip;

/// A Redis with one key that any successful attack destroys.
fn victim(test: &str) -> Option<Redis> {
    if !skip::has(test, &["redis-server"]) {
        return None;
    }
    let redis = Redis::start(&[]);
    redis.ask(&["SET", "canary", "alive"]);
    Some(redis)
}

fn is_alive(redis: &Redis) -> bool {
    redis.ask(&["GET", "canary"]) == redis::Value::BulkString(b"alive".to_vec())
}

#[test]
fn allow_list_scripts_of_others_do_not_run() {
    let Some(redis) = victim("allow-list: scripts") else { return };
    let gateway = Gateway::start(&redis.url(), &[]);
    let flush = "return redis.call('FLUSHALL')";
    let sha = tidegate_gateway::script_cache::hash(flush.as_bytes());
    redis.ask(&["SCRIPT", "LOAD", flush]);
    for command in [
        json!(["eVaL", flush, 0]),
        json!(["EVAL", flush, 0]),
        json!(["EVALSHA", sha, 0]),
        json!(["evalsha", sha.to_uppercase(), 0]),
        json!(["SCRIPT", "LOAD", flush]),
        json!(["script", "load", "return 1"]),
        json!(["SCRIPT", "FLUSH"]),
        json!(["SCRIPT", "KILL"]),
        json!(["SCRIPT", "DEBUG", "YES"]),
        json!(["EVAL_RO", flush, 0]),
        json!(["FCALL", "f", 0]),
        json!(["FUNCTION", "LOAD", "#!lua name=a"]),
        json!(["EVAL", format!("{}\n{flush}", tidegate_gateway::scripts::PING), 0]),
        json!(["EVAL", tidegate_gateway::scripts::PING.to_uppercase(), 0]),
    ] {
        for (path, body) in [("/", command.clone()), ("/pipeline", json!([command])), ("/multi-exec", json!([command]))]
        {
            let response = gateway.client().post(path, &body);
            assert_eq!(response.status, 400, "{path} {body}");
            assert!(response.json()["error"].as_str().unwrap().starts_with("NOPERM "), "{path} {body}");
        }
    }
    assert!(is_alive(&redis));
    assert_eq!(redis.calls("eval") + redis.calls("evalsha") + redis.calls("flushall"), 0);
}

#[test]
fn allow_list_one_bad_command_in_a_batch_and_nothing_ran() {
    let Some(redis) = victim("allow-list: batches") else { return };
    // Whatever is allowed, these never pass.
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts", "--allow-command", "LPUSH"]);
    let bad = [
        json!(["SELECT", "1"]),
        json!(["AUTH", "x"]),
        json!(["MULTI"]),
        json!(["BLPOP", "l", "0"]),
        json!(["SUBSCRIBE", "c"]),
        json!(["CLIENT", "REPLY", "OFF"]),
        json!(["RESET"]),
        json!(["QUIT"]),
        json!(["HELLO", "3"]),
        json!(["MONITOR"]),
        json!(["WATCH", "k"]),
        json!(["EXEC"]),
        json!(["sElEcT", "1"]),
        json!(["FLUSHALL"]),
        json!(["CONFIG", "SET", "dir", "/tmp"]),
        json!(["SELECT ", "1"]),
        json!(["\u{0}SELECT", "1"]),
    ];
    for command in bad {
        for path in ["/pipeline", "/multi-exec"] {
            let response = gateway.client().post(path, &json!([["SET", "ran", "1"], ["INCR", "ran"], command]));
            assert_eq!(response.status, 400, "{path} {command}");
            assert!(response.json()["error"].as_str().unwrap().starts_with("NOPERM "), "{path} {command}");
        }
        assert_eq!(gateway.call(&command).0, 400, "{command}");
    }
    assert_eq!(redis.ask(&["EXISTS", "ran"]), redis::Value::Int(0), "the commands before it ran");
    assert!(is_alive(&redis));
    for flag in ["SELECT", "blpop", "CLIENT", "MULTI", "SUBSCRIBE", "EVAL", "FCALL"] {
        let (status, log) = Gateway::run(&redis.url(), &["--allow-command", flag]);
        assert_eq!(status, Some(2), "--allow-command {flag} was taken");
        assert!(log.contains("--allow-command"), "{log}");
    }
}

#[test]
fn allow_list_a_redis_user_behind_holds_where_the_gateway_was_opened() {
    if !skip::has("ACL behind", &["redis-server"]) {
        return;
    }
    let user = "--user tidegate on >s3cret-s3cret ~tg1:* +evalsha +eval +script|load +ping +time +get +set";
    let redis = Redis::start(&user.split(' ').collect::<Vec<_>>());
    redis.ask(&["SET", "canary", "alive"]);
    let url = format!("redis://tidegate:s3cret-s3cret@127.0.0.1:{}", redis.port);
    let gateway = Gateway::start(&url, &["--allow-scripts", "--allow-command", "FLUSHALL"]);
    for command in [
        json!(["FLUSHALL"]),
        json!(["EVAL", "return redis.call('FLUSHALL')", 0]),
        json!(["EVAL", "return redis.call('DEL', 'canary')", 0]),
        json!(["GET", "canary"]),
    ] {
        let (status, answer) = gateway.call(&command);
        assert_eq!(status, 400, "{command} {answer}");
        let text = answer["error"].as_str().unwrap();
        assert!(["NOPERM", "ACL failure", "can't run this command"].iter().any(|words| text.contains(words)), "{text}");
    }
    assert_eq!(gateway.call(&json!(["SET", "tg1:{a}", "1"])).0, 200);
    assert!(is_alive(&redis));
}

#[test]
fn paths_are_split_then_decoded_once_then_checked() {
    let Some(redis) = victim("paths") else { return };
    let gateway = Gateway::start(&redis.url(), &[]);
    for path in [
        "/%66lushall",
        "/get%2fa",
        "//flushall",
        "/flushall/",
        "/./flushall",
        "/../flushall",
        "/get/../flushall",
        "/%2e%2e/flushall",
        "/flushall%00",
        "/flushall%20",
        "/FLUSHALL?_=1",
        "/get/canary%0d%0aFLUSHALL",
        "/pipeline/flushall",
        "/%70ipeline",
        "/healthz/flushall",
        "/eval/return%20redis.call('flushall')/0",
    ] {
        let response = gateway.client().send("GET", path, &[], b"").unwrap();
        let is_harmless_get = path.starts_with("/get/canary") && response.json() == json!({"result": null});
        assert!(response.status == 400 || is_harmless_get, "{path} {response:?}");
    }
    assert!(is_alive(&redis));
    assert_eq!(redis.calls("flushall"), 0);
}

#[test]
fn protocol_in_an_argument_stays_an_argument() {
    let Some(redis) = victim("RESP") else { return };
    let gateway = Gateway::start(&redis.url(), &[]);
    let attack = "\r\n*1\r\n$8\r\nFLUSHALL\r\n";
    for name in [attack, "a", "GET\r\n*1\r\n$8\r\nFLUSHALL"] {
        assert_eq!(gateway.call(&json!([name, attack])).0, 400);
    }
    assert_eq!(gateway.call(&json!(["SET", attack, attack])), (200, json!({"result": "OK"})));
    assert_eq!(gateway.call(&json!(["GET", attack])), (200, json!({"result": attack})));
    let resp2 = [("Upstash-Response-Format", "resp2")];
    let body = json!(["SET", "k", "v", format!("{attack}-ERR")]).to_string();
    let response = gateway.client().send("POST", "/", &resp2, body.as_bytes()).unwrap();
    assert_eq!(response.body.split(|byte| *byte == b'\n').count(), 2, "an error is one line: {response:?}");
    assert!(is_alive(&redis));
    assert_eq!(redis.calls("flushall"), 0);
}

#[test]
fn browser_requests_are_refused_where_no_token_protects() {
    let Some(redis) = victim("browser") else { return };
    let gateway = Gateway::start_open(&redis.url(), &["--allow-command", "FLUSHALL"]);
    let flush = br#"["FLUSHALL"]"#;
    for lines in [
        &[("Content-Type", "text/plain")][..],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[("Content-Type", "text/plain;application/json")],
        &[("Origin", "https://evil.test")],
        &[("Origin", "null")],
        &[("Origin", "http://localhost")],
        &[("Host", "evil.test")],
        &[("Host", "evil.test:8079")],
        &[("Host", "127.0.0.1.evil.test")],
    ] {
        let response = gateway.client().send("POST", "/", lines, flush).unwrap();
        assert_eq!(response.status, 403, "{lines:?}");
        let image = gateway.client().send("GET", "/flushall", lines, b"").unwrap();
        assert_eq!(image.status, 403, "{lines:?}");
    }
    // What a page's <img> or <form> sends: no Origin on a GET, no JSON type.
    let image = b"GET /flushall HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Mode: no-cors\r\n\r\n";
    let mut page = gateway.client();
    page.write(image).unwrap();
    assert_eq!(page.read().unwrap().status, 403);
    // A preflight gets no permission.
    let lines = [("Origin", "https://evil.test"), ("Access-Control-Request-Method", "POST")];
    let preflight = gateway.client().send("OPTIONS", "/", &lines, b"").unwrap();
    assert_eq!(preflight.status, 403);
    assert!(!preflight.head.to_lowercase().contains("access-control"));
    let rebound = gateway.client().send("GET", "/metrics", &[("Host", "evil.test")], b"").unwrap();
    assert_eq!(rebound.status, 403);
    assert!(is_alive(&redis));
    assert_eq!(gateway.call(&json!(["GET", "canary"])), (200, json!({"result": "alive"})));
}

#[test]
fn a_token_does_not_make_web_pages_welcome() {
    let Some(redis) = victim("browser with token") else { return };
    let gateway = Gateway::start(&redis.url(), &[]);
    let response = gateway.client().send("POST", "/", &[("Origin", "https://evil.test")], b"[\"PING\"]").unwrap();
    assert_eq!(response.status, 403);
    // A proxy's callout has whatever authority its configuration says, and no content type.
    let lines = [("Host", "redis-gateway"), ("Content-Type", "text/plain")];
    assert_eq!(gateway.client().send("POST", "/", &lines, b"[\"PING\"]").unwrap().status, 200);
    let query = format!("/get/canary?_token={TOKEN}");
    for lines in [&[("Authorization", "")][..], &[]] {
        assert_eq!(gateway.client().send("GET", &query, lines, b"").unwrap().status, 401);
    }
}

#[test]
fn beyond_loopback_there_is_no_start_without_a_token() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let (status, log) = Gateway::run("redis://127.0.0.1:1", &["--listen", listen]);
        assert_eq!(status, Some(2), "{log}");
        assert!(log.contains("a token is required"), "{log}");
    }
    let (status, _) = Gateway::run("redis://127.0.0.1:1", &["--token", "short"]);
    assert_eq!(status, Some(2));
}

#[test]
fn numbers_and_large_answers() {
    let Some(redis) = victim("numbers") else { return };
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts", "--max-body-bytes", "12000000"]);
    let exact = json!(["EVAL", "return string.format('%.0f', ARGV[1])", 0, 1_795_000_000_123_456_u64]);
    assert_eq!(gateway.call(&exact), (200, json!({"result": "1795000000123456"})));
    for number in ["-1", "1e308", "1795000000123456", "9223372036854775807", "-9223372036854775808"] {
        let body = format!("[\"ECHO\",{number}]");
        let response = gateway.client().send("POST", "/", &[], body.as_bytes()).unwrap();
        assert_eq!(response.json(), json!({"result": number}), "{number}");
    }
    let ten_megabytes = "x".repeat(10_000_000);
    assert_eq!(gateway.call(&json!(["ECHO", ten_megabytes])), (200, json!({"result": ten_megabytes})));
}

#[test]
fn logs_and_errors_hold_no_secret() {
    if !skip::has("secrets", &["redis-server"]) {
        return;
    }
    let secret = "hunter2-hunter2-hunter2";
    let redis = Redis::start_unchecked(crate::process::free_port(), &["--requirepass", secret]);
    let url = format!("redis://:{secret}@127.0.0.1:{}", redis.port);
    let gateway = Gateway::start(&url, &[]);
    crate::process::wait_for("a first answer", std::time::Duration::from_secs(5), || {
        (gateway.call(&json!(["PING"])).0 == 200).then_some(())
    });
    let mut answers = String::new();
    let mut keep = |answer: (u16, Value)| answers.push_str(&answer.1.to_string());
    keep(gateway.call(&json!(["AUTH", secret])));
    keep(gateway.call(&json!(["GET"])));
    let query = format!("/get/a?_token={TOKEN}");
    keep((0, gateway.client().send("GET", &query, &[], b"").unwrap().json()));
    let wrong = [("Authorization", "Bearer wrong-secret-wrong-secret")];
    keep((0, gateway.client().send("GET", "/get/wrong-secret", &wrong, b"").unwrap().json()));
    drop(redis);
    keep(gateway.call(&json!(["GET", "after"])));
    let metrics = gateway.client().send("GET", "/metrics", &[], b"").unwrap().body;
    let everything = format!("{answers}{}{}", gateway.log(), String::from_utf8_lossy(&metrics));
    assert!(everything.contains("\"listening\"") && everything.contains("refused"));
    for hidden in [TOKEN, secret, "wrong-secret"] {
        assert!(!everything.contains(hidden), "{hidden} is in\n{everything}");
    }
}
