//! The mission's session over HTTP calls, in a real Envoy with two workers.

// Only `#[test]` functions may by themselves.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use serde_json::{Value, json};
use xtask::envoy::{Envoy, Filter, Plugin, Settings, fetch};
use xtask::load::{Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

#[path = "admin_envoy/alerts.rs"]
mod alerts;
#[path = "admin_envoy/expiry.rs"]
mod expiry;

const TOKEN: &str = "a-token-for-this-test";

/// Calls the admin API; the status and the body.
fn call(client: &Client, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut request =
        Request::new(method, &format!("/.tidegate{path}")).header("authorization", format!("Bearer {TOKEN}"));
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string().into_bytes());
    }
    let answer = client.send(&request).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

/// How many of 24 requests of a user pass, over connections that reach both workers.
fn passing(clients: &[Client], user: &str) -> usize {
    let send = |number: usize| {
        let request = Request::new("GET", "/").header("x-user", user);
        clients[number % clients.len()].send(&request).unwrap().status == 200
    };
    (0..24).filter(|number| send(*number)).count()
}

/// An Envoy with an admin API, and connections that reach both of its workers.
struct Session {
    envoy: Envoy,
    clients: Vec<Client>,
    _upstream: Upstream,
}

impl Session {
    /// Starts one with these rules; `None`, said aloud, where the plugin is not built.
    fn start(test: &str, rules: &Value) -> Option<Self> {
        if !workspace::wasm_file().is_file() {
            skip::tell(&format!("admin_envoy: {test}"), "the .wasm is not built; `cargo xtask build` does");
            return None;
        }
        let policy = json!({
            "version": 1,
            "identity": {"user": [{"header": "x-user", "trust": "verified"}]},
            "store": {"type": "local", "max_keys": 1024},
            "admin_api": {"tokens": [{"name": "ops", "role": "write", "sha256": fetch::hex_sha256(TOKEN.as_bytes())}]},
            "rules": rules,
        });
        let upstream = Upstream::start().unwrap();
        let plugin = Plugin { sees_bodies: true, ..Plugin::new(&policy.to_string()) };
        let settings = Settings::new(upstream.address(), vec![Filter::Discovered(plugin)]);
        let envoy = Envoy::start(&fetch::binary(IfMissing::Install).unwrap(), &settings).unwrap();
        let address = envoy.address("main").unwrap();
        // Each client is a connection of its own; sixteen of them reach both workers.
        let clients = (0..16).map(|_| Client::http1(address, 1).unwrap()).collect();
        Some(Self { envoy, clients, _upstream: upstream })
    }

    fn assert_both_workers_served(&self) {
        let stats = self.envoy.stats(r"^listener\..*\.worker_\d+\.downstream_cx_total$").unwrap();
        assert!(stats.len() == 2 && stats.values().all(|count| *count > 0), "{stats:?}");
    }
}

#[test]
fn the_missions_session() {
    let Some(mut session) = Session::start("the mission's session", &json!([])) else { return };
    let clients = core::mem::take(&mut session.clients);
    let admin = &clients[0];
    assert_eq!(passing(&clients, "user_456"), 24);
    let rule = json!({"scope": "per_user", "rate": 10, "window_seconds": 3600});
    assert_eq!(call(admin, "PUT", "/v1/rules/api_limit", &rule).0, 200);
    assert_eq!(call(admin, "GET", "/v1/rules", &Value::Null).1["rules"][0]["name"], "api_limit");
    assert_eq!(passing(&clients, "user_456"), 10, "on both workers at once");
    let grant = json!({"admin_id": "ops", "target_user_id": "user_456", "reason": "emergency_access",
        "duration_minutes": 60, "unlimited": true});
    let (status, given) = call(admin, "POST", "/v1/overrides", &grant);
    assert_eq!(status, 201, "{given}");
    assert_eq!(passing(&clients, "user_456"), 24);
    assert_eq!(passing(&clients, "another"), 10);
    let metrics = call(admin, "GET", "/v1/metrics/api_limit", &Value::Null).1["rules"]["api_limit"].clone();
    assert_eq!((&metrics["total"], &metrics["granted"], &metrics["rejected"]), (&json!(72), &json!(24), &json!(28)));
    let id = given["override_id"].as_str().unwrap();
    assert_eq!(call(admin, "DELETE", &format!("/v1/overrides/{id}"), &Value::Null).0, 204);
    assert_eq!(passing(&clients, "user_456"), 0, "limited again");
    assert_eq!(call(admin, "POST", "/v1/metrics/api_limit/reset", &Value::Null).0, 200);
    assert_eq!(call(admin, "GET", "/v1/metrics", &Value::Null).1["rules"]["api_limit"]["total"], 0);
    assert_eq!(call(admin, "DELETE", "/v1/rules/api_limit", &Value::Null).0, 204);
    assert_eq!(passing(&clients, "user_456"), 24);
    let audit = call(admin, "GET", "/v1/audit", &Value::Null).1;
    let head = (audit["head"]["seq"].as_u64().unwrap(), audit["head"]["hash"].as_str().unwrap());
    assert_eq!(tidegate_engine::admin::audit::verify(audit.to_string().as_bytes(), Some(head)), Ok(5));
    assert!(session.envoy.is_running());
}
