//! One HTTP exchange: tells the engine of the request, asks the counters, does what was decided.

mod headers;

use std::rc::Rc;

use tidegate_engine::strategy::{Action, Reduced};
use tidegate_engine::{DEGRADED, Decision, Header, Request, Reservation, Response, Step, Timestamp};

use crate::abi::{AfterBody, AfterHeaders};
use crate::host::{self, Headers, Level, Map};
use crate::root::Deployment;
use crate::waiting::{Key, Seat};

/// One request and its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    id: u32,
    deployment: Rc<Deployment>,
    state: State,
    answer: Answer,
}

/// How far the request is.
#[derive(Debug)]
enum State {
    /// It goes on, or was never stopped.
    Passing,
    /// It waits for its reserved moment.
    Held { seat: Seat, reservation: Box<Reservation> },
    /// It is answered here.
    Answered,
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
    pub(crate) fn new(id: u32, deployment: Rc<Deployment>) -> Self {
        Self { id, deployment, state: State::Passing, answer: Answer::Upstream(Vec::new()) }
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
        let lines = map.lines();
        headers::remove_reserved(&self.deployment.engine, Map::RequestHeaders, &lines);
        let now = host::now();
        let mut decision = self.deployment.decide(&lines, now);
        self.deployment.counters.count(&decision);
        tell_access_log(&self.deployment, &decision, now);
        if let Some(response) = decision.response.take() {
            return self.respond(&response, decision.outcome(), &lines);
        }
        self.answer = Answer::Upstream(core::mem::take(&mut decision.headers));
        match (&decision.action, decision.reservation) {
            (Action::Delay(wait), Some(reservation)) => self.hold(now + *wait, reservation, now),
            (Action::Degrade(Reduced::Forward { headers, path }), _) => {
                let rule = decision.denial.map(|denial| denial.rule).unwrap_or_default();
                reduce(headers, path.as_deref(), &rule);
                AfterHeaders::Continue
            }
            _ => AfterHeaders::Continue,
        }
    }

    /// What becomes of a piece of the request's body.
    pub(crate) fn request_body(&mut self) -> AfterBody {
        match self.state {
            State::Passing => AfterBody::Continue,
            State::Held { .. } | State::Answered => AfterBody::Hold,
        }
    }

    /// Trailers cannot say what only Tidegate may say either, and stop where their request does.
    pub(crate) fn request_trailers(&mut self) -> AfterHeaders {
        if let Ok(map) = Headers::of(Map::RequestTrailers) {
            headers::remove_reserved(&self.deployment.engine, Map::RequestTrailers, &map.lines());
        }
        match self.state {
            State::Passing => AfterHeaders::Continue,
            State::Held { .. } | State::Answered => AfterHeaders::Stop,
        }
    }

    /// Adds to a response what the decision said.
    pub(crate) fn response_headers(&mut self) {
        match &self.answer {
            Answer::Upstream(added) => headers::add_to_response(added),
            Answer::Ours { status: None } => {}
            Answer::Ours { status: Some(status) } => headers::undo_grpc(*status),
        }
    }

    /// The root has sent this request on.
    pub(crate) fn released(&mut self) {
        self.state = State::Passing;
    }

    /// The exchange is over. A client that left while it was held frees its place, and gives back what it had reserved.
    pub(crate) fn done(&mut self) {
        let State::Held { seat, reservation } = core::mem::replace(&mut self.state, State::Passing) else { return };
        if self.deployment.waiting.borrow_mut().leave(seat) {
            self.deployment.counters.waiting.add(-1);
            self.deployment.counters.abandoned.add(1);
            self.deployment.table.give_back(&reservation);
            self.deployment.keep_ticking(host::now(), false);
        }
    }

    fn hold(&mut self, due: Timestamp, reservation: Reservation, now: Timestamp) -> AfterHeaders {
        let keys = self.deployment.keys_waited_for(&reservation);
        let seat = self.deployment.waiting.borrow_mut().enter(self.id, keys, due);
        self.deployment.counters.waiting.add(1);
        self.state = State::Held { seat, reservation: Box::new(reservation) };
        self.deployment.keep_ticking(now, false);
        AfterHeaders::Stop
    }

    fn respond(&mut self, response: &Response, outcome: &str, lines: &[Header<'_>]) -> AfterHeaders {
        let looks_like_grpc =
            lines.iter().any(|(name, value)| *name == b"content-type" && value.starts_with(b"application/grpc"));
        let status = (looks_like_grpc && response.grpc_status.is_none()).then_some(response.status);
        self.answer = Answer::Ours { status };
        self.state = State::Answered;
        // What an access log shows as the reason of the answer: `tidegate_limited`.
        if let Err(status) = host::respond(response, &format!("tidegate_{outcome}")) {
            host::log(Level::Error, &format!("the host refuses to answer a request: {status:?}"));
        }
        AfterHeaders::Stop
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
                Step::Pending(mut pending) => {
                    let waiting = self.waiting.borrow();
                    pending.keep_waiting_only_where(|rule, cell, subject| {
                        let key = (cell.rule_id, self.table.fingerprint(subject));
                        rule.strategy.room().is_some_and(|room| waiting.has_room(key, room))
                    });
                    let reply = self.table.acquire(&self.engine, pending.acquire(), &self.counters);
                    pending.resume(reply)
                }
            };
        }
    }

    /// The keys that a reservation lies ahead in.
    fn keys_waited_for(&self, reservation: &Reservation) -> Vec<Key> {
        let acquire = &reservation.acquire;
        let cells = acquire.cells.iter().zip(&reservation.cells);
        let ahead = cells.filter(|(_, reply)| reply.charged && reply.wait.0 > 0);
        ahead
            .filter_map(|(cell, _)| {
                acquire.subjects.get(cell.subject).map(|subject| (cell.rule_id, self.table.fingerprint(subject)))
            })
            .collect()
    }
}

/// A value from the metadata that filters before this one left.
fn metadata(path: &[String]) -> Vec<u8> {
    let names = ["metadata", "filter_metadata"].into_iter().chain(path.iter().map(String::as_str));
    host::property(names).unwrap_or_default()
}

/// Changes a request into its reduced form; the host then selects its route anew.
fn reduce(headers: &[(String, String)], path: Option<&str>, rule: &str) {
    host::replace_header(Map::RequestHeaders, DEGRADED, rule);
    for (name, value) in headers {
        host::replace_header(Map::RequestHeaders, name, value);
    }
    if let Some(path) = path {
        host::replace_header(Map::RequestHeaders, ":path", path);
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
