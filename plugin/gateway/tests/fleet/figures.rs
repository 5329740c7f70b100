//! What asking costs: round trips, added latency and Envoy's processor time for `exact`, `lease` and the local store, in
//! turns within one run. Prints figures; asserts only what any machine shows. `--ignored --nocapture` runs it.

use std::time::Duration;

use serde_json::json;
use xtask::load::{Client, Request};

use crate::http::Gateway;
use crate::proxies::{Fleet, policy};
use crate::servers::Redis;
use crate::skip;

const ROUNDS: usize = 4;
const REQUESTS: u32 = 2_000;

#[test]
#[ignore = "figures for people; takes a machine that does nothing else"]
fn exact_lease_and_local_in_turns() {
    if !skip::has("fleet, figures", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let rules = json!([{"name": "all", "scope": "global", "rate": 600_000, "window_seconds": 60}]);
    let mut local = policy(json!({}), rules.clone());
    local["store"] = json!({"type": "local", "max_keys": 1024});
    let of_mode = |mode: &str| policy(json!({"timeout_ms": 1000, "mode": mode}), rules.clone());
    let stores = [("local", local), ("lease", of_mode("lease")), ("exact", of_mode("exact"))];
    let mut fleets = Vec::new();
    for (name, policy) in &stores {
        let Some(fleet) = Fleet::start("fleet, figures", 1, &gateway.address, policy) else { return };
        fleets.push((*name, fleet, Vec::new(), Duration::ZERO));
    }
    // 1,000 a second: far from what would make them wait for each other.
    let load: Vec<Request> =
        (0..REQUESTS).map(|number| Request::get("/").at(Duration::from_millis(1) * number)).collect();
    for _ in 0..ROUNDS {
        for (_, fleet, took, cpu) in &mut fleets {
            let client = Client::http1(fleet.envoys[0].address("main").unwrap(), 16).unwrap();
            let before = fleet.envoys[0].cpu_time().unwrap();
            took.extend(client.send_all(load.clone()).into_iter().map(|answer| {
                let answer = answer.unwrap();
                assert_eq!(answer.status, 200);
                answer.took
            }));
            *cpu += fleet.envoys[0].cpu_time().unwrap().saturating_sub(before);
        }
    }
    for (name, fleet, took, cpu) in &mut fleets {
        took.sort_unstable();
        let calls: u64 =
            ["answered", "failed"].iter().map(|how| fleet.count(&format!("store_calls_total.{how}"))).sum();
        let thousands = took.len() as u64 / 1_000;
        println!(
            "{name}: {} requests, {} round trips per 1,000, p50 {:?}, p99 {:?}, {:?} of Envoy's processor a request",
            took.len(),
            calls / thousands,
            took[took.len() / 2],
            took[took.len() * 99 / 100],
            *cpu / u32::try_from(took.len()).unwrap(),
        );
        match *name {
            "local" => assert_eq!(calls, 0),
            "lease" => assert!(calls / thousands <= 20, "{calls}"),
            _ => assert_eq!(calls, took.len() as u64),
        }
    }
}
