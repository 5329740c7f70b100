//! Passwords and ACL users, right and wrong, at start and while running.
//! Not here: what an ACL user may do (`threats`).

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::http::{Gateway, TOKEN};
use crate::process::{free_port, wait_for};
use crate::servers::{Cluster, Redis, ask};
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
fn no_password_where_one_is_asked_for_stops_the_start() {
    if !skip::has("no password", &["redis-server"]) {
        return;
    }
    let redis = Redis::start_unchecked(free_port(), &["--requirepass", "pass-word"]);
    let (status, log) = Gateway::run(&redis.url(), &[]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("NOAUTH") && !log.contains("listening"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "with --log-format json every line is JSON: {log}");
}

#[test]
fn a_wrong_password_stops_the_start_at_a_cluster_too() {
    if !skip::has("wrong password, Cluster", &["redis-server", "redis-cli"]) {
        return;
    }
    let cluster = Cluster::start();
    for node in &cluster.nodes {
        node.ask(&["ACL", "SETUSER", "app", "on", ">right", "~*", "+@all"]);
    }
    let at = |login: &str| cluster.url().replace("://", &format!("://{login}@"));
    let (status, log) = Gateway::run(&at("app:wrong"), &[]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.to_lowercase().contains("authentication failed") && !log.contains("wrong"), "{log}");
    assert_eq!(Gateway::start(&at("app:right"), &[]).call(&json!(["PING"])).0, 200);
    for node in &cluster.nodes {
        node.ask(&["ACL", "SETUSER", "default", "off"]);
    }
    let (status, log) = Gateway::run(&cluster.url(), &[]);
    assert_eq!(status, Some(1), "{log}");
}

#[test]
fn a_token_on_the_command_line_wins_over_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let file = file.to_str().unwrap();
    let status = |variables: &[(&str, &str)], flags: &[&str]| {
        // An address of documentation, nobody's own: a gateway that comes so far ends with 1, and flags that make no sense
        // end it with 2 before that.
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-gateway"));
        command.env_clear().args(["--redis", "redis://127.0.0.1:1", "--listen", "192.0.2.1:1"]);
        command.envs(variables.iter().copied()).args(flags).stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(status(&[("TIDEGATE_TOKEN", "short")], &["--token-file", file]), Some(1));
    assert_eq!(status(&[("TIDEGATE_TOKEN_FILE", "/absent")], &["--token", TOKEN]), Some(1));
    assert_eq!(status(&[("TIDEGATE_TOKEN", "short")], &[]), Some(2));
    assert_eq!(status(&[("TIDEGATE_TOKEN", TOKEN), ("TIDEGATE_TOKEN_FILE", file)], &[]), Some(2));
    assert_eq!(status(&[], &["--token", TOKEN, "--token-file", file]), Some(2));
}

#[test]
fn the_users_of_the_examples_may_call_what_the_gateway_calls() {
    if !skip::has("users of the examples", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    for (name, key) in [("tidegate", "tg1:{a}"), ("ratelimit", "@upstash/ratelimit:a")] {
        redis.set_examples_user(name);
        let own: &[&[&str]] = &[
            &["PING"],
            &["ROLE"],
            &["CLUSTER", "SLOTS"],
            &["ASKING"],
            &["SELECT", "1"],
            &["MULTI"],
            &["EXEC"],
            &["SCRIPT", "LOAD", "return 1"],
            &["EVALSHA", "00", "1", key],
            &["EVAL", "return 1", "1", key],
            &["TIME"],
            &["GET", key],
            &["SET", key, "1", "PX", "5"],
        ];
        for command in own {
            assert_eq!(redis.dry_run(name, command), "OK", "{name} {command:?}");
        }
        let others: &[&[&str]] =
            &[&["FLUSHALL"], &["CONFIG", "GET", "*"], &["KEYS", "*"], &["GET", "other"], &["SHUTDOWN"]];
        for command in others {
            assert_ne!(redis.dry_run(name, command), "OK", "{name} {command:?}");
        }
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
