//! The shipped plugin in this host: where its file is, and short ways to load it and to ask it. Included by the tests
//! that run it.

// clippy.toml allows these in `#[test]` functions only; a failure here is a failed test all the same. Each test binary
// uses some of the functions.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code)]

use std::sync::OnceLock;

use tidegate_host_test::{FailPolicy, Host, LogLevel, Module, Outcome, Plugin, PluginId, Request, Stream};

/// The plugin, compiled once a test binary. `None` where it is not built, which the test `what` then says aloud.
pub(crate) fn module(what: &str) -> Option<Module> {
    static COMPILED: OnceLock<Option<Module>> = OnceLock::new();
    let found = COMPILED.get_or_init(|| {
        let file = xtask::workspace::wasm_file();
        file.is_file().then(|| Module::from_file(&file).expect("a plugin that loads"))
    });
    if found.is_none() {
        xtask::skip::tell(what, "the .wasm is not built; `cargo xtask build` does");
    }
    found.clone()
}

/// The module, or the end of the test that this stands in. The test's own name is found by the macro.
macro_rules! module_or_skip {
    () => {{
        let name = || {};
        let name = std::any::type_name_of_val(&name);
        match crate::tidegate::module(name) {
            Some(module) => module,
            None => return,
        }
    }};
}
pub(crate) use module_or_skip;

/// The plugin with a policy, named as the examples name it. It is reloaded a second after a trap.
pub(crate) fn plugin(module: &Module, policy: &str) -> Plugin {
    let again = std::time::Duration::from_secs(1);
    Plugin::new(module).name("tidegate").vm_id("tidegate").configuration(policy).fail_policy(FailPolicy::Reload(again))
}

/// A host of some workers with the plugin loaded.
pub(crate) fn serve(module: &Module, workers: usize, policy: &str) -> (Host, PluginId) {
    let host = Host::builder().workers(workers).build();
    let id = host.load(plugin(module, policy)).unwrap_or_else(|error| panic!("{error}"));
    (host, id)
}

/// A policy of these rules: users are told by the verified header `x-user`, everything else is default. A small table
/// starts fast.
pub(crate) fn policy(rules: &str) -> String {
    with_settings("", rules)
}

/// As [`policy`], with further members of the document, each closed by a comma.
pub(crate) fn with_settings(settings: &str, rules: &str) -> String {
    let identity = r#""identity": {"user": [{"header": "x-user", "trust": "verified"}, {"header": "x-api-key"}]}"#;
    let store = if settings.contains("\"store\"") { "" } else { r#""store": {"type": "local", "max_keys": 1024},"# };
    format!(r#"{{"version": 1, {store} {settings} {identity}, "rules": [{rules}]}}"#)
}

/// A rule: its name, scope, rate and window, and further members, each after a comma.
pub(crate) fn rule(name: &str, scope: &str, rate: u32, window_seconds: u32, more: &str) -> String {
    format!(r#"{{"name": "{name}", "scope": "{scope}", "rate": {rate}, "window_seconds": {window_seconds}{more}}}"#)
}

/// A GET of a user.
pub(crate) fn from(user: &str) -> Request {
    Request::get("/").header("x-user", user)
}

/// Whether the request went on to the upstream.
pub(crate) fn passed(stream: &Stream) -> bool {
    matches!(stream.outcome(), Outcome::Forwarded(_))
}

/// How many of `count` equal requests, to the workers in turn, pass.
pub(crate) fn passing(host: &Host, id: &PluginId, workers: usize, count: usize, request: &Request) -> usize {
    (0..count).filter(|number| passed(&host.request(number % workers, id, request.clone()))).count()
}

/// Panics where a VM has died.
pub(crate) fn assert_nothing_died(host: &Host) {
    let dead = host.logs().into_iter().find(|line| line.level == LogLevel::Critical);
    assert_eq!(dead, None);
}

/// The plugin's log lines of a level and above.
pub(crate) fn messages(host: &Host, least: LogLevel) -> Vec<String> {
    host.logs().into_iter().filter(|line| line.level >= least).map(|line| line.message).collect()
}
