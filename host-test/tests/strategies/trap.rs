//! The plugin that can be killed: Tidegate with one strategy more, which traps. Compiled once, when it is first needed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use xtask::load::Request;

use crate::bench::Bench;

/// Its file.
pub(crate) fn wasm() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/strategies/trap-plugin");
        let target = xtask::workspace::target_dir().join("trap-plugin");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "--target", "wasm32-wasip1"])
            .current_dir(here)
            .env("CARGO_TARGET_DIR", &target)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .unwrap();
        assert!(status.success(), "the plugin compiles (rustup target add wasm32-wasip1)");
        target.join("wasm32-wasip1/release/trap_plugin.wasm")
    };
    BUILT.get_or_init(build).clone()
}

/// The rule whose second request ends the VM.
pub(crate) fn rule() -> Value {
    json!({"name": "trap", "scope": "per_endpoint", "rate": 1, "window_seconds": 3600, "endpoints": ["/trap"],
        "algorithm": "fixed_window", "strategy": {"type": "trap"}})
}

/// Ends the VM of one worker. Returns when it has ended.
pub(crate) fn kill_one_worker(bench: &Bench) {
    let client = bench.http1(1);
    let statuses: Vec<u16> = (0..2).map(|_| client.send(&Request::get("/trap")).unwrap().status).collect();
    assert_eq!(statuses, [200, 503], "the second trap request meets the trap");
}

/// How many VMs were started again after a trap.
pub(crate) fn reloads(bench: &Bench) -> u64 {
    bench.envoy.stats("vm_reload_success").unwrap().values().sum()
}
