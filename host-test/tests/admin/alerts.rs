//! Alerts in the shipped .wasm: four workers and the main thread, one of which evaluates and sends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_host_test::{Answer, Callout, Cluster, Host, LogLevel, PluginId, Response, Thread};

use crate::console::{Console, admin_api};
use crate::tidegate::{self, from, messages, rule, with_settings};

/// The threads that evaluate alerts.
pub(crate) const WORKERS: usize = 4;

/// More than two rejections a second, for three seconds, sent to the cluster `pager`.
pub(crate) const FLOOD: &str = r#"{"name": "flood", "when": "rejections_per_second_above", "value": 2, "for_seconds": 3,
    "cooldown_seconds": 60, "webhook": {"cluster": "pager", "authority": "pager.test", "path": "/hook", "token": "t0ken"}}"#;

/// A console over four workers whose policy has these alerts.
pub(crate) fn watched(alerts: &str) -> Option<Console> {
    let settings = format!(r#"{}"alerts": [{alerts}],"#, admin_api(""));
    let policy = with_settings(&settings, &rule("per_user", "per_user", 1, 86_400, ""));
    let host = Host::builder().workers(WORKERS).cluster("pager").build();
    let id = host.load(crate::console::plugin(&policy)?).unwrap_or_else(|error| panic!("{error}"));
    Some(Console { host, id })
}

pub(crate) fn second(host: &Host) {
    host.advance(Duration::from_secs(1));
}

/// Ten requests of `user` to the workers in turn, of which the first ever passes; then a second.
pub(crate) fn ten(host: &Host, id: &PluginId, user: &str) {
    tidegate::passing(host, id, WORKERS, 10, &from(user));
    second(host);
}

/// Answers every call under way; returns what was called.
fn answered(host: &Host, answer: &Answer) -> Vec<Callout> {
    let calls = host.callouts();
    for call in &calls {
        host.answer(call, answer.clone());
    }
    calls
}

pub(crate) fn taken(host: &Host) -> Vec<Callout> {
    answered(host, &Answer::Response(Response::new(204)))
}

pub(crate) fn gauge(host: &Host, name: &str) -> u64 {
    host.metrics().gauge(&format!("tidegate.default.alert_firing.{name}")).unwrap()
}

/// Notices that were taken, and given up.
pub(crate) fn counted(host: &Host) -> (u64, u64) {
    let metrics = host.metrics();
    let counter = |name: &str| metrics.counter(&format!("tidegate.default.alerts_{name}_total")).unwrap();
    (counter("sent"), counter("failed"))
}

pub(crate) fn body(call: &Callout) -> Value {
    serde_json::from_slice(&call.body).unwrap()
}

/// What the log told of an alert.
pub(crate) fn told(host: &Host, name: &str) -> Vec<Value> {
    let lines = messages(host, LogLevel::Info);
    let mark = format!("\"alert\":\"{name}\"");
    lines.iter().filter(|line| line.contains(&mark)).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The state that `/v1/status` shows of the first alert.
fn state(at: &Console) -> Value {
    at.get("/v1/status")["alerts"][0]["state"].clone()
}

#[test]
fn a_firing_and_its_end_are_told_once_by_one_of_five() {
    let Some(at) = watched(FLOOD) else { return };
    assert_eq!((state(&at), gauge(&at.host, "flood")), (json!("inactive"), 0));
    let mut calls = Vec::new();
    for number in 0..15 {
        ten(&at.host, &at.id, "a");
        calls.extend(taken(&at.host));
        if number == 2 {
            assert_eq!((state(&at), gauge(&at.host, "flood")), (json!("pending"), 0));
        }
    }
    assert_eq!(calls.len(), 1, "{calls:#?}");
    let call = &calls[0];
    let header = |name: &str| call.headers.text(name).unwrap_or_default();
    assert_eq!([header(":method"), header(":path"), header(":authority")], ["POST", "/hook", "pager.test"]);
    assert_eq!((header("content-type"), header("authorization")), ("application/json".into(), "Bearer t0ken".into()));
    assert_eq!((call.cluster.as_str(), call.timeout_ms), ("pager", 5_000));
    let fired = body(call);
    assert_eq!(
        (&fired["status"], &fired["alert"], &fired["when"], &fired["rule"], &fired["threshold"], &fired["namespace"]),
        (
            &json!("firing"),
            &json!("flood"),
            &json!("rejections_per_second_above"),
            &Value::Null,
            &json!(2),
            &json!("default")
        )
    );
    assert!(fired["value"].as_f64().unwrap() >= 9.0, "{fired}");
    assert!(fired["at"].as_str().unwrap().starts_with("2026-01-01T00:00:0"), "{fired}");
    let shown = at.get("/v1/status")["alerts"][0].clone();
    assert_eq!((&shown["name"], &shown["state"], &shown["value"]), (&json!("flood"), &json!("firing"), &json!(10)));
    assert_eq!(gauge(&at.host, "flood"), 1);
    for _ in 0..30 {
        second(&at.host);
        calls.extend(taken(&at.host));
    }
    assert_eq!(calls.len(), 2);
    let ended = body(&calls[1]);
    assert_eq!((&ended["status"], &ended["id"]), (&json!("resolved"), &fired["id"]));
    assert_eq!((counted(&at.host), gauge(&at.host, "flood")), ((2, 0), 0));
    assert_eq!(told(&at.host, "flood"), [fired, ended], "the log says the same, once");
    assert!(!format!("{:?}", messages(&at.host, LogLevel::Trace)).contains("t0ken"));
    at.sound();
}

/// Notes which thread evaluates: the one that sets the gauges.
fn owner_of(host: &Host) -> Rc<Cell<Option<Thread>>> {
    let owner = Rc::new(Cell::new(None));
    let seen = Rc::clone(&owner);
    host.watch_calls(move |_, call| {
        if call.function == "proxy_record_metric" {
            seen.set(Some(call.thread));
        }
    });
    owner
}

#[test]
fn the_next_one_takes_over_where_a_vm_died_and_nothing_is_told_twice() {
    let Some(at) = watched(FLOOD) else { return };
    let owner = owner_of(&at.host);
    ten(&at.host, &at.id, "a");
    ten(&at.host, &at.id, "a");
    // The first owner dies while the alert is pending.
    let first = owner.get().unwrap();
    at.host.kill(first);
    let mut calls = Vec::new();
    for _ in 0..20 {
        ten(&at.host, &at.id, "a");
        calls.extend(taken(&at.host));
    }
    let second_owner = owner.get().unwrap();
    assert_ne!(second_owner, first);
    assert_eq!(calls.iter().map(|call| call.thread).collect::<Vec<_>>(), [second_owner], "told once");
    // The second dies while it fires.
    at.host.kill(second_owner);
    for _ in 0..40 {
        second(&at.host);
        calls.extend(taken(&at.host));
    }
    assert_ne!(owner.get().unwrap(), second_owner);
    let statuses: Vec<Value> = calls.iter().map(|call| body(call)["status"].clone()).collect();
    assert_eq!(statuses, ["firing", "resolved"]);
    assert_eq!((told(&at.host, "flood").len(), counted(&at.host)), (2, (2, 0)));
}

#[test]
fn a_notice_whose_sender_died_is_sent_by_another() {
    let Some(at) = watched(FLOOD) else { return };
    let mut first = None;
    for _ in 0..8 {
        ten(&at.host, &at.id, "a");
        first = first.or_else(|| at.host.callouts().into_iter().next());
    }
    let first = first.expect("it was sent");
    at.host.kill(first.thread);
    let mut again = Vec::new();
    for _ in 0..20 {
        ten(&at.host, &at.id, "a");
        again.extend(taken(&at.host));
    }
    assert_eq!(again.len(), 1, "{again:#?}");
    assert_ne!(again[0].thread, first.thread);
    assert_eq!(again[0].body, first.body, "the same, so that a receiver can tell");
    assert_eq!(counted(&at.host), (1, 0));
}

/// How many seconds after the first try each try came, where none succeeds; with `fail` as the answer.
fn tries(at: &Console, fail: &Answer) -> Vec<u64> {
    let started = at.host.clock().steady_micros();
    let mut seen = Vec::new();
    for _ in 0..60 {
        ten(&at.host, &at.id, "a");
        let now = (at.host.clock().steady_micros() - started) / 1_000_000;
        let calls = answered(&at.host, fail);
        seen.extend(calls.iter().map(|_| now));
    }
    seen.iter().map(|at| at - seen[0]).collect()
}

#[test]
fn it_is_tried_five_times_and_then_given_up() {
    for fail in [
        Answer::Response(Response::new(500)),
        Answer::Response(Response::new(302)),
        Answer::Response(Response::new(404)),
        Answer::Refused,
        Answer::Reset,
    ] {
        let Some(at) = watched(FLOOD) else { return };
        let tries = tries(&at, &fail);
        assert_eq!(tries.len(), 5, "{fail:?}");
        // 1, 2, 4 and 8 seconds after each failure; this test answers once a second.
        let waits: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.iter().zip([1, 2, 4, 8]).all(|(wait, due)| (due..=due + 1).contains(wait)), "{fail:?} {tries:?}");
        assert_eq!(counted(&at.host), (0, 1), "{fail:?}");
        at.sound();
    }
}

#[test]
fn a_receiver_that_comes_back_is_told() {
    let Some(at) = watched(FLOOD) else { return };
    at.host.set_cluster("pager", Cluster::NoHealthyHost);
    for _ in 0..8 {
        ten(&at.host, &at.id, "a");
    }
    assert_eq!((at.host.callouts().len(), counted(&at.host)), (0, (0, 0)));
    at.host.set_cluster("pager", Cluster::Healthy { max_requests: 1 });
    let mut calls = Vec::new();
    for _ in 0..10 {
        ten(&at.host, &at.id, "a");
        calls.extend(taken(&at.host));
    }
    assert_eq!((calls.len(), counted(&at.host)), (1, (1, 0)));
    at.sound();
}

#[test]
fn a_receiver_that_never_answers_and_a_cluster_that_is_none_are_given_up_too() {
    let Some(at) = watched(FLOOD) else { return };
    for _ in 0..90 {
        ten(&at.host, &at.id, "a");
    }
    assert_eq!(counted(&at.host), (0, 1), "five timeouts of five seconds");
    at.sound();
    let Some(at) = watched(&FLOOD.replace("\"pager\"", "\"nobody\"")) else { return };
    for _ in 0..40 {
        ten(&at.host, &at.id, "a");
    }
    assert_eq!(counted(&at.host), (0, 1));
    let errors: Vec<String> = messages(&at.host, LogLevel::Error);
    assert_eq!(errors, vec!["alert flood: no cluster nobody"; 5]);
}

#[test]
fn the_cooldown_silences_and_a_clock_that_steps_back_does_not() {
    let Some(at) = watched(FLOOD) else { return };
    let burst = |seconds: usize| {
        for _ in 0..seconds {
            ten(&at.host, &at.id, "a");
            taken(&at.host);
        }
        for _ in 0..12 {
            second(&at.host);
            taken(&at.host);
        }
    };
    burst(10);
    assert_eq!(counted(&at.host), (2, 0));
    // An hour back, in the middle of the cooldown; then again over the threshold.
    at.host.clock().set_micros(at.host.clock().micros() - 3_600_000_000);
    burst(10);
    assert_eq!((counted(&at.host), told(&at.host, "flood").len()), ((2, 0), 2), "within the minute");
    for _ in 0..30 {
        second(&at.host);
    }
    burst(10);
    assert_eq!((counted(&at.host), told(&at.host, "flood").len()), ((4, 0), 4), "after it");
    at.sound();
}
