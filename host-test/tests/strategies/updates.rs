//! A new policy, a drain and a shutdown while requests wait: each of them ends in a way that is counted or logged.

use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::load::Request;

use crate::bench::{Bench, Bodies, policy, serve, within};

fn throttle(rate: u32) -> Value {
    policy(json!([{"name": "slow", "scope": "global", "rate": rate, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": 30_000, "max_waiting": 1_000, "max_waiting_per_key": 1_000}}]))
}

/// Sends sixty requests that take three seconds, and does something when most of them still wait.
/// Returns the statuses; 0 stands for no answer.
fn meanwhile(bench: &Bench, act: impl FnOnce()) -> Vec<u16> {
    let client = bench.http1(60);
    let asking = thread::spawn(move || {
        let requests = (0..60).map(|n| Request::get(&format!("/{n}"))).collect();
        let answers = client.send_all(requests);
        answers.into_iter().map(|answer| answer.map_or(0, |answer| answer.status)).collect::<Vec<u16>>()
    });
    assert!(within(Duration::from_secs(10), || bench.count("waiting") >= 40), "{} wait", bench.count("waiting"));
    sleep(Duration::from_millis(200));
    act();
    asking.join().unwrap()
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|one| **one == status).count()
}

#[test]
fn a_new_policy_loses_no_request_that_waits() {
    let Some(mut bench) = serve("throttle, new policy", &throttle(20), Bodies::Unseen) else { return };
    let statuses = meanwhile(&bench, || {
        // Another rate starts another counter; those who wait keep the moments that they reserved.
        bench.update(&throttle(40));
        let late = bench.http1(1).send(&Request::get("/late")).unwrap();
        assert_eq!(late.status, 200);
    });
    assert_eq!(count(&statuses, 200), 60, "{statuses:?}");
    bench.wait_for("waiting", 0);
    assert_eq!(bench.count("abandoned_total"), 0);
    // And the rule without which nobody waits.
    let statuses = meanwhile(&bench, || bench.update(&policy(json!([]))));
    assert_eq!(count(&statuses, 200), 60, "{statuses:?}");
    bench.wait_for("waiting", 0);
    assert_eq!(bench.upstream.requests(), 121);
    bench.assert_nothing_died();
}

#[test]
fn a_drain_loses_no_request_that_waits() {
    let Some(mut bench) = serve("throttle, drain", &throttle(20), Bodies::Unseen) else { return };
    let statuses = meanwhile(&bench, || {
        bench.envoy.admin("POST", "/healthcheck/fail").unwrap();
        bench.envoy.admin("POST", "/drain_listeners?graceful").unwrap();
    });
    println!("throttle, drained with 50 waiting: {} of 60 answered 200", count(&statuses, 200));
    assert_eq!(count(&statuses, 200), 60, "{statuses:?}");
    bench.wait_for("waiting", 0);
    bench.assert_nothing_died();
}

#[test]
fn a_shutdown_logs_every_request_that_waited() {
    let Some(bench) = serve("throttle, shutdown", &throttle(20), Bodies::Unseen) else { return };
    let statuses = meanwhile(&bench, || {
        bench.envoy.admin("POST", "/quitquitquit").unwrap();
    });
    let (answered, unanswered) = (count(&statuses, 200), count(&statuses, 0));
    let log = bench.envoy.access_log(60).unwrap();
    let ended = log.iter().filter(|line| line["status"] == json!(0) && line["outcome"] == json!("delayed")).count();
    let flags: Vec<&Value> =
        log.iter().filter(|line| line["status"] == json!(0)).map(|line| &line["details"]).collect();
    println!(
        "throttle, shut down with 50 waiting: {answered} answered, {unanswered} connections closed, {ended} logged as \
         delayed without an answer ({:?})",
        flags.first()
    );
    assert_eq!((answered + unanswered, ended), (60, unanswered), "{statuses:?}");
}
