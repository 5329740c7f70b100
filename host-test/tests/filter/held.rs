//! The gauge of held requests, over the lives and deaths of the VMs that hold them.

use std::time::Duration;

use crate::tidegate::{from, module_or_skip, policy, rule, serve};
use tidegate_host_test::{Host, Module, PluginId, Status, Thread};

/// A worker's every second request of a user is held for a minute.
fn for_a_minute() -> String {
    let throttle = r#", "burst": 1, "strategy": {"type": "throttle", "max_delay_ms": 60000}"#;
    policy(&rule("r", "per_user", 1, 60, throttle))
}

fn held_for_a_minute(module: &Module) -> (Host, PluginId) {
    serve(module, 2, &for_a_minute())
}

/// Has a worker hold a request of each of these users.
fn hold(host: &Host, id: &PluginId, worker: usize, users: &[&str]) {
    for user in users {
        for _ in 0..2 {
            drop(host.request(worker, id, from(user)));
        }
    }
}

fn waiting(host: &Host) -> u64 {
    host.metrics().gauge("tidegate.default.waiting").unwrap()
}

#[test]
fn what_a_dead_vm_held_leaves_the_gauge_after_another_took_its_place() {
    let module = module_or_skip!();
    let (host, id) = held_for_a_minute(&module);
    hold(&host, &id, 0, &["a", "b", "c", "d", "e"]);
    host.advance(Duration::from_secs(1));
    hold(&host, &id, 1, &["f", "g"]);
    hold(&host, &id, 0, &["h"]);
    assert_eq!(waiting(&host), 8);
    host.advance(Duration::from_secs(1));
    host.kill(Thread::Worker(0));
    drop(host.request(0, &id, from("x")));
    host.advance(Duration::from_secs(2));
    assert_eq!(waiting(&host), 8, "nobody knows yet");
    drop(host.request(0, &id, from("y")));
    host.advance(Duration::from_secs(35));
    assert_eq!(waiting(&host), 2, "those of the worker that lives");
    host.advance(Duration::from_secs(30));
    assert_eq!(waiting(&host), 0, "which have gone on");
    // Afterwards it counts as ever, on both.
    for (worker, users) in [(0, ["k", "l", "m"]), (1, ["n", "o", "p"])] {
        hold(&host, &id, worker, &users);
    }
    assert_eq!(waiting(&host), 6);
    host.advance(Duration::from_secs(61));
    assert_eq!(waiting(&host), 0);
}

#[test]
fn idle_and_busy_spells_longer_than_a_seat_leave_the_gauge_right() {
    let module = module_or_skip!();
    let (host, id) = held_for_a_minute(&module);
    for spell in 0..6_u64 {
        let users: Vec<String> = (0..3).map(|number| format!("{spell}-{number}")).collect();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        hold(&host, &id, 0, &users);
        host.advance(Duration::from_secs(20));
        hold(&host, &id, 1, &[&format!("{spell}-x")]);
        assert_eq!(waiting(&host), 4, "spell {spell}");
        host.advance(Duration::from_secs(41));
        assert_eq!(waiting(&host), 1, "spell {spell}");
        host.advance(Duration::from_secs(20 + spell * 17));
        assert_eq!(waiting(&host), 0, "spell {spell}");
    }
    let by_vm: Vec<String> = host
        .metrics()
        .names()
        .iter()
        .filter(|name| name.contains("waiting_by_vm"))
        .map(|it| (*it).to_owned())
        .collect();
    assert_eq!(by_vm.len(), 2, "one seat each, again and again: {by_vm:?}");
    assert!(by_vm.iter().all(|name| host.metrics().gauge(name) == Some(0)));
}

/// Envoy begins a metric at zero that an update of the code does not define while it is configured.
#[test]
fn gauges_of_seats_are_defined_with_the_plugin() {
    let module = module_or_skip!();
    let (host, id) = held_for_a_minute(&module);
    let defined = || {
        host.reset_calls();
        host.reconfigure(&id, for_a_minute()).unwrap();
        host.calls().count("proxy_define_metric")
    };
    let before = defined();
    for (worker, user) in [(0, "a"), (1, "b")] {
        hold(&host, &id, worker, &[user]);
        host.advance(Duration::from_secs(1));
    }
    assert_eq!(waiting(&host), 2);
    // The canary, the main thread and two workers, of each of two seats.
    assert_eq!(defined() - before, 8);
    host.advance(Duration::from_secs(61));
    assert_eq!(waiting(&host), 0);
}

#[test]
fn shared_data_that_fails_costs_one_tick_in_a_while_and_no_request() {
    let module = module_or_skip!();
    let (host, id) = held_for_a_minute(&module);
    hold(&host, &id, 0, &["a"]);
    host.refuse_calls("proxy_set_shared_data", Status::InternalFailure);
    host.reset_calls();
    host.advance(Duration::from_secs(59));
    assert!(host.calls().count("proxy_set_shared_data") < 200, "{}", host.calls().count("proxy_set_shared_data"));
    host.refuse_calls("proxy_set_shared_data", Status::Ok);
    host.advance(Duration::from_secs(2));
    assert_eq!(waiting(&host), 0);
}
