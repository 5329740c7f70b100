//! A request to the admin API on its way: whose it is and what it calls, while its body is read.

use tidegate_engine::acquire::StoreError;
use tidegate_engine::admin::answer;
use tidegate_engine::admin::call::{Call, Place};
use tidegate_engine::admin::explain::Look;
use tidegate_engine::{Header, Response, Timestamp};

use super::{Exchange, State, collecting};
use crate::abi::{AfterBody, AfterHeaders};
use crate::admin::Admission;
use crate::fleet::Charged;
use crate::host::{self, Buffer};
use crate::waiting::Seat;

/// The longest body of a call.
const LONGEST_BODY: usize = 65_536;

/// A call whose body is not whole yet.
#[derive(Debug)]
pub(super) struct Calling {
    caller: String,
    call: Call,
    size: usize,
    /// Where it waits for the first piece of its body.
    pub(super) seat: Seat,
}

/// A call whose counters the fleet's store is asked for.
#[derive(Debug)]
pub(super) struct Looking {
    caller: String,
    /// The counter that is to be cleared; otherwise they are only shown.
    clears: Option<Place>,
}

impl Exchange {
    /// Answers a request to the admin API, or reads its body first; `None` for any other request.
    pub(super) fn admin_call(&mut self, lines: &[Header<'_>], is_whole: bool, now: Timestamp) -> Option<AfterHeaders> {
        Some(match self.deployment.admit(lines, now) {
            Admission::NoCall => return None,
            Admission::Refused(response) => self.respond(&response, "admin", lines),
            Admission::Admitted { caller, call } if is_whole || !call.has_body() => {
                self.make(caller, call, b"", lines, now)
            }
            Admission::Admitted { caller, call } => {
                let seat = self.deployment.waiting.borrow_mut().enter(
                    self.id,
                    Vec::new(),
                    host::steady() + collecting::BODY_WITHIN,
                );
                self.state = State::Calling(Box::new(Calling { caller, call, size: 0, seat }));
                self.deployment.keep_ticking(now, false);
                AfterHeaders::Stop
            }
        })
    }

    /// A piece of the call's body; `size` is that of all so far.
    pub(super) fn call_body(&mut self, size: usize, is_whole: bool) -> AfterBody {
        let State::Calling(calling) = &mut self.state else { return AfterBody::Hold };
        self.deployment.waiting.borrow_mut().leave(calling.seat);
        calling.size = size;
        if size > LONGEST_BODY {
            let response = answer::problem(413, "The body is larger than 65536 bytes.");
            self.respond(&response, "admin", &[]);
            return AfterBody::Hold;
        }
        if is_whole {
            self.call_ended();
        }
        AfterBody::Collect
    }

    /// Makes the call whose body is whole now, if there is one.
    pub(super) fn call_ended(&mut self) {
        if !matches!(self.state, State::Calling(_)) {
            return;
        }
        let State::Calling(calling) = core::mem::replace(&mut self.state, State::Answered) else { return };
        let now = host::now();
        let body = host::buffer(Buffer::RequestBody, calling.size).unwrap_or_default();
        self.deployment.waiting.borrow_mut().leave(calling.seat);
        self.make(calling.caller, calling.call, &body, &[], now);
    }

    /// Makes a call that is whole.
    fn make(&mut self, caller: String, call: Call, body: &[u8], lines: &[Header<'_>], now: Timestamp) -> AfterHeaders {
        let elsewhere = self.deployment.fleet.as_ref().and_then(|_| self.deployment.look_of(&call, body, now));
        let (Some(fleet), Some(look)) = (&self.deployment.fleet, elsewhere) else {
            let response = self.deployment.call(&caller, call, body, now);
            self.deployment.keep_ticking(now, false);
            return self.respond(&response, "admin", lines);
        };
        let clears = if let Call::ClearCounter(place) = call { Some(place) } else { None };
        let engine = self.deployment.engine();
        if !fleet.look(self.id, look, engine.policy(), clears.is_some()) {
            return self.respond(&no_answer(), "admin", lines);
        }
        self.state = State::Looking(Box::new(Looking { caller, clears }));
        AfterHeaders::Stop
    }

    /// Answers a call with the counters that the store gave.
    pub(super) fn looked(&mut self, look: &Look, outcome: Result<Charged, StoreError>) {
        if !matches!(self.state, State::Looking(_)) || host::enter(self.id).is_err() {
            return;
        }
        let State::Looking(looking) = core::mem::replace(&mut self.state, State::Answered) else { return };
        let response = match (outcome, &looking.clears) {
            (Err(StoreError), _) => no_answer(),
            (Ok(charged), None) => answer::json(200, &self.deployment.engine().shown(look, &charged.reply())),
            (Ok(_), Some(place)) => self.deployment.cleared(&looking.caller, place, look, host::now()),
        };
        self.respond(&response, "admin", &[]);
    }

    /// Ends a call whose body never comes.
    pub(super) fn refuse_call(&mut self) {
        let response = answer::problem(503, "This proxy does not show request bodies to its plugin.");
        self.respond(&response, "admin", &[]);
    }
}

fn no_answer() -> Response {
    answer::problem(503, "The store does not answer.")
}
