//! A host with an admin API, and short ways to call it.

use serde_json::Value;
use tidegate_host_test::{Host, Plugin, PluginId, Request, Stream};
use xtask::envoy::fetch::hex_sha256;

use crate::tidegate;

pub(crate) const WRITE: &str = "write-token-9f2c";
pub(crate) const READ: &str = "read-token-51aa";

/// A host of two workers under test.
pub(crate) struct Console {
    pub(crate) host: Host,
    pub(crate) id: PluginId,
}

/// The member `admin_api` with both tokens.
pub(crate) fn admin_api(more: &str) -> String {
    format!(
        r#""admin_api": {{"tokens": [{{"name": "ops", "role": "write", "sha256": "{}"}},
            {{"name": "eyes", "role": "read", "sha256": "{}"}}]{more}}},"#,
        hex_sha256(WRITE.as_bytes()),
        hex_sha256(READ.as_bytes())
    )
}

/// The rule that most tests use.
pub(crate) fn per_user() -> String {
    tidegate::rule("api_per_user", "per_user", 3, 60, "")
}

pub(crate) fn policy(more: &str, rules: &str) -> String {
    tidegate::with_settings(&format!("{}{more}", admin_api("")), rules)
}

pub(crate) fn plugin(policy: &str) -> Option<Plugin> {
    let module = tidegate::module("admin")?;
    Some(tidegate::plugin(&module, policy).allow_on_headers_stop_iteration(true))
}

/// Two workers with this policy; `None`, said aloud, where no plugin is built.
pub(crate) fn console_of(policy: &str) -> Option<Console> {
    let host = Host::builder().workers(2).build();
    let id = host.load(plugin(policy)?).unwrap_or_else(|error| panic!("{error}"));
    Some(Console { host, id })
}

pub(crate) fn console() -> Option<Console> {
    console_of(&policy("", &per_user()))
}

/// An answer of the admin API.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) stream: Stream,
}

impl Console {
    /// Sends a request as it is.
    pub(crate) fn send(&self, worker: usize, request: Request) -> Said {
        let stream = self.host.request(worker, &self.id, request);
        let response = stream.response().unwrap_or_default();
        let body = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        Said { status: response.status(), body, stream }
    }

    /// Calls the API with a token and a body.
    pub(crate) fn call(&self, token: &str, method: &str, path: &str, body: &str) -> Said {
        let mut request =
            Request::new(method, &format!("/.tidegate{path}")).header("authorization", format!("Bearer {token}"));
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body);
        }
        self.send(0, request)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let said = self.call(WRITE, "GET", path, "");
        assert_eq!(said.status, 200, "{path}: {}", said.body);
        said.body
    }

    pub(crate) fn write(&self, method: &str, path: &str, body: &str, status: u16) -> Value {
        let said = self.call(WRITE, method, path, body);
        assert_eq!(said.status, status, "{method} {path}: {}", said.body);
        said.body
    }

    /// Gives an override and returns its id.
    pub(crate) fn grant(&self, what: &str) -> String {
        let body = format!(r#"{{"reason": "emergency_access", "duration_minutes": 60, {what}}}"#);
        self.write("POST", "/v1/overrides", &body, 201)["override_id"].as_str().unwrap().to_owned()
    }

    /// How many of `count` requests of a user, to the workers in turn, pass.
    pub(crate) fn passing(&self, user: &str, count: usize) -> usize {
        tidegate::passing(&self.host, &self.id, 2, count, &tidegate::from(user))
    }

    pub(crate) fn sound(&self) {
        tidegate::assert_nothing_died(&self.host);
    }
}

impl Said {
    pub(crate) fn header(&self, name: &str) -> String {
        self.stream.response().unwrap_or_default().headers.text(name).unwrap_or_default()
    }
}
