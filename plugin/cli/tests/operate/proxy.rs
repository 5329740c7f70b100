//! A real Envoy with two workers whose policy has an admin API, clients on connections that reach both, and the binary
//! with the proxy's address and token in its environment.

use std::time::Instant;

use serde_json::{Value, json};
use xtask::envoy::{Envoy, Filter, Plugin, Settings, fetch};
use xtask::load::{Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

use crate::run::{Folder, Ran};

/// The token of `admin_123`, who may change things.
pub(crate) const TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// The token of `watcher`, who may look.
pub(crate) const READ_TOKEN: &str = "00112233445566778899aabbccddeeff";
/// How many connections there are: that all of them are one worker's has a chance of one in 32,768.
const CONNECTIONS: usize = 16;

pub(crate) struct Proxy {
    pub(crate) envoy: Envoy,
    /// Where it listens, and where its admin API is.
    pub(crate) address: std::net::SocketAddr,
    pub(crate) folder: Folder,
    clients: Vec<Client>,
    upstream: Upstream,
}

/// The policy of these rules; users are told by the header `x-user-id`.
pub(crate) fn policy(rules: &Value) -> Value {
    let token = |name: &str, role: &str, token: &str| json!({"name": name, "role": role, "sha256": fetch::hex_sha256(token.as_bytes())});
    json!({
        "version": 1,
        "identity": {"user": [{"header": "x-user-id", "trust": "verified"}, {"header": "x-api-key"}]},
        "store": {"type": "local", "max_keys": 1024},
        "admin_api": {"tokens": [token("admin_123", "write", TOKEN), token("watcher", "read", READ_TOKEN)]},
        "rules": rules,
    })
}

impl Proxy {
    /// Starts one with this policy; `None`, said aloud, where the `.wasm` is not built.
    pub(crate) fn start(test: &str, policy: &str) -> Option<Self> {
        if !workspace::wasm_file().is_file() {
            skip::tell(test, "the .wasm is not built; `cargo xtask build` does");
            return None;
        }
        let upstream = Upstream::start().unwrap();
        let plugin = Plugin { sees_bodies: true, ..Plugin::new(policy) };
        let mut settings = Settings::new(upstream.address(), vec![Filter::Discovered(plugin)]);
        // Clients may say where they come from, so that there can be several addresses.
        settings.listeners.iter_mut().for_each(|listener| listener.trusted_hops = 1);
        let envoy = Envoy::start(&fetch::binary(IfMissing::Install).unwrap(), &settings).unwrap();
        let address = envoy.address("main").unwrap();
        let clients = (0..CONNECTIONS).map(|_| Client::http1(address, 1).unwrap()).collect();
        let folder = Folder::new();
        folder.write("token", TOKEN);
        folder.write("read-token", READ_TOKEN);
        Some(Self { envoy, address, folder, clients, upstream })
    }

    /// Runs a line by the shell; `tidegate` knows the proxy from its environment.
    pub(crate) fn shell(&self, line: &str) -> Ran {
        let environment = format!("export TIDEGATE_URL=http://{} TIDEGATE_TOKEN={TOKEN}", self.address);
        self.folder.shell(&format!("{environment}; {line}"))
    }

    /// The status of one request, on the connection of that number.
    pub(crate) fn status(&self, connection: usize, user: &str) -> u16 {
        let request = Request::new("GET", "/").header("x-user-id", user);
        self.clients[connection % CONNECTIONS].send(&request).unwrap().status
    }

    /// Sends requests over all connections in turn until one is refused; how many passed, and how many a rule of 100 a
    /// minute could have let through since `start`, ten of them at once.
    pub(crate) fn until_limited(&self, user: &str) -> usize {
        let start = Instant::now();
        let passed = (0..1000).take_while(|number| self.status(*number, user) == 200).count();
        let most = 10 + refilled(start);
        assert!(passed <= most, "{passed} passed, at most {most} may");
        passed
    }

    /// How many requests came to the upstream.
    pub(crate) fn arrived(&self) -> u64 {
        self.upstream.requests()
    }

    /// How many of two requests on each connection pass.
    pub(crate) fn passing(&self, user: &str) -> (usize, usize) {
        let sent = 2 * CONNECTIONS;
        ((0..sent).filter(|number| self.status(*number, user) == 200).count(), sent)
    }
}

/// What a bucket of 100 a minute gains from then till now, rounded up.
pub(crate) fn refilled(start: Instant) -> usize {
    usize::try_from(start.elapsed().as_millis() / 600 + 1).unwrap()
}
