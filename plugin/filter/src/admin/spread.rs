//! The state at run time in a fleet. One VM of each proxy looks once a second whether the store has another one, and takes
//! that over; what an admin API changes goes to the store first, so that all changes of a fleet are one history.
//!
//! The history with more changes goes on: a proxy that has started anew takes over what the store has, and a store that has
//! lost the last changes, or all, is given them back by whoever still has them. Its clock is the store's: a proxy whose own
//! is wrong ends no grant of the others.

use core::cell::Cell;

use tidegate_engine::admin::answer;
use tidegate_engine::admin::call::Call;
use tidegate_engine::admin::runtime::Runtime;
use tidegate_engine::policy::Node;
use tidegate_engine::redis::{self, Failure, Has, StateAnswer};
use tidegate_engine::{Micros, Response, Timestamp};

use super::Operated;
use super::state::{Draft, refused};
use crate::fleet::{Errand, Fleet, UNHURRIED};
use crate::host::{self, IF_ABSENT, Level, Status};
use crate::root::Deployment;

/// How often a proxy looks at the store.
const EVERY: Micros = Micros::from_secs(1);

/// How old the store's last word may be where a proxy is in step.
const IN_STEP: Micros = Micros::from_secs(3);

/// Where a deployment's state is in the store, and when this VM looks next, on the steady clock.
#[derive(Debug)]
pub(super) struct Spread {
    namespace: String,
    next_look: Cell<Timestamp>,
    /// The last look was answered; otherwise the log says why not.
    is_answered: Cell<bool>,
}

/// Who asks for the state.
#[derive(Debug)]
pub(crate) enum Asks {
    /// The VM whose turn it is; it may have sent a state that is to follow.
    Look(Option<Box<Runtime>>),
    /// The exchange of a call that changes something.
    Call(u32),
}

impl Spread {
    pub(super) fn new(namespace: &str) -> Self {
        let next_look = Cell::new(host::steady());
        Self { namespace: namespace.to_owned(), next_look, is_answered: Cell::new(true) }
    }

    pub(super) fn next_look(&self) -> Timestamp {
        self.next_look.get()
    }
}

impl Operated {
    /// Whether any VM of this proxy has seen the store's state within the last seconds; `None` where there is no fleet.
    pub(super) fn is_in_step(&self) -> Option<bool> {
        self.spread.as_ref()?;
        let ([_, answered], _) = self.read_turn();
        Some(answered > 0 && host::steady().since(Timestamp::from_micros(answered)) <= IN_STEP)
    }

    /// When the next look is due, and when the last was answered, in microseconds of the steady clock; with the CAS number.
    fn read_turn(&self) -> ([u64; 2], u32) {
        let (bytes, cas) = host::shared(&self.key(b'P')).unwrap_or((Vec::new(), IF_ABSENT));
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        ([words.next().unwrap_or(0), words.next().unwrap_or(0)], cas)
    }

    fn write_turn(&self, turn: [u64; 2], cas: u32) -> Result<(), Status> {
        host::set_shared(&self.key(b'P'), &turn.map(u64::to_le_bytes).concat(), cas)
    }

    /// Whether it is this VM that looks now; in any case, when it is to ask again.
    fn takes_turn(&self, spread: &Spread, now: Timestamp) -> bool {
        let ([next, answered], cas) = self.read_turn();
        let due = Timestamp::from_micros(next);
        if due > now && due <= now + EVERY {
            spread.next_look.set(due);
            return false;
        }
        spread.next_look.set(now + EVERY);
        self.write_turn([(now + EVERY).micros(), answered], cas).is_ok()
    }
}

impl Deployment {
    /// Looks at the store, if that is due and this VM's turn.
    pub(super) fn look_at_store(&self, operated: &Operated, spread: &Spread) {
        let steady = host::steady();
        let Some(fleet) = self.fleet.as_ref().filter(|_| spread.next_look.get() <= steady) else { return };
        if !operated.takes_turn(spread, steady) {
            return;
        }
        let known = operated.read_state().0.tag();
        fleet.run(redis::Call::get_state(&spread.namespace, known), Errand::State(Asks::Look(None)), UNHURRIED);
    }

    /// Takes what the store answers. The exchange of a call goes on with it.
    pub(crate) fn state_answered(
        &self,
        asks: Asks,
        outcome: Result<Vec<Node>, Failure>,
        now: Timestamp,
    ) -> Option<(u32, Result<StateAnswer, Failure>)> {
        let answer = outcome.and_then(|entries| redis::read_state(&entries));
        match asks {
            Asks::Call(exchange) => return Some((exchange, answer)),
            Asks::Look(proposed) => self.looked_at_store(proposed, answer),
        }
        self.refresh(now);
        None
    }

    fn looked_at_store(&self, proposed: Option<Box<Runtime>>, answer: Result<StateAnswer, Failure>) {
        let (Some(operated), Some(fleet)) = (&self.operated, &self.fleet) else { return };
        let Some(spread) = &operated.spread else { return };
        let was_answered = spread.is_answered.replace(answer.is_ok());
        match answer {
            Err(failure) if was_answered => {
                let key = redis::state_key(&spread.namespace);
                let why = "what admin APIs of the fleet change does not come here: the store does not give";
                return host::log(Level::Error, &format!("{why} {key} ({failure})"));
            }
            Err(_) => return,
            Ok(StateAnswer { has: Has::Known, at }) => {
                // The whole state is read only where something ends.
                let first_end = operated.runtime.borrow().next_expiry();
                if first_end.is_some_and(|end| end <= at) {
                    let (mut ours, _) = operated.read_state();
                    let known = ours.tag();
                    ours.expire(at);
                    propose(operated, fleet, spread, known, ours);
                }
            }
            Ok(StateAnswer { has: Has::Stored, .. }) => {
                if let Some(proposed) = proposed {
                    operated.adopt(&proposed);
                }
            }
            Ok(StateAnswer { has: Has::Other(theirs), .. }) => {
                let (ours, _) = operated.read_state();
                if ours.generation > theirs.generation {
                    // The store has lost what was done.
                    propose(operated, fleet, spread, theirs.tag(), ours);
                } else {
                    operated.adopt(&theirs);
                }
            }
        }
        if !was_answered {
            host::log(Level::Warn, "what admin APIs of the fleet change comes here again");
        }
        let ([next, _], cas) = operated.read_turn();
        let _ = operated.write_turn([next, host::steady().micros()], cas);
    }

    /// Asks the store for the state that a call is to change; `false` where no answer will come.
    pub(crate) fn ask_state(&self, exchange: u32) -> bool {
        let (Some(fleet), Some(operated)) = (&self.fleet, &self.operated) else { return false };
        let Some(spread) = &operated.spread else { return false };
        let call = redis::Call::get_state(&spread.namespace, operated.read_state().0.tag());
        fleet.run(call, Errand::State(Asks::Call(exchange)), UNHURRIED)
    }

    /// Sends the store what a call makes of the state that it has (`None`: this proxy's), at this moment of its clock.
    ///
    /// # Errors
    /// The answer for a call that changes nothing.
    pub(crate) fn send_change(
        &self,
        exchange: u32,
        theirs: Option<Runtime>,
        (caller, call, body): (&str, &Call, &[u8]),
        now: Timestamp,
    ) -> Result<Draft, Response> {
        let (Some(fleet), Some(operated)) = (&self.fleet, &self.operated) else { return Err(answer::unauthorized()) };
        let Some(spread) = &operated.spread else { return Err(answer::unauthorized()) };
        if let Some(theirs) = &theirs {
            // The call may name a rule that only the others know yet.
            operated.adopt(theirs);
        }
        let (ours, _) = operated.read_state();
        let (tag, state) = match theirs {
            Some(theirs) => (theirs.tag(), if theirs.supersedes(&ours) { theirs } else { ours }),
            None => (ours.tag(), ours),
        };
        let (next, response) = self.draft(operated, state, caller, call, body, now)?;
        let change = redis::Call::set_state(&spread.namespace, tag, &next).map_err(refused)?;
        if fleet.run(change, Errand::State(Asks::Call(exchange)), UNHURRIED) {
            Ok((next, response))
        } else {
            Err(answer::problem(503, "The store does not answer: nothing was changed."))
        }
    }
}

/// Sends the store the state that follows the one of this tag.
fn propose(operated: &Operated, fleet: &Fleet, spread: &Spread, known: String, next: Runtime) {
    match redis::Call::set_state(&spread.namespace, known, &next) {
        Ok(call) => {
            fleet.run(call, Errand::State(Asks::Look(Some(Box::new(next)))), UNHURRIED);
        }
        Err(_) => operated.complain("what was done is too large for the fleet's store"),
    }
}
