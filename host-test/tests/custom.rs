//! The plugins under `examples/`, which add an algorithm and a strategy of their own: built as their authors build them,
//! run through their scenarios by this host, and run by a real Envoy.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_engine::scenario::Scenario;
use tidegate_host_test::{Host, Module, Plugin};
use xtask::build::reproducible_flags;
use xtask::envoy::{self, Envoy, Filter, Settings, fetch};
use xtask::load::{Client, Request};
use xtask::tools::{IfMissing, WASM_TARGET, ensure_wasm_target};
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

const EXAMPLES: [&str; 2] = ["custom-algorithm", "custom-strategy"];

/// The folder that both .wasm files are in, once they are built. `None`, said loudly, where the target is missing.
fn built(test: &str) -> Option<PathBuf> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    if let Err(missing) = ensure_wasm_target(IfMissing::Tell) {
        skip::tell(test, &format!("{missing:#}"));
        return None;
    }
    let build = || {
        let mut cargo = workspace::cargo();
        cargo.args(["build", "--quiet", "--locked", "--profile", "wasm", "--target", WASM_TARGET]);
        cargo.args(EXAMPLES.iter().flat_map(|name| ["--package", name]));
        // The flags of `cargo xtask build`, so that what that has compiled is used again.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", reproducible_flags(&workspace::root()).unwrap());
        workspace::run(&mut cargo).expect("the examples compile");
        workspace::target_dir().join(WASM_TARGET).join("wasm")
    };
    Some(FOLDER.get_or_init(build).clone())
}

fn file(example: &str) -> String {
    format!("{}.wasm", example.replace('-', "_"))
}

/// The plugin, compiled once: without optimisation that takes many seconds.
fn module(folder: &Path, example: &'static str) -> Module {
    static COMPILED: Mutex<BTreeMap<&str, Module>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let read = || Module::from_file(folder.join(file(example))).unwrap();
    compiled.entry(example).or_insert_with(read).clone()
}

/// An Envoy with two workers and this plugin. `None`, said loudly, where something is missing.
fn serve(test: &str, example: &str, rule: &Value) -> Option<(Envoy, Upstream)> {
    let folder = built(test)?;
    let binary = match fetch::binary(IfMissing::Tell) {
        Ok(binary) => binary,
        Err(missing) => {
            skip::tell(test, &format!("{missing:#}"));
            return None;
        }
    };
    let upstream = Upstream::start().unwrap();
    let policy = json!({"version": 1, "store": {"type": "local", "max_keys": 1024}, "rules": [rule]});
    let plugin = envoy::Plugin { wasm: folder.join(file(example)), ..envoy::Plugin::new(&policy.to_string()) };
    let settings = Settings::new(upstream.address(), vec![Filter::Static(plugin)]);
    Some((Envoy::start(&binary, &settings).unwrap(), upstream))
}

#[test]
fn each_example_does_what_its_scenario_says_with_one_worker_and_with_three() {
    let Some(folder) = built("custom: scenarios") else { return };
    for example in EXAMPLES {
        let scenario = workspace::root().join("examples").join(example).join("scenario.json");
        let scenario = Scenario::parse(&std::fs::read_to_string(scenario).unwrap()).unwrap();
        let policy = scenario.policy_text(|_| Err("no files".to_owned())).unwrap();
        let module = module(&folder, example);
        for workers in [1, 3] {
            let observed = tidegate_host_test::scenario::run(&scenario, &policy, &module, workers).unwrap();
            let differences = scenario.differences(&observed);
            assert!(differences.is_empty(), "{example}, {workers} workers:\n{}", differences.join("\n"));
        }
    }
}

#[test]
fn mistakes_in_options_of_ones_own_are_told_by_the_plugin() {
    let Some(folder) = built("custom: mistakes") else { return };
    let policy = |more: Value| {
        let mut rule = json!({"name": "one", "scope": "global", "rate": 1, "window_seconds": 1});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"version": 1, "rules": [rule]}).to_string()
    };
    for (example, more, told) in [
        ("custom-algorithm", json!({"algorithm": "lokout"}), "did you mean \"lockout\"?"),
        ("custom-strategy", json!({"strategy": {"type": "waiting_page", "titel": "x"}}), "did you mean \"title\"?"),
        (
            "custom-strategy",
            json!({"strategy": {"type": "waiting_page", "min_reload_seconds": 9, "max_reload_seconds": 8}}),
            "/rules/0/strategy/min_reload_seconds: found 9, allowed: at most 8",
        ),
    ] {
        let module = module(&folder, example);
        let refused = Host::builder().build().load(Plugin::new(&module).configuration(policy(more))).unwrap_err();
        assert!(refused.to_string().contains(told), "{refused}");
    }
}

#[test]
fn the_algorithm_limits_in_a_real_envoy_over_both_workers() {
    let rule = json!({"name": "login", "scope": "global", "rate": 5, "window_seconds": 2, "algorithm": "lockout"});
    let Some((envoy, _upstream)) = serve("custom: algorithm in Envoy", "custom-algorithm", &rule) else { return };
    let client = Client::http1(envoy.address("main").unwrap(), 8).unwrap();
    let statuses = || {
        let answers = client.send_all((0..40).map(|_| Request::get("/login")).collect());
        let mut counts: BTreeMap<u16, u32> = BTreeMap::new();
        for answer in answers {
            *counts.entry(answer.unwrap().status).or_default() += 1;
        }
        counts
    };
    assert_eq!(statuses(), BTreeMap::from([(200, 5), (429, 35)]));
    let limited = client.send(&Request::get("/login")).unwrap();
    assert_eq!(limited.status, 429);
    assert!(matches!(limited.header("retry-after"), Some("1" | "2")), "{:?}", limited.headers);
    // The attempts that were refused meanwhile do not count.
    sleep(Duration::from_millis(2_100));
    assert_eq!(statuses(), BTreeMap::from([(200, 5), (429, 35)]));
}

#[test]
fn the_strategy_answers_in_a_real_envoy() {
    let rule = json!({"name": "tickets", "scope": "global", "rate": 1, "window_seconds": 3600,
        "strategy": {"type": "waiting_page", "title": "Tickets", "max_reload_seconds": 60}});
    let Some((envoy, upstream)) = serve("custom: strategy in Envoy", "custom-strategy", &rule) else { return };
    let address = envoy.address("main").unwrap();
    for (client, expected) in
        [(Client::http1(address, 1).unwrap(), [200, 429]), (Client::http2(address, 1, 1).unwrap(), [429, 429])]
    {
        let answers = expected.map(|_| client.send(&Request::get("/buy")).unwrap());
        assert_eq!([answers[0].status, answers[1].status], expected);
        let page = &answers[1];
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let body = String::from_utf8_lossy(&page.body);
        assert!(body.contains("<h1>Tickets</h1>") && body.contains("http-equiv=\"refresh\" content=\"60\""), "{body}");
        let wait: u64 = page.header("retry-after").unwrap().parse().unwrap();
        assert!((3_500..=3_600).contains(&wait), "{wait}");
    }
    assert_eq!(upstream.requests(), 1);
}
