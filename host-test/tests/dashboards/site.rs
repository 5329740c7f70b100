//! A small site that has everything a dashboard shows: an Envoy with a rule for each strategy, an admin API with a grant,
//! traffic that gets every outcome, and a real Prometheus that scrapes it once a second.
//! Not here: what is asked of it.

use serde_json::{Value, json};
use xtask::envoy::{Envoy, Filter, Plugin, Settings, fetch};
use xtask::load::{Answer, Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

use crate::prometheus::{self, Prometheus};

/// The policy's namespace.
pub(crate) const NAMESPACE: &str = "site";
const TOKEN: &str = "a-token-for-this-test";

/// A running site; all of it ends when dropped.
pub(crate) struct Site {
    pub(crate) prometheus: Prometheus,
    pub(crate) envoy: Envoy,
    plugin: Plugin,
    client: Client,
    _upstream: Upstream,
}

fn policy() -> Value {
    let rule = |name: &str, rate: u32, window_seconds: u32, strategy: Value| {
        json!({"name": name, "scope": "per_user", "rate": rate, "window_seconds": window_seconds, "burst": rate,
            "endpoints": [format!("/{name}/*")], "strategy": strategy})
    };
    let mut shadow = rule("shadow", 1, 3600, json!("hard"));
    shadow["mode"] = json!("shadow");
    let queue = json!({"type": "queue", "cluster": "upstream", "authority": "jobs.test", "max_attempts": 1});
    // The upstream answers what such a path says.
    let mut queued = rule("queue", 1, 1, queue);
    queued["endpoints"] = json!(["/status/*"]);
    json!({
        "version": 1,
        "namespace": NAMESPACE,
        "identity": {"user": [{"header": "x-user", "trust": "verified"}]},
        "store": {"type": "local", "max_keys": 1024},
        "admin_api": {"tokens": [{"name": "ops", "role": "write", "sha256": fetch::hex_sha256(TOKEN.as_bytes())}]},
        "rules": [
            rule("hard", 5, 3600, json!("hard")),
            rule("retry", 5, 3600, json!("retry_after")),
            rule("throttle", 2, 1, json!({"type": "throttle", "max_delay_ms": 700})),
            queued,
            rule("graceful", 5, 3600, json!({"type": "graceful", "respond": {"status": 200, "body": "less"}})),
            shadow,
        ],
        "alerts": [{"name": "refusals", "when": "rejections_per_second_above", "value": 0.001,
            "webhook": {"cluster": "upstream", "authority": "pager.test", "path": "/alert"}}],
    })
}

impl Site {
    /// Starts everything, sends traffic of each kind, and waits until Prometheus has seen it move; `None`, said aloud,
    /// where no plugin is built.
    pub(crate) fn start(test: &str) -> Option<Self> {
        if !workspace::wasm_file().is_file() {
            skip::tell(&format!("dashboards: {test}"), "the .wasm is not built; `cargo xtask build` does");
            return None;
        }
        let upstream = Upstream::start().unwrap();
        let plugin = Plugin { sees_bodies: true, ..Plugin::new(&policy().to_string()) };
        let settings = Settings::new(upstream.address(), vec![Filter::Discovered(plugin.clone())]);
        let envoy = Envoy::start(&fetch::binary(IfMissing::Install).unwrap(), &settings).unwrap();
        let client = Client::http1(envoy.address("main").unwrap(), 8).unwrap();
        let prometheus = Prometheus::start(envoy.admin_address());
        let site = Self { prometheus, envoy, plugin, client, _upstream: upstream };
        site.operate();
        // Twice, with scrapes between: a rate needs a counter that grows from one scrape to another.
        for round in ["first", "second"] {
            site.send_traffic(round);
            site.wait_until_scraped();
        }
        Some(site)
    }

    /// Calls the admin API with the right token.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request =
            Request::new(method, &format!("/.tidegate{path}")).header("authorization", format!("Bearer {TOKEN}"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string().into_bytes());
        }
        self.client.send(&request).unwrap()
    }

    /// Delivers a policy that is none; Envoy goes on with the one that it has.
    pub(crate) fn send_a_bad_policy(&self) {
        let bad = Plugin { policy: "{}".into(), ..self.plugin.clone() };
        assert!(self.envoy.update(&bad).unwrap_err().to_string().contains("policy refused"));
    }

    /// A grant, and a login that fails.
    fn operate(&self) {
        let grant = json!({"target_user_id": "vip", "reason": "testing", "duration_minutes": 60, "unlimited": true});
        assert_eq!(self.call("POST", "/v1/overrides", Some(&grant)).status, 201);
        self.fail_a_login();
    }

    fn fail_a_login(&self) {
        assert_eq!(self.client.send(&Request::get("/.tidegate/v1/status")).unwrap().status, 401);
    }

    /// Gets every outcome from every strategy, for users that nobody was before.
    fn send_traffic(&self, round: &str) {
        let send = |path: &str, user: &str, times: usize| {
            let request = Request::get(path).header("x-user", user);
            let answers = self.client.send_all(vec![request; times]);
            let statuses = answers.into_iter().map(|answer| answer.unwrap().status);
            statuses.collect::<Vec<u16>>()
        };
        let count = |statuses: &[u16], status: u16| statuses.iter().filter(|one| **one == status).count();
        let ann = format!("ann-{round}");
        assert_eq!(count(&send("/hard/x", &ann, 8), 429), 3);
        assert_eq!(count(&send("/retry/x", &ann, 8), 429), 3);
        assert_eq!(count(&send("/graceful/x", &ann, 8), 200), 8);
        assert_eq!(count(&send("/shadow/x", &ann, 3), 200), 3);
        assert_eq!(count(&send("/nobody/counts/this", &ann, 3), 200), 3);
        assert_eq!(count(&send("/hard/x", "vip", 8), 200), 8, "the grant lifts the limit");
        // Two pass, one waits for half a second, the rest would wait longer than the rule lets it.
        let throttled = send("/throttle/x", &ann, 6);
        assert!(count(&throttled, 200) >= 3 && count(&throttled, 429) >= 1, "{throttled:?}");
        // The job comes back with 500, and it may be tried once.
        let queued = send("/status/500", &ann, 3);
        assert!(count(&queued, 202) >= 1, "{queued:?}");
        self.fail_a_login();
    }

    /// Waits until two scrapes more have seen all that the traffic did.
    fn wait_until_scraped(&self) {
        let stat = |name: &str| self.envoy.stat(&format!("wasmcustom.tidegate.{NAMESPACE}.{name}")).unwrap();
        prometheus::eventually("the jobs end", || stat("queue_taken_total.queue") == stat("queue_failed_total.queue"));
        let released = stat("verdicts_total.throttle.delayed");
        // Envoy merges its histograms every five seconds; the rest is older by then.
        let seen = format!(
            "min_over_time(tidegate_release_lag_us_count{{tidegate_namespace=\"{NAMESPACE}\"}}[2s]) >= {released}"
        );
        prometheus::eventually("Prometheus sees the traffic", || !self.prometheus.query(&seen).unwrap().is_empty());
    }
}
