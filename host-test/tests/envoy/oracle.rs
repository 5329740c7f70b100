//! The engine run natively beside Envoy: what it decides for the same requests at the same microseconds.
//! Not here: how the requests were sent.

use serde_json::Value;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::{Policy, Store};
use tidegate_engine::scenario::Observed;
use tidegate_engine::table::GivenUp;
use tidegate_engine::{Engine, Header, Memory, Request, Step, Timestamp};

use crate::wire::Reply;

/// One policy, and counters that nobody else charges.
pub(crate) struct Oracle {
    engine: Engine,
    memory: Memory,
}

impl Oracle {
    pub(crate) fn new(policy: &Value) -> Self {
        let policy = Policy::parse(policy.to_string().as_bytes(), &Catalogue::builtin()).unwrap();
        let Store::Local { max_keys } = policy.store else { panic!("the policy's store is not local") };
        Self { engine: Engine::new(policy), memory: Memory::new(max_keys, [7; 16]) }
    }

    /// What the engine decides for a request with these header lines from this address.
    pub(crate) fn decide(&mut self, lines: &[(&str, &str)], client: &str, at: Timestamp) -> Observed {
        let headers: Vec<Header<'_>> = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let metadata = vec![Vec::new(); self.engine.metadata_sources().count()];
        let request = Request { headers: &headers, peer: client.as_bytes(), metadata: &metadata };
        let mut step = self.engine.check(&request, at);
        loop {
            step = match step {
                Step::Done(decision) => return Observed::of(&self.engine, &decision),
                Step::Pending(pending) => {
                    let reply = self.memory.acquire(&self.engine, pending.acquire());
                    pending.resume(Ok(reply))
                }
            };
        }
    }

    /// What its table gave up so far; a comparison is only exact while this is nothing.
    pub(crate) fn given_up(&self) -> GivenUp {
        self.memory.given_up()
    }
}

/// The microsecond that the filter decided a request for.
pub(crate) fn decided_at(entry: &Value) -> Timestamp {
    let at = entry["at"].as_str().and_then(|text| text.parse().ok()).or_else(|| entry["at"].as_u64());
    Timestamp::from_micros(at.unwrap_or_else(|| panic!("no time in the access log entry {entry}")))
}

/// How a reply and its access log entry differ from what was expected; empty where they do not.
pub(crate) fn differences(expected: &Observed, reply: &Reply, entry: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, wanted: Option<&str>, found: Option<&str>| {
        if wanted != found {
            differences.push(format!("{what}: the engine says {wanted:?}, Envoy {found:?}"));
        }
    };
    compare("outcome", Some(&expected.outcome), entry["outcome"].as_str());
    compare("rule", expected.rule.as_deref(), entry["rule"].as_str());
    let status = expected.status.unwrap_or(200).to_string();
    compare("status", Some(&status), Some(&reply.status.to_string()));
    for name in ["ratelimit", "ratelimit-policy", "retry-after", "cache-control"] {
        compare(name, expected.header(name), reply.header(name));
    }
    if expected.status.is_some() {
        compare("content-type", expected.header("content-type"), reply.header("content-type"));
        compare("body", Some(&expected.body), Some(&String::from_utf8_lossy(&reply.body)));
    }
    differences
}
