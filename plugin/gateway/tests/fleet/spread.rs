//! What an operator changes on one proxy: in force on all of them within two seconds, one history in one audit log, and
//! there again after a proxy, or the store, has lost everything.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_engine::admin::audit;
use xtask::load::{Answer, Client, Request};

use crate::http::Gateway;
use crate::operate::operated as with_admin_api;
use crate::process::wait_for;
use crate::proxies::{Fleet, policy};
use crate::servers::Redis;
use crate::skip;

/// How long a change may take to all proxies.
const SPREAD: Duration = Duration::from_secs(2);

/// Three proxies with an admin API, over one Redis.
struct Operated {
    fleet: Fleet,
    redis: Redis,
    gateway: Gateway,
    policy: Value,
}

fn operated(test: &str, proxies: usize) -> Option<Operated> {
    if !skip::has(test, &["redis-server"]) {
        return None;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let rules = json!([{"name": "each", "scope": "per_user", "rate": 2, "window_seconds": 86_400}]);
    let policy = with_admin_api(&policy(json!({"timeout_ms": 1000}), rules));
    let fleet = Fleet::start(test, proxies, &gateway.address, &policy)?;
    Some(Operated { fleet, redis, gateway, policy })
}

impl Operated {
    fn call(&self, proxy: usize, method: &str, path: &str, body: &Value) -> Answer {
        call(&self.client(proxy), method, path, body)
    }

    fn client(&self, proxy: usize) -> Client {
        Client::http1(self.fleet.envoys[proxy].address("main").unwrap(), 1).unwrap()
    }

    fn get(&self, proxy: usize, path: &str) -> Value {
        self.call(proxy, "GET", path, &Value::Null).json().unwrap()
    }

    /// Gives a user everything, and returns the grant's id.
    fn grant(&self, proxy: usize, user: &str) -> String {
        let given = self.call(proxy, "POST", "/v1/overrides", &grant(user));
        assert_eq!(given.status, 201, "{:?}", given.json());
        given.json().unwrap()["override_id"].as_str().unwrap().to_owned()
    }

    /// How many of five requests of a user pass.
    fn passing(&self, proxy: usize, user: &str) -> usize {
        let client = self.client(proxy);
        let pass = |_: &usize| client.send(&Request::get("/").header("x-user", user)).unwrap().status == 200;
        (0..5).filter(pass).count()
    }

    /// Waits until what `see` sees of every proxy is as it should be; returns how long it took.
    fn everywhere(&self, what: &str, see: impl Fn(usize) -> bool) -> Duration {
        let start = Instant::now();
        let all = || (0..self.fleet.envoys.len()).all(&see).then_some(());
        wait_for(what, Duration::from_secs(20), all);
        start.elapsed()
    }

    fn heads(&self) -> BTreeSet<String> {
        (0..self.fleet.envoys.len()).map(|proxy| self.get(proxy, "/v1/audit")["head"].to_string()).collect()
    }
}

fn call(client: &Client, method: &str, path: &str, body: &Value) -> Answer {
    let mut request = Request::new(method, &format!("/.tidegate{path}")).header("authorization", "Bearer secret");
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    client.send(&request).unwrap()
}

fn grant(user: &str) -> Value {
    json!({"target_user_id": user, "reason": "customer_support", "duration_minutes": 60, "unlimited": true})
}

#[test]
fn a_change_on_one_proxy_is_in_force_on_all() {
    let Some(mut at) = operated("fleet, one history", 3) else { return };
    assert_eq!(at.passing(1, "alice"), 2, "her quota");
    let id = at.grant(0, "alice");
    assert_eq!(at.passing(0, "alice"), 5, "at once where it was given");
    let took = at.everywhere("a grant", |proxy| at.passing(proxy, "alice") == 5);
    assert!(took <= SPREAD, "{took:?}");
    // Nobody has to know where a grant was given: any proxy takes it back, known there or not.
    let second = at.grant(0, "bob");
    assert_eq!(at.call(1, "DELETE", &format!("/v1/overrides/{second}"), &Value::Null).status, 204);
    assert_eq!(at.call(2, "DELETE", &format!("/v1/overrides/{second}"), &Value::Null).status, 404);
    assert_eq!(at.call(2, "DELETE", &format!("/v1/overrides/{id}"), &Value::Null).status, 204);
    at.everywhere("the end of a grant", |proxy| at.passing(proxy, "alice") == 0);
    // A rule, and a kill switch for it.
    let rule = json!({"scope": "per_endpoint", "rate": 1, "window_seconds": 86_400, "endpoints": ["/slow"]});
    assert_eq!(at.call(1, "PUT", "/v1/rules/slow", &rule).status, 200);
    let took = at.everywhere("a rule", |proxy| at.call(proxy, "GET", "/v1/rules/slow", &Value::Null).status == 200);
    assert!(took <= SPREAD, "{took:?}");
    // By somebody else each time, whose own quota is whole.
    let users = AtomicUsize::new(0);
    let slow = |proxy: usize| {
        let user = format!("u{}", users.fetch_add(1, Ordering::Relaxed));
        at.client(proxy).send(&Request::get("/slow").header("x-user", user)).unwrap().status
    };
    assert_eq!((slow(0), slow(1), slow(2)), (200, 429, 429));
    let switch = json!({"target_rule": "slow", "reason": "maintenance", "duration_minutes": 5, "unlimited": true});
    assert_eq!(at.call(2, "POST", "/v1/overrides", &switch).status, 201);
    let took = at.everywhere("a kill switch", |proxy| slow(proxy) == 200);
    assert!(took <= SPREAD, "{took:?}");
    // One history, the same in every answer and in every log.
    at.everywhere("one head", |_| at.heads().len() == 1);
    for proxy in 0..3 {
        let trail = at.get(proxy, "/v1/audit");
        assert_eq!(audit::verify(trail.to_string().as_bytes(), None), Ok(6), "{trail}");
        let head = (6, trail["head"]["hash"].as_str().unwrap());
        let lines = at.fleet.envoys[proxy].flushed_log_lines().unwrap();
        let log: Vec<&str> = lines.iter().filter_map(|line| Some(&line[line.find("{\"seq\":")?..])).collect();
        assert_eq!(audit::verify(log.join("\n").as_bytes(), Some(head)), Ok(6), "{log:#?}");
        let status = at.get(proxy, "/v1/status");
        assert_eq!((&status["runtime"]["in_step"], &status["generation"]), (&json!(true), &json!(6)), "{status}");
    }
    at.fleet.assert_nothing_died();
}

#[test]
fn changes_on_all_proxies_at_once_are_all_kept() {
    const EACH: usize = 20;
    let Some(mut at) = operated("fleet, changes at once", 3) else { return };
    let given: BTreeSet<String> = std::thread::scope(|scope| {
        let of_one = |proxy: usize| {
            let client = at.client(proxy);
            scope.spawn(move || {
                let one = |number| {
                    // Whoever is beaten sixteen times in a row is told so, and nothing was changed.
                    let body = grant(&format!("u{proxy}-{number}"));
                    loop {
                        let answer = call(&client, "POST", "/v1/overrides", &body);
                        if answer.status == 201 {
                            break answer.json().unwrap()["override_id"].as_str().unwrap().to_owned();
                        }
                        assert_eq!(answer.status, 503, "{:?}", answer.json());
                    }
                };
                (0..EACH).map(one).collect::<Vec<String>>()
            })
        };
        let all: Vec<_> = (0..3).map(of_one).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(given.len(), 3 * EACH);
    at.everywhere("one head", |_| at.heads().len() == 1);
    for proxy in 0..3 {
        let shown = at.get(proxy, "/v1/overrides");
        let ids: BTreeSet<String> = shown["overrides"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["override_id"].as_str().unwrap().into())
            .collect();
        assert_eq!(ids, given);
        let trail = at.get(proxy, "/v1/audit");
        assert_eq!(audit::verify(trail.to_string().as_bytes(), None), Ok(3 * EACH), "{trail}");
    }
    at.fleet.assert_nothing_died();
}

#[test]
fn what_was_changed_outlives_any_proxy_and_the_store() {
    let Some(mut at) = operated("fleet, changes outlive", 2) else { return };
    at.grant(0, "alice");
    at.everywhere("a grant", |proxy| at.passing(proxy, "alice") == 5);
    // All proxies end, and others begin.
    at.fleet = Fleet::start("fleet, changes outlive", 2, &at.gateway.address, &at.policy).unwrap();
    let took = at.everywhere("the grant on new proxies", |proxy| at.passing(proxy, "alice") == 5);
    assert!(took <= SPREAD, "{took:?}");
    // The store loses everything.
    at.redis.kill();
    let refused = at.call(0, "POST", "/v1/overrides", &grant("bob"));
    assert_eq!(refused.status, 503, "{:?}", refused.json());
    assert_eq!(at.get(0, "/v1/overrides")["overrides"].as_array().unwrap().len(), 1, "it still applies");
    at.redis.restart(&[]);
    wait_for("the store", Duration::from_secs(20), || at.redis.try_ask(&["PING"]));
    wait_for("what the proxies know", Duration::from_secs(20), || {
        (at.redis.try_ask(&["EXISTS", "tg1:{t:s}:state"])? == redis::Value::Int(1)).then_some(())
    });
    wait_for("a change", Duration::from_secs(20), || {
        (at.call(1, "POST", "/v1/overrides", &grant("bob")).status == 201).then_some(())
    });
    at.everywhere("both grants", |proxy| at.get(proxy, "/v1/overrides")["overrides"].as_array().unwrap().len() == 2);
    at.everywhere("one head", |_| at.heads().len() == 1);
    let trail = at.get(0, "/v1/audit");
    assert_eq!(audit::verify(trail.to_string().as_bytes(), None), Ok(2), "{trail}");
    // What is in its place and is no state is left alone, and said once.
    at.redis.ask(&["SET", "tg1:{t:s}:state", "x"]);
    wait_for("a line in the log", Duration::from_secs(20), || {
        (at.fleet.lines("does not give tg1:{t:s}:state (WRONGTYPE)") >= 1).then_some(())
    });
    assert_eq!(at.call(0, "POST", "/v1/overrides", &grant("carol")).status, 503);
    at.redis.ask(&["DEL", "tg1:{t:s}:state"]);
    wait_for("a change", Duration::from_secs(20), || {
        (at.call(1, "POST", "/v1/overrides", &grant("carol")).status == 201).then_some(())
    });
    at.fleet.assert_nothing_died();
}
