//! The counters that a fleet of proxies shares: asks Redis by HTTP callouts, each answered within the policy's time,
//! leaves it alone while it fails, and in `lease` mode spends what was charged ahead without asking. What is asked and
//! how an answer reads is the engine's (`redis`); what a request does while it waits, and without an answer, is the
//! exchange's.

mod breaker;
mod leases;

use core::cell::{Cell, RefCell};

use tidegate_engine::acquire::{Acquire, Outcome, Reply};
use tidegate_engine::admin::explain::Look;
use tidegate_engine::identity::Subject;
use tidegate_engine::policy::{Node, Policy, Redis};
use tidegate_engine::redis::{self, Call, Conversation, Failure, Form, Lease, Outcomes};
use tidegate_engine::{Micros, Pending, Timestamp};

use crate::admin::Asks;
use crate::host::{self, Buffer, Headers, Level, Map, Metric, MetricKind, Status, define_metric};
use crate::jobs::Step;
use breaker::Breaker;
use leases::Leases;
use tidegate_engine::sorted::Sorted;

/// The longest answer of counters that is read, and the longest other one; a longer one is none. A thousand rules with two
/// cells of five numbers are less.
const LONGEST_ANSWER: usize = 1 << 18;
const LONGEST_TEXT: usize = 1 << 21;

/// What a call may take that no request of a client waits for.
pub(crate) const UNHURRIED: Micros = Micros::from_secs(1);

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
    /// In `lease` mode.
    leases: Option<RefCell<Leases>>,
    /// The store has refused to run one call over several slots.
    is_cluster: Cell<bool>,
    healthy: Metric,
    outcomes: [Metric; OUTCOMES.len()],
    latency: Metric,
}

/// A call whose answer is still out.
#[derive(Debug)]
struct Sent {
    /// When the question was first put, on the steady clock.
    since: Timestamp,
    /// How long it may take from then on.
    within: Micros,
    call: Call,
    form: Form,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    /// An exchange waits for it.
    Answer(Box<Question>),
    /// An exchange waits until the cells are forgotten.
    Clear(Box<Question>),
    /// To see whether the store answers again.
    Probe,
    /// Somebody's charge goes back. Nobody waits.
    GiveBack,
    /// It is about something else than counters.
    Errand(Errand),
}

/// What the store is asked for beside counters.
#[derive(Debug)]
pub(crate) enum Errand {
    /// The state at run time.
    State(Asks),
    /// A queued request.
    Job(Box<Step>),
}

/// What comes of a call.
#[derive(Debug)]
pub(crate) enum Settled {
    /// A question is at its end.
    Question(Answered),
    /// An errand is.
    Errand(Errand, Result<Vec<Node>, Failure>),
    /// Nobody waits for it, or not yet.
    Nothing,
}

/// Who asks.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A request that is to be decided.
    Request(Pending),
    /// An operator who looks at counters.
    Operator(Look),
}

/// A question, with what is known of its answer.
#[derive(Debug)]
struct Question {
    exchange: u32,
    asker: Asker,
    keys: Vec<String>,
    leases: Vec<Lease>,
    talk: Conversation,
    /// It is asked for each identity by itself.
    is_split: bool,
}

/// What comes of sending a question on.
enum Put {
    Sent,
    /// There is nothing more to ask.
    Over(Box<Question>),
    /// The host does not send the call.
    NotSent(Box<Question>, Failure),
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
}

impl Fleet {
    /// A way to the store of these settings.
    pub(crate) fn new(settings: Redis, namespace: &str) -> Self {
        let name = |part: &str| ["tidegate.", namespace, ".", part].concat();
        let healthy = define_metric(MetricKind::Gauge, &name("store_healthy"));
        healthy.set(1);
        let headers = redis::headers(&settings).into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        Self {
            headers,
            breaker: RefCell::new(Breaker::new(settings.breaker)),
            suspect: RefCell::default(),
            calls: RefCell::default(),
            leases: settings.leases.then(RefCell::default),
            is_cluster: Cell::new(false),
            settings,
            healthy,
            outcomes: OUTCOMES
                .map(|outcome| define_metric(MetricKind::Counter, &[&name("store_calls_total."), outcome].concat())),
            latency: define_metric(MetricKind::Histogram, &name("store_call_us")),
        }
    }

    /// Whether the store answers, as far as any VM of this proxy knows.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.value() != 0
    }

    /// How long an exchange waits for an answer.
    pub(crate) fn timeout(&self) -> Micros {
        self.settings.timeout
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
        let mut leases = Vec::new();
        if let Some(known) = &self.leases {
            let mut known = known.borrow_mut();
            if let Some(reply) = known.spend(pending.acquire(), &fingerprint, now) {
                self.count(LEASED);
                return Asked::Leased(pending, reply);
            }
            leases = known.wanted(pending.acquire(), &fingerprint, now);
        }
        if !self.breaker.borrow().is_closed() {
            self.count(SPARED);
            return Asked::Spared(pending);
        }
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

    /// Takes the answer that the exchange which asked is not there for.
    pub(crate) fn give_back_answer(&self, answered: Answered) {
        if let Ok(charged) = answered.outcome {
            self.give_back(&charged, answered.asker.acquire());
        }
    }

    /// When there is something to do, on the steady clock: a store to be tried again, leases to be given back.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let leases = self.leases.as_ref().and_then(|leases| leases.borrow().next_due());
        self.breaker.borrow().probe_at().into_iter().chain(leases).min()
    }

    /// Tries a store again that was left alone for long enough, and gives back leases that nobody spends.
    pub(crate) fn tick(&self, now: Timestamp) {
        if self.breaker.borrow_mut().starts_probe(now) {
            let call = self.suspect.borrow().clone().unwrap_or_else(Call::of_nothing);
            let _ = self.start(call, Purpose::Probe, self.settings.timeout, now);
        }
        if let Some(leases) = &self.leases {
            let unspent = leases.borrow_mut().unspent(now);
            let charges: Vec<_> = unspent.iter().map(leases::Unspent::charge).collect();
            self.refund(&Call::refunds(&charges, self.is_cluster.get()));
        }
    }

    /// Takes the answer of a call; `None` where the token is none of ours.
    pub(crate) fn answered(
        &self,
        token: u32,
        header_count: u32,
        fingerprint: impl Fn(&Subject) -> u64,
    ) -> Option<Settled> {
        let mut sent = self.calls.borrow_mut().remove(&token)?;
        let now = host::steady();
        let longest = if matches!(sent.purpose, Purpose::Errand(_)) { LONGEST_TEXT } else { LONGEST_ANSWER };
        let entries = read(header_count, longest);
        if entries == Err(Failure::NoScript) && sent.form == Form::Hash {
            // The server has forgotten the script, or never knew it: scripts are not replicated.
            sent.form = Form::Text;
            return Some(match self.send(sent, now) {
                Err((Sent { purpose: Purpose::Answer(question) | Purpose::Clear(question), .. }, why)) => {
                    Settled::Question(self.unanswered(*question, why))
                }
                Err((Sent { purpose: Purpose::Errand(errand), .. }, why)) => Settled::Errand(errand, Err(why)),
                _ => Settled::Nothing,
            });
        }
        if let Purpose::Errand(errand) = sent.purpose {
            return Some(Settled::Errand(errand, entries));
        }
        let numbers = entries.and_then(|entries| redis::numbers(&entries));
        let Sent { since, call, purpose, .. } = sent;
        self.latency.set(now.since(since).0);
        if let Purpose::Answer(question) = purpose {
            let answered = self.go_on(question, numbers, &call, since, now, fingerprint);
            return Some(answered.map_or(Settled::Nothing, Settled::Question));
        }
        match &numbers {
            Ok(_) => self.worked(),
            // Words of a store that is there, about these cells alone.
            Err(Failure::CrossSlot | Failure::Refused("WRONGTYPE" | "TIDEGATE"))
                if matches!(purpose, Purpose::Probe) =>
            {
                self.worked();
            }
            Err(failure) => self.failed(*failure, &call, now),
        }
        let Purpose::Clear(question) = purpose else { return Some(Settled::Nothing) };
        let Question { exchange, asker, keys, .. } = *question;
        let outcomes = Outcomes { outcome: Outcome::Granted, cells: Vec::new() };
        let outcome = numbers.map(|_| Charged { keys, outcomes });
        Some(Settled::Question(Answered { exchange, asker, outcome }))
    }

    /// Takes what came back for a question, and asks on where that is not all.
    fn go_on(
        &self,
        mut question: Box<Question>,
        numbers: Result<Vec<i64>, Failure>,
        call: &Call,
        since: Timestamp,
        now: Timestamp,
        fingerprint: impl Fn(&Subject) -> u64,
    ) -> Option<Answered> {
        let Question { asker, leases, talk, is_split, .. } = &mut *question;
        let acquire = asker.acquire();
        let taken = match numbers {
            Err(Failure::CrossSlot) if !*is_split => {
                self.is_cluster.set(true);
                *is_split = true;
                *talk = Conversation::new(acquire, true);
                Ok(())
            }
            numbers => numbers.and_then(|numbers| talk.take(&numbers, acquire, leases)),
        };
        if let Err(failure) = taken {
            self.failed(failure, call, now);
            return Some(self.unanswered(*question, failure));
        }
        match self.put(question, since, now) {
            Put::Sent => None,
            Put::NotSent(question, why) => Some(self.unanswered(*question, why)),
            Put::Over(question) => {
                self.worked();
                let Question { exchange, asker, keys, talk, .. } = *question;
                let returned = talk.returned(asker.acquire(), &keys);
                self.refund(&Call::refunds(&returned, self.is_cluster.get()));
                let outcomes = talk.finish();
                if let (Some(known), Asker::Request(pending)) = (&self.leases, &asker) {
                    known.borrow_mut().take(pending.acquire(), &keys, &outcomes, &fingerprint, since);
                }
                Some(Answered { exchange, asker, outcome: Ok(Charged { keys, outcomes }) })
            }
        }
    }

    /// Ends a question without an answer; what a part of it has charged goes back.
    fn unanswered(&self, question: Question, why: Failure) -> Answered {
        let Question { exchange, asker, keys, talk, .. } = question;
        let returned = talk.returned(asker.acquire(), &keys);
        self.refund(&Call::refunds(&returned, self.is_cluster.get()));
        Answered { exchange, asker, outcome: Err(why) }
    }

    /// Sends a question's next call.
    fn put(&self, question: Box<Question>, since: Timestamp, now: Timestamp) -> Put {
        let Question { asker, keys, leases, talk, .. } = &*question;
        let Some(call) = talk.next_call(asker.acquire(), keys, leases) else { return Put::Over(question) };
        let purpose = Purpose::Answer(question);
        let sent = Sent { since, within: self.settings.timeout, call, form: Form::Hash, purpose };
        match self.send(sent, now) {
            Err((Sent { purpose: Purpose::Answer(question), .. }, why)) => Put::NotSent(question, why),
            _ => Put::Sent,
        }
    }

    /// Sends refunds that nobody waits for. What is lost ages out.
    fn refund(&self, calls: &[Call]) {
        if !self.breaker.borrow().is_closed() {
            return;
        }
        let now = host::steady();
        for call in calls {
            let _ = self.start(call.clone(), Purpose::GiveBack, self.settings.timeout, now);
        }
    }

    /// Sends a call that is not about counters; `false` where no answer will come.
    pub(crate) fn run(&self, call: Call, errand: Errand, within: Micros) -> bool {
        self.breaker.borrow().is_closed() && self.start(call, Purpose::Errand(errand), within, host::steady()).is_ok()
    }

    /// Sends what was not asked before.
    fn start(&self, call: Call, purpose: Purpose, within: Micros, now: Timestamp) -> Result<(), (Sent, Failure)> {
        self.send(Sent { since: now, within, call, form: Form::Hash, purpose }, now)
    }

    /// Sends a call; gives it back where the host does not. It may take what is left of its time since the question was
    /// put.
    fn send(&self, sent: Sent, now: Timestamp) -> Result<(), (Sent, Failure)> {
        let left = sent.within.saturating_sub(now.since(sent.since)).millis_ceil().max(1);
        let timeout = u32::try_from(left).unwrap_or(u32::MAX);
        let body = sent.call.body(self.settings.protocol, sent.form);
        match host::http_call(&self.settings.cluster, &self.headers, body.as_bytes(), timeout) {
            Ok(token) => {
                self.calls.borrow_mut().insert(token, sent);
                Ok(())
            }
            Err(status) => {
                let why = if status == Status::BAD_ARGUMENT { Failure::NoCluster } else { Failure::NoRoom };
                self.failed(why, &sent.call, now);
                Err((sent, why))
            }
        }
    }

    /// Notes a call that came back well.
    fn worked(&self) {
        self.count(ANSWERED);
        if self.breaker.borrow_mut().worked() {
            self.healthy.set(1);
            host::log(Level::Warn, "store: Redis answers again, and counts from here on");
        }
    }

    /// Notes a call that failed; says so when that is enough to leave the store alone.
    fn failed(&self, why: Failure, call: &Call, now: Timestamp) {
        let is_room = why == Failure::NoRoom;
        self.count(if is_room { NOT_SENT } else { FAILED });
        let mut state = self.breaker.borrow_mut();
        // A full proxy is no failed store; but a try that found no room is over.
        if is_room && state.is_closed() {
            return;
        }
        if state.failed(now) {
            self.healthy.set(0);
            *self.suspect.borrow_mut() = Some(call.to_probe());
            let breaker = &self.settings.breaker;
            let why = why.as_str();
            host::log(
                Level::Error,
                &format!(
                    "store: {} calls to Redis failed in a row, the last with {why}; each rule does what its \
                     on_store_error says, and Redis is tried again after {} ms",
                    breaker.failures,
                    breaker.open.millis_ceil()
                ),
            );
        }
    }

    fn count(&self, outcome: usize) {
        if let Some(counter) = self.outcomes.get(outcome) {
            counter.add(1);
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

/// Reads the answer to a call. A reset answers without headers.
fn read(header_count: u32, longest: usize) -> Result<Vec<Node>, Failure> {
    let map = if header_count == 0 { None } else { Headers::of(Map::CallResponseHeaders).ok() };
    let lines = map.as_ref().map(Headers::lines).unwrap_or_default();
    let status = lines.iter().find(|(name, _)| *name == b":status").map(|(_, value)| *value).unwrap_or_default();
    let status = core::str::from_utf8(status).ok().and_then(|status| status.parse().ok()).unwrap_or(0);
    // Envoy's own answer, for want of a stream: an upstream's has this service time, whatever else it says.
    let has = |wanted: &[u8]| lines.iter().any(|(name, _)| *name == wanted);
    if has(b"x-envoy-overloaded") && !has(b"x-envoy-upstream-service-time") {
        return Err(Failure::NoRoom);
    }
    redis::read(status, &host::buffer(Buffer::CallResponseBody, longest).unwrap_or_default())
}
