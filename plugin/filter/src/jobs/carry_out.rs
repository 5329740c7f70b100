//! One try of a job: the callout, and what its answer makes of the job.

use tidegate_engine::admin::hex;
use tidegate_engine::{Micros, Timestamp};

use super::record::{Answer, Job, Outcome, Progress};
use super::slots::{Taken, Ticket};
use super::{ABANDONED_AFTER, Jobs};
use crate::host::{self, Buffer, Headers, Level, Map, Status};

/// The longest wait between two tries, whatever the doubling says: 5 minutes.
const LONGEST_BACKOFF_MS: u64 = 300_000;

impl Jobs {
    /// Claims a job and sends it. A job that somebody else claims meanwhile is left to them.
    pub(super) fn try_now(&self, ticket: Ticket, mut claimed: Taken, now: Timestamp) {
        let job = &mut claimed.job;
        if job.attempts >= job.terms.max_attempts {
            // Its last try never came back.
            job.progress = Progress::Ended(now, Outcome::Failed(Answer::default()));
            self.end(ticket, &claimed);
            return;
        }
        job.attempts = job.attempts.saturating_add(1);
        job.progress = Progress::Running(now + Micros::from_millis(u64::from(job.terms.timeout_ms)) + ABANDONED_AFTER);
        if self.slots.write(ticket.slot, &claimed).is_err() {
            return;
        }
        let job = &claimed.job;
        let body = self.slots.body(ticket.slot);
        match send(job, &body) {
            Ok(token) => {
                self.calls.borrow_mut().insert(token, ticket);
            }
            Err(status) => self.not_sent(ticket, status, now),
        }
    }

    /// The host did not send a try: the cluster is unknown, or has no healthy host, or its connections are used up. The
    /// upstream never saw it, so it counts as no try where waiting can help.
    fn not_sent(&self, ticket: Ticket, status: Status, now: Timestamp) {
        self.change(ticket, |job| {
            if status != Status::BAD_ARGUMENT {
                job.attempts = job.attempts.saturating_sub(1);
            }
            if now >= job.terms.give_up_at || job.attempts >= job.terms.max_attempts {
                Progress::Ended(now, Outcome::Failed(Answer::default()))
            } else {
                Progress::Waiting(now + backoff(job))
            }
        });
    }

    /// Takes the answer of a try; `false` where the token is none of ours.
    pub(crate) fn answered(&self, token: u32, header_count: u32, now: Timestamp) -> bool {
        let Some(ticket) = self.calls.borrow_mut().remove(&token) else { return false };
        self.change(ticket, |job| after(job, header_count, now));
        true
    }

    /// Changes a job that this VM has claimed, and goes on with it. Nobody else writes to it before its claim ends.
    fn change(&self, ticket: Ticket, change: impl FnOnce(&mut Job) -> Progress) {
        let Some(mut taken) = self.slots.read(ticket.slot).filter(|taken| taken.job.ticket == ticket.bits) else {
            return;
        };
        if !matches!(taken.job.progress, Progress::Running(_)) {
            return;
        }
        taken.job.progress = change(&mut taken.job);
        match taken.job.progress {
            Progress::Ended(..) => self.end(ticket, &taken),
            Progress::Waiting(due) if self.slots.write(ticket.slot, &taken).is_ok() => {
                self.ours.borrow_mut().insert((due, ticket.slot), ticket);
            }
            Progress::Waiting(_) | Progress::Running(_) => {}
        }
    }

    fn end(&self, ticket: Ticket, taken: &Taken) {
        if self.slots.write(ticket.slot, taken).is_ok()
            && let Some(rule) = self.rule(&taken.job.rule)
        {
            rule.count_ended();
            if matches!(taken.job.progress, Progress::Ended(_, Outcome::Failed(_))) {
                rule.failed.add(1);
            }
        }
    }
}

/// Sends a try with this body; the log says where its cluster is unknown.
pub(super) fn send(job: &Job, body: &[u8]) -> Result<u32, Status> {
    let terms = &job.terms;
    let sent = host::http_call(&terms.cluster, &headers(job), body, terms.timeout_ms);
    if sent == Err(Status::BAD_ARGUMENT) {
        host::log(Level::Error, &["queue of rule ", &job.rule, ": no cluster ", &terms.cluster].concat());
    }
    sent
}

/// How far a job is once a try's answer is there. A reset answers without headers.
pub(super) fn after(job: &Job, header_count: u32, now: Timestamp) -> Progress {
    let map = if header_count == 0 { None } else { Headers::of(Map::CallResponseHeaders).ok() };
    let answer = answer(map.as_ref(), job.terms.max_result_bytes as usize);
    let failed = matches!(answer.status, 0 | 408 | 429 | 500..);
    if !failed {
        Progress::Ended(now, Outcome::Done(answer))
    } else if job.attempts >= job.terms.max_attempts {
        Progress::Ended(now, Outcome::Failed(answer))
    } else {
        Progress::Waiting(now + backoff(job))
    }
}

/// The headers of a try: what the job kept, its ticket as the idempotency key, and which try this is.
fn headers(job: &Job) -> Vec<(&str, Vec<u8>)> {
    let kept = job.call.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let own = [
        ("idempotency-key", hex(&job.ticket).into_bytes()),
        ("x-tidegate-attempt", job.attempts.to_string().into_bytes()),
        ("x-tidegate-rule", job.rule.clone().into_bytes()),
    ];
    kept.chain(own).collect()
}

/// The wait before the next try: it doubles with each.
pub(super) fn backoff(job: &Job) -> Micros {
    let doubled = 1_u64.checked_shl(job.attempts.saturating_sub(1)).unwrap_or(u64::MAX);
    Micros::from_millis(job.terms.backoff_ms.saturating_mul(doubled).min(LONGEST_BACKOFF_MS.max(job.terms.backoff_ms)))
}

/// What came back; status 0 where nothing did.
fn answer(map: Option<&Headers>, max_bytes: usize) -> Answer {
    let Some(map) = map else { return Answer::default() };
    let lines = map.lines();
    let value = |wanted: &[u8]| {
        let found = lines.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value).unwrap_or_default();
        String::from_utf8_lossy(found).into_owned()
    };
    let body = host::buffer(Buffer::CallResponseBody, max_bytes).unwrap_or_default();
    Answer { status: value(b":status").parse().unwrap_or(0), content_type: value(b"content-type"), body }
}
