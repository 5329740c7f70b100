//! The store that a fleet of proxies shares: asks Redis by HTTP callouts (`calls`), each answered within the policy's time,
//! leaves it alone while it fails, and in `lease` mode answers without asking where what was charged ahead pays. What is
//! asked and how an answer reads is the engine's (`redis`); what a request does while it waits, and without an answer, is
//! the exchange's.

mod breaker;
mod calls;
mod leases;

use core::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;

use tidegate_engine::acquire::{Acquire, Reply};
use tidegate_engine::admin::explain::Look;
use tidegate_engine::identity::Subject;
use tidegate_engine::policy::{Policy, Redis};
use tidegate_engine::redis::{self, Call, Conversation, Failure, Outcomes};
use tidegate_engine::sorted::Sorted;
use tidegate_engine::{Micros, Pending, Timestamp};

use crate::admin::Asks;
use crate::host::{self, Metric, MetricKind, define_metric};
use crate::jobs::Step;
use crate::timer::Timer;
use breaker::Breaker;
pub(crate) use calls::Settled;
use calls::{Purpose, Put, Question, Sent};
use leases::Leases;

/// What a call may take that no request of a client waits for.
pub(crate) const UNHURRIED: Micros = Micros::from_secs(1);

/// How many keys' leases go back at once: Redis takes some 50 us for each and nothing else meanwhile. In a Cluster, where
/// each is a call of its own, fewer: a call takes as long of a worker.
const REFUNDED: usize = 64;
const REFUNDED_IN_CLUSTER: usize = 16;

/// What becomes of questions, as `store_calls_total.<outcome>` counts them: answered; without an answer; not sent,
/// because the host had no room; not asked, because the store is left alone; and answered by a lease.
const OUTCOMES: [&str; 5] = ["answered", "failed", "not_sent", "spared", "leased"];
const ANSWERED: usize = 0;
const FAILED: usize = 1;
const NOT_SENT: usize = 2;
const SPARED: usize = 3;
const LEASED: usize = 4;

/// One deployment's way to its store.
#[derive(Debug)]
pub(crate) struct Fleet {
    settings: Redis,
    /// The headers of every call.
    headers: Vec<(&'static str, Vec<u8>)>,
    breaker: RefCell<Breaker>,
    /// What is asked to see whether a store that is left alone answers again: the cells of the call that it failed.
    suspect: RefCell<Option<Call>>,
    calls: RefCell<Sorted<u32, Sent>>,
    /// In `lease` mode. Deployments of one VM that follow each other share them.
    leases: Option<Rc<RefCell<Leases>>>,
    /// The store has refused to run one call over several slots.
    is_cluster: Cell<bool>,
    healthy: Metric,
    outcomes: [Metric; OUTCOMES.len()],
    latency: Metric,
    /// The root's: a breaker that opens, in whatever callback, has it tick when the store is to be tried again.
    timer: Rc<Timer>,
}

/// What the store is asked for beside counters.
#[derive(Debug)]
pub(crate) enum Errand {
    /// The state at run time.
    State(Asks),
    /// A queued request.
    Job(Box<Step>),
}

/// Who asks.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A request that is to be decided.
    Request(Pending),
    /// An operator who looks at counters.
    Operator(Look),
}

/// A question that is answered, or will not be.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) exchange: u32,
    pub(crate) asker: Asker,
    pub(crate) outcome: Result<Charged, Failure>,
}

/// What the store has charged for a request: to be given back if it is never sent on.
#[derive(Debug)]
pub(crate) struct Charged {
    keys: Vec<String>,
    outcomes: Outcomes,
    /// How long the request has waited for it.
    took: Micros,
}

/// What comes of asking.
#[derive(Debug)]
pub(crate) enum Asked {
    /// An answer will come.
    Waits,
    /// A lease answers.
    Leased(Pending, Reply),
    /// The store fails, and is left alone.
    Spared(Pending),
    /// The host does not send the call.
    NotSent(Pending, Failure),
}

impl Asker {
    fn acquire(&self) -> &Acquire {
        match self {
            Self::Request(pending) => pending.acquire(),
            Self::Operator(look) => &look.acquire,
        }
    }
}

impl Charged {
    /// The answer for the engine.
    pub(crate) fn reply(&self) -> Reply {
        self.outcomes.reply()
    }

    /// Whether every charge is for a moment that its cell may still wait for.
    fn may_wait(&self, acquire: &Acquire) -> bool {
        let mut cells = acquire.cells.iter().zip(&self.outcomes.cells);
        cells.all(|(cell, outcome)| !outcome.reply.charged || cell.admits(outcome.reply.wait))
    }
}

impl Fleet {
    /// A way to the store of these settings.
    pub(crate) fn new(settings: Redis, namespace: &str, timer: Rc<Timer>) -> Self {
        let name = |part: &str| ["tidegate.", namespace, ".", part].concat();
        let healthy = define_metric(MetricKind::Gauge, &name("store_healthy"));
        healthy.set(1);
        let headers = redis::headers(&settings).into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        Self {
            headers,
            breaker: RefCell::new(Breaker::new(settings.breaker, settings.timeout)),
            suspect: RefCell::default(),
            calls: RefCell::default(),
            leases: settings.leases.then(Rc::default),
            is_cluster: Cell::new(false),
            settings,
            healthy,
            outcomes: OUTCOMES
                .map(|outcome| define_metric(MetricKind::Counter, &[&name("store_calls_total."), outcome].concat())),
            latency: define_metric(MetricKind::Histogram, &name("store_call_us")),
            timer,
        }
    }

    /// Takes over what a deployment before this one holds, where its store is the same.
    pub(crate) fn follow(&mut self, before: &Self) {
        let (own, theirs) = (&self.settings, &before.settings);
        let is_same = own.cluster == theirs.cluster && own.authority == theirs.authority;
        if let (Some(leases), Some(held), true) = (&mut self.leases, &before.leases, is_same) {
            leases.clone_from(held);
        }
    }

    /// Whether the store answers, as far as any VM of this proxy knows.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.value() != 0
    }

    /// How long an exchange waits for an answer, or goes on waiting that had one before.
    pub(crate) fn timeout(&self, before: Option<&Charged>) -> Micros {
        self.settings.timeout.saturating_sub(before.map_or(Micros::ZERO, |charged| charged.took))
    }

    /// Puts an exchange's question. `fingerprint` tells subjects apart.
    pub(crate) fn ask(
        &self,
        exchange: u32,
        pending: Pending,
        policy: &Policy,
        fingerprint: impl Fn(&Subject) -> u64,
    ) -> Asked {
        let now = host::steady();
        let mut known = self.leases.as_ref().map(|leases| leases.borrow_mut());
        if let Some(reply) = known.as_mut().and_then(|known| known.answer(pending.acquire(), &fingerprint, now)) {
            self.count(LEASED);
            return Asked::Leased(pending, reply);
        }
        if !self.breaker.borrow().is_closed() {
            self.count(SPARED);
            return Asked::Spared(pending);
        }
        let answered_by = now + self.settings.timeout;
        let wanted = |mut known: RefMut<'_, Leases>| known.wanted(pending.acquire(), &fingerprint, now, answered_by);
        let leases = known.map(wanted).unwrap_or_default();
        let rules: Vec<usize> = pending.cell_rules().map(|(rule, _)| rule).collect();
        let keys = redis::keys(policy, &rules, pending.acquire());
        let is_split = self.is_cluster.get();
        let talk = Conversation::new(pending.acquire(), is_split);
        let question = Question { exchange, asker: Asker::Request(pending), keys, leases, talk, is_split };
        match self.put(Box::new(question), now, now) {
            Put::Sent => Asked::Waits,
            // A request without cells never comes here.
            Put::Over(question) => not_sent(*question, Failure::NoRoom),
            Put::NotSent(question, why) => not_sent(*question, why),
        }
    }

    /// Asks for counters that an operator looks at, charging nothing, or forgets them; `false` where no answer will come.
    pub(crate) fn look(&self, exchange: u32, look: Look, policy: &Policy, clears: bool) -> bool {
        if !self.breaker.borrow().is_closed() {
            return false;
        }
        let now = host::steady();
        let is_split = self.is_cluster.get();
        let keys = redis::keys(policy, &look.rules, &look.acquire);
        let talk = Conversation::new(&look.acquire, is_split);
        let clear = Call::clears(&look.acquire, &keys, is_split).into_iter().next().filter(|_| clears);
        let asker = Asker::Operator(look);
        let question = Box::new(Question { exchange, asker, keys, leases: Vec::new(), talk, is_split });
        match clear {
            Some(call) => self.start(call, Purpose::Clear(question), self.settings.timeout, now).is_ok(),
            None => matches!(self.put(question, now, now), Put::Sent),
        }
    }

    /// Gives back what the store charged for a request that is never sent on.
    pub(crate) fn give_back(&self, charged: &Charged, acquire: &Acquire) {
        self.refund(&Call::refunds(&charged.outcomes.charges(acquire, &charged.keys), self.is_cluster.get()));
    }

    /// Refuses, and gives back what the store charged for a moment that a request may no longer wait for.
    pub(crate) fn keep_waiting_only_where_it_may(&self, charged: &mut Charged, acquire: &Acquire) {
        if !charged.may_wait(acquire) {
            self.give_back(charged, acquire);
            charged.outcomes.refuse();
        }
    }

    /// Takes the answer that the exchange which asked is not there for.
    pub(crate) fn give_back_answer(&self, answered: Answered) {
        if let Ok(charged) = answered.outcome {
            self.give_back(&charged, answered.asker.acquire());
        }
    }

    /// When there is something to do, on the steady clock: a store to be tried again, leases to be given back.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let leases = self.leases.as_ref().and_then(|leases| leases.borrow().next_due());
        [self.breaker.borrow().probe_at(), leases].into_iter().flatten().min()
    }

    /// Tries a store again that was left alone for long enough, and gives back leases that nobody spends.
    pub(crate) fn tick(&self, now: Timestamp) {
        if self.breaker.borrow_mut().starts_probe(now) {
            let call = self.suspect.borrow().clone().unwrap_or_else(Call::of_nothing);
            let _ = self.start(call, Purpose::Probe, self.settings.timeout, now);
        }
        if let Some(leases) = &self.leases
            && leases.borrow().next_due().is_some_and(|due| due <= now)
        {
            let most = if self.is_cluster.get() { REFUNDED_IN_CLUSTER } else { REFUNDED };
            let unspent = leases.borrow_mut().unspent(now, most);
            let charges: Vec<_> = unspent.iter().map(leases::Unspent::charge).collect();
            self.refund(&Call::refunds(&charges, self.is_cluster.get()));
        }
    }
}

/// A question that is not put.
fn not_sent(question: Question, why: Failure) -> Asked {
    match question.asker {
        Asker::Request(pending) => Asked::NotSent(pending, why),
        Asker::Operator(_) => Asked::Waits,
    }
}
