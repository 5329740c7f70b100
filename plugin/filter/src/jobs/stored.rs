//! Queued requests that a fleet shares: they are in its store, outlive every proxy, and any of them carries them out. A
//! job is put before its client is told so; it is claimed for as long as one try may take, and what came of the try is told
//! the store until it answers or the claim ends. Whoever dies meanwhile leaves its jobs to the others.
//!
//! The VM that put a job claims when that is due; besides, one VM of each proxy claims once a second. A claim brings
//! whatever is due, of any rule; jobs that were kept back come as they were reserved, to whoever claimed the one before. The
//! steps themselves are the engine's (`redis::queue`).

mod tries;

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use tidegate_engine::admin::hex;
use tidegate_engine::policy::{Node, Policy, Store};
use tidegate_engine::redis::{Failure, queue};
use tidegate_engine::sorted::Sorted;
use tidegate_engine::strategy::Queue;
use tidegate_engine::{Micros, Reservation, Timestamp};

use super::record::{Call, Job, Progress};
use super::{ABANDONED_AFTER, Jobs, terms};
use crate::fleet::{Errand, Fleet, UNHURRIED};
use crate::host::{self, IF_ABSENT, Status};
use tries::{Held, Settling};

/// How often a proxy claims whatever happens, and how soon something is tried again that failed.
const EVERY: Micros = Micros::from_secs(1);

/// How much later than by a clock of microseconds a job may be due in the store, which counts whole milliseconds up. A claim
/// that comes earlier finds nothing.
const STORES_CLOCK: Micros = Micros::from_millis(2);

/// How many tickets a VM looks up at once. No rule counts who asks for their pages, and each takes one of the calls that the
/// cluster may have out, which counters need: Envoy's default is 1,024 for a whole proxy.
const MOST_LOOKS: u32 = 64;

/// What this VM knows of the jobs in the store. All moments are the steady clock's.
#[derive(Debug)]
pub(super) struct Stored {
    calls: queue::Jobs,
    /// Where the proxy's VMs keep when one of them claims next.
    key: Vec<u8>,
    /// The next claim's token. It stays until the claim is answered, so that what a lost answer named is named again.
    holder: RefCell<String>,
    is_claiming: Cell<bool>,
    /// Something came to be due while a claim was out.
    claims_again: Cell<bool>,
    /// When this VM claims, because a job that it put, or puts off, is due.
    due: RefCell<Sorted<Timestamp, ()>>,
    /// When this VM looks whether it is its turn to claim.
    next_look: Cell<Timestamp>,
    /// The tries under way, by the host's token.
    tries: RefCell<Sorted<u32, Held>>,
    /// How many tickets are being looked up.
    looks: Cell<u32>,
    /// What the store was told in vain, by when it is told again.
    untold: RefCell<Vec<(Timestamp, Rc<Settling>)>>,
}

/// What the store is asked to do with a job.
#[derive(Debug)]
pub(crate) enum Step {
    /// An exchange waits until it is stored.
    Put { exchange: u32, ticket: String, rule: String, delay: Micros },
    /// An exchange waits to tell of it.
    Look { exchange: u32 },
    /// It is taken back.
    Drop,
    /// What is due is claimed.
    Claim,
    /// What came of a try is told.
    Settle(Rc<Settling>),
}

/// What an exchange is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// Its request is stored under this ticket.
    Stored(String),
    /// There is no room.
    Full,
    /// The request is larger than the store's gateway takes: nothing is stored.
    TooLarge,
    /// How far a job is; `None` where there is none.
    Seen(Option<queue::Seen>),
    /// The store does not answer.
    Nothing,
}

impl Stored {
    /// The jobs of a policy whose store is shared, where a rule queues or an earlier policy of this proxy did.
    pub(super) fn open(prefix: [u8; 8], policy: &Policy) -> Option<Self> {
        let mut key = prefix.to_vec();
        key.push(b'Q');
        let is_shared = matches!(policy.store, Store::Redis(_));
        let queues = policy.rules.iter().any(|rule| rule.strategy.queue().is_some());
        (is_shared && (queues || host::shared(&key) != Err(Status::NOT_FOUND))).then(|| Self {
            calls: queue::Jobs::of(&policy.namespace),
            key,
            holder: RefCell::new(token()),
            is_claiming: Cell::new(false),
            claims_again: Cell::new(false),
            due: RefCell::default(),
            next_look: Cell::new(host::steady()),
            tries: RefCell::default(),
            looks: Cell::new(0),
            untold: RefCell::default(),
        })
    }

    /// When there is something to do next.
    pub(super) fn next_due(&self) -> Timestamp {
        let due = self.due.borrow().first().map(|(at, ())| *at);
        let untold = self.untold.borrow().iter().map(|(at, _)| *at).min();
        due.into_iter().chain(untold).fold(self.next_look.get(), Timestamp::min)
    }

    /// Notes that the store has just begun to count this delay of a job.
    fn due_in(&self, delay: Micros, now: Timestamp) {
        self.due.borrow_mut().insert(now + delay + STORES_CLOCK, ());
    }

    /// Takes out what is due; whether there was any.
    fn takes_due(&self, now: Timestamp) -> bool {
        let mut due = self.due.borrow_mut();
        let mut any = false;
        while let Some(at) = due.first().map(|(at, ())| *at).filter(|at| *at <= now) {
            due.remove(&at);
            any = true;
        }
        any
    }

    /// Whether it is this VM that claims for the whole proxy now; in any case, when it is to ask again.
    fn takes_turn(&self, now: Timestamp) -> bool {
        if self.next_look.get() > now {
            return false;
        }
        let (bytes, cas) = host::shared(&self.key).unwrap_or((Vec::new(), IF_ABSENT));
        let next = Timestamp::from_micros(bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)));
        if next > now && next <= now + EVERY {
            self.next_look.set(next);
            return false;
        }
        self.next_look.set(now + EVERY);
        host::set_shared(&self.key, &(now + EVERY).micros().to_le_bytes(), cas).is_ok()
    }
}

impl Jobs {
    /// When there is something to do next for jobs in the store.
    pub(crate) fn next_stored(&self) -> Option<Timestamp> {
        self.stored.as_ref().map(Stored::next_due)
    }

    /// Whether jobs are kept in the fleet's store.
    pub(crate) fn are_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// Has a request stored that is due then, as it has reserved, within what its client still waits; `false` where no
    /// answer will come.
    pub(crate) fn put(
        &self,
        fleet: &Fleet,
        exchange: u32,
        (rule, queue): (&str, &Queue),
        call: Call,
        (due, reservation, within): (Timestamp, &Reservation, Micros),
    ) -> bool {
        let Some(stored) = &self.stored else { return false };
        let mut bits = [0; 16];
        if getrandom::fill(&mut bits).is_err() {
            return false;
        }
        let delay = due.since(host::steady());
        let due = host::now() + delay;
        let (progress, terms) = (Progress::Waiting(due), terms(queue, due));
        let job = Job { ticket: bits, rule: rule.to_owned(), progress, attempts: 0, terms, call };
        let ticket = hex(&bits);
        let call = stored.calls.put(
            &ticket,
            (rule, queue),
            (&queue::Line::of(reservation), delay),
            Micros(queue.timeout.0.saturating_add(ABANDONED_AFTER.0)),
            &job.bytes(),
        );
        let step = Step::Put { exchange, ticket, rule: job.rule, delay };
        fleet.run(call, errand(step), within)
    }

    /// Asks how far the job of a ticket is; `false` where no answer will come, or too many are asked for.
    pub(crate) fn look(&self, fleet: &Fleet, exchange: u32, ticket: &str) -> bool {
        let Some(stored) = &self.stored else { return false };
        let looks = stored.looks.get();
        let is_out = looks < MOST_LOOKS
            && fleet.run(stored.calls.look(ticket), errand(Step::Look { exchange }), fleet.timeout(None));
        stored.looks.set(looks.saturating_add(is_out.into()));
        is_out
    }

    /// Takes a job back whose client was told nothing, or something else. What is lost on the way is carried out.
    pub(crate) fn take_back(&self, fleet: &Fleet, ticket: &str) {
        if let Some(stored) = &self.stored {
            fleet.run(stored.calls.drop(ticket), errand(Step::Drop), UNHURRIED);
        }
    }

    /// Claims what is due, and tells the store again what it was told in vain.
    pub(crate) fn tick_stored(&self, fleet: &Fleet, now: Timestamp) {
        let Some(stored) = &self.stored else { return };
        for (at, settling) in stored.untold.take() {
            if at <= now {
                stored.settle(fleet, settling, now);
            } else {
                stored.untold.borrow_mut().push((at, settling));
            }
        }
        let is_due = stored.takes_due(now);
        if stored.takes_turn(now) || is_due {
            stored.claim(fleet, now);
        }
    }

    /// Takes what the store says; returns what an exchange is told.
    pub(crate) fn step_answered(
        &self,
        fleet: &Fleet,
        step: Step,
        outcome: Result<Vec<Node>, Failure>,
    ) -> Option<(u32, Told)> {
        let stored = self.stored.as_ref()?;
        let now = host::steady();
        match step {
            Step::Put { exchange, ticket, rule, delay } => {
                let answer = outcome.map(|entries| queue::stored(&entries));
                if let (Ok(Some((_, count))), Some(rule)) = (answer, self.rule(&rule)) {
                    rule.waiting.set(count);
                }
                Some((
                    exchange,
                    match answer {
                        Ok(Some((true, _))) => {
                            stored.due_in(delay, now);
                            Told::Stored(ticket)
                        }
                        Ok(Some((false, _))) => Told::Full,
                        Err(Failure::Status(413)) => Told::TooLarge,
                        Ok(None) | Err(_) => {
                            // It may be stored all the same.
                            self.take_back(fleet, &ticket);
                            Told::Nothing
                        }
                    },
                ))
            }
            Step::Look { exchange } => {
                stored.looks.set(stored.looks.get().saturating_sub(1));
                let seen = outcome.ok().and_then(|entries| queue::looked(&entries));
                Some((exchange, seen.map_or(Told::Nothing, Told::Seen)))
            }
            Step::Drop => None,
            Step::Claim => {
                self.claim_answered(stored, fleet, outcome, now);
                None
            }
            Step::Settle(settling) => {
                self.settled(stored, fleet, settling, outcome, now);
                None
            }
        }
    }
}

fn errand(step: Step) -> Errand {
    Errand::Job(Box::new(step))
}

/// A name that nobody else has.
fn token() -> String {
    let mut random = [0; 8];
    let _ = getrandom::fill(&mut random);
    hex(&random)
}
