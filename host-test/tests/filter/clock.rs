//! A wall clock that steps far ahead and back: what waits for a moment of its own does not wait for the whole step.

use std::time::Duration;

use crate::tidegate::{assert_nothing_died, from, module_or_skip, plugin, policy, rule, serve};
use tidegate_host_test::{Answer, Host, Request, Response};

const YEARS: u64 = 10 * 365 * 86_400 * 1_000_000;

/// The wall clock is ten years ahead for a second, in which `meanwhile` is done.
fn step(host: &Host, meanwhile: impl FnOnce()) {
    host.clock().set_micros(host.clock().micros() + YEARS);
    meanwhile();
    host.advance(Duration::from_secs(1));
    host.clock().set_micros(host.clock().micros() - YEARS);
}

#[test]
fn queued_requests_are_carried_out_and_forgotten_in_time() {
    let module = module_or_skip!();
    let queue = r#", "burst": 1, "strategy":
        {"type": "queue", "cluster": "jobs", "authority": "jobs", "result_ttl_seconds": 5, "max_queued": 100}"#;
    let host = Host::builder().workers(1).cluster("jobs").build();
    let id = host.load(plugin(&module, &policy(&rule("q", "per_user", 1, 2, queue)))).unwrap();
    let send = |user: &str| host.request(0, &id, from(user));
    let accepted = |user: &str| {
        send(user);
        let stream = send(user);
        assert_eq!(stream.status(), 202, "{user}");
        stream.response().unwrap().headers.text("location").unwrap()
    };
    // It is accepted by the clock that is ahead, and due when that is right again.
    let mut ahead = String::new();
    step(&host, || ahead = accepted("a"));
    host.advance(Duration::from_secs(2));
    assert_eq!(host.callouts().len(), 1, "the one that was accepted meanwhile");
    let right = accepted("b");
    host.advance(Duration::from_secs(3));
    assert_eq!(host.callouts().len(), 2, "one that was accepted since");
    for callout in host.callouts() {
        host.answer(&callout, Answer::Response(Response::new(200)));
    }
    let page = |location: &str| host.request(0, &id, Request::get(location)).status();
    assert_eq!([page(&ahead), page(&right)], [200, 200]);
    // Slots are looked over within a second, and results are kept for five.
    host.advance(Duration::from_secs(8));
    assert_eq!([page(&ahead), page(&right)], [404, 404]);
    assert_nothing_died(&host);
}

#[test]
fn offenders_are_told_to_all_workers_within_a_second() {
    let module = module_or_skip!();
    let digest = "0".repeat(64);
    let admin = format!(r#""admin_api": {{"tokens": [{{"name": "ops", "role": "read", "sha256": "{digest}"}}]}},"#);
    let text = crate::tidegate::with_settings(&admin, &rule("closed", "per_user", 1, 3_600, ""));
    let (host, id) = serve(&module, 1, &text);
    let refuse = |user: &str| {
        host.request(0, &id, from(user));
        assert_eq!(host.request(0, &id, from(user)).status(), 429, "{user}");
    };
    let is_told = |user: &str| {
        let data = host.shared_data("tidegate");
        data.iter().any(|(_, value)| value.windows(user.len()).any(|part| part == user.as_bytes()))
    };
    step(&host, || refuse("offender-one"));
    assert!(is_told("offender-one"));
    refuse("offender-two");
    host.advance(Duration::from_millis(1_100));
    assert!(is_told("offender-two"));
}
