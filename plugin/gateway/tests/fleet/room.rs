//! What a client can bring about must not lift a limit: more requests at once than the proxy has calls for, and ids as
//! long as a header may be. Not here: a store that fails (`failing`).

use std::time::Duration;

use serde_json::json;
use xtask::envoy::{Cluster, Plugin};
use xtask::load::{Answer, Client, Request};

use crate::http::Gateway;
use crate::proxies::{Fleet, YEAR, count, policy};
use crate::servers::Redis;
use crate::skip;

#[test]
fn where_the_proxy_has_no_room_for_a_call_its_own_counters_decide() {
    if !skip::has("fleet, no room", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let rules = json!([{
        "name": "all", "scope": "global", "rate": 100, "window_seconds": YEAR, "algorithm": "fixed_window",
        "on_store_error": "allow", "local_share": 0.5
    }]);
    let policy = policy(json!({"timeout_ms": 5000, "mode": "exact"}), rules).to_string();
    let mut cluster = Cluster::new("redis", gateway.address.parse().unwrap());
    cluster.most = 4;
    let Some(mut fleet) = Fleet::start_with("fleet, no room", 1, &cluster, &Plugin::new(&policy)) else { return };
    let client = Client::http2(fleet.envoys[0].address("main").unwrap(), 8, 5_000).unwrap();
    let answers: Vec<Answer> =
        client.send_all(vec![Request::get("/"); 5_000]).into_iter().map(Result::unwrap).collect();
    let (passed, refused) = (count(&answers, 200), count(&answers, 429));
    let [not_sent, failed] = ["not_sent", "failed"].map(|name| fleet.count(&format!("store_calls_total.{name}")));
    println!(
        "fleet, no room: of 5000 at once {passed} passed and {refused} did not; {not_sent} not sent, {failed} failed"
    );
    assert_eq!(passed + refused, 5_000);
    // What Redis admits, and beside it the share of this proxy.
    assert!((50..=150).contains(&passed), "{passed}");
    assert!(not_sent > 1_000, "{not_sent}");
    assert_eq!(failed, 0, "a full proxy is no failed store, whether Envoy refuses a call or has no stream for one");
    assert_eq!(fleet.is_healthy(), Some(true));
    let busy = fleet.envoys[0].access_log(5_000).unwrap().iter().filter(|entry| entry["store"] == "busy").count();
    assert_eq!(busy as u64, not_sent);
    fleet.assert_nothing_died();
}

#[test]
fn a_long_id_is_limited_like_any_other() {
    if !skip::has("fleet, long id", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let rules =
        json!([{"name": "each", "scope": "per_user", "rate": 5, "window_seconds": YEAR, "on_store_error": "allow"}]);
    let policy = policy(json!({"timeout_ms": 2000, "mode": "exact"}), rules);
    let Some(mut fleet) = Fleet::start("fleet, long id", 2, &gateway.address, &policy) else { return };
    let request = Request::get("/").header("x-user", "x".repeat(60_000));
    let answers = fleet.send(40, 4, &request);
    assert!(count(&answers, 200) <= 5, "{} passed", count(&answers, 200));
    assert_eq!(count(&answers, 200) + count(&answers, 429), 40);
    assert_eq!(fleet.count("store_calls_total.failed") + fleet.count("store_calls_total.not_sent"), 0);
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    fleet.assert_nothing_died();
}
