//! Compiles the plugins under `tests/plugins` once a test binary and loads them. Included by the other tests.

// clippy.toml allows these in `#[test]` functions only; a failure here is a failed test all the same. Each test binary
// uses some of the functions.
#![allow(clippy::expect_used, clippy::panic, dead_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use tidegate_host_test::{Host, Module, Plugin, PluginId, Request, Stream};

/// A plugin under `tests/plugins/examples`, compiled for wasm32-wasip1.
pub(crate) fn module(name: &str) -> Module {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    static COMPILED: Mutex<BTreeMap<String, Module>> = Mutex::new(BTreeMap::new());
    let directory = BUILT.get_or_init(|| {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let target = here.join("../target/test-plugins");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "--examples", "--target", "wasm32-wasip1"])
            .current_dir(here.join("tests/plugins"))
            .env("CARGO_TARGET_DIR", &target)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the test plugins compile (rustup target add wasm32-wasip1)");
        target.join("wasm32-wasip1/release/examples")
    });
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let read = || Module::from_file(directory.join(format!("{name}.wasm"))).expect("a plugin that loads");
    compiled.entry(name.to_owned()).or_insert_with(read).clone()
}

/// The probe: it does what its configuration and the header `x-do` say.
pub(crate) fn probe(configuration: &str) -> Plugin {
    Plugin::new(&module("probe")).name("probe").configuration(configuration)
}

/// A request to worker 0 whose headers callback carries these commands out.
pub(crate) fn tell(host: &Host, plugin: &PluginId, commands: &str) -> Stream {
    host.request(0, plugin, Request::get("/told").header("x-do", commands))
}

/// All log messages so far.
pub(crate) fn messages(host: &Host) -> Vec<String> {
    host.logs().into_iter().map(|line| line.message).collect()
}

/// The latest log message that starts with this, without it.
pub(crate) fn answer(host: &Host, start: &str) -> String {
    let messages = messages(host);
    let found = messages.iter().rev().find_map(|line| line.strip_prefix(start));
    found.unwrap_or_else(|| panic!("`{start}` in {messages:#?}")).to_owned()
}
