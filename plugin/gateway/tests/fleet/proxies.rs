//! A fleet: so many Envoys with one policy, whose store is a gateway.

use std::sync::{Condvar, Mutex};
use std::thread::{self, ThreadId};

use serde_json::{Value, json};
use xtask::envoy::{Cluster, Envoy, Filter, Plugin, Settings, fetch};
use xtask::load::{Answer, Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::workspace;

use crate::http::TOKEN;
use crate::servers::{Redis, text};
use crate::skip;

/// The longest window that a policy may have, in seconds: no quota flows back while a test runs.
pub(crate) const YEAR: u64 = 366 * 24 * 3600;

/// Proxies with two workers each.
pub(crate) struct Fleet {
    pub(crate) envoys: Vec<Envoy>,
    pub(crate) upstream: Upstream,
    _turn: Turn,
}

/// One test at a time has proxies: beside the load of another its times would be the machine's. A test may have several
/// fleets; what it starts before its first is not held up.
struct Turn;

/// Whose turn it is, and how many fleets that test has.
static TURN: (Mutex<Option<(ThreadId, usize)>>, Condvar) = (Mutex::new(None), Condvar::new());

impl Turn {
    fn take() -> Self {
        let (held, free) = &TURN;
        let me = thread::current().id();
        let others = |turn: &mut Option<(ThreadId, usize)>| turn.is_some_and(|(thread, _)| thread != me);
        let mut turn = free.wait_while(held.lock().unwrap(), others).unwrap();
        *turn = Some((me, turn.map_or(1, |(_, fleets)| fleets + 1)));
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (held, free) = &TURN;
        let mut turn = held.lock().unwrap();
        *turn = turn.filter(|(_, fleets)| *fleets > 1).map(|(thread, fleets)| (thread, fleets - 1));
        free.notify_all();
    }
}

/// A policy of these rules whose store is the gateway; the header `x-user` is a verified user.
pub(crate) fn policy(store: Value, rules: Value) -> Value {
    let mut whole = json!({
        "type": "redis", "cluster": "redis", "authority": "gateway", "protocol": "upstash", "token": TOKEN,
        "timeout_ms": 200, "max_keys": 1024,
    });
    if let (Value::Object(whole), Value::Object(store)) = (&mut whole, store) {
        whole.extend(store);
    }
    let mut policy = json!({
        "version": 1,
        "namespace": "t",
        "identity": {"user": [{"header": "x-user", "trust": "verified"}]},
        "store": whole,
    });
    policy["rules"] = rules;
    policy
}

impl Fleet {
    /// So many Envoys with this policy, all of whose calls go to `gateway`. `None`, said aloud, where the plugin is not
    /// built.
    pub(crate) fn start(test: &str, envoys: usize, gateway: &str, policy: &Value) -> Option<Self> {
        let mut cluster = Cluster::new("redis", gateway.parse().unwrap());
        // As examples/redis/envoy-cluster.yaml has it.
        cluster.reads_at_once = 32_768;
        let plugin = Plugin { sees_bodies: true, ..Plugin::new(&policy.to_string()) };
        Self::start_with(test, envoys, &cluster, &plugin)
    }

    /// The same with more to choose: the cluster of the store, and how the plugin is loaded.
    pub(crate) fn start_with(test: &str, envoys: usize, cluster: &Cluster, plugin: &Plugin) -> Option<Self> {
        if !workspace::wasm_file().is_file() {
            skip::tell(test, "the .wasm is not built; `cargo xtask build` does");
            return None;
        }
        let binary = fetch::binary(IfMissing::Install).unwrap();
        let turn = Turn::take();
        let upstream = Upstream::start().unwrap();
        let envoys = (0..envoys).map(|_| {
            let mut settings = Settings::new(upstream.address(), vec![Filter::Discovered(plugin.clone())]);
            settings.clusters.push(cluster.clone());
            Envoy::start(&binary, &settings).unwrap()
        });
        Some(Self { envoys: envoys.collect(), upstream, _turn: turn })
    }

    /// Sends so many requests over all proxies at once, each with `in_flight` of them out; their answers.
    pub(crate) fn send(&self, requests: usize, in_flight: usize, request: &Request) -> Vec<Answer> {
        self.send_each(&vec![request.clone(); requests / self.envoys.len()], in_flight)
    }

    /// Sends these requests to every proxy at once.
    pub(crate) fn send_each(&self, requests: &[Request], in_flight: usize) -> Vec<Answer> {
        std::thread::scope(|scope| {
            let of_one = |envoy: &Envoy| {
                let (address, all) = (envoy.address("main").unwrap(), requests.to_vec());
                scope.spawn(move || Client::http1(address, in_flight).unwrap().send_all(all))
            };
            let clients: Vec<_> = self.envoys.iter().map(of_one).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).map(Result::unwrap).collect()
        })
    }

    /// Sends so many requests to one proxy.
    pub(crate) fn send_to(&self, proxy: usize, requests: usize, in_flight: usize, request: &Request) -> Vec<Answer> {
        let client = Client::http1(self.envoys[proxy].address("main").unwrap(), in_flight).unwrap();
        client.send_all(vec![request.clone(); requests]).into_iter().map(Result::unwrap).collect()
    }

    /// The sum over all proxies of one of the plugin's figures.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.envoys.iter().map(|envoy| envoy.stat(&format!("wasmcustom.tidegate.t.{name}")).unwrap()).sum()
    }

    /// Whether every proxy takes its store for healthy; `None` where they differ.
    pub(crate) fn is_healthy(&self) -> Option<bool> {
        let healthy = self.count("store_healthy");
        if healthy == 0 { Some(false) } else { (healthy == self.envoys.len() as u64).then_some(true) }
    }

    /// How many lines of the proxies' logs hold `text`.
    pub(crate) fn lines(&self, text: &str) -> usize {
        let of_one =
            |envoy: &Envoy| envoy.flushed_log_lines().unwrap().iter().filter(|line| line.contains(text)).count();
        self.envoys.iter().map(of_one).sum()
    }

    /// Panics where a VM has trapped or an Envoy has ended.
    pub(crate) fn assert_nothing_died(&mut self) {
        for envoy in &mut self.envoys {
            assert!(envoy.is_running(), "Envoy has ended");
            let lines = envoy.log_lines().unwrap();
            let traps: Vec<&String> = lines.iter().filter(|line| line.contains("[critical]")).collect();
            assert_eq!(traps, Vec::<&String>::new());
        }
    }
}

/// How many answers have this status.
pub(crate) fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// What the fixed windows of this rule have counted, over all identities; of these servers, which are masters.
pub(crate) fn counted(masters: &[&Redis], rule: &str) -> u64 {
    let count = |redis: &Redis| -> u64 {
        let keys: Vec<String> = redis::from_redis_value(redis.ask(&["KEYS", &format!("tg1:*:{rule}:*")])).unwrap();
        let value = |key: &String| text(&redis.ask(&["GET", key])).split(' ').nth(2).unwrap().parse::<u64>().unwrap();
        keys.iter().map(value).sum()
    };
    masters.iter().map(|redis| count(redis)).sum()
}
