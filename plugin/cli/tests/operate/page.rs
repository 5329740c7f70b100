//! The status page in a real Chromium, used as an operator would, before a real Envoy under a little traffic. What is done
//! and looked at is in `tests/page/page.mjs`; `TIDEGATE_PICTURES=FOLDER` takes the pictures of the documentation there.

use std::process::Command;

use serde_json::json;
use xtask::tools::IfMissing;
use xtask::{browser, workspace};

use crate::dashboard::Dashboard;
use crate::proxy::{Proxy, READ_TOKEN, TOKEN, policy};

#[test]
fn the_page_is_used_as_an_operator_would() {
    let reduced = json!({"type": "graceful", "respond": {"status": 200, "body": "[]"}});
    let rules = json!([
        {"name": "api_global", "scope": "global", "rate": 6000, "window_seconds": 60, "algorithm": "token_bucket"},
        {"name": "api_per_user", "scope": "per_user", "rate": 100, "window_seconds": 60, "burst": 10,
            "algorithm": "token_bucket", "strategy": "retry_after"},
        {"name": "expensive_operations", "scope": "per_user", "rate": 10, "window_seconds": 60,
            "algorithm": "sliding_window", "strategy": "hard", "endpoints": ["/api/search", "/api/reports/*"]},
        {"name": "catalogue", "scope": "per_ip", "rate": 60, "window_seconds": 60, "burst": 5,
            "algorithm": "token_bucket", "strategy": reduced, "endpoints": ["/catalogue"]},
        {"name": "logins", "scope": "per_ip", "rate": 5, "window_seconds": 60, "algorithm": "sliding_window",
            "endpoints": ["/login"], "mode": "shadow"},
    ]);
    let Some(mut proxy) = Proxy::start("operate: the page in Chromium", &policy(&rules).to_string()) else { return };
    let driver = browser::driver(IfMissing::Install).unwrap();
    let dashboard = Dashboard::start(&format!("http://{}", proxy.address));
    let output = workspace::target_dir().join("status-page");
    std::fs::create_dir_all(&output).unwrap();
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/page.mjs"));
    node.env("DRIVER", driver).env("PAGE", &dashboard.page).env("PROXY", format!("http://{}", proxy.address));
    node.env("TOKEN", TOKEN).env("READ_TOKEN", READ_TOKEN).env("OUTPUT", &output);
    let ran = node.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    assert!(out.contains("csp violations 0") && out.contains("requests that left loopback 0"), "{out}");
    assert!(proxy.envoy.is_running());
}
