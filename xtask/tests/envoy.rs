//! The test bench itself: a real Envoy starts, serves, is measured, updated and ended; failures say why.
//! Not here: what the plugin decides (host-test). Where no plugin is built, the test that needs one is skipped.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use xtask::envoy::{Envoy, Filter, Plugin, Settings, fetch};
use xtask::load::{Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

fn start(settings: &Settings) -> anyhow::Result<Envoy> {
    Envoy::start(&fetch::binary(IfMissing::Install)?, settings)
}

fn process_exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn it_serves_both_protocols_and_tells_what_it_did() {
    let upstream = Upstream::start().unwrap();
    let envoy = start(&Settings::new(upstream.address(), vec![])).unwrap();
    let address = envoy.address("main").unwrap();
    let by_http1 = Client::http1(address, 1).unwrap().send(&Request::get("/one?a=b")).unwrap();
    let by_http2 = Client::http2(address, 1, 1).unwrap().send(&Request::get("/two")).unwrap();
    assert_eq!((by_http1.status, by_http2.status), (200, 200));
    assert_eq!(by_http1.json().unwrap()["headers"]["x-forwarded-proto"], json!(["http"]));
    assert_eq!(upstream.requests(), 2);

    let log = envoy.access_log(2).unwrap();
    assert_eq!((&log[0]["path"], &log[0]["status"]), (&json!("/one?a=b"), &json!(200)));
    assert_eq!(log[1]["rule"], json!(null));
    assert_eq!(envoy.stat("http.main.downstream_rq_2xx").unwrap(), 2);
    assert!(envoy.prometheus().unwrap().contains("envoy_http_downstream_rq_xx"));
    assert!(envoy.resident_bytes().unwrap() > 10_000_000);
    assert!((1_000_000..50_000_000).contains(&envoy.allocated_bytes().unwrap()));
    assert!(envoy.cpu_time().unwrap() > Duration::ZERO);
    let error = envoy.address("other").unwrap_err().to_string();
    assert!(error.contains("there are: main"), "{error}");

    let pid = envoy.pid();
    assert!(process_exists(pid));
    drop(envoy);
    assert!(!process_exists(pid), "dropping it should end it");
}

#[test]
fn five_thousand_at_once_pass() {
    let upstream = Upstream::start().unwrap();
    let envoy = start(&Settings::new(upstream.address(), vec![])).unwrap();
    let address = envoy.address("main").unwrap();
    for client in [Client::http1(address, 5000).unwrap(), Client::http2(address, 8, 5000).unwrap()] {
        let answers = client.send_all((0..5000).map(|n| Request::get(&format!("/delay/300/{n}"))).collect());
        for (n, answer) in answers.into_iter().enumerate() {
            let answer = answer.unwrap();
            assert_eq!(
                (answer.status, answer.json().unwrap()["path"].clone()),
                (200, json!(format!("/delay/300/{n}")))
            );
        }
    }
    assert_eq!(upstream.requests(), 10_000);
}

#[test]
fn an_envoy_that_does_not_start_says_why_and_leaves_nothing() {
    let upstream = Upstream::start().unwrap();
    let wrong =
        Filter::Other(json!({"name": "no.such.filter", "typed_config": {"@type": "type.googleapis.com/nothing"}}));
    let error = format!("{:#}", start(&Settings::new(upstream.address(), vec![wrong])).unwrap_err());
    assert!(error.contains("it ended with exit status") && error.contains("nothing"), "{error}");

    let error =
        format!("{:#}", Envoy::start(Path::new("/no/envoy"), &Settings::new(upstream.address(), vec![])).unwrap_err());
    assert!(error.contains("/no/envoy"), "{error}");
}

#[test]
fn a_policy_is_updated_while_envoy_serves_and_a_bad_one_is_refused() {
    if !workspace::wasm_file().is_file() {
        return skip::tell("xtask: ECDS update", "dist/tidegate.wasm is not built; run `cargo xtask build`");
    }
    let policy = |rate: u32| {
        json!({"version": 1, "rules": [{"name": "all", "scope": "global", "rate": rate, "window_seconds": 3600,
            "algorithm": "fixed_window"}]})
        .to_string()
    };
    let upstream = Upstream::start().unwrap();
    let plugin = Plugin::new(&policy(1));
    let envoy = start(&Settings::new(upstream.address(), vec![Filter::Discovered(plugin.clone())])).unwrap();
    let client = Client::http1(envoy.address("main").unwrap(), 1).unwrap();
    let status = || client.send(&Request::get("/")).unwrap().status;
    assert_eq!([status(), status()], [200, 429]);

    envoy.update(&Plugin { policy: policy(1_000), ..plugin.clone() }).unwrap();
    assert_eq!(status(), 200);
    envoy.update(&Plugin { policy: policy(1_000), ..plugin.clone() }).unwrap();

    let error = envoy.update(&Plugin { policy: "{\"version\":".into(), ..plugin.clone() }).unwrap_err().to_string();
    assert!(error.contains("refused the update of tidegate") && error.contains("wasm log"), "{error}");
    assert_eq!(status(), 200, "the policy before goes on");

    let bad = Filter::Static(Plugin { policy: "{".into(), ..plugin });
    let error = format!("{:#}", start(&Settings::new(upstream.address(), vec![bad])).unwrap_err());
    assert!(error.contains("wasm log"), "{error}");
}
