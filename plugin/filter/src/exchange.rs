//! One HTTP exchange: tells the engine of the request, asks the counters, does what was decided.

mod asking;
mod body;
mod calling;
mod collecting;
mod headers;
mod ticket;

use std::rc::Rc;

use tidegate_engine::admin::answer::problem;
use tidegate_engine::redis::{Failure, StateAnswer};
use tidegate_engine::strategy::{Action, Reduced};
use tidegate_engine::{DEGRADED, Decision, Header, Micros, Reservation, Response, Timestamp, looks_like_grpc};

use crate::abi::{AfterBody, AfterHeaders};
use crate::exchange::asking::{Asked, Asking};
use crate::exchange::body::Body;
use crate::exchange::calling::{Calling, Changing, Looking};
use crate::exchange::collecting::Collecting;
use crate::fleet::{Answered, Charged};
use crate::host::{self, Headers, Level, Map};
use crate::jobs::Told;
use crate::root::Deployment;
use crate::waiting::{Key, Seat};

/// One request and its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    id: u32,
    deployment: Rc<Deployment>,
    state: State,
    answer: Answer,
    /// The host answers it in gRPC's form.
    looks_like_grpc: bool,
    /// What the fleet's store charged for it; `None` where this proxy's own cells, or leases, did.
    charged_elsewhere: Option<Charged>,
}

/// How far the request is.
#[derive(Debug)]
enum State {
    /// It goes on, or was never stopped.
    Passing,
    /// The fleet's store is asked whether it may pass.
    Asking(Asking),
    /// It waits for its reserved moment.
    Held { seat: Seat, reservation: Box<Reservation> },
    /// Its body is being read, to be queued.
    Collecting(Box<Collecting>),
    /// The fleet's store is to keep it as a job.
    Storing(Box<Collecting>),
    /// It asks for a ticket's page, and the fleet's store is asked.
    Paging,
    /// It is a call of the admin API whose body is being read.
    Calling(Box<Calling>),
    /// It is a call of the admin API that waits for the fleet's store.
    Looking(Looking),
    /// It is a call of the admin API whose change the fleet's store is to take.
    Changing(Box<Changing>),
    /// It is answered here.
    Answered,
}

/// An answer of the fleet's store that an exchange waits for.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// Of its counters.
    Question(Answered),
    /// Of the state at run time.
    State { exchange: u32, answer: Result<StateAnswer, Failure> },
    /// Of a queued request.
    Job { exchange: u32, told: Told },
}

impl Awaited {
    /// Who waits.
    pub(crate) fn exchange(&self) -> u32 {
        match self {
            Self::Question(answered) => answered.exchange,
            Self::State { exchange, .. } | Self::Job { exchange, .. } => *exchange,
        }
    }
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
        Self {
            id,
            deployment,
            state: State::Passing,
            answer: Answer::Upstream(Vec::new()),
            looks_like_grpc: false,
            charged_elsewhere: None,
        }
    }

    /// Decides a request when its headers have come.
    /// `is_whole` where nothing follows them.
    pub(crate) fn request_headers(&mut self, is_whole: bool) -> AfterHeaders {
        let map = match Headers::of(Map::RequestHeaders) {
            Ok(map) => map,
            Err(status) => {
                host::log(Level::Error, &format!("the host gives no request headers: {status:?}"));
                return AfterHeaders::Continue;
            }
        };
        let lines = map.lines();
        self.looks_like_grpc = looks_like_grpc(&lines);
        headers::remove_reserved(&self.deployment.engine(), Map::RequestHeaders, &lines);
        if let Some(after) = self.ticket_page(&lines) {
            return after;
        }
        let now = host::now();
        if let Some(after) = self.admin_call(&lines, is_whole, now) {
            return after;
        }
        self.deployment.refresh(now);
        match self.deployment.ask(self.id, &lines, now) {
            Asked::Decided(decision) => self.act(*decision, &lines, is_whole, now),
            Asked::Elsewhere { collects } => {
                self.state = State::Asking(Asking::new(is_whole, collects));
                AfterHeaders::Stop
            }
        }
    }

    /// Does what was decided over a request whose headers can still be changed.
    fn act(&mut self, mut decision: Decision, lines: &[Header<'_>], is_whole: bool, now: Timestamp) -> AfterHeaders {
        self.deployment.counters.count(&decision);
        self.deployment.note(&decision, lines, now);
        tell_access_log(&self.deployment, &decision, now);
        if let Some(response) = decision.response.take() {
            if let (Action::Respond(_), Some(reservation)) = (&decision.action, &decision.reservation) {
                // A strategy of one's own may refuse what its rule could have held.
                self.give_back(reservation);
            }
            return self.respond(&response, decision.outcome());
        }
        self.answer = Answer::Upstream(core::mem::take(&mut decision.headers));
        match (&decision.action, decision.reservation) {
            (Action::Delay(wait), Some(reservation)) => self.hold(*wait, reservation, now),
            (Action::Enqueue(wait), Some(reservation)) => {
                if self.deployment.jobs.are_stored() && self.charged_elsewhere.is_none() {
                    // This proxy's own cells stand in for the store that is to keep the job.
                    self.give_back(&reservation);
                    return self.respond(&collecting::not_stored(), "limited");
                }
                if !is_whole && self.deployment.bodies_are_hidden.get() {
                    self.give_back(&reservation);
                    return self.respond(&body::hidden(), "limited");
                }
                let rule = decision.denial.map(|denial| denial.rule).unwrap_or_default();
                let due = host::steady() + *wait;
                let body = Body::awaited(self.id, &self.deployment);
                let collecting = Collecting::new(&self.deployment, rule, lines, due, (body, reservation));
                self.collect(collecting, is_whole, now)
            }
            (Action::Degrade(Reduced::Forward { headers, path }), _) => {
                let rule = decision.denial.map(|denial| denial.rule).unwrap_or_default();
                reduce(headers, path.as_deref(), &rule);
                AfterHeaders::Continue
            }
            _ => AfterHeaders::Continue,
        }
    }

    /// What becomes of a piece of the request's body; `size` is that of all that was kept so far, this piece included.
    pub(crate) fn request_body(&mut self, size: usize, is_whole: bool) -> AfterBody {
        match &mut self.state {
            State::Passing => AfterBody::Continue,
            State::Held { .. }
            | State::Storing(_)
            | State::Paging
            | State::Looking(_)
            | State::Changing(_)
            | State::Answered => AfterBody::Hold,
            State::Asking(_) => self.body_while_asking(size, is_whole),
            State::Calling(_) => self.call_body(size, is_whole),
            State::Collecting(collecting) if size > collecting.max_body_bytes => {
                self.refuse_queued(&problem(413, "The request body is larger than this queue takes."));
                AfterBody::Hold
            }
            State::Collecting(collecting) => {
                collecting.body.came(self.id, &self.deployment);
                if is_whole {
                    self.enqueue(size);
                }
                AfterBody::Collect
            }
        }
    }

    /// Trailers cannot say what only Tidegate may say either, and stop where their request does.
    pub(crate) fn request_trailers(&mut self) -> AfterHeaders {
        if let Ok(map) = Headers::of(Map::RequestTrailers) {
            headers::remove_reserved(&self.deployment.engine(), Map::RequestTrailers, &map.lines());
        }
        if let State::Collecting(collecting) = &self.state {
            let size = collecting.max_body_bytes;
            self.enqueue(size);
        }
        if let State::Asking(asking) = &mut self.state {
            asking.ended();
        }
        self.call_ended();
        if matches!(self.state, State::Passing) { AfterHeaders::Continue } else { AfterHeaders::Stop }
    }

    /// Adds to a response what the decision said.
    pub(crate) fn response_headers(&mut self) {
        match &self.answer {
            Answer::Upstream(added) => headers::add_to_response(added),
            Answer::Ours { status: None } => {}
            Answer::Ours { status: Some(status) } => headers::undo_grpc(*status),
        }
    }

    /// The moment that this exchange waits for has come, so much earlier.
    pub(crate) fn due(&mut self, late: Micros) {
        if let Err(status) = host::enter(self.id) {
            // The host ends a stream before it forgets it, so this one would have left its seat.
            host::log(Level::Error, &format!("a held request is gone: {status:?}"));
            return;
        }
        match &self.state {
            State::Held { .. } => {
                self.state = State::Passing;
                self.deployment.held.leave();
                if self.deployment.held.is_empty() {
                    // The tick has set the timer to renew a seat that nobody needs any more.
                    self.deployment.keep_ticking(host::now(), false);
                }
                self.deployment.counters.count_released(late);
                if let Err(status) = host::resume() {
                    host::log(Level::Error, &format!("the host does not send a held request on: {status:?}"));
                }
            }
            State::Collecting(collecting) => {
                let response = collecting.body.overdue(&self.deployment);
                self.refuse_queued(&response);
            }
            State::Calling(calling) => {
                let response = calling.body.overdue(&self.deployment);
                self.respond(&response, "admin");
            }
            State::Passing
            | State::Asking(_)
            | State::Storing(_)
            | State::Paging
            | State::Looking(_)
            | State::Changing(_)
            | State::Answered => {}
        }
    }

    /// Takes what the fleet's store answers.
    pub(crate) fn go_on(&mut self, awaited: Awaited) {
        match awaited {
            Awaited::Question(answered) => self.answered(answered),
            Awaited::State { answer, .. } => self.state_came(answer),
            Awaited::Job { told, .. } => self.job_told(told),
        }
    }

    /// The exchange is over. A client that left while it was held frees its place, and gives back what it had reserved.
    pub(crate) fn done(&mut self) {
        let deployment = Rc::clone(&self.deployment);
        match core::mem::replace(&mut self.state, State::Answered) {
            State::Held { seat, reservation } if deployment.waiting.borrow_mut().leave(seat) => {
                deployment.held.leave();
                deployment.counters.abandoned.add(1);
                self.give_back(&reservation);
                deployment.keep_ticking(host::now(), false);
            }
            // What the store comes to keep of it is taken back when it says so.
            State::Collecting(collecting) | State::Storing(collecting) => {
                collecting.body.leave(&deployment);
                deployment.jobs.collected(&collecting.rule);
                deployment.counters.abandoned.add(1);
                self.give_back(&collecting.reservation);
            }
            State::Calling(calling) => calling.body.leave(&deployment),
            State::Held { .. }
            | State::Passing
            | State::Asking(_)
            | State::Paging
            | State::Looking(_)
            | State::Changing(_)
            | State::Answered => {}
        }
    }

    /// Gives back what is charged for this request, where it was charged.
    fn give_back(&self, reservation: &Reservation) {
        match (&self.deployment.fleet, &self.charged_elsewhere) {
            (Some(fleet), Some(charged)) => fleet.give_back(charged, &reservation.acquire),
            _ => self.deployment.table.give_back(reservation),
        }
    }

    fn hold(&mut self, wait: Micros, reservation: Reservation, now: Timestamp) -> AfterHeaders {
        let keys = self.deployment.keys_waited_for(&reservation);
        let seat = self.deployment.waiting.borrow_mut().enter(self.id, keys, host::steady() + wait);
        self.deployment.held.enter();
        self.state = State::Held { seat, reservation: Box::new(reservation) };
        self.deployment.keep_ticking(now, false);
        AfterHeaders::Stop
    }

    fn respond(&mut self, response: &Response, outcome: &str) -> AfterHeaders {
        let status = (self.looks_like_grpc && response.grpc_status.is_none()).then_some(response.status);
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
pub(crate) fn metadata(path: &[String]) -> Vec<u8> {
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
    let engine = deployment.engine();
    let policy = engine.policy();
    if decision.verdicts.is_empty() {
        return;
    }
    host::set_property("tidegate.outcome", decision.outcome().as_bytes());
    host::set_property("tidegate.at", now.micros().to_string().as_bytes());
    if let Some(rule) = decision.leading_rule(policy).and_then(|rule| policy.rules.get(rule)) {
        host::set_property("tidegate.rule", rule.name.as_bytes());
    }
}
