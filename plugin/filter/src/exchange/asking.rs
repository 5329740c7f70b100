//! A request's question on its way to the counters: this proxy's own at once, the fleet's store by a callout while the
//! request stands still, and this proxy's own again where that store fails.

use tidegate_engine::acquire::Reply;
use tidegate_engine::identity::Subject;
use tidegate_engine::policy::OnStoreError;
use tidegate_engine::redis::Failure;
use tidegate_engine::{Decision, Header, Pending, Request, Step, Timestamp};

use super::{Exchange, State, metadata};
use crate::abi::{AfterBody, AfterHeaders};
use crate::fleet::{self, Answered, Asker};
use crate::host::{self, Headers, Level, Map};
use crate::root::Deployment;

/// What came of a question.
#[derive(Debug)]
pub(super) enum Asked {
    /// The decision.
    Decided(Box<Decision>),
    /// The fleet's store will answer. Where the request may come to be queued: the longest body that can be.
    Elsewhere { collects: Option<usize> },
}

/// What came of a request's body while its question is out.
#[derive(Debug)]
pub(super) struct Asking {
    /// Nothing more will come.
    is_whole: bool,
    /// Bytes of its body so far.
    size: usize,
    collects: Option<usize>,
}

impl Asking {
    pub(super) fn new(is_whole: bool, collects: Option<usize>) -> Self {
        Self { is_whole, size: 0, collects }
    }

    /// The request ended with trailers.
    pub(super) fn ended(&mut self) {
        self.is_whole = true;
    }
}

impl Exchange {
    /// A piece of the body of a request whose question is out. What may be queued is collected; anything larger only
    /// waits, or the host would answer 413 past its buffer.
    pub(super) fn body_while_asking(&mut self, size: usize, is_whole: bool) -> AfterBody {
        let State::Asking(asking) = &mut self.state else { return AfterBody::Hold };
        (asking.size, asking.is_whole) = (size, is_whole);
        if asking.collects.is_some_and(|most| size <= most) { AfterBody::Collect } else { AfterBody::Hold }
    }

    /// Goes on with a request whose question was answered, or will not be.
    pub(super) fn answered(&mut self, answered: Answered) {
        let answered = match answered {
            Answered { asker: Asker::Operator(look), outcome, .. } => return self.looked(&look, outcome),
            answered => answered,
        };
        let State::Asking(Asking { is_whole, size, .. }) = self.state else {
            // Its client has left.
            if let Some(fleet) = &self.deployment.fleet {
                fleet.give_back_answer(answered);
            }
            return;
        };
        if let Err(status) = host::enter(self.id) {
            host::log(Level::Error, &format!("a request that asked the store is gone: {status:?}"));
            return;
        }
        let Asker::Request(mut pending) = answered.asker else { return };
        self.state = State::Passing;
        let decision = match answered.outcome {
            Ok(mut charged) => {
                // Others may have filled the room since it was asked for.
                self.deployment.keep_waiting_only_where_there_is_room(&mut pending);
                if let Some(fleet) = &self.deployment.fleet {
                    fleet.keep_waiting_only_where_it_may(&mut charged, pending.acquire());
                }
                let reply = charged.reply();
                self.charged_elsewhere = Some(charged);
                self.deployment.decided(pending, reply)
            }
            Err(why) => self.deployment.decide_unasked(pending, why),
        };
        let map = Headers::of(Map::RequestHeaders);
        let lines = map.as_ref().map(Headers::lines).unwrap_or_default();
        let now = host::now();
        // What came of its body meanwhile is queued by `body_came`, not left behind as if there were none.
        match self.act(decision, &lines, is_whole && size == 0, now) {
            AfterHeaders::Continue => {
                if let Err(status) = host::resume() {
                    host::log(Level::Error, &format!("the host does not send a request on: {status:?}"));
                }
            }
            AfterHeaders::Stop => self.body_came(size, is_whole),
        }
    }

    /// What a request that is to be queued has brought of its body already.
    fn body_came(&mut self, size: usize, is_whole: bool) {
        if size > 0 && matches!(self.state, State::Collecting(_)) {
            self.request_body(size, is_whole);
        }
    }
}

impl Deployment {
    /// Puts a request's question.
    pub(super) fn ask(&self, exchange: u32, headers: &[Header<'_>], now: Timestamp) -> Asked {
        let engine = self.engine();
        let peer =
            if engine.needs_peer() { host::property(["source", "address"]).unwrap_or_default() } else { Vec::new() };
        let metadata: Vec<Vec<u8>> = engine.metadata_sources().map(metadata).collect();
        let request = Request { headers, peer: &peer, metadata: &metadata };
        let mut pending = match engine.check(&request, now) {
            Step::Done(decision) => return Asked::Decided(Box::new(decision)),
            Step::Pending(pending) => pending,
        };
        let Some(fleet) = &self.fleet else { return Asked::Decided(Box::new(self.decide_here(pending))) };
        self.keep_waiting_only_where_there_is_room(&mut pending);
        let collects = pending.longest_queued_body();
        let fingerprint = |subject: &Subject| self.table.fingerprint(subject);
        Asked::Decided(Box::new(match fleet.ask(exchange, pending, engine.policy(), fingerprint) {
            fleet::Asked::Waits => return Asked::Elsewhere { collects },
            fleet::Asked::Leased(pending, reply) => self.decided(pending, reply),
            fleet::Asked::Spared(pending) => self.decide_without_store(pending, None),
            fleet::Asked::NotSent(pending, why) => self.decide_unasked(pending, why),
        }))
    }

    /// Decides over this proxy's own cells.
    fn decide_here(&self, mut pending: Pending) -> Decision {
        self.keep_waiting_only_where_there_is_room(&mut pending);
        let reply = self.table.acquire(&self.engine(), pending.acquire(), &self.counters);
        if reply.is_err() {
            self.counters.count_store_failure();
        }
        self.end(pending.resume(reply))
    }

    /// Decides over the store's answer, and charges the cells that stand in for it with what it let through.
    fn decided(&self, pending: Pending, reply: Reply) -> Decision {
        if reply.cells.iter().any(|cell| cell.charged) {
            let _ = self.table.acquire(&self.engine(), &pending.rehearsal(), &self.counters);
        }
        self.end(pending.resume(Ok(reply)))
    }

    fn end(&self, step: Step) -> Decision {
        match step {
            Step::Done(decision) => decision,
            Step::Pending(pending) => self.decide_here(pending),
        }
    }

    /// Decides without an answer. A full proxy is no failed store: what a client can bring about must not lift a limit.
    fn decide_unasked(&self, pending: Pending, why: Failure) -> Decision {
        self.decide_without_store(pending, (why == Failure::NoRoom).then_some(OnStoreError::Local))
    }

    /// Decides as the rules say for a store that fails; `instead` stands in for what they say.
    fn decide_without_store(&self, pending: Pending, instead: Option<OnStoreError>) -> Decision {
        // One that there never is room for counts as failed all the same.
        if instead.is_none() || self.fleet.as_ref().is_some_and(|fleet| !fleet.is_healthy()) {
            self.counters.count_store_failure();
        }
        host::set_property("tidegate.store", if instead.is_some() { b"busy" } else { b"failed" });
        match pending.after_store_error(instead) {
            Ok(pending) => self.decide_here(pending),
            Err(pending) => pending.fail(instead),
        }
    }

    /// Only a request that can be held, or queued, may reserve.
    fn keep_waiting_only_where_there_is_room(&self, pending: &mut Pending) {
        let waiting = self.waiting.borrow();
        pending.keep_waiting_only_where(|rule, cell, subject| {
            let key = (cell.rule_id, self.table.fingerprint(subject));
            let may_be_held = rule.strategy.room().is_none_or(|room| waiting.has_room(key, room));
            may_be_held && rule.strategy.queue().is_none_or(|queue| self.jobs.has_room(&rule.name, queue))
        });
    }
}
