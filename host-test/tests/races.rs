//! Races made on purpose, counted calls, metrics and properties.

#[path = "plugins/built.rs"]
mod built;

use built::{answer, probe, tell};
use std::cell::Cell;
use std::rc::Rc;
use tidegate_host_test::{CallKind, Host, Job, Outcome, PluginId, Request, Thread};

fn bump(host: &Host, worker: usize, plugin: &PluginId) {
    host.request(worker, plugin, Request::get("/").header("x-do", "bump n"));
}

#[test]
fn a_write_by_another_worker_in_between_costs_a_second_try() {
    let host = Host::builder().workers(2).build();
    let plugin = host.load(probe("")).unwrap();
    host.put_shared_data("", "n", "0");
    host.before_call(Thread::Worker(0), "proxy_set_shared_data", 1, {
        let plugin = plugin.clone();
        move |host| bump(host, 1, &plugin)
    });
    bump(&host, 0, &plugin);
    assert_eq!(host.shared_data("").get("n"), Some(&b"2"[..]));
    assert_eq!(answer(&host, "request_headers: bump n -> "), "2", "worker 0 tried twice");
}

#[test]
fn a_plain_first_insert_loses_the_race() {
    // The key is missing, so any number is taken: one of the two is lost. Envoy's store does the same.
    let host = Host::builder().workers(2).build();
    let plugin = host.load(probe("")).unwrap();
    host.before_call(Thread::Worker(0), "proxy_set_shared_data", 1, {
        let plugin = plugin.clone();
        move |host| bump(host, 1, &plugin)
    });
    bump(&host, 0, &plugin);
    assert_eq!(host.shared_data("").get("n"), Some(&b"1"[..]));
}

#[test]
fn an_interrupted_worker_takes_its_next_request_afterwards() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    let waiting = Rc::new(Cell::new(false));
    let seen = Rc::clone(&waiting);
    let same = plugin.clone();
    host.before_call(Thread::Worker(0), "proxy_log", 1, move |host| {
        let second = tell(host, &same, "set second 1 0");
        seen.set(second.outcome() == Outcome::Paused);
    });
    tell(&host, &plugin, "set first 1 0");
    assert!(waiting.get(), "it waits while the worker is busy");
    let data = host.shared_data("");
    assert!(data.cas("first") < data.cas("second"));
}

#[test]
fn seeded_interleavings_repeat_differ_and_lose_nothing() {
    let tries = |seed: u64| {
        let host = Host::builder().workers(4).build();
        let plugin = host.load(probe("")).unwrap();
        host.put_shared_data("", "n", "0");
        let jobs = (0..16).map(|job| {
            let plugin = plugin.clone();
            Job::new(job % 4, move |host| bump(host, job % 4, &plugin))
        });
        host.run_interleaved(seed, jobs.collect());
        assert_eq!(host.shared_data("").get("n"), Some(&b"16"[..]), "seed {seed}");
        let logs = host.logs();
        let tries = logs.iter().filter(|line| line.message.contains("bump n ->"));
        tries.map(|line| (line.thread, line.message.clone())).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..8).map(tries).collect();
    assert_eq!(all[3], tries(3), "the same seed");
    assert!(all.iter().any(|one| *one != all[0]), "another seed");
    let contended = |one: &Vec<(Thread, String)>| one.iter().any(|(_, line)| !line.ends_with(" 1"));
    assert!(all.iter().any(contended), "some write met another");
}

#[test]
fn host_calls_are_counted_by_kind_and_from_zero_again() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    host.reset_calls();
    tell(&host, &plugin, "get k; set k v 0; time");
    let calls = host.calls();
    assert_eq!(calls.count("proxy_set_shared_data"), 1);
    assert_eq!(calls.of_kind(CallKind::WritesShared), 1);
    // The commands, and the value.
    assert_eq!(calls.of_kind(CallKind::ReturnsBytes), 2);
    assert_eq!(calls.total(), calls.iter().map(|(_, count)| count).sum::<u64>());
    host.reset_calls();
    assert_eq!(host.calls().total(), 0);
}

#[test]
fn metrics_have_the_hosts_edges() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    let told = |command: &str| {
        tell(&host, &plugin, command);
        answer(&host, &format!("request_headers: {command} -> "))
    };
    assert_eq!(told("metric 0 hits add 2"), "0 0 0 2", "define, add, get, value");
    assert_eq!(told("metric 0 hits add 0"), "0 2 0 2", "a counter refuses what is not positive");
    assert_eq!(told("metric 1 level add -8"), format!("0 0 0 {}", u64::MAX - 7));
    assert_eq!(told("metric 1 level record 5"), "0 0 0 5");
    assert_eq!(told("metric 2 sizes record 9"), "0 0 2 0", "a histogram cannot be read");
    assert_eq!(told("metric 9 odd add 1"), "2 1 1 0");
    let metrics = host.metrics();
    assert_eq!((metrics.counter("hits"), metrics.gauge("level")), (Some(2), Some(5)));
    assert_eq!(metrics.histogram("sizes"), Some(&[9][..]));
    tell(&host, &plugin, "trap");
    assert_eq!(host.metrics().counter("hits"), Some(2), "metrics outlive the VM");
}

#[test]
fn properties_are_given_derived_or_missing() {
    let host = Host::builder().build();
    let plugin = host.load(probe("").root_id("r").vm_id("v")).unwrap();
    let request = Request::get("/p?q=1").peer("[::1]:99").property(&["xds", "route_name"], "main");
    let paths = [
        ("request.path", "(0, \"/p?q=1\")"),
        ("request.url_path", "(0, \"/p\")"),
        ("request.query", "(0, \"q=1\")"),
        ("request.host", "(0, \"example.test\")"),
        ("source.address", "(0, \"[::1]:99\")"),
        ("xds.route_name", "(0, \"main\")"),
        ("plugin_name", "(0, \"probe\")"),
        ("plugin_root_id", "(0, \"r\")"),
        ("plugin_vm_id", "(0, \"v\")"),
        ("route_name", "(1, \"\")"),
        ("filter_state", "(3, \"\")"),
    ];
    for (path, expected) in paths {
        host.request(0, &plugin, request.clone().header("x-do", format!("property {path}")));
        assert_eq!(answer(&host, &format!("request_headers: property {path} -> ")), expected, "{path}");
    }
}

#[test]
fn foreign_functions_and_contexts_that_do_not_exist() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    tell(&host, &plugin, "foreign compress; effective 99; done");
    assert_eq!(answer(&host, "request_headers: foreign compress -> "), "1");
    assert_eq!(answer(&host, "request_headers: effective 99 -> "), "2");
    assert_eq!(answer(&host, "request_headers: done -> "), "1");
}
