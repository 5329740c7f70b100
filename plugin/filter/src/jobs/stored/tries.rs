//! The tries of jobs in the store: claimed, sent as this proxy's own are, and what came of them told the store.

use std::rc::Rc;

use tidegate_engine::policy::Node;
use tidegate_engine::redis::{self, Failure, queue};
use tidegate_engine::{Micros, Timestamp};

use super::super::Jobs;
use super::super::carry_out::{after, backoff, send};
use super::super::record::{Answer, Job, Outcome, Progress};
use super::{EVERY, Step, Stored, errand, token};
use crate::fleet::{Fleet, UNHURRIED};
use crate::host::{self, Status};

/// How long a job is left alone that this proxy cannot read: another version put it, and carries it out.
const UNREADABLE: Micros = Micros::from_secs(60);
/// How much of a claim's time beyond the try's is left for telling the store: the rest may be its answer's way.
const TELLING: Micros = Micros::from_secs(4);

/// What a ticket's page shows for the body of a result that the store did not take.
const NOT_KEPT: &str =
    r#"{"type":"about:blank","status":413,"detail":"The result is too large for the store to keep."}"#;

/// A job that this VM tries.
#[derive(Debug)]
pub(super) struct Held {
    ticket: String,
    holder: String,
    job: Job,
    /// When its claim ends.
    until: Timestamp,
}

/// What came of a try, on its way to the store.
#[derive(Debug)]
pub(crate) struct Settling {
    call: redis::Call,
    /// What it is told instead where it refuses the call for what stands in it.
    instead: Option<redis::Call>,
    rule: String,
    /// How the job ends, if it does: whether it has failed.
    ends: Option<bool>,
    /// Otherwise, how long until it is tried again.
    delay: Micros,
    /// From then on it is not this VM's to tell.
    until: Timestamp,
}

impl Stored {
    /// Claims what is due. While a claim is out, the next one follows it.
    pub(super) fn claim(&self, fleet: &Fleet, now: Timestamp) {
        if self.is_claiming.get() {
            return self.claims_again.set(true);
        }
        let call = self.calls.claim(&self.holder.borrow());
        self.is_claiming.set(fleet.run(call, errand(Step::Claim), UNHURRIED));
        if !self.is_claiming.get() {
            self.due.borrow_mut().insert(now + EVERY, ());
        }
    }

    /// Tells the store what came of a try; again in a second where that is in vain, for as long as it can matter.
    pub(super) fn settle(&self, fleet: &Fleet, settling: Rc<Settling>, now: Timestamp) {
        let step = Step::Settle(Rc::clone(&settling));
        if !fleet.run(settling.call.clone(), errand(step), UNHURRIED) {
            self.keep_untold(settling, now);
        }
    }

    fn keep_untold(&self, settling: Rc<Settling>, now: Timestamp) {
        if now + EVERY < settling.until {
            self.untold.borrow_mut().push((now + EVERY, settling));
        }
    }

    /// Tells the store how far a job is now.
    fn conclude(&self, fleet: &Fleet, held: Held, progress: &Progress, was_sent: bool) {
        let Held { ticket, holder, job, until } = held;
        let mut delay = Micros::ZERO;
        let (call, instead, ends) = match progress {
            Progress::Ended(_, outcome @ (Outcome::Done(answer) | Outcome::Failed(answer))) => {
                let has_failed = matches!(outcome, Outcome::Failed(_));
                let end = |answer: &Answer| self.calls.end(&ticket, &holder, !has_failed, &answer.bytes());
                (end(answer), Some(end(&without_body(answer))), Some(has_failed))
            }
            Progress::Waiting(_) | Progress::Running(_) => {
                delay = backoff(&job);
                (self.calls.again(&ticket, &holder, delay, was_sent), None, None)
            }
        };
        self.settle(fleet, Rc::new(Settling { call, instead, rule: job.rule, ends, delay, until }), host::steady());
    }

    /// Sends a job that was claimed.
    fn try_now(
        &self,
        fleet: &Fleet,
        holder: &str,
        (ticket, attempts, request): (String, u32, Vec<u8>),
        now: Timestamp,
    ) {
        let Some(mut job) = Job::read(&request) else {
            let call = self.calls.again(&ticket, holder, UNREADABLE, false);
            let until = now + TELLING;
            let settling = Settling { call, instead: None, rule: String::new(), ends: None, delay: UNREADABLE, until };
            return self.settle(fleet, Rc::new(settling), now);
        };
        job.attempts = attempts;
        let sent = send(&job, &job.call.body);
        job.call.body = Vec::new();
        let until = now + Micros::from_millis(u64::from(job.terms.timeout_ms)) + TELLING;
        let mut held = Held { ticket, holder: holder.to_owned(), job, until };
        match sent {
            Ok(token) => self.tries.borrow_mut().insert(token, held),
            Err(Status::BAD_ARGUMENT) if attempts >= held.job.terms.max_attempts => {
                let failed = Progress::Ended(now, Outcome::Failed(Answer::default()));
                self.conclude(fleet, held, &failed, true);
            }
            Err(status) => {
                let was_sent = status == Status::BAD_ARGUMENT;
                if !was_sent {
                    held.job.attempts = attempts.saturating_sub(1);
                }
                self.conclude(fleet, held, &Progress::Waiting(now), was_sent);
            }
        }
    }
}

impl Jobs {
    /// Takes the answer of a try of a job in the store; `false` where the token is none of ours.
    pub(crate) fn stored_answered(&self, fleet: &Fleet, token: u32, header_count: u32) -> bool {
        let Some(stored) = &self.stored else { return false };
        let Some(held) = stored.tries.borrow_mut().remove(&token) else { return false };
        let progress = after(&held.job, header_count, host::now());
        stored.conclude(fleet, held, &progress, true);
        true
    }

    /// Takes what a claim brought.
    pub(super) fn claim_answered(
        &self,
        stored: &Stored,
        fleet: &Fleet,
        outcome: Result<Vec<Node>, Failure>,
        now: Timestamp,
    ) {
        stored.is_claiming.set(false);
        let mut again = stored.claims_again.take();
        let Some(claimed) = outcome.ok().and_then(|entries| queue::claimed(&entries)) else {
            stored.due.borrow_mut().insert(now + EVERY, ());
            return;
        };
        let mut failed_now = 0;
        for rule in &self.rules {
            let told = claimed.rules.iter().find(|(name, ..)| *name == rule.name);
            let (count, failed) = told.map_or((0, 0), |(_, count, failed)| (*count, *failed));
            rule.waiting.set(count);
            failed_now = failed.max(failed_now);
            for _ in 0..failed {
                rule.count_stored(true);
            }
        }
        match claimed.next {
            // Others that were kept back come one by one; any VM comes for what is further off.
            Some(wait) if wait > Micros::ZERO && wait < EVERY => stored.due_in(wait, now),
            Some(Micros::ZERO) => again |= failed_now > 0 || !claimed.jobs.is_empty(),
            _ => {}
        }
        let holder = stored.holder.replace(token());
        for job in claimed.jobs {
            stored.try_now(fleet, &holder, job, now);
        }
        if again {
            stored.claim(fleet, now);
        }
    }

    /// Takes what the store says of what it was told.
    pub(super) fn settled(
        &self,
        stored: &Stored,
        fleet: &Fleet,
        mut settling: Rc<Settling>,
        outcome: Result<Vec<Node>, Failure>,
        now: Timestamp,
    ) {
        // Told the same again it would refuse again, and the job would be carried out once more. 413 is what a gateway, or a
        // proxy before it, says of a long body; some hosts of Redis say it in an error without a code of its own.
        if let Err(Failure::Status(413) | Failure::Refused("ERR")) = &outcome
            && let Some(own) = Rc::get_mut(&mut settling)
            && let Some(call) = own.instead.take()
        {
            own.call = call;
            return stored.settle(fleet, settling, now);
        }
        let found = outcome.ok().and_then(|entries| queue::settled(&entries));
        let ended = match found {
            None => return stored.keep_untold(settling, now),
            Some(1) => settling.ends,
            // It might wait no longer.
            Some(2) => Some(true),
            // The claim had ended: it is somebody else's.
            Some(_) => return,
        };
        match (ended, self.rule(&settling.rule)) {
            (None, _) => stored.due_in(settling.delay, now),
            (Some(has_failed), Some(rule)) => rule.count_stored(has_failed),
            (Some(_), None) => {}
        }
    }
}

/// An answer that is never too long: what is said of its body instead.
fn without_body(answer: &Answer) -> Answer {
    Answer { status: answer.status, content_type: "application/problem+json".to_owned(), body: NOT_KEPT.into() }
}
