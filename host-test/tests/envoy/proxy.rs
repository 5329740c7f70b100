//! An Envoy with the plugin and an upstream behind it, as every test here needs it, and what can be read off it.
//! Not here: how Envoy is started and asked (`xtask::envoy`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::envoy::{Envoy, Filter, Plugin, Settings, fetch};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

/// The longest window that a policy may have, in seconds: no quota flows back while a test runs.
pub(crate) const YEAR: u64 = 366 * 24 * 3600;

/// A running proxy; all of it ends when dropped.
pub(crate) struct Proxy {
    pub(crate) envoy: Envoy,
    pub(crate) upstream: Upstream,
    /// The plugin as it was first delivered.
    pub(crate) plugin: Plugin,
    namespace: String,
    /// How often Envoy was made to log a mark.
    marks: Cell<usize>,
}

impl Proxy {
    /// Envoy with two workers, a listener `main` that believes one proxy in front (so that a test chooses the client's
    /// address by X-Forwarded-For), and this policy by ECDS. `None`, said loudly, where the plugin is not built.
    pub(crate) fn start(test: &str, policy: &Value) -> Option<Self> {
        Self::start_with(test, policy, |_| ())
    }

    /// The same, with settings changed first.
    pub(crate) fn start_with(test: &str, policy: &Value, change: impl FnOnce(&mut Settings)) -> Option<Self> {
        if !is_built(test) {
            return None;
        }
        let upstream = Upstream::start().unwrap();
        let plugin = Plugin::new(&policy.to_string());
        let mut settings = Settings::new(upstream.address(), vec![Filter::Discovered(plugin.clone())]);
        settings.listeners[0].trusted_hops = 1;
        change(&mut settings);
        let envoy = start(&settings).unwrap();
        let namespace = policy["namespace"].as_str().unwrap_or("default").to_owned();
        Some(Self { envoy, upstream, plugin, namespace, marks: Cell::new(0) })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.envoy.address("main").unwrap()
    }

    /// A metric of the policy's namespace, such as `requests_total.allowed`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.envoy.stat(&format!("wasmcustom.tidegate.{}.{name}", self.namespace)).unwrap()
    }

    /// How many connections each worker has accepted so far.
    pub(crate) fn connections_by_worker(&self) -> Vec<u64> {
        let stats = self.envoy.stats(r"^listener\..*\.worker_\d+\.downstream_cx_total$").unwrap();
        stats.into_values().collect()
    }

    /// Fails unless both workers have taken connections.
    pub(crate) fn assert_both_workers_served(&self) {
        let connections = self.connections_by_worker();
        assert!(connections.len() == 2 && connections.iter().all(|count| *count > 0), "{connections:?}");
    }

    /// The access log by the authority that each request named, once it has `count` entries.
    pub(crate) fn log_by_authority(&self, count: usize) -> BTreeMap<String, Value> {
        let entries = self.envoy.access_log(count).unwrap();
        entries.into_iter().map(|entry| (entry["listener"].as_str().unwrap_or_default().to_owned(), entry)).collect()
    }

    /// All that Envoy has logged up to now. It writes its log a little later, so this makes it log a mark and waits.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        let marks = self.marks.get() + 1;
        self.marks.set(marks);
        self.envoy.admin("POST", "/logging?wasm=info").unwrap();
        let mut lines = Vec::new();
        eventually("the mark is in Envoy's log", || {
            lines = self.envoy.log_lines().unwrap();
            lines.iter().filter(|line| line.contains("change log level: name='wasm'")).count() >= marks
        });
        lines
    }

    /// Fails where the plugin trapped or complained. A trap shows at once in Envoy's log and, when the next request
    /// has come, as a reload of the VM.
    pub(crate) fn assert_unharmed(&mut self) {
        assert!(self.envoy.is_running(), "Envoy ended");
        let reloads = self.envoy.stats(r"^wasm\..*vm_reload").unwrap();
        assert!(reloads.values().all(|count| *count == 0), "{reloads:?}");
        let lines = self.log_lines();
        let is_complaint =
            |line: &&String| line.contains("wasm") && (line.contains("[error]") || line.contains("[critical]"));
        let complaints: Vec<&String> = lines.iter().filter(is_complaint).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// Whether there is a plugin to test; says loudly where not.
pub(crate) fn is_built(test: &str) -> bool {
    let is_built = workspace::wasm_file().is_file();
    if !is_built {
        skip::tell(&format!("envoy: {test}"), "dist/tidegate.wasm is not built; run `cargo xtask build`");
    }
    is_built
}

/// Starts an Envoy, which is fetched first if need be.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<Envoy> {
    Envoy::start(&fetch::binary(IfMissing::Install)?, settings)
}

/// A route that Envoy answers itself with 200, for paths that start so: for floods, and for what an upstream would
/// refuse.
pub(crate) fn direct(prefix: &str) -> Value {
    json!({"match": {"prefix": prefix}, "direct_response": {"status": 200}})
}

/// Waits until `is_so`, or fails after half a minute: Envoy's statistics of ended streams come a little later.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
