//! Every way to a Redis, in peace: password, ACL user, TLS, Sentinel, Cluster, webdis; two proxies count as one each time.
//! Not here: what fails (`failing`, `lies`).

use std::time::Duration;

use serde_json::{Value, json};
use xtask::load::{Client, Request};

use crate::authority::{Authority, redis_with};
use crate::http::Gateway;
use crate::operate::operated;
use crate::process::{free_port, wait_for};
use crate::proxies::{Fleet, YEAR, count, counted, policy};
use crate::servers::{Cluster, Redis, Trio, Webdis, text};
use crate::skip;

/// Users whose ids would end, or begin, a Cluster's hash tag, were they in a key.
const USERS: [&str; 6] = ["}", "{", "}x{", "{}", "alice", "a:b:{c}"];

fn rules() -> Value {
    let rule = |name: &str, algorithm: &str| json!({"name": name, "scope": "per_user", "rate": 5, "window_seconds": YEAR, "algorithm": algorithm, "on_store_error": "deny"});
    json!([rule("bucket", "token_bucket"), rule("window", "fixed_window")])
}

/// Two proxies whose store is at `address`: of twelve requests of each user five pass, whatever the id.
fn counts_as_one(what: &str, address: &str, policy: &Value) {
    let Some(mut fleet) = Fleet::start(what, 2, address, &operated(policy)) else { return };
    for user in USERS {
        let request = Request::get("/").header("x-user", user);
        assert_eq!(count(&fleet.send(12, 3, &request), 200), 5, "{what}: {user}");
    }
    assert_eq!(fleet.count("store_calls_total.failed"), 0, "{what}");
    assert_eq!(fleet.count("store_calls_total.answered"), 12 * 6, "{what}");
    // And what an operator tells one of them is the other's too.
    let call = |proxy: usize, request: Request| {
        let client = Client::http1(fleet.envoys[proxy].address("main").unwrap(), 1).unwrap();
        client.send(&request.header("authorization", "Bearer secret")).unwrap()
    };
    let note = "zo\u{eb} \"/\\\u{1f980} +.%2f";
    let grant =
        json!({"target_rule": "*", "reason": "testing", "note": note, "duration_minutes": 5, "unlimited": true});
    let give = Request::new("POST", "/.tidegate/v1/overrides").header("content-type", "application/json");
    assert_eq!(call(0, give.body(grant.to_string())).status, 201, "{what}");
    let given = wait_for("the grant on the other proxy", Duration::from_secs(10), || {
        let shown = call(1, Request::get("/.tidegate/v1/overrides")).json().unwrap();
        shown["overrides"].as_array().unwrap().first().cloned()
    });
    assert_eq!(given["note"], note, "{what}");
    fleet.assert_nothing_died();
}

fn through_gateway(what: &str, url: &str, flags: &[&str]) {
    let gateway = Gateway::start(url, flags);
    let store = json!({"timeout_ms": 2000, "mode": "exact"});
    counts_as_one(what, &gateway.address, &policy(store, rules()));
}

#[test]
fn a_redis_with_password_acl_user_and_tls() {
    if !skip::has("fleet, logins", &["redis-server"]) {
        return;
    }
    let port = free_port();
    let user =
        ["--user", "tidegate", "on", ">p:@w", "~tg1:*", "-@all", "+@read", "+@write", "+@scripting", "+@connection"];
    let flags = [&["--requirepass", "pass"][..], &user, &["+time", "+client", "+info"]].concat();
    let redis = Redis::start_unchecked(port, &flags);
    through_gateway("fleet, password", &format!("redis://:pass@127.0.0.1:{port}"), &[]);
    // A database of its own: the same users begin anew.
    through_gateway("fleet, ACL user", &format!("redis://tidegate:p%3A%40w@127.0.0.1:{port}/1"), &[]);
    drop(redis);
    let ours = Authority::new();
    let (port, _redis) = redis_with(&ours.sign("localhost", 2100), &ours.file(), "no");
    through_gateway(
        "fleet, TLS",
        &format!("rediss://localhost:{port}"),
        &["--redis-ca", ours.file().to_str().unwrap()],
    );
}

#[test]
fn a_sentinel_trio_and_a_cluster() {
    if !skip::has("fleet, Sentinel and Cluster", &["redis-server", "redis-sentinel", "redis-cli"]) {
        return;
    }
    let trio = Trio::start();
    through_gateway("fleet, Sentinel", &trio.url(), &[]);
    drop(trio);
    let cluster = Cluster::start();
    through_gateway("fleet, Cluster", &cluster.url(), &[]);
}

#[test]
fn identities_of_one_request_in_several_slots_of_a_cluster() {
    if !skip::has("fleet, CROSSSLOT", &["redis-server", "redis-cli"]) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &[]);
    let rule = |name: &str, scope: &str, rate: u64| json!({"name": name, "scope": scope, "rate": rate, "window_seconds": YEAR, "algorithm": "fixed_window", "on_store_error": "deny"});
    // The users' are the scarcer, so they are charged first, and get back what the rule for all refuses.
    let rules = json!([rule("each", "per_user", 30), rule("all", "global", 40)]);
    let policy = policy(json!({"timeout_ms": 2000, "mode": "exact"}), rules);
    let Some(mut fleet) = Fleet::start("fleet, CROSSSLOT", 2, &gateway.address, &policy) else { return };
    let passed: usize =
        USERS.iter().map(|user| count(&fleet.send(20, 4, &Request::get("/").header("x-user", user)), 200)).sum();
    assert_eq!(passed, 40);
    let is_master = |node: &&Redis| text(&node.ask(&["INFO", "replication"])).contains("role:master");
    let masters: Vec<&Redis> = cluster.nodes.iter().filter(is_master).collect();
    assert_eq!(counted(&masters, "all"), 40);
    wait_for("what was charged and not used", Duration::from_secs(5), || {
        (counted(&masters, "each") == 40).then_some(())
    });
    assert_eq!(fleet.count("store_calls_total.failed"), 0);
    fleet.assert_nothing_died();
}

#[test]
fn webdis() {
    if !skip::has("fleet, webdis", &["redis-server", "webdis"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let acl = json!([{"disabled": ["*"]}, {"http_basic_auth": "edge:secret", "enabled": ["EVAL", "EVALSHA"]}]);
    let webdis = Webdis::start(&redis, &acl);
    let login = json!({"user": "edge", "password": "secret"});
    let mut policy =
        policy(json!({"timeout_ms": 2000, "mode": "exact", "protocol": "webdis", "basic": login}), rules());
    policy["store"].as_object_mut().unwrap().remove("token");
    let address = &webdis.address;
    counts_as_one("fleet, webdis", address, &policy);
    // Its errors come with status 200: no answer all the same.
    let keys: Vec<String> = redis::from_redis_value(redis.ask(&["KEYS", "tg1:*"])).unwrap();
    for key in keys {
        redis.ask(&["DEL", &key]);
        redis.ask(&["HSET", &key, "a", "b"]);
    }
    let Some(fleet) = Fleet::start("fleet, webdis", 1, address, &policy) else { return };
    let answers = fleet.send(4, 1, &Request::get("/").header("x-user", "alice"));
    assert_eq!((count(&answers, 429), fleet.count("store_calls_total.failed")), (4, 4));
    policy["store"]["basic"]["password"] = json!("wrong");
    let Some(fleet) = Fleet::start("fleet, webdis", 1, address, &policy) else { return };
    let answers = fleet.send(4, 1, &Request::get("/").header("x-user", "bob"));
    assert_eq!((count(&answers, 429), fleet.count("store_calls_total.failed")), (4, 4));
}
