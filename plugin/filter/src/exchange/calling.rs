//! A request to the admin API on its way: whose it is and what it calls, while its body is read.

use tidegate_engine::admin::answer;
use tidegate_engine::admin::call::Call;
use tidegate_engine::admin::explain::Look;
use tidegate_engine::redis::{Failure, Has, StateAnswer};
use tidegate_engine::{Header, Response, Timestamp};

use super::body::{self, Body};
use super::{Exchange, State};
use crate::abi::{AfterBody, AfterHeaders};
use crate::admin::{Admission, Draft};
use crate::fleet::Charged;
use crate::host::{self, Buffer};

/// The longest body of a call.
const LONGEST_BODY: usize = 65_536;

/// How often a change is sent to the store, others being faster each time.
const TRIES: u32 = 16;

/// A call whose body is not whole yet.
#[derive(Debug)]
pub(super) struct Calling {
    caller: String,
    call: Call,
    size: usize,
    pub(super) body: Body,
}

/// A call whose counters the fleet's store is asked for.
#[derive(Debug)]
pub(super) struct Looking {
    /// They are to be cleared; otherwise they are only shown.
    clears: bool,
}

/// A call whose change the fleet's store is to take.
#[derive(Debug)]
pub(super) struct Changing {
    caller: String,
    call: Call,
    body: Vec<u8>,
    tries: u32,
    /// What the store was sent.
    draft: Option<Draft>,
}

impl Exchange {
    /// Answers a request to the admin API, or reads its body first; `None` for any other request.
    pub(super) fn admin_call(&mut self, lines: &[Header<'_>], is_whole: bool, now: Timestamp) -> Option<AfterHeaders> {
        Some(match self.deployment.admit(lines, now) {
            Admission::NoCall => return None,
            Admission::Refused(response) => self.respond(&response, "admin"),
            Admission::Admitted { caller, call } if is_whole || !call.has_body() => self.make(caller, call, b"", now),
            Admission::Admitted { .. } if self.deployment.bodies_are_hidden.get() => {
                self.respond(&body::hidden(), "admin")
            }
            Admission::Admitted { caller, call } => {
                let body = Body::awaited(self.id, &self.deployment);
                self.state = State::Calling(Box::new(Calling { caller, call, size: 0, body }));
                self.deployment.keep_ticking(now, false);
                AfterHeaders::Stop
            }
        })
    }

    /// A piece of the call's body; `size` is that of all so far.
    pub(super) fn call_body(&mut self, size: usize, is_whole: bool) -> AfterBody {
        let State::Calling(calling) = &mut self.state else { return AfterBody::Hold };
        calling.body.came(self.id, &self.deployment);
        calling.size = size;
        if size > LONGEST_BODY {
            calling.body.leave(&self.deployment);
            let response = answer::problem(413, "The body is larger than 65536 bytes.");
            self.respond(&response, "admin");
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
        calling.body.leave(&self.deployment);
        self.make(calling.caller, calling.call, &body, now);
    }

    /// Makes a call that is whole.
    fn make(&mut self, caller: String, call: Call, body: &[u8], now: Timestamp) -> AfterHeaders {
        if self.deployment.fleet.is_some() && call.writes() {
            if !self.deployment.ask_state(self.id) {
                return self.respond(&no_answer(), "admin");
            }
            self.state =
                State::Changing(Box::new(Changing { caller, call, body: body.to_vec(), tries: 0, draft: None }));
            return AfterHeaders::Stop;
        }
        if let Some(look) = self.deployment.fleet.as_ref().and_then(|_| self.deployment.look_of(&call, body, now)) {
            return self.look(look, false);
        }
        let response = self.deployment.call(&caller, &call, body, now);
        self.deployment.keep_ticking(now, false);
        self.respond(&response, "admin")
    }

    /// Asks the store for the counters that a call shows, or has it forget them.
    fn look(&mut self, look: Look, clears: bool) -> AfterHeaders {
        let engine = self.deployment.engine();
        if !self.deployment.fleet.as_ref().is_some_and(|fleet| fleet.look(self.id, look, engine.policy(), clears)) {
            return self.respond(&no_answer(), "admin");
        }
        self.state = State::Looking(Looking { clears });
        AfterHeaders::Stop
    }

    /// Answers a call with the counters that the store gave.
    pub(super) fn looked(&mut self, look: &Look, outcome: Result<Charged, Failure>) {
        if !matches!(self.state, State::Looking(_)) || host::enter(self.id).is_err() {
            return;
        }
        let State::Looking(looking) = core::mem::replace(&mut self.state, State::Answered) else { return };
        let response = match outcome {
            Err(_) => no_answer(),
            Ok(_) if looking.clears => answer::nothing(),
            Ok(charged) => answer::json(200, &look.shown(&charged.reply())),
        };
        self.respond(&response, "admin");
    }

    /// Goes on with a call that changes the fleet's state: sends the store what it makes of the state that is there, until
    /// the store takes it.
    pub(super) fn state_came(&mut self, came: Result<StateAnswer, Failure>) {
        if !matches!(self.state, State::Changing(_)) || host::enter(self.id).is_err() {
            return;
        }
        let State::Changing(mut changing) = core::mem::replace(&mut self.state, State::Answered) else { return };
        let (theirs, at) = match (came, changing.draft.take()) {
            (Ok(StateAnswer { has: Has::Stored, .. }), Some(draft)) => {
                return self.changed(draft, &changing.call, host::now());
            }
            (Ok(StateAnswer { has: Has::Other(theirs), at }), _) => (Some(*theirs), at),
            (Ok(StateAnswer { at, .. }), _) => (None, at),
            (Err(_), None) => {
                self.respond(&no_answer(), "admin");
                return;
            }
            (Err(_), Some(_)) => {
                let why = "The store does not answer: the audit log will show whether the change was made.";
                self.respond(&answer::problem(503, why), "admin");
                return;
            }
        };
        changing.tries = changing.tries.saturating_add(1);
        if changing.tries > TRIES {
            let why = "Others changed the fleet's state at each try: nothing was changed.";
            self.respond(&answer::problem(503, why), "admin");
            return;
        }
        let Changing { caller, call, body, .. } = &*changing;
        match self.deployment.send_change(self.id, theirs, (caller, call, body), at) {
            Ok(draft) => {
                changing.draft = Some(draft);
                self.state = State::Changing(changing);
            }
            Err(refusal) => {
                self.respond(&refusal, "admin");
            }
        }
    }

    /// Answers a call whose change the store has taken. A counter is cleared there, too.
    fn changed(&mut self, draft: Draft, call: &Call, now: Timestamp) {
        let response = self.deployment.adopt(draft, call, now);
        let clears = matches!(call, Call::ClearCounter(_));
        match self.deployment.look_of(call, b"", now).filter(|_| clears) {
            Some(look) => self.look(look, true),
            None => self.respond(&response, "admin"),
        };
    }
}

fn no_answer() -> Response {
    answer::problem(503, "The store does not answer.")
}
