//! Loading, refusing, reconfiguring, dying and coming back.

#[path = "plugins/built.rs"]
mod built;

use built::{answer, messages, probe, tell};
use std::time::Duration;
use tidegate_host_test::{FailPolicy, Host, LogLevel, Module, Outcome, Plugin, Request, Thread};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_canary_then_the_main_thread_then_the_workers() {
    let host = Host::builder().workers(2).build();
    host.load(probe("").vm_configuration("vmc")).unwrap();
    let threads = [Thread::Canary, Thread::Main, Thread::Worker(0), Thread::Worker(1)];
    let seen: Vec<_> = host.logs().into_iter().map(|line| (line.thread, line.message)).collect();
    let one = |thread| ["create(1)", "vm_start(1) 3", "configure(1)"].map(|text| (thread, text.to_owned()));
    assert_eq!(seen, threads.map(one).concat());
    assert_eq!(host.vm_count(), 3, "the canary is gone");
}

#[test]
fn a_configuration_that_is_refused_comes_with_its_reasons() {
    let host = Host::builder().build();
    let error = host.load(probe("configure: get reason; no")).unwrap_err();
    assert_eq!(error.reason, "plugin `probe`: proxy_on_configure returned false");
    assert!(error.logs.iter().any(|line| line.message.contains("get reason ->")), "{error}");
    let error = host.load(probe("configure: trap")).unwrap_err();
    assert!(error.reason.contains("unreachable"), "{error}");
}

#[test]
fn plugins_of_one_vm_id_share_memory_and_a_new_configuration_gets_a_new_root() {
    let host = Host::builder().build();
    let a = host.load(probe("configure: tick 1000\ntick: get old").vm_id("v").root_id("a")).unwrap();
    let _b = host.load(probe("").vm_id("v").root_id("b")).unwrap();
    assert_eq!(host.vm_count(), 2, "one VM a thread");
    host.reconfigure(&a, "configure: tick 1000\ntick: get new").unwrap();
    assert_eq!(host.vm_count(), 2);
    assert!(host.reconfigure(&a, "configure: no").is_err());
    let ticks = |text: &str| {
        let before = messages(&host).len();
        host.advance(SECOND);
        messages(&host)[before..].iter().filter(|line| line.contains(text)).count()
    };
    assert_eq!((ticks("get old"), ticks("get new")), (2, 2), "old and new tick on main and worker");
    let held = tell(&host, &a, "pause");
    host.drain(&a);
    assert_eq!((ticks("get old"), ticks("get new")), (0, 2));
    held.disconnect();
    assert_eq!(ticks("get new"), 2);
}

#[test]
fn an_old_root_stays_until_its_last_request_and_until_it_says_done() {
    let host = Host::builder().workers(1).build();
    let plugin = host.load(probe("configure: tick 10\ntick: done\ndone: no")).unwrap();
    let held = tell(&host, &plugin, "pause");
    host.reconfigure(&plugin, "").unwrap();
    host.drain(&plugin);
    let count = |text: &str| messages(&host).iter().filter(|line| line.starts_with(text)).count();
    assert_eq!(count("done(1)"), 1, "the main thread has no request");
    held.disconnect();
    assert_eq!(count("done(1)"), 2, "now the worker's root too");
    assert_eq!(count("delete(1)"), 0, "it answered that it is not done");
    host.advance(Duration::from_millis(10));
    assert_eq!(count("delete(1)"), 2, "its tick called proxy_done, on both threads");
    let before = count("tick(1)");
    host.advance(SECOND);
    assert_eq!(count("tick(1)"), before, "and that was the last tick");
}

#[test]
fn fail_closed_open_and_reload() {
    let host = Host::builder().build();
    let closed = host.load(probe("").vm_id("closed")).unwrap();
    let open = host.load(probe("").vm_id("open").fail_policy(FailPolicy::Open)).unwrap();
    let reload = host.load(probe("").vm_id("reload").fail_policy(FailPolicy::Reload(SECOND))).unwrap();
    let held = tell(&host, &reload, "pause; set kept 1 0");
    for (plugin, trapped) in [(&closed, 503), (&open, 200), (&reload, 503)] {
        assert_eq!(tell(&host, plugin, "trap").status(), trapped);
        assert_eq!(tell(&host, plugin, "").status(), trapped);
    }
    host.advance(SECOND);
    assert_eq!(tell(&host, &closed, "").outcome(), Outcome::VmFailed);
    assert_eq!(tell(&host, &open, "").status(), 200);
    assert_eq!(tell(&host, &reload, "get kept").status(), 200);
    assert_eq!(answer(&host, "request_headers: get kept -> "), "0 `1` 1", "shared data outlives the VM");
    assert_eq!(held.outcome(), Outcome::Paused, "what the dead VM held hangs");
}

#[test]
fn endless_loops_and_exits_are_reported_traps() {
    let host = Host::builder().fuel_per_callback(50_000_000).workers(2).build();
    let plugin = host.load(probe("")).unwrap();
    assert_eq!(tell(&host, &plugin, "loop").outcome(), Outcome::VmFailed);
    let report = host.logs().into_iter().rfind(|line| line.level == LogLevel::Critical).unwrap();
    assert!(report.message.contains("fuel") && report.message.contains("backtrace"), "{}", report.message);
    let other = host.request(1, &plugin, Request::get("/").header("x-do", "exit"));
    assert_eq!(other.status(), 503);
    assert!(messages(&host).iter().any(|line| line.contains("proc_exit(3)")));
}

#[test]
fn only_abi_0_2_and_known_imports_are_accepted() {
    let refused = |text: &str| Module::from_bytes(text.as_bytes()).unwrap_err().to_string();
    assert!(refused("(module)").contains("no such export"));
    assert!(refused(r#"(module (func (export "proxy_abi_version_0_1_0")))"#).contains("found 0_1_0"));
    let unknown = r#"(module (import "env" "proxy_fly" (func)) (func (export "proxy_abi_version_0_2_0")))"#;
    assert!(refused(unknown).contains("proxy_fly"));
    assert!(refused("not wasm").contains("not a WebAssembly module"));
}

#[test]
fn a_module_without_callbacks_lets_everything_pass() {
    let module = Module::from_bytes(br#"(module (func (export "proxy_abi_version_0_2_0")))"#).unwrap();
    let host = Host::builder().build();
    let plugin = host.load(Plugin::new(&module)).unwrap();
    assert_eq!(host.request(0, &plugin, Request::post("/", "x")).status(), 200);
}

#[test]
fn without_an_allocator_bytes_cannot_be_returned() {
    let module = Module::from_bytes(
        br#"(module
        (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
        (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $reply (i32.add (i32.const 600) (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
            (i32.const 1)))"#,
    )
    .unwrap();
    let host = Host::builder().build();
    let plugin = host.load(Plugin::new(&module)).unwrap();
    assert_eq!(host.request(0, &plugin, Request::get("/")).status(), 606, "InvalidMemoryAccess");
}
