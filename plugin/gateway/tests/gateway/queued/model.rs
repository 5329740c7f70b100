//! What the queue must hold after each step, in Rust: who holds which job, what was counted, what may be claimed.

use std::collections::BTreeMap;

use tidegate_engine::redis::queue::{Claimed, Seen, State};

use super::pace::Line;

/// A job as it must be. Moments are milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) rule: &'static str,
    pub(super) request: Vec<u8>,
    pub(super) tries: u32,
    pub(super) most_tries: u32,
    /// From when it may be claimed.
    pub(super) due: u64,
    /// The moment that it had reserved, and what spaces it.
    pub(super) own: u64,
    pub(super) line: &'static str,
    pub(super) gap: u64,
    pub(super) give_up_at: u64,
    pub(super) holder: Option<String>,
    /// How it ended, and with which answer.
    pub(super) ended: Option<(bool, Vec<u8>)>,
}

/// All jobs that were ever stored and not taken back, what each holder's last claim took, and how far lines run behind.
#[derive(Default)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<String, Job>,
    held: BTreeMap<String, Vec<String>>,
    lines: BTreeMap<&'static str, Line>,
}

/// How long a claim holds.
pub(super) const CLAIM_MS: u64 = 10_000;

impl Model {
    pub(super) fn waiting(&self, rule: &str) -> u64 {
        self.jobs.values().filter(|job| job.rule == rule && job.ended.is_none()).count() as u64
    }

    /// Takes what a claim brought, and returns whether a line runs behind; `Err` where it may not have brought that.
    pub(super) fn claim(&mut self, holder: &str, claimed: &Claimed, now: u64) -> Result<bool, String> {
        let earlier = self.held.get(holder).cloned().unwrap_or_default();
        let mut brought: Vec<String> = claimed.jobs.iter().map(|(ticket, ..)| ticket.clone()).collect();
        let mut behind = Vec::new();
        if earlier.is_empty() {
            behind = self.first_claim(holder, claimed, now)?;
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
        let next = self.next(&behind, now);
        let told = claimed.next.map(|wait| wait.0 / 1000);
        if told == next { Ok(!behind.is_empty()) } else { Err(format!("next: {told:?}, not {next:?}")) }
    }

    /// In how many milliseconds somebody must claim again: at once where jobs are due, and in time for the first of those
    /// rules whose lines run `behind`.
    fn next(&self, behind: &[&'static str], now: u64) -> Option<u64> {
        let of_rule = |rule| {
            let open = self.jobs.values().filter(|job| job.rule == rule && job.ended.is_none());
            let wait = open.map(|job| job.due.saturating_sub(now)).min()?;
            if behind.contains(&rule) { Some(wait.max(1)) } else { (wait == 0).then_some(0) }
        };
        ["a", "b"].into_iter().filter_map(of_rule).min()
    }

    /// A claim that takes all that may be tried now, since nothing here is too much for one. Returns the rules whose lines
    /// run behind.
    fn first_claim(&mut self, holder: &str, claimed: &Claimed, now: u64) -> Result<Vec<&'static str>, String> {
        let is_due = |job: &Job| job.ended.is_none() && job.due <= now;
        let mut due: Vec<String> =
            self.jobs.iter().filter(|(_, job)| is_due(job)).map(|(ticket, _)| ticket.clone()).collect();
        // As a sorted set has them. Rules have no line in common.
        due.sort_by_key(|ticket| (self.jobs[ticket].due, ticket.clone()));
        let (mut failed, mut taken, mut behind) = (0, Vec::new(), Vec::new());
        for ticket in due {
            let job = self.jobs.get_mut(&ticket).ok_or("a job that is not there")?;
            if job.tries >= job.most_tries {
                job.ended = Some((false, Vec::new()));
                failed += 1;
                continue;
            }
            if job.tries == 0 {
                let line = self.lines.entry(job.line).or_default();
                let slot = line.slot(job.own, job.gap, job.due, now);
                if slot > job.own {
                    behind.push(job.rule);
                }
                if slot > now {
                    job.due = slot;
                    continue;
                }
            }
            (job.holder, job.tries) = (Some(holder.to_owned()), job.tries + 1);
            taken.push(ticket);
        }
        let mut brought: Vec<String> = claimed.jobs.iter().map(|(ticket, ..)| ticket.clone()).collect();
        taken.sort();
        brought.sort();
        let told: u64 = claimed.rules.iter().map(|(.., failed)| failed).sum();
        if (&brought, told) == (&taken, failed) {
            Ok(behind)
        } else {
            Err(format!("brought {brought:?} and {told} failed, not {taken:?} and {failed}"))
        }
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
