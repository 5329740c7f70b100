//! One random history: clients that put jobs, workers that claim, end, repeat, forget and die, answers that are lost; and
//! after each step what the model says.

use tidegate_engine::Micros;
use tidegate_engine::redis::queue::{Jobs, Line, claimed, looked, settled, stored};

use super::model::{CLAIM_MS, Job, Model};
use super::{Virtual, queue};

const STEPS: u64 = 300;
const MAX_QUEUED: u32 = 12;

/// The lines of rule `a` and that of `b`, each with its gap in milliseconds.
const LINES: [(&str, &str, u64); 3] = [("a", "00", 400), ("a", "01", 2_500), ("b", "02", 1_000)];

/// What happened in all histories, so that a test can want enough of each.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) dead: u64,
    pub(super) lost: u64,
    pub(super) full: u64,
    pub(super) again: u64,
    pub(super) dropped: u64,
    pub(super) behind: u64,
}

/// Numbers that a seed determines (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Who carries jobs out: the token of its next claim, and what it believes to hold.
struct Worker {
    holder: String,
    holds: Vec<(String, String)>,
}

struct History<'a> {
    redis: &'a mut Virtual,
    random: Random,
    model: Model,
    jobs: Jobs,
    workers: Vec<Worker>,
    claims: u64,
    tally: &'a mut Tally,
}

/// Lives through the history of a seed above 0; says where the script differs from the model.
pub(super) fn live_through(redis: &mut Virtual, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let workers = (0..3).map(|n| Worker { holder: format!("start{n}"), holds: Vec::new() }).collect();
    let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut history =
        History { redis, random, model: Model::default(), jobs: Jobs::of("t"), workers, claims: 0, tally };
    for step in 0..STEPS {
        history.step(step).map_err(|difference| format!("step {step}: {difference}"))?;
    }
    history.drain()
}

impl History<'_> {
    fn step(&mut self, step: u64) -> Result<(), String> {
        match self.random.below(12) {
            0..=2 => self.put(step),
            3..=5 => self.claim(),
            6..=8 => self.settle(),
            9 => {
                let most = if self.random.one_in(4) { 12_000 } else { 3_000 };
                self.redis.now += self.random.below(most);
                Ok(())
            }
            10 => self.look(),
            _ => {
                // It dies, or is so slow that others take it for dead.
                let worker = self.worker();
                if self.random.one_in(6) {
                    self.workers[worker].holds.clear();
                    self.new_claim(worker);
                }
                Ok(())
            }
        }
    }

    fn worker(&mut self) -> usize {
        usize::try_from(self.random.below(3)).unwrap()
    }

    fn new_claim(&mut self, worker: usize) {
        self.claims += 1;
        self.workers[worker].holder = format!("h{}", self.claims);
    }

    fn put(&mut self, step: u64) -> Result<(), String> {
        let ticket = format!("{step:032x}");
        let (rule, line, gap) = LINES[usize::try_from(self.random.below(3)).unwrap()];
        let (most_tries, max_wait) = (1 + u32::try_from(self.random.below(3)).unwrap(), 20_000);
        let delay = self.random.below(8_000);
        let settings = queue(MAX_QUEUED, most_tries, Micros::from_millis(max_wait));
        let request: Vec<u8> =
            step.to_le_bytes().into_iter().cycle().take(usize::try_from(self.random.below(40)).unwrap()).collect();
        let claim = Micros::from_millis(CLAIM_MS);
        let counter = Line { name: line.to_owned(), gap: Micros::from_millis(gap) };
        let call = self.jobs.put(
            &ticket,
            (rule, &settings),
            (&counter, Micros::from_millis(delay)),
            claim,
            &[&[1], &request[..]].concat(),
        );
        let before = self.model.waiting(rule);
        let (is_stored, count) = stored(&self.redis.run(&call)?).ok_or("no answer of put")?;
        let fits = before < u64::from(MAX_QUEUED);
        if (is_stored, count) != (fits, before + u64::from(fits)) {
            return Err(format!("put of {rule} with {before}: {is_stored} {count}"));
        }
        if !is_stored {
            self.tally.full += 1;
            return Ok(());
        }
        let due = self.redis.now + 1 + delay;
        let job = Job {
            rule,
            request: [&[1], &request[..]].concat(),
            tries: 0,
            most_tries,
            due,
            own: due,
            line,
            gap,
            give_up_at: due + max_wait,
            holder: None,
            ended: None,
        };
        self.model.jobs.insert(ticket.clone(), job);
        match self.random.below(6) {
            // The answer was lost: it is put again, or taken back.
            0 => (stored(&self.redis.run(&call)?) == Some((true, count))).then_some(()).ok_or("put twice".to_owned()),
            1 => self.drop(&ticket),
            _ => Ok(()),
        }
    }

    fn drop(&mut self, ticket: &str) -> Result<(), String> {
        let is_fresh = self.model.jobs.get(ticket).is_some_and(|job| job.tries == 0 && job.ended.is_none());
        let found = settled(&self.redis.run(&self.jobs.drop(ticket))?).ok_or("no answer of drop")?;
        if is_fresh {
            self.model.jobs.remove(ticket);
            self.tally.dropped += 1;
        }
        if found == u64::from(is_fresh) { Ok(()) } else { Err(format!("drop: {found}")) }
    }

    fn claim(&mut self) -> Result<(), String> {
        let worker = self.worker();
        let holder = self.workers[worker].holder.clone();
        let brought = claimed(&self.redis.run(&self.jobs.claim(&holder))?).ok_or("no answer of claim")?;
        self.tally.behind += u64::from(self.model.claim(&holder, &brought, self.redis.now)?);
        if self.random.one_in(4) {
            self.tally.lost += brought.jobs.len() as u64;
            return Ok(());
        }
        let holds = brought.jobs.into_iter().map(|(ticket, ..)| (ticket, holder.clone()));
        self.workers[worker].holds.extend(holds);
        self.new_claim(worker);
        Ok(())
    }

    /// A worker has a job's answer, or could not send it. Its claim may have ended long ago.
    fn settle(&mut self) -> Result<(), String> {
        let worker = self.worker();
        if self.workers[worker].holds.is_empty() {
            return Ok(());
        }
        let at = usize::try_from(self.random.below(self.workers[worker].holds.len() as u64)).unwrap();
        let (ticket, holder) = self.workers[worker].holds.remove(at);
        let ends = self.random.one_in(3);
        let repeats = self.random.one_in(4);
        if ends { self.end(&ticket, &holder, repeats) } else { self.again(&ticket, &holder, repeats) }
    }

    fn end(&mut self, ticket: &str, holder: &str, repeats: bool) -> Result<(), String> {
        let is_done = !self.random.one_in(3);
        let answer = self.random.below(1 << 40).to_le_bytes();
        let call = self.jobs.end(ticket, holder, is_done, &answer);
        let job = self.model.jobs.get_mut(ticket).ok_or("held, and gone")?;
        let is_ours = job.holder.as_deref() == Some(holder);
        if is_ours && job.ended.is_none() {
            job.ended = Some((is_done, answer.to_vec()));
        }
        for _ in 0..=u8::from(repeats) {
            let found = settled(&self.redis.run(&call)?);
            if found != Some(u64::from(is_ours)) {
                return Err(format!("end: {found:?}, ours: {is_ours}"));
            }
        }
        Ok(())
    }

    fn again(&mut self, ticket: &str, holder: &str, repeats: bool) -> Result<(), String> {
        let (delay, was_sent) = (self.random.below(5_000), !self.random.one_in(3));
        let call = self.jobs.again(ticket, holder, Micros::from_millis(delay), was_sent);
        let now = self.redis.now;
        let job = self.model.jobs.get_mut(ticket).ok_or("held, and gone")?;
        let is_ours = job.holder.as_deref() == Some(holder) && job.ended.is_none();
        let mut wanted = 0;
        if is_ours {
            (wanted, job.tries) = (1, job.tries - u32::from(!was_sent));
            if !was_sent && now >= job.give_up_at {
                (wanted, job.ended) = (2, Some((false, Vec::new())));
            } else {
                (job.holder, job.due) = (None, now + 1 + delay);
            }
            self.tally.again += 1;
        }
        let found = settled(&self.redis.run(&call)?);
        if found != Some(wanted) {
            return Err(format!("again: {found:?}, not {wanted}"));
        }
        // The answer was lost: asked twice it does nothing.
        if repeats && settled(&self.redis.run(&call)?) != Some(0) {
            return Err("again, twice".to_owned());
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        let tickets: Vec<String> = self.model.jobs.keys().cloned().chain(["none".to_owned()]).collect();
        let ticket = &tickets[usize::try_from(self.random.below(tickets.len() as u64)).unwrap()];
        // Also of what somebody was promised: only a put without an answer is taken back, but it may be so late.
        if self.random.one_in(8) { self.drop(ticket) } else { self.agrees(ticket) }
    }

    fn agrees(&mut self, ticket: &str) -> Result<(), String> {
        let seen = looked(&self.redis.run(&self.jobs.look(ticket))?).ok_or("no answer of look")?;
        let agrees = self.model.agrees(ticket, seen.as_ref(), self.redis.now);
        if agrees { Ok(()) } else { Err(format!("{seen:?} is seen of {:?}", self.model.jobs.get(ticket))) }
    }

    /// One worker that never fails carries out what is left. Nothing that was stored is missing then.
    fn drain(&mut self) -> Result<(), String> {
        self.workers[0].holds.clear();
        self.new_claim(0);
        for _ in 0..100 {
            let holder = self.workers[0].holder.clone();
            let brought = claimed(&self.redis.run(&self.jobs.claim(&holder))?).ok_or("no answer of claim")?;
            self.model.claim(&holder, &brought, self.redis.now)?;
            self.new_claim(0);
            for (ticket, ..) in &brought.jobs {
                self.end(ticket, &holder, false)?;
            }
            self.redis.now += brought.next.map_or(CLAIM_MS / 2, |wait| wait.0 / 1000);
        }
        let tickets: Vec<String> = self.model.jobs.keys().cloned().collect();
        for ticket in &tickets {
            self.agrees(ticket)?;
            let job = &self.model.jobs[ticket];
            let Some((is_done, _)) = job.ended else { return Err(format!("{job:?} never ended")) };
            *(if is_done { &mut self.tally.done } else { &mut self.tally.dead }) += 1;
            let is_kept = |server: &super::Redis| {
                let key = format!("tg1:{{t:q}}:job:{ticket}");
                let score = server.ask(&["ZSCORE", "tg1:{t:q}:dead", ticket]);
                let request = server.ask(&["HEXISTS", &key, "d"]);
                (score != redis::Value::Nil, request == redis::Value::Int(1))
            };
            if is_kept(&self.redis.server) != (!is_done, !is_done) {
                return Err(format!("dead letter, of {job:?}: {:?}", is_kept(&self.redis.server)));
            }
        }
        let left = self.redis.server.ask(&["EXISTS", "tg1:{t:q}:due:a", "tg1:{t:q}:due:b", "tg1:{t:q}:rules"]);
        if left == redis::Value::Int(0) { Ok(()) } else { Err(format!("{left:?} of the lines are left")) }
    }
}
