//! Passwords and ACL users, right and wrong, at start and while running.
//! Not here: what an ACL user may do (`threats`).

use std::time::Duration;

use serde_json::json;

use crate::http::Gateway;
use crate::process::{free_port, wait_for};
use crate::servers::{Redis, ask};
use crate::skip;

#[test]
fn passwords_and_users() {
    if !skip::has("passwords", &["redis-server"]) {
        return;
    }
    let redis = Redis::start_unchecked(
        free_port(),
        &["--requirepass", "pass-word@1", "--user", "app", "on", ">p:/?#[]@w", "~*", "+@all"],
    );
    let at = |login: &str| format!("redis://{login}@127.0.0.1:{}/3", redis.port);
    for login in [":pass-word%401", "app:p%3A%2F%3F%23%5B%5D%40w", "default:pass-word%401"] {
        let gateway = wait_for("a gateway that came up", Duration::from_secs(10), || {
            let gateway = Gateway::start(&at(login), &[]);
            (gateway.call(&json!(["SET", "k", login])).0 == 200).then_some(gateway)
        });
        assert_eq!(gateway.call(&json!(["GET", "k"])), (200, json!({"result": login})));
    }
}

#[test]
fn a_wrong_password_stops_the_start() {
    if !skip::has("wrong password", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&["--user", "app", "on", ">right", "~*", "+@all"]);
    for login in ["app:wrong", "nobody:wrong"] {
        let (status, log) = Gateway::run(&format!("redis://{login}@127.0.0.1:{}", redis.port), &[]);
        assert_eq!(status, Some(1), "{log}");
        assert!(log.to_lowercase().contains("authentication failed"), "{log}");
        assert!(!log.contains("wrong"), "{log}");
    }
}

#[test]
fn a_password_that_is_put_right_later_is_noticed() {
    if !skip::has("password put right", &["redis-server"]) {
        return;
    }
    let mut redis = Redis::start(&["--user", "app", "on", ">right", "~*", "+@all"]);
    let gateway = Gateway::start(&format!("redis://app:right@127.0.0.1:{}", redis.port), &[]);
    assert_eq!(gateway.call(&json!(["PING"])).0, 200);
    redis.kill();
    redis.restart(&["--user", "app", "on", ">other", "~*", "+@all"]);
    wait_for("the restarted redis", Duration::from_secs(10), || ask(redis.port, &["PING"]));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(gateway.call(&json!(["PING"])).0, 503);
    redis.ask(&["ACL", "SETUSER", "app", ">right"]);
    wait_for("an answer with the right password", Duration::from_secs(3), || {
        (gateway.call(&json!(["PING"])).0 == 200).then_some(())
    });
}

#[test]
fn a_redis_that_comes_later_is_found() {
    if !skip::has("late redis", &["redis-server"]) {
        return;
    }
    let port = free_port();
    let gateway = Gateway::start(&format!("redis://127.0.0.1:{port}"), &[]);
    let (status, answer) = gateway.call(&json!(["PING"]));
    assert_eq!((status, answer["error"].as_str()), (503, Some("UNREACHABLE no connection to Redis")));
    let _redis = Redis::start_unchecked(port, &[]);
    wait_for("an answer", Duration::from_secs(5), || (gateway.call(&json!(["PING"])).0 == 200).then_some(()));
}
