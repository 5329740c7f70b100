//! Calls to the store: sent within their time, and what their answers make of what they are for. A script that the server
//! has forgotten is sent once more, as text; what a call says of the store goes to the breaker.

use tidegate_engine::acquire::Outcome;
use tidegate_engine::identity::Subject;
use tidegate_engine::policy::Node;
use tidegate_engine::redis::{self, Call, Conversation, Failure, Form, Lease, Outcomes};
use tidegate_engine::{Micros, Timestamp};

use super::{ANSWERED, Answered, Asker, Charged, Errand, FAILED, Fleet, NOT_SENT};
use crate::host::{self, Buffer, Headers, Level, Map, Status};

/// The longest answer of counters that is read, and the longest other one; a longer one is none. A thousand rules with two
/// cells of five numbers are less.
const LONGEST_ANSWER: usize = 1 << 18;
const LONGEST_TEXT: usize = 1 << 21;

/// A call whose answer is still out.
#[derive(Debug)]
pub(super) struct Sent {
    /// When the question was first put, on the steady clock.
    since: Timestamp,
    /// How long it may take from then on.
    within: Micros,
    call: Call,
    form: Form,
    purpose: Purpose,
}

#[derive(Debug)]
pub(super) enum Purpose {
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

/// A question, with what is known of its answer.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) exchange: u32,
    pub(super) asker: Asker,
    pub(super) keys: Vec<String>,
    pub(super) leases: Vec<Lease>,
    pub(super) talk: Conversation,
    /// It is asked for each identity by itself.
    pub(super) is_split: bool,
}

/// What comes of sending a question on.
pub(super) enum Put {
    Sent,
    /// There is nothing more to ask.
    Over(Box<Question>),
    /// The host does not send the call.
    NotSent(Box<Question>, Failure),
}

impl Fleet {
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
        let outcome = numbers.map(|_| Charged { keys, outcomes, took: Micros::ZERO });
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
                let Question { exchange, asker, keys, leases, talk, .. } = *question;
                let returned = talk.returned(asker.acquire(), &keys);
                self.refund(&Call::refunds(&returned, self.is_cluster.get()));
                let outcomes = talk.finish();
                if let (Some(known), Asker::Request(pending)) = (&self.leases, &asker) {
                    known.borrow_mut().take(pending.acquire(), (&keys, &leases), &outcomes, &fingerprint, since);
                }
                Some(Answered { exchange, asker, outcome: Ok(Charged { keys, outcomes, took: now.since(since) }) })
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
    pub(super) fn put(&self, question: Box<Question>, since: Timestamp, now: Timestamp) -> Put {
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
    pub(super) fn refund(&self, calls: &[Call]) {
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
    pub(super) fn start(
        &self,
        call: Call,
        purpose: Purpose,
        within: Micros,
        now: Timestamp,
    ) -> Result<(), (Sent, Failure)> {
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
                // Errands say nothing of the store's counters: what they are for comes again by itself.
                if !matches!(sent.purpose, Purpose::Errand(_)) {
                    self.failed(why, &sent.call, now);
                }
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

    /// Notes a call that failed; says so when that is enough to leave the store alone, or to take it for none.
    fn failed(&self, why: Failure, call: &Call, now: Timestamp) {
        let is_room = why == Failure::NoRoom;
        self.count(if is_room { NOT_SENT } else { FAILED });
        let mut state = self.breaker.borrow_mut();
        let breaker = &self.settings.breaker;
        // A full proxy is no failed store; but a try that found no room is over.
        if is_room && state.is_closed() {
            if state.found_no_room(now) {
                self.fails(&format!(
                    "store: the proxy had no room for {} calls to Redis in a row: its cluster has no endpoint, or its \
                     circuit breakers are full; the proxy's own counters decide",
                    breaker.failures
                ));
            }
            return;
        }
        if state.failed(now) {
            *self.suspect.borrow_mut() = Some(call.to_probe());
            self.fails(&format!(
                "store: {} calls to Redis failed in a row, the last with {}; each rule does what its on_store_error says, \
                 and Redis is tried again after {} ms",
                breaker.failures,
                why.as_str(),
                breaker.open.millis_ceil()
            ));
        }
        if let Some(at) = state.probe_at() {
            self.timer.set(Some(at), now, false);
        }
    }

    fn fails(&self, message: &str) {
        self.healthy.set(0);
        host::log(Level::Error, message);
    }

    pub(super) fn count(&self, outcome: usize) {
        if let Some(counter) = self.outcomes.get(outcome) {
            counter.add(1);
        }
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
