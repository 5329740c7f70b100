//! The unmodified npm clients @upstash/redis and @upstash/ratelimit against the gateway.
//! Not here: the clients' own assertions, which are in `tests/npm/clients.mjs`.

use std::path::Path;
use std::process::Command;

use crate::http::{Gateway, TOKEN};
use crate::servers::{Cluster, Redis};
use crate::skip;

/// The folder with the clients, installed from its lock file once; `None` where that is not possible.
fn installed(test: &str) -> Option<&'static Path> {
    use std::sync::OnceLock;
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/npm"));
    if !skip::has(test, &["redis-server", "node", "npm"]) {
        return None;
    }
    let done = *INSTALLED.get_or_init(|| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(folder);
        npm.status().is_ok_and(|status| status.success())
    });
    if !done {
        skip::tell(test, "npm ci failed; is the registry in reach?");
    }
    done.then_some(folder)
}

fn run(folder: &Path, gateway: &Gateway, layout: &str) {
    let output = Command::new("node")
        .arg("clients.mjs")
        .env("UPSTASH_DISABLE_TELEMETRY", "1")
        .env("GATEWAY_URL", format!("http://{}", gateway.address))
        .env("GATEWAY_TOKEN", TOKEN)
        .env("GATEWAY_LAYOUT", layout)
        .current_dir(folder)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}\n{}", gateway.log());
    eprintln!("{layout}: {}", out.trim().replace('\n', ", "));
}

#[test]
fn the_upstash_clients_unmodified() {
    let Some(folder) = installed("Upstash clients") else { return };
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts"]);
    run(folder, &gateway, "standalone");
    redis.ask(&["SCRIPT", "FLUSH"]);
    run(folder, &gateway, "standalone after SCRIPT FLUSH");
}

#[test]
fn the_upstash_clients_on_a_cluster() {
    let Some(folder) = installed("Upstash clients on a Cluster") else { return };
    if !skip::has("Upstash clients on a Cluster", &["redis-cli"]) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &["--allow-scripts"]);
    run(folder, &gateway, "cluster");
}
