//! What every test here needs: an Envoy with a policy and an upstream, the plugin's figures, patience.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::envoy::{Envoy, Filter, Plugin, Settings, fetch};
use xtask::load::{Answer, Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

/// An Envoy of two workers with the plugin in front of an upstream.
pub(crate) struct Bench {
    pub(crate) envoy: Envoy,
    pub(crate) upstream: Upstream,
    pub(crate) plugin: Plugin,
}

/// Whether the plugin sees request bodies while it holds the headers (`allow_on_headers_stop_iteration`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bodies {
    Seen,
    Unseen,
}

/// Starts an Envoy with this policy; `None`, said aloud, where no plugin is built.
pub(crate) fn serve(what: &str, policy: &Value, bodies: Bodies) -> Option<Bench> {
    serve_with(what, policy, bodies, |_| ())
}

/// As [`serve`], with other settings.
pub(crate) fn serve_with(
    what: &str,
    policy: &Value,
    bodies: Bodies,
    change: impl FnOnce(&mut Settings),
) -> Option<Bench> {
    let wasm = workspace::wasm_file();
    if !wasm.is_file() {
        skip::tell(&format!("strategies: {what}"), "the .wasm is not built; `cargo xtask build` does");
        return None;
    }
    Some(serve_plugin(&wasm, policy, bodies, change))
}

/// As [`serve_with`], with a .wasm of the test's own.
pub(crate) fn serve_plugin(wasm: &Path, policy: &Value, bodies: Bodies, change: impl FnOnce(&mut Settings)) -> Bench {
    let upstream = Upstream::start().unwrap();
    let plugin =
        Plugin { wasm: wasm.to_owned(), sees_bodies: bodies == Bodies::Seen, ..Plugin::new(&policy.to_string()) };
    let mut settings = Settings::new(upstream.address(), vec![Filter::Discovered(plugin.clone())]);
    change(&mut settings);
    let envoy = Envoy::start(&fetch::binary(IfMissing::Install).unwrap(), &settings).unwrap();
    Bench { envoy, upstream, plugin }
}

/// A policy of these rules; the header `x-user` is a verified user. A small table starts fast.
pub(crate) fn policy(rules: Value) -> Value {
    json!({
        "version": 1,
        "namespace": "t",
        "identity": {"user": [{"header": "x-user", "trust": "verified"}, {"header": "x-api-key"}]},
        "store": {"type": "local", "max_keys": 1024},
        "rules": rules,
    })
}

impl Bench {
    /// Where clients go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.envoy.address("main").unwrap()
    }

    /// A client of so many HTTP/1 connections.
    pub(crate) fn http1(&self, in_flight: usize) -> Client {
        Client::http1(self.address(), in_flight).unwrap()
    }

    /// A client of HTTP/2 over eight connections, which reach both workers.
    pub(crate) fn http2(&self, in_flight: usize) -> Client {
        Client::http2(self.address(), 8, in_flight).unwrap()
    }

    /// One of the plugin's counters or gauges, without what all of them start with. Envoy's name for it has the rule and
    /// the outcome in it, as the plugin defined it.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.envoy.stat(&format!("wasmcustom.tidegate.t.{name}")).unwrap()
    }

    /// Waits until a figure is what it should be; says what it is after 20 s.
    pub(crate) fn wait_for(&self, name: &str, wanted: u64) {
        let patience = Duration::from_secs(20);
        assert!(within(patience, || self.count(name) == wanted), "{name}: {} and not {wanted}", self.count(name));
    }

    /// What Envoy has allocated once all clients are gone: the least in a second, since it frees some things later than
    /// others.
    pub(crate) fn left_bytes(&self) -> u64 {
        let are_gone = || self.envoy.stat("http.main.downstream_cx_active").unwrap() == 0;
        assert!(within(Duration::from_secs(20), are_gone), "connections of clients that have left");
        let one = |_| {
            sleep(Duration::from_millis(50));
            self.envoy.allocated_bytes().unwrap()
        };
        (0..20).map(one).min().unwrap()
    }

    /// Gives the running Envoy another policy.
    pub(crate) fn update(&self, policy: &Value) {
        self.envoy.update(&Plugin { policy: policy.to_string(), ..self.plugin.clone() }).unwrap();
    }

    /// Panics where a VM has trapped or Envoy has ended.
    pub(crate) fn assert_nothing_died(&mut self) {
        assert!(self.envoy.is_running(), "Envoy has ended");
        let traps: Vec<String> =
            self.envoy.log_lines().unwrap().into_iter().filter(|line| line.contains("[critical]")).collect();
        assert_eq!(traps, Vec::<String>::new());
        let reloads = self.envoy.stats("vm_reload").unwrap();
        assert!(reloads.values().all(|count| *count == 0), "{reloads:?}");
    }
}

/// Whether something comes true in time.
pub(crate) fn within(patience: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_true() {
        if start.elapsed() > patience {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

/// Tests that measure time or memory take turns, so that they do not measure each other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends all of them at once; every one must be answered.
pub(crate) fn send(client: &Client, requests: impl IntoIterator<Item = Request>) -> Vec<Answer> {
    client.send_all(requests.into_iter().collect()).into_iter().map(Result::unwrap).collect()
}

/// How many answers have this status.
pub(crate) fn with_status(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// The figure below which `per_cent` of all are; 0 where there are none.
pub(crate) fn percentile(mut all: Vec<f64>, per_cent: usize) -> f64 {
    all.sort_by(f64::total_cmp);
    let at = (all.len() * per_cent / 100).min(all.len().saturating_sub(1));
    all.get(at).copied().unwrap_or_default()
}
