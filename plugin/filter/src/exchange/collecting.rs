//! A request on its way into the queue: its headers as the job will carry them, while its body is read; and the pages
//! that tickets have.

use tidegate_engine::admin::answer::problem;
use tidegate_engine::{Header, Micros, Reservation, Response, Timestamp};

use super::{Exchange, State};
use crate::abi::AfterHeaders;
use crate::host::{self, Buffer};
use crate::jobs::record::Call;
use crate::jobs::{Ticket, answer};
use crate::root::Deployment;
use crate::waiting::Seat;

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

/// How long the first piece of a body may take before the host is taken for one that shows none: a client that sends
/// its body slower than this after its headers is refused.
pub(super) const BODY_WITHIN: Micros = Micros::from_secs(10);

/// What the log says then.
pub(super) const NO_BODY: &str = "queue: no request body came within 10 s; if every request with a body ends like this, \
     the plugin's configuration lacks allow_on_headers_stop_iteration";

/// What is known of a request that is to be queued, before its body is whole.
#[derive(Debug)]
pub(super) struct Collecting {
    pub(super) rule: String,
    headers: Vec<(String, Vec<u8>)>,
    due: Timestamp,
    pub(super) max_body_bytes: usize,
    /// Where it waits for the first piece of its body.
    pub(super) seat: Seat,
    pub(super) reservation: Reservation,
}

impl Collecting {
    /// Keeps of a request what its job carries: method, path, content type, and the headers that the rule names.
    pub(super) fn new(
        deployment: &Deployment,
        rule: String,
        lines: &[Header<'_>],
        due: Timestamp,
        (seat, reservation): (Seat, Reservation),
    ) -> Self {
        let engine = deployment.engine();
        let rules = &engine.policy().rules;
        let queue = rules.iter().find(|known| known.name == rule).and_then(|rule| rule.strategy.queue());
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
        Self { rule, headers, due, max_body_bytes, seat, reservation }
    }
}

impl Exchange {
    /// Queues a request that has no body at once, and waits for that of any other.
    pub(super) fn collect(&mut self, collecting: Collecting, is_whole: bool, now: Timestamp) -> AfterHeaders {
        if is_whole {
            self.deployment.waiting.borrow_mut().leave(collecting.seat);
        }
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
        let body = if size == 0 { Vec::new() } else { host::buffer(Buffer::RequestBody, size).unwrap_or_default() };
        let now = host::now();
        let call = Call { headers: core::mem::take(&mut collecting.headers), body };
        let deployment = &self.deployment;
        let engine = deployment.engine();
        let rule = engine.policy().rules.iter().find(|rule| rule.name == collecting.rule);
        let queue = rule.and_then(|rule| rule.strategy.queue());
        let ticket = queue.and_then(|queue| deployment.jobs.take(&collecting.rule, queue, call, collecting.due, now));
        match (ticket, queue) {
            (Some(ticket), _) => {
                let wait = collecting.due.since(now);
                deployment.jobs.collected(&collecting.rule);
                deployment.keep_ticking(now, false);
                self.respond(&answer::accepted(&deployment.ticket_path(), ticket, wait), "queued", &[]);
            }
            (None, queue) => {
                let status = queue.map_or(429, |queue| queue.full_status);
                self.refuse_queued(status, "The queue is full.");
            }
        }
    }

    /// Refuses a request that was to be queued, and gives back what it had reserved.
    pub(super) fn refuse_queued(&mut self, status: u16, detail: &str) {
        if let State::Collecting(collecting) = core::mem::replace(&mut self.state, State::Answered) {
            self.deployment.jobs.collected(&collecting.rule);
            self.give_back(&collecting.reservation);
        }
        self.respond(&problem(status, detail), "limited", &[]);
    }
}

impl Deployment {
    /// The path that every ticket's page starts with.
    pub(super) fn ticket_path(&self) -> String {
        format!("{}/v1/queue/", self.engine().policy().admin_api.path)
    }

    /// A ticket's page, where a request asks for one. Only the byte-exact path does; without a rule that queues, or
    /// one that ever did, it is a path like any other.
    pub(super) fn ticket_page(&self, lines: &[Header<'_>], now: Timestamp) -> Option<Response> {
        let pseudo = |wanted: &[u8]| lines.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        if !self.jobs.are_kept() || !matches!(pseudo(b":method")?, b"GET" | b"HEAD") {
            return None;
        }
        let text = pseudo(b":path")?.strip_prefix(self.ticket_path().as_bytes())?;
        let ticket = core::str::from_utf8(text).ok().and_then(Ticket::parse);
        let job = ticket.and_then(|ticket| self.jobs.look_up(ticket));
        let engine = self.engine();
        let rule = job.as_ref().and_then(|job| {
            let rules = &engine.policy().rules;
            rules.iter().find(|rule| rule.name == job.rule)
        });
        let interval = rule.and_then(|rule| rule.quota.window.0.checked_div(rule.rate()));
        Some(answer::outcome(job.as_ref(), interval.map(Micros), now))
    }
}
