//! Queued requests: where they are kept, who carries them out, and what is told of them.
//!
//! A job lives in a slot of shared data, which all workers see and which outlives a VM. The worker that took it carries
//! it out when its reserved moment comes; every VM also looks over all slots, a piece a second, for jobs whose worker
//! died. A job is claimed by compare-and-swap for as long as one try may take, so that two workers try it only where the
//! first one died: at least once, and each try carries the ticket as its idempotency key. A restart of the proxy loses
//! all slots, so their moments are the steady clock's. Where the policy's store is a fleet's, new jobs are put there instead
//! (`stored`); what is in slots already is carried out from there.

pub(crate) mod answer;
mod carry_out;
pub(crate) mod record;
mod slots;
mod stored;

use core::cell::{Cell, RefCell};

use tidegate_engine::admin::number;
use tidegate_engine::policy::{Node, Policy, Store};
use tidegate_engine::strategy::Queue;
use tidegate_engine::{Micros, Timestamp};

use crate::counters::Counters;
use crate::host::{self, Metric, MetricKind};
use record::{Call, Job, Progress, Terms};
use slots::Slots;
pub(crate) use slots::Ticket;
pub(crate) use stored::{Step, Told};
use tidegate_engine::sorted::Sorted;

/// How often a VM looks over a piece of the slots.
const SWEEP_EVERY: Micros = Micros::from_secs(1);
/// How many slots one look takes: 256 reads are about 0.2 ms.
const SWEEP_SLOTS: u32 = 256;
/// How long a worker may be late before its job is taken for abandoned. A busy worker is late by milliseconds.
const ABANDONED_AFTER: Micros = Micros::from_secs(5);

/// All queued requests of a deployment.
#[derive(Debug)]
pub(crate) struct Jobs {
    slots: Slots,
    /// Where new jobs are kept, if not in slots.
    stored: Option<stored::Stored>,
    rules: Vec<QueueRule>,
    /// The jobs that this VM carries out, by the moment they are due.
    ours: RefCell<Sorted<(Timestamp, u32), Ticket>>,
    /// The tries under way, by the host's token.
    calls: RefCell<Sorted<u32, Ticket>>,
    sweep: RefCell<Sweep>,
    next_sweep: Cell<Timestamp>,
}

/// A rule that queues, and the count of its jobs in all workers.
#[derive(Debug)]
struct QueueRule {
    name: String,
    /// Jobs that have not ended; of those in a fleet's store, as many as that told last.
    waiting: Metric,
    /// Jobs ever taken, those that found no slot included.
    taken: Metric,
    /// Of these, the jobs that have ended.
    ended: Metric,
    /// Of these, the jobs whose last try failed too.
    failed: Metric,
    /// Requests whose bodies this VM reads: they may become jobs, and their bodies take room already.
    collecting: Cell<u32>,
    /// The store says how many wait.
    is_told: bool,
}

/// One look over all slots.
#[derive(Debug, Default)]
struct Sweep {
    next: u32,
    /// How many jobs of each rule were seen waiting, and how many had come and gone when the look began.
    seen: Vec<(u64, (u64, u64))>,
}

impl Jobs {
    /// Opens the slots of the deployment whose keys start with `prefix`. Without a rule that queues there are only
    /// those that an earlier policy made.
    pub(crate) fn open(prefix: [u8; 8], policy: &Policy, counters: &Counters) -> Self {
        let queues = policy.rules.iter().filter_map(|rule| Some((rule, rule.strategy.queue()?)));
        let wanted = queues.clone().fold(0_u32, |sum, (_, queue)| sum.saturating_add(queue.max_queued));
        let metric = |kind, what: &str, rule: &str| counters.metric(kind, &["queue_", what, ".", rule].concat());
        let rules = queues.map(|(rule, _)| QueueRule {
            name: rule.name.clone(),
            waiting: metric(MetricKind::Gauge, "waiting", &rule.name),
            taken: metric(MetricKind::Counter, "taken_total", &rule.name),
            ended: metric(MetricKind::Counter, "ended_total", &rule.name),
            failed: metric(MetricKind::Counter, "failed_total", &rule.name),
            collecting: Cell::new(0),
            is_told: matches!(policy.store, Store::Redis(_)),
        });
        let stored = stored::Stored::open(prefix, policy);
        let wanted = if stored.is_some() { 0 } else { wanted };
        Self {
            // As many again, so that results have room beside waiting jobs.
            slots: Slots::open(prefix, wanted.saturating_mul(2)),
            stored,
            rules: rules.collect(),
            ours: RefCell::default(),
            calls: RefCell::default(),
            sweep: RefCell::default(),
            next_sweep: Cell::new(host::steady()),
        }
    }

    /// Whether there are slots: a rule queues, or one did.
    fn are_kept(&self) -> bool {
        self.slots.count() > 0
    }

    /// Whether tickets have pages.
    pub(crate) fn have_pages(&self) -> bool {
        self.are_kept() || self.are_stored()
    }

    /// Counts a request whose client is told its ticket.
    pub(crate) fn accepted(&self, rule: &str) {
        if let Some(rule) = self.rule(rule) {
            rule.taken.add(1);
        }
    }

    /// When this VM has something to do next; `None` where no policy ever queued.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        if !self.are_kept() {
            return None;
        }
        let first = self.ours.borrow().first().map(|((due, _), _)| *due);
        Some(first.unwrap_or(Timestamp::MAX).min(self.next_sweep.get()))
    }

    /// How many jobs of each rule wait, in all workers.
    pub(crate) fn waiting_by_rule(&self) -> Vec<(String, Node)> {
        self.rules.iter().map(|rule| (rule.name.clone(), number(rule.waiting()))).collect()
    }

    /// Whether `rule` may queue one more, by the gauge that all workers share and what this VM still reads.
    pub(crate) fn has_room(&self, rule: &str, queue: &Queue) -> bool {
        let room = |rule: &QueueRule| {
            rule.waiting().saturating_add(rule.collecting.get().into()) < u64::from(queue.max_queued)
        };
        self.rule(rule).is_some_and(room)
    }

    /// Counts a request of `rule` whose body is going to be read; [`Jobs::collected`] follows.
    pub(crate) fn collecting(&self, rule: &str) {
        if let Some(rule) = self.rule(rule) {
            rule.collecting.set(rule.collecting.get().saturating_add(1));
        }
    }

    /// Counts it no more: it is stored, refused or gone.
    pub(crate) fn collected(&self, rule: &str) {
        if let Some(rule) = self.rule(rule) {
            rule.collecting.set(rule.collecting.get().saturating_sub(1));
        }
    }

    /// Stores a request and returns its ticket once it is safe; `None` where there is no room.
    pub(crate) fn take(&self, rule: &str, queue: &Queue, call: Call, due: Timestamp, now: Timestamp) -> Option<Ticket> {
        let counted = self.rule(rule)?;
        counted.count_taken();
        if counted.waiting() > u64::from(queue.max_queued) {
            counted.count_ended();
            return None;
        }
        let job = Job {
            ticket: [0; 16],
            rule: rule.to_owned(),
            progress: Progress::Waiting(due),
            attempts: 0,
            terms: terms(queue, due),
            call,
        };
        let Some(ticket) = self.slots.take(job, now) else {
            counted.count_ended();
            return None;
        };
        self.ours.borrow_mut().insert((due, ticket.slot), ticket);
        Some(ticket)
    }

    /// What is known of a ticket.
    pub(crate) fn look_up(&self, ticket: Ticket) -> Option<Job> {
        self.slots.read(ticket.slot).map(|taken| taken.job).filter(|job| job.ticket == ticket.bits)
    }

    /// Carries out what is due and looks over a piece of the slots, as often as that is due.
    pub(crate) fn tick(&self, now: Timestamp) {
        if !self.are_kept() {
            return;
        }
        for ticket in self.due(now) {
            let Some(taken) = self.slots.read(ticket.slot) else { continue };
            // Another VM may have taken it for abandoned meanwhile.
            let is_due = matches!(taken.job.progress, Progress::Waiting(due) if due <= now);
            if is_due && taken.job.ticket == ticket.bits {
                self.try_now(ticket, taken, now);
            }
        }
        if self.next_sweep.get() <= now {
            self.next_sweep.set(now + SWEEP_EVERY);
            self.sweep(now);
        }
    }

    /// Takes out the tickets that are due, at most as many as a tick may start.
    fn due(&self, now: Timestamp) -> Vec<Ticket> {
        let mut ours = self.ours.borrow_mut();
        let keys: Vec<(Timestamp, u32)> = ours
            .iter()
            .map(|(key, _)| *key)
            .take_while(|(due, _)| *due <= now)
            .take(crate::waiting::RELEASES)
            .collect();
        keys.iter().filter_map(|key| ours.remove(key)).collect()
    }

    fn sweep(&self, now: Timestamp) {
        let mut sweep = self.sweep.borrow_mut();
        if sweep.next == 0 {
            sweep.seen = self.rules.iter().map(|rule| (0, rule.come_and_gone())).collect();
        }
        let end = sweep.next.saturating_add(SWEEP_SLOTS).min(self.slots.count());
        for slot in sweep.next..end {
            let Some(taken) = self.slots.read(slot) else { continue };
            let ticket = Ticket { bits: taken.job.ticket, slot };
            match taken.job.progress {
                Progress::Ended(at, _) => {
                    if at + Micros::from_millis(taken.job.terms.result_ttl_ms) <= now {
                        self.slots.free(slot, &taken);
                    }
                    continue;
                }
                Progress::Waiting(due) if due + ABANDONED_AFTER <= now => self.try_now(ticket, taken.clone(), now),
                Progress::Running(until) if until <= now && taken.is_stored() => {
                    self.try_now(ticket, taken.clone(), now);
                }
                Progress::Running(until) if until <= now => self.slots.free(slot, &taken),
                Progress::Waiting(_) | Progress::Running(_) => {}
            }
            let counted = self.rules.iter().position(|rule| rule.name == taken.job.rule);
            if let Some((seen, _)) = counted.and_then(|rule| sweep.seen.get_mut(rule)) {
                *seen = seen.saturating_add(1);
            }
        }
        sweep.next = if end >= self.slots.count() { 0 } else { end };
        if sweep.next == 0 {
            self.correct_gauges(&sweep.seen);
        }
    }

    /// A VM that died between counting a job and storing it leaves its gauge wrong. Where no job came or went while all
    /// slots were looked over, what was seen is right. (That the gauge stood still says nothing: one may have come for
    /// one that went.)
    fn correct_gauges(&self, seen: &[(u64, (u64, u64))]) {
        for (rule, (seen, before)) in self.rules.iter().zip(seen) {
            if self.stored.is_none() && rule.come_and_gone() == *before && *seen != rule.waiting.value() {
                rule.waiting.set(*seen);
            }
        }
    }

    fn rule(&self, name: &str) -> Option<&QueueRule> {
        self.rules.iter().find(|known| known.name == name)
    }
}

impl QueueRule {
    /// How many jobs have not ended. A gauge that a correction left too low wraps below zero: then there are none.
    fn waiting(&self) -> u64 {
        let value = self.waiting.value();
        if value > u64::MAX / 2 { 0 } else { value }
    }

    fn come_and_gone(&self) -> (u64, u64) {
        (self.taken.value(), self.ended.value())
    }

    fn count_taken(&self) {
        self.taken.add(1);
        self.waiting.add(1);
    }

    fn count_ended(&self) {
        if !self.is_told {
            self.waiting.add(-1);
        }
        self.ended.add(1);
    }

    /// Counts a job of the store that has ended.
    fn count_stored(&self, has_failed: bool) {
        self.ended.add(1);
        if has_failed {
            self.failed.add(1);
        }
    }
}

/// A rule's settings as a job keeps them.
fn terms(queue: &Queue, due: Timestamp) -> Terms {
    Terms {
        cluster: queue.cluster.clone(),
        max_attempts: queue.max_attempts,
        backoff_ms: queue.backoff.millis_ceil(),
        timeout_ms: u32::try_from(queue.timeout.millis_ceil()).unwrap_or(u32::MAX),
        result_ttl_ms: queue.result_ttl.millis_ceil(),
        max_result_bytes: u32::try_from(queue.max_result_bytes).unwrap_or(u32::MAX),
        give_up_at: due + queue.max_wait,
    }
}
