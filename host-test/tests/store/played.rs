//! A proxy whose store the test plays: calls wait until they are answered. What a test wants of it is its own.

use std::time::Duration;

use serde_json::json;
use tidegate_host_test::{Answer, Callout, Host, LogLevel, PluginId, Response, Stream};

use crate::tidegate;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// The store's clock, in microseconds: far from the proxy's, which plays no part.
pub(crate) const NOW: i64 = 1_795_000_000_123_456;

/// What the script says of a cell: wait, units charged, remaining, time to like new, the lease's life.
pub(crate) type Cell = [i64; 5];

/// A proxy that asks the store.
pub(crate) struct Proxy {
    pub(crate) host: Host,
    pub(crate) id: PluginId,
}

/// A policy of these rules over a store with further members, each after a comma. A request waits 20 ms at most.
pub(crate) fn policy(store: &str, rules: &[String]) -> String {
    let settings = format!(
        r#""store": {{"type": "redis", "cluster": "redis", "authority": "gateway", "protocol": "upstash",
            "token": "s3cret", "max_keys": 1024{store}}},"#
    );
    tidegate::with_settings(&settings, &rules.join(","))
}

/// A proxy of one worker with such a policy; `None`, said aloud, where no plugin is built.
pub(crate) fn proxy(store: &str, rules: &[String]) -> Option<Proxy> {
    proxy_of(1, &policy(store, rules))
}

pub(crate) fn proxy_of(workers: usize, policy: &str) -> Option<Proxy> {
    let module = tidegate::module("store")?;
    let host = Host::builder().workers(workers).cluster("redis").build();
    let plugin = tidegate::plugin(&module, policy).allow_on_headers_stop_iteration(true);
    let id = host.load(plugin).unwrap_or_else(|error| panic!("{error}"));
    Some(Proxy { host, id })
}

/// The command's words behind the script's name: the keys, what is to be done, and a line a key.
pub(crate) struct Asked {
    pub(crate) command: String,
    pub(crate) keys: Vec<String>,
    pub(crate) purpose: String,
    pub(crate) lines: Vec<String>,
}

pub(crate) fn asked(call: &Callout) -> Asked {
    let words: Vec<String> = serde_json::from_slice(&call.body).unwrap();
    let keys = words[2].parse::<usize>().unwrap();
    let (keys, rest) = words[3..].split_at(keys);
    Asked { command: words[0].clone(), keys: keys.to_vec(), purpose: rest[0].clone(), lines: rest[1..].to_vec() }
}

pub(crate) fn answer(status: u16, body: impl AsRef<[u8]>) -> Answer {
    Answer::Response(Response::new(status).header("content-type", "application/json").body(body))
}

/// Granted, with these cells.
pub(crate) fn granted(cells: &[Cell]) -> Answer {
    numbers(1, cells)
}

pub(crate) fn refused(cells: &[Cell]) -> Answer {
    numbers(0, cells)
}

fn numbers(granted: i64, cells: &[Cell]) -> Answer {
    let all: Vec<i64> = [granted, NOW].into_iter().chain(cells.concat()).collect();
    answer(200, json!({"result": all}).to_string())
}

/// What a call that nobody waits for is told: a try, a refund.
pub(crate) fn done() -> Answer {
    answer(200, json!({"result": [1, NOW]}).to_string())
}

pub(crate) fn error(text: &str) -> Answer {
    answer(400, json!({"error": text}).to_string())
}

impl Proxy {
    /// A request of a user to the first worker.
    pub(crate) fn from(&self, user: &str) -> Stream {
        self.host.request(0, &self.id, tidegate::from(user))
    }

    /// The one call that is out.
    pub(crate) fn call(&self) -> Callout {
        let mut calls = self.host.callouts();
        assert_eq!(calls.len(), 1, "calls out");
        calls.pop().unwrap()
    }

    /// Answers the one call that is out.
    pub(crate) fn says(&self, answer: Answer) {
        self.host.answer(&self.call(), answer);
    }

    pub(crate) fn is_asked(&self) -> bool {
        !self.host.callouts().is_empty()
    }

    /// A request that fails for want of an answer to its call.
    pub(crate) fn fails(&self) -> Stream {
        let stream = self.from("a");
        self.says(Answer::Reset);
        stream
    }

    /// `store_calls_total`: answered, failed, `not_sent`, spared, leased.
    pub(crate) fn counted(&self) -> [u64; 5] {
        let metrics = self.host.metrics();
        ["answered", "failed", "not_sent", "spared", "leased"]
            .map(|name| metrics.counter(&format!("tidegate.default.store_calls_total.{name}")).unwrap())
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.host.metrics().gauge("tidegate.default.store_healthy") == Some(1)
    }

    /// The plugin's log lines that speak of the store.
    pub(crate) fn said(&self) -> Vec<String> {
        let lines = tidegate::messages(&self.host, LogLevel::Warn);
        lines.into_iter().filter(|line| line.starts_with("store: ")).collect()
    }

    /// What only a dead VM would break.
    pub(crate) fn sound(&self) {
        tidegate::assert_nothing_died(&self.host);
    }
}

pub(crate) fn passed(stream: &Stream) -> bool {
    tidegate::passed(stream)
}

/// What the access log is told of the store.
pub(crate) fn store_of(stream: &Stream) -> Option<Vec<u8>> {
    stream.set_property(&["tidegate.store"])
}
