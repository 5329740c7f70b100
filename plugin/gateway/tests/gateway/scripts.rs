//! Scripts: forgotten by Redis, brought by clients, with Upstash's own flag.
//! Not here: scripts that are refused (`threats`).

use serde_json::json;
use tidegate_gateway::script_cache::hash;
use tidegate_gateway::scripts::PING;

use crate::http::Gateway;
use crate::servers::Redis;
use crate::skip;

const COUNT: &str = "#!lua flags=allow-key-locking\nreturn redis.call('INCR', KEYS[1])";

#[test]
fn a_built_in_script_runs_by_text_and_by_hash() {
    if !skip::has("built-in scripts", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let sha = hash(PING.as_bytes());
    let pong = (200, json!({"result": "PONG"}));
    assert_eq!(gateway.call(&json!(["EVALSHA", sha, 0])), pong, "without any SCRIPT LOAD before");
    assert_eq!(gateway.call(&json!(["EVAL", PING, 0])), pong);
    assert_eq!(gateway.call(&json!(["SCRIPT", "LOAD", PING])), (200, json!({"result": sha})));
    assert_eq!(gateway.call(&json!(["SCRIPT", "EXISTS", sha, "00"])), (200, json!({"result": [1, 0]})));
}

#[test]
fn scripts_that_redis_forgot_are_sent_again() {
    if !skip::has("forgotten scripts", &["redis-server"]) {
        return;
    }
    let mut redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts"]);
    let mut client = gateway.client();
    let sha = hash(COUNT.as_bytes());
    let evalsha = json!(["EVALSHA", sha, 1, "n"]);
    let (status, answer) = client.call(&evalsha);
    assert_eq!((status, answer["error"].as_str()), (400, Some("NOSCRIPT No matching script. Please use EVAL.")));
    assert_eq!(client.call(&json!(["SCRIPT", "LOAD", COUNT])), (200, json!({"result": sha})));
    assert_eq!(client.call(&evalsha), (200, json!({"result": 1})));
    redis.ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(client.call(&evalsha), (200, json!({"result": 2})));
    redis.ask(&["SCRIPT", "FLUSH"]);
    let batch = json!([evalsha, ["GET", "n"], evalsha]);
    let answer = client.post("/pipeline", &batch).json();
    assert_eq!((&answer[0], &answer[2]), (&json!({"result": 3}), &json!({"result": 4})), "{answer}");
    redis.ask(&["SCRIPT", "FLUSH"]);
    let answer = client.post("/multi-exec", &batch).json();
    assert_eq!(answer, json!([{"result": 5}, {"result": "5"}, {"result": 6}]));
    redis.kill();
    redis.restart(&[]);
    crate::process::wait_for("the restarted redis", std::time::Duration::from_secs(10), || redis.try_ask(&["PING"]));
    let again = crate::process::wait_for("an answer after the restart", std::time::Duration::from_secs(2), || {
        let (status, answer) = client.call(&evalsha);
        assert!(status == 200 || status >= 500, "{answer}");
        (status == 200).then_some(answer)
    });
    assert_eq!(again, json!({"result": 1}));
}

#[test]
fn a_reply_too_deep_to_read_has_an_error_of_its_own() {
    if !skip::has("deep replies", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts"]);
    let deep = "local t = {} local c = t for i = 1, ARGV[1] do c[1] = {} c = c[1] end return t";
    assert_eq!(gateway.call(&json!(["EVAL", deep, 0, 90])).0, 200);
    let (status, answer) = gateway.call(&json!(["EVAL", deep, 0, 150]));
    assert_eq!(status, 502, "{answer}");
    assert!(answer["error"].as_str().unwrap().starts_with("UNREADABLE "), "{answer}");
    assert_eq!(gateway.call(&json!(["PING"])), (200, json!({"result": "PONG"})));
}

#[test]
fn errors_of_a_script_keep_their_text() {
    if !skip::has("script errors", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts"]);
    let call = |script: &str| gateway.call(&json!(["EVAL", script, 0]));
    assert_eq!(call("return redis.error_reply('MINE of mine')"), (400, json!({"error": "MINE of mine"})));
    assert_eq!(call("return {1, {'a', false}, 'b'}"), (200, json!({"result": [1, ["a", null], "b"]})));
    assert_eq!(call("return {1, redis.error_reply('IN a list')}"), (200, json!({"result": [1, "IN a list"]})));
    let (status, answer) = call("#!lua flags=allow-key-locking\nnonsense(");
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("user_script:2:"), "the line number is the caller's: {answer}");
}
