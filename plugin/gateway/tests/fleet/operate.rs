//! What an operator sees of a limit that a fleet shares: the store's own counters, not one proxy's.

use serde_json::{Value, json};
use xtask::load::{Client, Request};

use crate::http::Gateway;
use crate::proxies::{Fleet, policy};
use crate::servers::Redis;
use crate::skip;

/// SHA-256 of `secret`.
const SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// The same policy with an admin API, whose token is `secret`.
pub(crate) fn operated(policy: &Value) -> Value {
    let mut policy = policy.clone();
    policy["admin_api"] = json!({"tokens": [{"name": "ops", "role": "write", "sha256": SHA256}]});
    policy
}

#[test]
fn a_counter_of_the_fleet_is_looked_at_and_cleared_on_any_proxy() {
    if !skip::has("fleet, counters", &["redis-server"]) {
        return;
    }
    let mut redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let rules = json!([{"name": "each", "scope": "per_user", "rate": 10, "window_seconds": 3600}]);
    let policy = operated(&policy(json!({"timeout_ms": 1000}), rules));
    let Some(mut fleet) = Fleet::start("fleet, counters", 2, &gateway.address, &policy) else { return };
    let clients: Vec<Client> =
        fleet.envoys.iter().map(|envoy| Client::http1(envoy.address("main").unwrap(), 1).unwrap()).collect();
    let call = |proxy: usize, request: Request| {
        clients[proxy].send(&request.header("authorization", "Bearer secret")).unwrap()
    };
    for _ in 0..4 {
        assert_eq!(clients[0].send(&Request::get("/").header("x-user", "alice")).unwrap().status, 200);
    }
    let counter = "/.tidegate/v1/counters?rule=each&key=alice";
    let seen = call(1, Request::get(counter)).json().unwrap();
    assert_eq!(seen["rules"][0]["remaining"], 6, "{seen}");
    let question = json!({"path": "/", "user_id": "alice", "ip_address": "192.0.2.1"}).to_string();
    let explained = call(
        1,
        Request::new("POST", "/.tidegate/v1/explain").header("content-type", "application/json").body(question),
    );
    assert_eq!(explained.json().unwrap()["rules"][0]["remaining"], 6);
    let cleared = call(1, Request::new("DELETE", counter));
    assert_eq!(cleared.status, 204);
    assert_eq!(call(0, Request::get(counter)).json().unwrap()["rules"][0]["remaining"], 10);
    let status = call(0, Request::get("/.tidegate/v1/status")).json().unwrap();
    assert_eq!(status["store"], json!({"type": "redis", "healthy": true, "survives_restart": true}));
    // Where the store is gone nobody waits for it for longer than the policy says, and nothing is made up.
    redis.kill();
    assert_eq!(call(0, Request::get(counter)).status, 503);
    fleet.assert_nothing_died();
}
