//! One limit over a fleet, every request asked for: exactly as many pass as the limit says.

use serde_json::json;
use xtask::load::Request;

use crate::http::Gateway;
use crate::proxies::{Fleet, YEAR, count, policy};
use crate::servers::Redis;
use crate::skip;

#[test]
fn of_ten_thousand_requests_over_three_proxies_exactly_the_limit_passes() {
    if !skip::has("fleet, exact", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    for algorithm in ["token_bucket", "fixed_window", "sliding_window", "leaky_bucket"] {
        redis.ask(&["FLUSHALL"]);
        let rules =
            json!([{"name": "all", "scope": "global", "rate": 2000, "window_seconds": YEAR, "algorithm": algorithm}]);
        let store = json!({"timeout_ms": 2000, "mode": "exact"});
        let Some(mut fleet) = Fleet::start("fleet, exact", 3, &gateway.address, &policy(store, rules)) else { return };
        let answers = fleet.send(10_000, 32, &Request::get("/"));
        let passed = count(&answers, 200);
        println!(
            "fleet, exact, {algorithm}: {passed} of {} passed; store calls answered {}, failed {}",
            answers.len(),
            fleet.count("store_calls_total.answered"),
            fleet.count("store_calls_total.failed")
        );
        assert_eq!(passed, if algorithm == "leaky_bucket" { 1 } else { 2000 });
        assert_eq!(passed + count(&answers, 429), answers.len());
        assert_eq!(fleet.upstream.requests(), passed as u64);
        fleet.assert_nothing_died();
    }
}
