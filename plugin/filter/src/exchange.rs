//! One HTTP exchange: tells the engine of the request, asks the counters, does what was decided.

use std::rc::Rc;

use tidegate_engine::strategy;
use tidegate_engine::{Decision, Header, Request, Response, Step, Timestamp};

use crate::abi::AfterHeaders;
use crate::host::{self, Headers, Level, Map};
use crate::root::Deployment;

/// What an access log shows as the reason of an answer that is ours.
const DETAILS: &str = "tidegate_limited";

/// One request and its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    deployment: Rc<Deployment>,
    answer: Answer,
}

/// Where the response comes from, and what it needs from us.
#[derive(Debug)]
enum Answer {
    /// From the upstream (or another filter): these headers are added.
    Upstream(Vec<(&'static str, String)>),
    /// From us, complete. Envoy answers whatever it takes for gRPC with gRPC's status 200, and it looks at the content
    /// type only: `status` is what the client must see where the request was no gRPC call.
    Ours { status: Option<u16> },
}

impl Exchange {
    pub(crate) fn new(deployment: Rc<Deployment>) -> Self {
        Self { deployment, answer: Answer::Upstream(Vec::new()) }
    }

    /// Decides a request when its headers have come.
    pub(crate) fn request_headers(&mut self) -> AfterHeaders {
        let map = match Headers::of(Map::RequestHeaders) {
            Ok(map) => map,
            Err(status) => {
                host::log(Level::Error, &format!("the host gives no request headers: {status:?}"));
                return AfterHeaders::Continue;
            }
        };
        let headers = map.lines();
        remove_reserved(Map::RequestHeaders, &headers);
        let now = host::now();
        let decision = self.deployment.decide(&headers, now);
        self.deployment.counters.count(&decision);
        tell_access_log(&self.deployment, &decision, now);
        match (decision.action, decision.response) {
            (strategy::Action::Respond(_), Some(response)) => self.respond(&response, &headers),
            _ => {
                self.answer = Answer::Upstream(decision.headers);
                AfterHeaders::Continue
            }
        }
    }

    /// Trailers cannot say what only Tidegate may say either.
    pub(crate) fn request_trailers(&mut self) {
        if let Ok(map) = Headers::of(Map::RequestTrailers) {
            remove_reserved(Map::RequestTrailers, &map.lines());
        }
    }

    /// Adds to a response what the decision said.
    pub(crate) fn response_headers(&mut self) {
        match &self.answer {
            Answer::Upstream(headers) => add_to_response(headers),
            Answer::Ours { status: None } => {}
            Answer::Ours { status: Some(status) } => {
                host::replace_header(Map::ResponseHeaders, ":status", &status.to_string());
                for name in ["grpc-status", "grpc-message", "content-type"] {
                    host::remove_header(Map::ResponseHeaders, name.as_bytes());
                }
            }
        }
    }

    fn respond(&mut self, response: &Response, headers: &[Header<'_>]) -> AfterHeaders {
        let looks_like_grpc = headers
            .iter()
            .any(|(name, value)| *name == b"content-type" && value.starts_with(b"application/grpc"));
        let status = (looks_like_grpc && response.grpc_status.is_none()).then_some(response.status);
        self.answer = Answer::Ours { status };
        let sent =
            host::respond(response.status, DETAILS, &response.headers, &response.body, response.grpc_status);
        if let Err(status) = sent {
            host::log(Level::Error, &format!("the host refuses to answer a limited request: {status:?}"));
        }
        AfterHeaders::StopAll
    }
}

impl Deployment {
    fn decide(&self, headers: &[Header<'_>], now: Timestamp) -> Decision {
        let peer = if self.engine.needs_peer() {
            host::property(["source", "address"]).unwrap_or_default()
        } else {
            Vec::new()
        };
        let metadata: Vec<Vec<u8>> = self.engine.metadata_sources().map(metadata).collect();
        let request = Request { headers, peer: &peer, metadata: &metadata };
        let mut step = self.engine.check(&request, now);
        loop {
            step = match step {
                Step::Done(decision) => return decision,
                Step::Pending(pending) => {
                    let reply = self.table.acquire(&self.engine, pending.acquire(), &self.counters);
                    pending.resume(reply)
                }
            };
        }
    }
}

/// A value from the metadata that filters before this one left.
fn metadata(path: &[String]) -> Vec<u8> {
    let names = ["metadata", "filter_metadata"].into_iter().chain(path.iter().map(String::as_str));
    host::property(names).unwrap_or_default()
}

/// Removes what only Tidegate may say, in any spelling that an upstream could take for it.
fn remove_reserved(map: Map, headers: &[Header<'_>]) {
    for (name, _) in headers {
        if is_reserved(name) {
            host::remove_header(map, name);
        }
    }
}

fn is_reserved(name: &[u8]) -> bool {
    const RESERVED: &[u8] = b"x-tidegate-";
    name.len() >= RESERVED.len()
        && name.iter().zip(RESERVED).all(|(byte, reserved)| {
            byte.eq_ignore_ascii_case(reserved) || (*byte == b'_' && *reserved == b'-')
        })
}

/// Adds rate-limit headers without making the upstream's own looser: list fields grow by our members; of the
/// `X-RateLimit-*` triple, which holds one limit, the one with less remaining stays.
fn add_to_response(headers: &[(&'static str, String)]) {
    let ours = headers.iter().find(|(name, _)| *name == "x-ratelimit-remaining").map(|(_, value)| value.as_str());
    let keep_upstream = ours.is_some_and(|ours| {
        let theirs = host::header(Map::ResponseHeaders, "x-ratelimit-remaining").ok();
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let theirs = theirs.and_then(|value| core::str::from_utf8(&value).ok().and_then(number));
        theirs.zip(number(ours)).is_some_and(|(theirs, ours)| theirs < ours)
    });
    for (name, value) in headers {
        if !name.starts_with("x-ratelimit-") {
            host::add_header(Map::ResponseHeaders, name, value);
        } else if !keep_upstream {
            host::replace_header(Map::ResponseHeaders, name, value);
        }
    }
}

/// Leaves the decision for access logs: `%FILTER_STATE(wasm.tidegate.outcome:PLAIN)%`, `rule`, and `at`, the
/// microsecond that it was decided for. Nothing is left where no rule applied.
fn tell_access_log(deployment: &Deployment, decision: &Decision, now: Timestamp) {
    let policy = deployment.engine.policy();
    if decision.verdicts.is_empty() {
        return;
    }
    host::set_property("tidegate.outcome", decision.outcome().as_bytes());
    host::set_property("tidegate.at", now.micros().to_string().as_bytes());
    if let Some(rule) = decision.leading_rule(policy).and_then(|rule| policy.rules.get(rule)) {
        host::set_property("tidegate.rule", rule.name.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_known_in_every_spelling() {
        for name in ["x-tidegate-degraded", "X_Tidegate_Degraded", "x-tidegate_x", "X-TIDEGATE-"] {
            assert!(is_reserved(name.as_bytes()), "{name}");
        }
        for name in ["x-tidegat", "x-tidegates", "y-tidegate-x", ""] {
            assert!(!is_reserved(name.as_bytes()), "{name}");
        }
    }
}
