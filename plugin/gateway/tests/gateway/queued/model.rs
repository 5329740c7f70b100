//! What the queue must hold after each step, in Rust: who holds which job, what was counted, what may be claimed.

use std::collections::BTreeMap;

use tidegate_engine::redis::queue::{Claimed, Seen, State};

/// A job as it must be. Moments are milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) rule: &'static str,
    pub(super) request: Vec<u8>,
    pub(super) tries: u32,
    pub(super) most_tries: u32,
    /// From when it may be claimed.
    pub(super) due: u64,
    pub(super) give_up_at: u64,
    pub(super) holder: Option<String>,
    /// How it ended, and with which answer.
    pub(super) ended: Option<(bool, Vec<u8>)>,
}

/// All jobs that were ever stored and not taken back, and what each holder's last claim took.
#[derive(Default)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<String, Job>,
    held: BTreeMap<String, Vec<String>>,
}

/// How long a claim holds.
pub(super) const CLAIM_MS: u64 = 10_000;

impl Model {
    pub(super) fn waiting(&self, rule: &str) -> u64 {
        self.jobs.values().filter(|job| job.rule == rule && job.ended.is_none()).count() as u64
    }

    /// Takes what a claim brought; `Err` where it may not have.
    pub(super) fn claim(&mut self, holder: &str, claimed: &Claimed, now: u64) -> Result<(), String> {
        let earlier = self.held.get(holder).cloned().unwrap_or_default();
        let mut brought: Vec<String> = claimed.jobs.iter().map(|(ticket, ..)| ticket.clone()).collect();
        if earlier.is_empty() {
            self.first_claim(holder, claimed, now)?;
            self.held.insert(holder.to_owned(), brought.clone());
        } else {
            let is_held = |job: &Job| job.holder.as_deref() == Some(holder) && job.ended.is_none();
            let mut still: Vec<String> =
                earlier.into_iter().filter(|ticket| self.jobs.get(ticket).is_some_and(is_held)).collect();
            still.sort();
            brought.sort();
            if still != brought {
                return Err(format!("the same claim again brought {brought:?}, not {still:?}"));
            }
        }
        for (ticket, tries, request) in &claimed.jobs {
            let job = self.jobs.get_mut(ticket).ok_or("a job that is not there")?;
            if (job.tries, &job.request) != (*tries, request) {
                return Err(format!("try {tries} of {job:?}"));
            }
            job.due = now + CLAIM_MS;
        }
        for rule in ["a", "b"] {
            let told = claimed.rules.iter().find(|(name, ..)| name == rule).map_or(0, |(_, count, _)| *count);
            if told != self.waiting(rule) {
                return Err(format!("{told} jobs of {rule}, not {}", self.waiting(rule)));
            }
        }
        let more = self.jobs.values().any(|job| job.ended.is_none() && job.due <= now);
        if claimed.more == more { Ok(()) } else { Err(format!("more: {more}")) }
    }

    fn first_claim(&mut self, holder: &str, claimed: &Claimed, now: u64) -> Result<(), String> {
        let is_due = |job: &Job| job.ended.is_none() && job.due <= now;
        let may_be_claimed = |job: &&mut Job| is_due(job) && job.tries < job.most_tries;
        for (ticket, ..) in &claimed.jobs {
            let job = self.jobs.get_mut(ticket).filter(may_be_claimed).ok_or("claimed, but not due")?;
            (job.holder, job.tries) = (Some(holder.to_owned()), job.tries + 1);
        }
        let mut failed = 0;
        for (ticket, job) in &mut self.jobs {
            let is_claimed = claimed.jobs.iter().any(|(claimed, ..)| claimed == ticket);
            if is_due(job) && !is_claimed && job.tries >= job.most_tries {
                job.ended = Some((false, Vec::new()));
                failed += 1;
            }
        }
        let told: u64 = claimed.rules.iter().map(|(.., failed)| failed).sum();
        if told == failed { Ok(()) } else { Err(format!("{told} failed, not {failed}")) }
    }

    /// Whether `seen` is how far the job is.
    pub(super) fn agrees(&self, ticket: &str, seen: Option<&Seen>, now: u64) -> bool {
        let (Some(job), Some(seen)) = (self.jobs.get(ticket), seen) else {
            return seen.is_none() && !self.jobs.contains_key(ticket);
        };
        let state = match &job.ended {
            Some((true, _)) => State::Done,
            Some((false, _)) => State::Failed,
            None if job.holder.is_some() && job.due > now => State::Running,
            None => State::Waiting,
        };
        let wait = if job.ended.is_some() { 0 } else { job.due.saturating_sub(now) };
        let answer = job.ended.as_ref().map(|(_, answer)| answer.clone()).unwrap_or_default();
        (seen.state, seen.rule.as_str(), seen.attempts, seen.wait.0 / 1000, &seen.answer)
            == (state, job.rule, job.tries, wait, &answer)
    }
}
