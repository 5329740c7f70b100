//! What admin APIs change, as a proxy shares it with its fleet: who looks at the store and when, whose history goes on, and
//! what a caller is told. The test plays `state.lua`.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_engine::admin::audit;
use tidegate_host_test::{Answer, Callout, LogLevel, Request, Stream};
use xtask::envoy::fetch::hex_sha256;

use crate::played::{MS, Proxy, answer, granted, policy, proxy_of};
use crate::tidegate;

const TOKEN: &str = "write-token-51aa";
const WORKERS: usize = 4;
const SECOND: Duration = Duration::from_secs(1);
const KEY: &str = "tg1:{default:s}:state";

/// What the store holds, a tag and a text, and its clock.
struct Store {
    held: RefCell<(String, String)>,
    micros: Cell<u64>,
}

impl Store {
    /// An empty store, which lives in the time of this proxy.
    fn of(at: &Proxy) -> Self {
        Self { held: RefCell::default(), micros: Cell::new(at.host.clock().micros()) }
    }

    /// What the script answers.
    fn run(&self, call: &Callout) -> Answer {
        let words = words(call);
        assert_eq!((words[2].as_str(), words[3].as_str()), ("1", KEY));
        let mut held = self.held.borrow_mut();
        let now = self.micros.get();
        let result = match (held.0 == words[4], words.get(5)) {
            (false, _) => json!([1, now, held.1]),
            (true, None) => json!([0, now]),
            (true, Some(tag)) => {
                *held = (tag.clone(), words[6].clone());
                json!([2, now])
            }
        };
        answer(200, json!({ "result": result }).to_string())
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.held.borrow().1).unwrap()
    }
}

fn words(call: &Callout) -> Vec<String> {
    serde_json::from_slice(&call.body).unwrap()
}

/// A proxy of the fleet of one store, with an admin API.
fn proxy() -> Option<Proxy> {
    let token = hex_sha256(TOKEN.as_bytes());
    let api =
        format!(r#""admin_api": {{"tokens": [{{"name": "ops", "role": "write", "sha256": "{token}"}}]}}, "store":"#);
    let rules = [tidegate::rule("each", "per_user", 1, 86_400, r#", "on_store_error": "deny""#)];
    proxy_of(WORKERS, &policy(r#", "breaker": {"failures": 1, "open_ms": 60000}"#, &rules).replace(r#""store":"#, &api))
}

fn call(at: &Proxy, worker: usize, method: &str, path: &str, body: &Value) -> Stream {
    let mut request =
        Request::new(method, &format!("/.tidegate{path}")).header("authorization", format!("Bearer {TOKEN}"));
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    at.host.request(worker, &at.id, request)
}

fn get(at: &Proxy, path: &str) -> Value {
    json_of(&call(at, 1, "GET", path, &Value::Null))
}

fn json_of(stream: &Stream) -> Value {
    serde_json::from_slice(&stream.response().unwrap().body).unwrap()
}

fn give(at: &Proxy, worker: usize, user: &str, minutes: u64) -> Stream {
    let what = json!({"target_user_id": user, "reason": "testing", "duration_minutes": minutes, "unlimited": true});
    call(at, worker, "POST", "/v1/overrides", &what)
}

/// Answers all calls that are out, and those that follow, from a store; returns how many there were.
fn answered(at: &Proxy, store: &Store) -> usize {
    let mut count = 0;
    loop {
        let calls = at.host.callouts();
        if calls.is_empty() {
            return count;
        }
        for call in calls {
            at.host.answer(&call, store.run(&call));
            count += 1;
        }
    }
}

/// A second of proxies whose store answers.
fn second(store: &Store, proxies: &[&Proxy]) -> usize {
    store.micros.set(store.micros.get() + 1_000_000);
    for at in proxies {
        at.host.advance(SECOND);
    }
    proxies.iter().map(|at| answered(at, store)).sum()
}

fn overrides(at: &Proxy) -> usize {
    get(at, "/v1/overrides")["overrides"].as_array().unwrap().len()
}

#[test]
fn one_vm_of_each_proxy_looks_once_a_second() {
    let Some(at) = proxy() else { return };
    let store = Store::of(&at);
    for _ in 0..10 {
        at.host.advance(SECOND);
        let calls = at.host.callouts();
        assert_eq!(calls.len(), 1, "one of {WORKERS} workers and the main thread");
        assert_eq!((calls[0].timeout_ms, words(&calls[0])[4].as_str()), (1_000, ""), "{:?}", words(&calls[0]));
        at.host.answer(&calls[0], store.run(&calls[0]));
    }
    assert_eq!(get(&at, "/v1/status")["runtime"]["in_step"], json!(true));
    // A call without an answer: the next look comes all the same, and three seconds later it is said.
    at.host.advance(4 * SECOND);
    assert_eq!(get(&at, "/v1/status")["runtime"]["in_step"], json!(false));
    assert_eq!(second(&store, &[&at]), 1);
    assert_eq!(get(&at, "/v1/status")["runtime"]["in_step"], json!(true));
    let said: Vec<String> =
        tidegate::messages(&at.host, LogLevel::Warn).into_iter().filter(|line| line.contains("of the fleet")).collect();
    assert!(said[0].contains("does not give tg1:{default:s}:state"), "{said:#?}");
    assert!(said.last().unwrap().contains("comes here again") && said.len() <= 2 * (WORKERS + 1), "{said:#?}");
    at.sound();
}

#[test]
fn a_change_is_answered_once_the_store_has_it() {
    let Some(at) = proxy() else { return };
    let store = Store::of(&at);
    let stream = give(&at, 0, "a", 60);
    assert!(stream.response().is_none(), "it waits");
    let ask = at.call();
    at.host.answer(&ask, store.run(&ask));
    assert!(stream.response().is_none(), "and waits until it is stored");
    assert_eq!(overrides(&at), 0);
    let put = at.call();
    assert_eq!((words(&put).len(), put.timeout_ms), (7, 1_000));
    at.host.answer(&put, store.run(&put));
    assert_eq!(stream.status(), 201);
    assert_eq!((overrides(&at), store.state()["generation"].clone()), (1, json!(1)));
    // What changes nothing is not put.
    let absent = call(&at, 2, "DELETE", "/v1/overrides/ov_0000000000000000", &Value::Null);
    assert_eq!(answered(&at, &store), 1);
    assert_eq!(absent.status(), 404);
    let wrong = call(&at, 2, "PUT", "/v1/rules/x", &json!({"rate": -1}));
    assert_eq!((answered(&at, &store), wrong.status()), (1, 422));
    // Counting starts anew on this proxy; that it did is noted for all.
    let reset = call(&at, 3, "POST", "/v1/metrics/each/reset", &Value::Null);
    assert_eq!((answered(&at, &store), reset.status()), (2, 200));
    assert_eq!(json_of(&reset)["rules"]["each"]["total"], json!(0));
    let held = store.state();
    assert_eq!((&held["baselines"], &held["audit"]["entries"][1]["action"]), (&json!([]), &json!("metrics_reset")));
    at.sound();
}

#[test]
fn whoever_was_slower_changes_what_the_other_made() {
    let (Some(one), Some(other)) = (proxy(), proxy()) else { return };
    let store = Store::of(&one);
    let (mine, theirs) = (give(&one, 0, "a", 60), give(&other, 0, "b", 60));
    // Both see that nothing was done, and both put what follows that.
    for at in [&one, &other] {
        let ask = at.call();
        at.host.answer(&ask, store.run(&ask));
    }
    let (first, late) = (other.call(), one.call());
    other.host.answer(&first, store.run(&first));
    assert_eq!(theirs.status(), 201);
    one.host.answer(&late, store.run(&late));
    assert!(mine.response().is_none(), "it puts again what follows the other's");
    assert_eq!(answered(&one, &store), 1);
    assert_eq!(mine.status(), 201);
    assert_eq!(overrides(&one), 2);
    assert_eq!(second(&store, &[&one, &other]), 2);
    assert_eq!(overrides(&other), 2);
    let trail = get(&other, "/v1/audit");
    assert_eq!((&trail, audit::verify(trail.to_string().as_bytes(), None)), (&get(&one, "/v1/audit"), Ok(2)));
}

#[test]
fn a_change_names_rules_that_only_others_know_yet() {
    let (Some(one), Some(other)) = (proxy(), proxy()) else { return };
    let store = Store::of(&one);
    let rule = json!({"scope": "per_ip", "rate": 1, "window_seconds": 60});
    let switch = json!({"target_rule": "new", "reason": "maintenance", "duration_minutes": 5, "unlimited": true});
    let put = call(&one, 0, "PUT", "/v1/rules/new", &rule);
    answered(&one, &store);
    assert_eq!(put.status(), 200);
    // A worker that has had no request since, and a proxy that has not looked since; what it was asked for is done with
    // what it learns.
    for (at, worker) in [(&one, 1), (&other, 2)] {
        let given = call(at, worker, "POST", "/v1/overrides", &switch);
        answered(at, &store);
        assert_eq!(given.status(), 201, "{}", json_of(&given));
    }
    // A rule that comes while the proxy asks.
    let reset = call(&one, 1, "POST", "/v1/metrics/newer/reset", &Value::Null);
    let put = call(&other, 1, "PUT", "/v1/rules/newer", &rule);
    answered(&other, &store);
    assert_eq!(put.status(), 200);
    answered(&one, &store);
    assert_eq!(reset.status(), 200, "{}", json_of(&reset));
    second(&store, &[&one, &other]);
    assert_eq!(get(&one, "/v1/audit"), get(&other, "/v1/audit"));
    one.sound();
    other.sound();
}

#[test]
fn a_counter_goes_by_its_rule_though_the_rules_change_before_the_answer() {
    let Some(at) = proxy() else { return };
    let store = Store::of(&at);
    for (name, window) in [("first", 60), ("second", 120)] {
        let rule = json!({"scope": "per_ip", "rate": 1, "window_seconds": window});
        let put = call(&at, 0, "PUT", &format!("/v1/rules/{name}"), &rule);
        answered(&at, &store);
        assert_eq!(put.status(), 200);
    }
    let look = call(&at, 1, "GET", "/v1/counters?rule=second&key=192.0.2.1", &Value::Null);
    let asked = at.call();
    let removed = call(&at, 1, "DELETE", "/v1/rules/first", &Value::Null);
    while removed.response().is_none() {
        let change = at.host.callouts().into_iter().find(|call| call.token != asked.token).unwrap();
        at.host.answer(&change, store.run(&change));
    }
    assert_eq!(removed.status(), 204);
    at.host.answer(&asked, granted(&[[0, 0, 1, 0, 0]]));
    let shown = json_of(&look);
    assert_eq!((&shown["rules"][0]["rule"], &shown["rules"][0]["window_seconds"]), (&json!("second"), &json!(120)));
    at.sound();
}

#[test]
fn a_caller_who_is_always_slower_is_told_that_nothing_was_changed() {
    let (Some(at), Some(other)) = (proxy(), proxy()) else { return };
    let store = Store::of(&at);
    let stream = give(&at, 0, "slow", 60);
    for _ in 0..40 {
        if stream.response().is_some() {
            break;
        }
        give(&other, 0, "quick", 60);
        answered(&other, &store);
        let call = at.call();
        at.host.answer(&call, store.run(&call));
    }
    assert_eq!(stream.status(), 503);
    assert_eq!(json_of(&stream)["detail"], "Others changed the fleet's state at each try: nothing was changed.");
    let held = store.state();
    assert!(held["grants"].as_array().unwrap().iter().all(|grant| grant["target_user_id"] == "quick"), "{held}");
}

#[test]
fn a_grant_ends_everywhere_at_its_moment_and_is_noted_once() {
    let (Some(one), Some(other)) = (proxy(), proxy()) else { return };
    let store = Store::of(&one);
    let given = give(&one, 0, "a", 1);
    answered(&one, &store);
    assert_eq!(given.status(), 201);
    second(&store, &[&one, &other]);
    assert_eq!(overrides(&other), 1);
    for _ in 0..59 {
        second(&store, &[&one, &other]);
    }
    assert_eq!((overrides(&one), overrides(&other)), (0, 0), "sixty seconds later");
    for _ in 0..3 {
        second(&store, &[&one, &other]);
    }
    let trail = get(&one, "/v1/audit");
    let actions: Vec<&str> =
        trail["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["override_given", "override_expired"]);
    assert_eq!(get(&other, "/v1/audit"), trail);
    assert_eq!(store.state()["grants"], json!([]));
}

#[test]
fn a_proxy_whose_clock_is_wrong_ends_no_grant_of_the_others() {
    let (Some(one), Some(wrong)) = (proxy(), proxy()) else { return };
    let store = Store::of(&one);
    let now = one.host.clock().micros();
    give(&one, 0, "a", 60);
    answered(&one, &store);
    for clock in [0, now + 86_400_000_000, u64::MAX] {
        wrong.host.clock().set_micros(clock);
        for _ in 0..3 {
            second(&store, &[&wrong, &one]);
        }
        assert_eq!(overrides(&one), 1, "a clock at {clock}");
        // What is given there is in force where the time is right, and ends with the store's.
        let given = give(&wrong, 0, "b", 1);
        answered(&wrong, &store);
        assert_eq!(given.status(), 201, "a clock at {clock}");
        second(&store, &[&wrong, &one]);
        assert_eq!(overrides(&one), 2, "a clock at {clock}");
        for _ in 0..61 {
            second(&store, &[&wrong, &one]);
        }
        assert_eq!((overrides(&one), store.state()["grants"].as_array().unwrap().len()), (1, 1), "a clock at {clock}");
    }
    wrong.sound();
}

#[test]
fn a_store_that_lost_everything_is_given_back_what_a_proxy_knows() {
    let Some(at) = proxy() else { return };
    let store = Store::of(&at);
    give(&at, 0, "a", 60);
    answered(&at, &store);
    let (tag, text) = store.held.take();
    second(&store, &[&at]);
    assert_eq!(*store.held.borrow(), (tag, text), "asked, and put");
    // One that lost only the last change, too; a change that comes first is on top of what the proxy knows.
    let before = store.held.borrow().clone();
    give(&at, 0, "b", 60);
    answered(&at, &store);
    *store.held.borrow_mut() = before;
    give(&at, 0, "c", 60);
    answered(&at, &store);
    assert_eq!((overrides(&at), store.state()["generation"].clone()), (3, json!(3)));
    at.sound();
}

#[test]
fn a_store_that_fails_changes_nothing_and_says_so() {
    let Some(at) = proxy() else { return };
    let store = Store::of(&at);
    for bad in [
        answer(400, r#"{"error":"WRONGTYPE Operation against a key"}"#),
        answer(200, r#"{"result":[1,5,"{}"]}"#),
        answer(200, r#"{"result":[2,5]}"#),
        answer(200, r#"{"result":[0]}"#),
        answer(200, format!(r#"{{"result":[1,5,"{}"]}}"#, "x".repeat(2 << 20))),
        answer(200, "<html>"),
        Answer::Reset,
    ] {
        let stream = give(&at, 0, "a", 60);
        let ask = at.call();
        at.host.answer(&ask, bad.clone());
        // A store that says it took what nobody put is asked again.
        let detail = if stream.response().is_some() { json_of(&stream)["detail"].clone() } else { Value::Null };
        if detail.is_null() {
            answered(&at, &store);
            assert_eq!(stream.status(), 201);
            let id = json_of(&stream)["override_id"].as_str().unwrap().to_owned();
            call(&at, 0, "DELETE", &format!("/v1/overrides/{id}"), &Value::Null);
            answered(&at, &store);
        } else {
            assert_eq!((stream.status(), detail), (503, json!("The store does not answer.")));
        }
        assert_eq!(overrides(&at), 0);
        // Where the change itself has no answer nobody knows.
        let stream = give(&at, 0, "a", 60);
        let ask = at.call();
        at.host.answer(&ask, store.run(&ask));
        at.says(Answer::Reset);
        assert_eq!(stream.status(), 503);
        let told = json_of(&stream)["detail"].to_string();
        assert!(told.contains("the audit log will show whether the change was made"), "{told}");
    }
    assert!(at.is_healthy(), "counters are another matter");
    // While the store is left alone nobody waits for it.
    let refused = at.from("a");
    at.says(Answer::Reset);
    assert_eq!((refused.status(), at.is_healthy()), (429, false));
    assert_eq!(get(&at, "/v1/status")["store"], json!({"type": "redis", "healthy": false, "survives_restart": true}));
    let stream = give(&at, 0, "a", 60);
    assert_eq!((stream.status(), at.is_asked()), (503, false));
    at.sound();
}

#[test]
fn a_caller_who_leaves_and_a_vm_that_dies_lose_nothing_that_was_taken() {
    let Some(at) = proxy() else { return };
    let store = Store::of(&at);
    let stream = give(&at, 0, "a", 60);
    let ask = at.call();
    at.host.answer(&ask, store.run(&ask));
    let put = at.call();
    stream.disconnect();
    at.host.answer(&put, store.run(&put));
    assert_eq!(overrides(&at), 0, "nobody waited for it");
    second(&store, &[&at]);
    assert_eq!(overrides(&at), 1, "and the next look finds it");
    give(&at, 0, "b", 60);
    let ask = at.call();
    at.host.answer(&ask, store.run(&ask));
    let put = at.call();
    let taken = store.run(&put);
    at.host.kill(put.thread);
    at.host.answer(&put, taken);
    at.host.advance(10 * MS);
    for _ in 0..3 {
        second(&store, &[&at]);
    }
    assert_eq!(overrides(&at), 2);
}

#[test]
fn a_full_state_of_a_fleet_still_takes_what_an_operator_must_be_able_to_do() {
    let (Some(one), Some(other)) = (proxy(), proxy()) else { return };
    let store = Store::of(&one);
    let done = |method: &str, path: &str, body: &Value| {
        let stream = call(&one, 0, method, path, body);
        answered(&one, &store);
        stream.status()
    };
    let given = give(&one, 0, "a", 1);
    answered(&one, &store);
    let id = json_of(&given)["override_id"].as_str().unwrap().to_owned();
    give(&one, 0, "b", 60);
    answered(&one, &store);
    let mut full = 0;
    let users = [[60; 6].as_slice(), &[9; 5], &[1; 12]].concat();
    for (number, users) in users.into_iter().enumerate() {
        let users: Vec<String> = (0..users).map(|n| format!("{n:01000}")).collect();
        let rule = json!({"scope": "per_user", "rate": 9, "window_seconds": 60, "user_ids": users});
        match done("PUT", &format!("/v1/rules/r{number}"), &rule) {
            409 => full += 1,
            status => assert_eq!(status, 200),
        }
    }
    assert!(full > 0, "{} bytes", store.held.borrow().1.len());
    for _ in 0..12 {
        assert_eq!(done("POST", "/v1/metrics/each/reset", &Value::Null), 200);
    }
    let kill = json!({"target_rule": "*", "reason": "emergency_access", "duration_minutes": 5, "unlimited": true});
    assert_eq!(done("POST", "/v1/overrides", &kill), 201);
    assert_eq!(second(&store, &[&one, &other]), 2);
    assert_eq!(overrides(&other), 3, "it is in force on the other too");
    assert_eq!(done("DELETE", &format!("/v1/overrides/{id}"), &Value::Null), 204);
    give(&one, 0, "c", 1);
    answered(&one, &store);
    for _ in 0..62 {
        second(&store, &[&one, &other]);
    }
    assert_eq!(store.state()["grants"].as_array().map(Vec::len), Some(2), "its end is noted");
    assert_eq!(get(&other, "/v1/audit")["entries"].as_array().unwrap().last().unwrap()["action"], "override_expired");
    assert_eq!(get(&one, "/v1/status")["runtime"]["in_step"], json!(true));
    assert_eq!(done("DELETE", "/v1/rules/r0", &Value::Null), 204);
    assert!(store.held.borrow().1.len() <= 500_000);
    one.sound();
}

#[test]
fn what_is_too_large_to_be_taken_over_is_said_once_and_looked_for_again() {
    let Some(at) = proxy() else { return };
    let store = Store::of(&at);
    give(&at, 0, "a", 1);
    answered(&at, &store);
    // A version with other bounds has put more than this one would.
    let put = |generation: u64, bytes: usize| {
        let mut state = store.state();
        state["generation"] = json!(generation);
        let rule = json!({"name": "x", "scope": "global", "rate": 9, "window_seconds": 60, "more": "x".repeat(bytes)});
        state["rules"] = json!([rule]);
        let tag = format!("{generation}-{}", state["audit"]["head"]["hash"].as_str().unwrap());
        *store.held.borrow_mut() = (tag, state.to_string());
    };
    put(2, 499_500);
    for _ in 0..62 {
        assert_eq!(second(&store, &[&at]), 1, "one look a second, an end that is to be noted or not");
    }
    assert_eq!(get(&at, "/v1/rules")["generation"], json!(1));
    assert_eq!(get(&at, "/v1/status")["runtime"]["in_step"], json!(true));
    put(3, 10);
    for _ in 0..3 {
        second(&store, &[&at]);
    }
    assert_eq!(store.state()["grants"], json!([]));
    let said = tidegate::messages(&at.host, LogLevel::Error);
    let said: Vec<&String> = said.iter().filter(|line| line.contains("too large for this proxy")).collect();
    assert!((1..=WORKERS + 1).contains(&said.len()), "{said:?}");
    at.sound();
}
