//! A request on its way into the queue: its headers as the job will carry them, while its body is read, until it is stored.

use std::rc::Rc;

use tidegate_engine::admin::answer::problem;
use tidegate_engine::policy::Rule;
use tidegate_engine::{Header, Micros, Reservation, Response, Timestamp};

use super::body::Body;
use super::{Exchange, State};
use crate::abi::AfterHeaders;
use crate::host::{self, Buffer};
use crate::jobs::record::Call;
use crate::jobs::{Told, answer};
use crate::root::Deployment;

/// Headers that describe the connection or the proxy, not the request (RFC 9110 section 7.6.1), and those that the
/// callout makes itself.
const NEVER_KEPT: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What is known of a request that is to be queued, before its body is whole.
#[derive(Debug)]
pub(super) struct Collecting {
    pub(super) rule: String,
    headers: Vec<(String, Vec<u8>)>,
    /// When it is due, on the steady clock.
    due: Timestamp,
    pub(super) max_body_bytes: usize,
    pub(super) body: Body,
    pub(super) reservation: Reservation,
}

impl Collecting {
    /// Keeps of a request what its job carries: method, path, content type, and the headers that the rule names.
    pub(super) fn new(
        deployment: &Deployment,
        rule: String,
        lines: &[Header<'_>],
        due: Timestamp,
        (body, reservation): (Body, Reservation),
    ) -> Self {
        let engine = deployment.engine();
        let queue = engine.policy().rule(&rule).and_then(|rule| rule.strategy.queue());
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        if let Some(queue) = queue {
            headers.push((":authority".to_owned(), queue.authority.clone().into_bytes()));
            for (name, value) in lines {
                let Ok(name) = core::str::from_utf8(name) else { continue };
                let is_kept = matches!(name, ":method" | ":path" | ":scheme" | "content-type" | "content-encoding")
                    || queue.headers.iter().any(|kept| kept == name);
                if is_kept && !NEVER_KEPT.contains(&name) && !name.starts_with("x-envoy-") {
                    headers.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        let max_body_bytes = queue.map_or(0, |queue| queue.max_body_bytes);
        Self { rule, headers, due, max_body_bytes, body, reservation }
    }
}

impl Exchange {
    /// Queues a request that has no body at once, and waits for that of any other.
    pub(super) fn collect(&mut self, collecting: Collecting, is_whole: bool, now: Timestamp) -> AfterHeaders {
        self.deployment.jobs.collecting(&collecting.rule);
        self.state = State::Collecting(Box::new(collecting));
        self.deployment.keep_ticking(now, false);
        if is_whole {
            self.enqueue(0);
        }
        AfterHeaders::Stop
    }

    /// Stores the request with the first `size` bytes of its body, and answers 202 once it is stored.
    pub(super) fn enqueue(&mut self, size: usize) {
        let State::Collecting(collecting) = &mut self.state else { return };
        collecting.body.leave(&self.deployment);
        let body = if size == 0 { Vec::new() } else { host::buffer(Buffer::RequestBody, size).unwrap_or_default() };
        let now = host::steady();
        let call = Call { headers: core::mem::take(&mut collecting.headers), body };
        let deployment = Rc::clone(&self.deployment);
        let engine = deployment.engine();
        let rule = engine.policy().rule(&collecting.rule);
        let Some(queue) = rule.and_then(|rule| rule.strategy.queue()) else { return self.refuse_queued(&full(rule)) };
        if let Some(fleet) = deployment.fleet.as_ref().filter(|_| deployment.jobs.are_stored()) {
            let within = fleet.timeout(self.charged_elsewhere.as_ref());
            let terms = (collecting.due, &collecting.reservation, within);
            if !deployment.jobs.put(fleet, self.id, (&collecting.rule, queue), call, terms) {
                return self.refuse_queued(&not_stored());
            }
            if let State::Collecting(collecting) = core::mem::replace(&mut self.state, State::Answered) {
                self.state = State::Storing(collecting);
            }
            return;
        }
        match deployment.jobs.take(&collecting.rule, queue, call, collecting.due, now) {
            Some(ticket) => self.accept(ticket.to_string(), now),
            None => self.refuse_queued(&full(rule)),
        }
    }

    /// Goes on with what the fleet's store says of a job: the one that this request became, or the one that it asks for.
    pub(super) fn job_told(&mut self, told: Told) {
        let is_waiting = matches!(self.state, State::Storing(_) | State::Paging) && host::enter(self.id).is_ok();
        match (&self.state, told) {
            (State::Storing(collecting), Told::Stored(ticket)) if is_waiting => {
                self.deployment.jobs.accepted(&collecting.rule);
                self.accept(ticket, host::steady());
            }
            // Its client has left.
            (_, Told::Stored(ticket)) => {
                if let Some(fleet) = &self.deployment.fleet {
                    self.deployment.jobs.take_back(fleet, &ticket);
                }
            }
            (State::Storing(collecting), told) if is_waiting => match told {
                Told::Full => {
                    let engine = self.deployment.engine();
                    self.refuse_queued(&full(engine.policy().rule(&collecting.rule)));
                }
                Told::TooLarge => {
                    self.refuse_queued(&problem(413, "The request body is larger than the store's gateway takes."));
                }
                _ => self.refuse_queued(&not_stored()),
            },
            (State::Paging, told) if is_waiting => self.page_told(&told, host::now()),
            _ => {}
        }
    }

    /// Answers 202: the request is stored.
    fn accept(&mut self, ticket: String, now: Timestamp) {
        let state = core::mem::replace(&mut self.state, State::Answered);
        let (State::Collecting(collecting) | State::Storing(collecting)) = state else { return };
        self.deployment.jobs.collected(&collecting.rule);
        self.deployment.keep_ticking(host::now(), false);
        let wait = collecting.due.since(now);
        self.respond(&answer::accepted(&self.deployment.ticket_path(), ticket, wait), "queued");
    }

    /// Refuses a request that was to be queued, and gives back what it had reserved.
    pub(super) fn refuse_queued(&mut self, response: &Response) {
        let state = core::mem::replace(&mut self.state, State::Answered);
        if let State::Collecting(collecting) | State::Storing(collecting) = state {
            collecting.body.leave(&self.deployment);
            self.deployment.jobs.collected(&collecting.rule);
            self.give_back(&collecting.reservation);
        }
        self.respond(response, "limited");
    }
}

/// The answer where the fleet's store would have to keep a request, and is left alone.
pub(super) fn not_stored() -> Response {
    problem(503, "The store does not answer: the request was not queued.")
}

/// The answer where all of a rule's jobs wait already: at its rate, one of them goes in a window's share for one request.
fn full(rule: Option<&Rule>) -> Response {
    let status = rule.and_then(|rule| rule.strategy.queue()).map_or(429, |queue| queue.full_status);
    let interval = rule.and_then(|rule| rule.quota.window.0.checked_div(rule.rate())).map_or(Micros::ZERO, Micros);
    let mut response = problem(status, "The queue is full.");
    response.headers.push(("retry-after".into(), interval.secs_ceil().max(1).to_string()));
    response
}
