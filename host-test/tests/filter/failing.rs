//! Stores that fail, races that are lost, VMs that die.

use std::time::Duration;

use crate::tidegate::{assert_nothing_died, from, module_or_skip, passed, passing, policy, rule, serve};
use tidegate_host_test::{Host, Outcome, Status, Thread};

fn contended(host: &Host) -> u64 {
    host.metrics().counter("tidegate.default.contended_total").unwrap()
}

/// Two rules of one user and one for all: two slots to write.
fn two_slots(more: &str) -> String {
    policy(&[rule("user", "per_user", 10, 60, more), rule("all", "global", 10, 60, more)].join(","))
}

#[test]
fn a_store_that_cannot_be_read_allows_unless_the_rule_says_deny() {
    let module = module_or_skip!();
    for (more, passes) in
        [("", true), (r#", "on_store_error": "allow""#, true), (r#", "on_store_error": "deny""#, false)]
    {
        let (host, id) = serve(&module, 1, &two_slots(more));
        host.refuse_calls("proxy_get_shared_data", Status::InternalFailure);
        let stream = host.request(0, &id, from("a"));
        assert_eq!(passed(&stream), passes, "{more}");
        assert_eq!(
            stream.set_property(&["tidegate.outcome"]).unwrap(),
            if passes { &b"allowed"[..] } else { b"limited" }
        );
        host.refuse_calls("proxy_get_shared_data", Status::Ok);
        assert_eq!(passing(&host, &id, 1, 20, &from("a")), 10, "nothing was charged meanwhile");
        assert_nothing_died(&host);
    }
}

#[test]
fn a_store_that_cannot_be_written_decides_as_one_that_cannot_be_read() {
    let module = module_or_skip!();
    for (more, passes) in [("", true), (r#", "on_store_error": "deny""#, false)] {
        for status in [Status::InternalFailure, Status::NotFound, Status::BadArgument, Status::Unimplemented] {
            let (host, id) = serve(&module, 1, &two_slots(more));
            host.refuse_calls("proxy_set_shared_data", status);
            assert_eq!(passed(&host.request(0, &id, from("a"))), passes, "{more} {status:?}");
            host.refuse_calls("proxy_set_shared_data", Status::Ok);
            assert_eq!(passing(&host, &id, 1, 20, &from("a")), 10, "nothing was charged meanwhile");
        }
    }
}

#[test]
fn the_second_slot_failing_gives_the_first_back() {
    let module = module_or_skip!();
    let deny = r#", "on_store_error": "deny""#;
    let (host, id) = serve(&module, 1, &two_slots(deny));
    host.before_call(Thread::Worker(0), "proxy_set_shared_data", 2, |host| {
        host.refuse_calls("proxy_set_shared_data", Status::InternalFailure);
        // The refund may be written again.
        host.before_call(Thread::Worker(0), "proxy_get_shared_data", 1, |host| {
            host.refuse_calls("proxy_set_shared_data", Status::Ok);
        });
    });
    assert!(!passed(&host.request(0, &id, from("a"))));
    assert_eq!(passing(&host, &id, 1, 20, &from("a")), 10, "what the first slot was charged came back");
}

#[test]
fn a_slot_that_cannot_be_read_again_gives_the_others_back() {
    let module = module_or_skip!();
    let deny = r#", "on_store_error": "deny""#;
    let rules = [rule("user", "per_user", 9, 60, deny), rule("all", "global", 10, 60, deny)];
    let (host, id) = serve(&module, 2, &policy(&rules.join(",")));
    let other = id.clone();
    host.before_call(Thread::Worker(0), "proxy_set_shared_data", 2, move |host| {
        // Worker 1 takes one of the global ten: worker 0 must read that slot again, which fails once.
        host.request(1, &other, from("b"));
        host.refuse_calls("proxy_get_shared_data", Status::InternalFailure);
        host.before_call(Thread::Worker(0), "proxy_get_shared_data", 2, |host| {
            host.refuse_calls("proxy_get_shared_data", Status::Ok);
        });
    });
    assert!(!passed(&host.request(0, &id, from("a"))));
    host.refuse_calls("proxy_get_shared_data", Status::Ok);
    assert_eq!(passing(&host, &id, 1, 20, &from("a")), 9, "all of a's nine, beside b's one of the global ten");
}

#[test]
fn a_host_without_shared_data_is_told_of_at_the_start() {
    let module = module_or_skip!();
    let host = Host::builder().build();
    host.refuse_calls("proxy_set_shared_data", Status::Unimplemented);
    host.refuse_calls("proxy_get_shared_data", Status::Unimplemented);
    let error = host.load(crate::tidegate::plugin(&module, &two_slots(""))).unwrap_err();
    assert!(error.to_string().contains("shared data answers"), "{error}");
}

#[test]
fn sixty_four_lost_races_refuse_and_charge_nothing() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &policy(&rule("all", "global", 1_000, 3600, "")));
    // Worker 1 admits somebody before each write of worker 0.
    let other = id.clone();
    host.watch_calls(move |host, call| {
        if call.thread == Thread::Worker(0) && call.function == "proxy_set_shared_data" {
            host.request(1, &other, from("b"));
        }
    });
    let stream = host.request(0, &id, from("a"));
    host.stop_watching();
    assert!(!passed(&stream), "contended is limited");
    assert_eq!(contended(&host), 1);
    assert_eq!(stream.response().unwrap().headers.text("retry-after").as_deref(), Some("1"));
    // 65 writes were tried, each lost to one admission of worker 1.
    let passed_before = host.metrics().counter("tidegate.default.verdicts_total.all.allowed").unwrap();
    assert_eq!(passed_before, 65);
    assert_eq!(passing(&host, &id, 1, 1_000, &from("a")), 1_000 - 65, "not one more, not one less");
}

#[test]
fn a_race_lost_to_the_last_admission_is_a_refusal_not_a_contention() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &two_slots(""));
    assert_eq!(passing(&host, &id, 2, 9, &from("x")), 9);
    let other = id.clone();
    host.before_call(Thread::Worker(0), "proxy_set_shared_data", 2, move |host| {
        assert!(passed(&host.request(1, &other, from("b"))), "the tenth of all");
    });
    let stream = host.request(0, &id, from("a"));
    assert!(!passed(&stream));
    assert_eq!(stream.set_property(&["tidegate.rule"]).as_deref(), Some(&b"all"[..]));
    assert_eq!(contended(&host), 0);
    // What a's own rule was charged came back: after a tenth of the minute one is free again, and a has nine left.
    host.advance(Duration::from_secs(6));
    let limits = host.request(0, &id, from("a")).response().unwrap().headers.text("ratelimit").unwrap();
    assert!(limits.contains("\"user\";r=9"), "{limits}");
}

#[test]
fn a_reloaded_vm_finds_the_counters_as_they_were() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &policy(&rule("r", "per_user", 5, 60, "")));
    assert_eq!(passing(&host, &id, 2, 3, &from("a")), 3);
    host.kill(Thread::Worker(0));
    assert_eq!(host.request(0, &id, from("a")).outcome(), Outcome::VmFailed);
    host.advance(Duration::from_secs(1));
    assert_eq!(passing(&host, &id, 2, 9, &from("a")), 2, "on the new VM and on the one that lived");
    let before = host.metrics();
    assert_eq!(before.gauge("tidegate.default.table_keys"), Some(1), "a reload counts nothing twice");
    assert_eq!(before.counter("tidegate.default.requests_total.allowed"), Some(5));
}

#[test]
fn a_vm_that_dies_half_way_charges_at_most_its_own_request() {
    let module = module_or_skip!();
    for nth in 1..=2 {
        let (host, id) = serve(&module, 2, &two_slots(""));
        host.before_call(Thread::Worker(0), "proxy_set_shared_data", nth, |host| host.kill(Thread::Worker(0)));
        assert_eq!(host.request(0, &id, from("a")).outcome(), Outcome::VmFailed);
        let left = (0..20).filter(|_| passed(&host.request(1, &id, from("a")))).count();
        assert!((9..=10).contains(&left), "killed at write {nth}: {left} left");
    }
}

#[test]
fn endless_fuel_use_is_a_dead_vm_and_not_a_dead_proxy() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &two_slots(""));
    host.kill(Thread::Worker(0));
    host.request(0, &id, from("a"));
    assert!(passed(&host.request(1, &id, from("a"))), "the other worker serves on");
    assert_eq!(host.request(0, &id, from("a")).status(), 503, "this one not before its backoff");
}
