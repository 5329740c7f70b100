//! One policy with its counters, as JavaScript holds it. Keys come in through a fixed buffer and numbers go out through
//! another, so that the hot call passes no text. JavaScript checks its arguments before it calls: nothing here throws
//! but the constructor.

mod counts;
mod waiting;

use tidegate_engine::acquire::{CellReply, Reply};
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::identity::{Kind, Subject};
use tidegate_engine::policy::{Node, OnStoreError, Policy, Rule, UserSource};
use tidegate_engine::strategy::{Action, Reduced, Relief};
use tidegate_engine::{Decision, Engine, Keyed, KeyedCell, Micros, Pending, Reservation, Step, Timestamp, Verdict};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::describe::{list, millis, number, object, text};
use crate::grants::Grants;
use crate::table::{Extra, Quotas, Table};
use crate::wire::{self, Told};
use crate::{describe, remote};
use counts::{Counts, Outcome};
use waiting::Waiting;

/// Bytes of the buffer for keys; longer ones take the slower call.
const KEY_BYTES: usize = 1024;

/// Set beside an outcome: the decision's texts are made already and wait for [`Limiter::texts`].
const HAS_TEXTS: u32 = 16;
/// Set beside an outcome: the verdict does not count (shadow, admin, lifted).
const NOT_ENFORCED: u32 = 32;
/// Instead of an outcome: the rule in `out` can never admit this cost.
const COST_TOO_LARGE: u32 = 255;
/// Instead of an outcome: the store is to be asked first.
const ASK_STORE: u32 = 254;

/// Where results stand in the buffer that JavaScript reads.
mod out {
    pub(super) const RATE: usize = 0;
    pub(super) const REMAINING: usize = 1;
    pub(super) const RESET_US: usize = 2;
    pub(super) const RETRY_US: usize = 3;
    /// How long until the charge conforms; for a held request, until its release.
    pub(super) const WAIT_US: usize = 4;
    /// The index of the rule that stands for the decision; -1 where none applied.
    pub(super) const RULE: usize = 5;
    /// What a request that waits or asks a store is known by.
    pub(super) const ID: usize = 6;
    pub(super) const LEN: usize = 7;
}

/// A policy with its counters.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Limiter {
    engine: Engine,
    table: Table,
    extra: Extra,
    grants: Grants,
    waiting: Waiting,
    counts: Counts,
    key: Box<[u8; KEY_BYTES]>,
    out: Box<[f64; out::LEN]>,
    /// Kept so that the hot call allocates nothing.
    subject: Subject,
    texts: String,
    reduced: String,
    /// What the last decision charged for a later moment.
    reservation: Option<Reservation>,
    /// Requests that wait, and requests whose store is being asked, by id: few at a time.
    held: Vec<(u32, Reservation)>,
    asking: Vec<(u32, Pending)>,
    ids: u32,
}

#[wasm_bindgen]
impl Limiter {
    /// Reads a policy. A user that code names comes before the policy's own sources, as the first of the metadata.
    ///
    /// # Errors
    /// The mistakes, as JSON.
    #[wasm_bindgen(constructor)]
    pub fn new(policy: &str) -> Result<Self, String> {
        let mut policy = Policy::parse(policy.as_bytes(), &Catalogue::builtin())
            .map_err(|mistakes| describe::mistakes(&mistakes))?;
        policy.identity.user.insert(0, UserSource::Metadata(vec!["user".to_owned()]));
        let max_keys = policy.store.max_keys();
        let counts = Counts::new(policy.rules.len());
        let engine = Engine::new(policy);
        Ok(Self {
            table: Table::new(max_keys, [0; 16]),
            extra: engine.local_shares(),
            grants: Grants::default(),
            waiting: Waiting::default(),
            counts,
            key: Box::new([0; KEY_BYTES]),
            out: Box::new([0.0; out::LEN]),
            subject: Subject::only(Kind::VerifiedUser),
            texts: String::new(),
            reduced: String::new(),
            reservation: None,
            held: Vec::new(),
            asking: Vec::new(),
            ids: 0,
            engine,
        })
    }

    /// What the policy says, as JSON.
    pub fn describe(&self) -> String {
        describe::policy(&self.engine)
    }

    /// Empties the table, with a seed that clients cannot know and room for `max_keys` keys (0: what the policy says).
    pub fn open(&mut self, seed: &[u8], max_keys: u32) {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(seed).for_each(|(to, from)| *to = *from);
        let max_keys = if max_keys == 0 { self.engine.policy().store.max_keys() } else { max_keys };
        self.table = Table::new(max_keys, bytes);
    }

    /// Where JavaScript writes keys.
    pub fn key_address(&self) -> usize {
        self.key.as_ptr() as usize
    }

    /// How many bytes it may write there.
    pub fn key_room() -> usize {
        KEY_BYTES
    }

    /// Where JavaScript reads results.
    pub fn out_address(&self) -> usize {
        self.out.as_ptr() as usize
    }

    /// Asks one rule for the key in the buffer, which is `length` bytes of UTF-8. A negative `cost` is the rule's own.
    /// Returns the outcome's number.
    pub fn check_buffered(&mut self, rule: usize, length: usize, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        let key = self.key.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default();
        let keyed = self.engine.check_key(rule, key, units(cost), now);
        let lifted = lifted(&self.grants, &self.engine, rule, key, now);
        if let Some(Keyed::Cell(_)) = keyed {
            self.subject.value.clear();
            self.subject.value.extend_from_slice(key.as_bytes());
        }
        self.keyed(keyed, lifted, now)
    }

    /// The same for a key of any length.
    pub fn check_key(&mut self, rule: usize, key: &str, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        let keyed = self.engine.check_key(rule, key, units(cost), now);
        let lifted = lifted(&self.grants, &self.engine, rule, key, now);
        self.subject.value.clear();
        self.subject.value.extend_from_slice(key.as_bytes());
        let outcome = self.keyed(keyed, lifted, now);
        // One long key must not keep its room for ever.
        self.subject.value.shrink_to(KEY_BYTES);
        outcome
    }

    /// The texts of a decision that [`Limiter::check_buffered`] told in numbers: `wait_us`, `remaining`, `reset_us` and
    /// `retry_us` are what it left in the buffer.
    pub fn key_texts(
        &self,
        rule: usize,
        outcome: u32,
        wait_us: f64,
        remaining: f64,
        reset_us: f64,
        retry_us: f64,
    ) -> String {
        let wait = Micros(whole(wait_us));
        let delayed = [Outcome::Delayed as u32, Outcome::Queued as u32].contains(&(outcome & 7));
        let decision = self.engine.decide_one(Verdict {
            rule,
            enforced: outcome & NOT_ENFORCED == 0,
            granted: false,
            limited: wait > Micros::ZERO,
            relief: if delayed { Relief::Reserved(wait) } else { Relief::None },
            rate: 0,
            remaining: whole(remaining),
            reset_after: Micros(whole(reset_us)),
            retry_after: Micros(whole(retry_us)),
        });
        self.texts_of(&decision)
    }

    /// Decides over a request (see `wire`), with counters in memory. Its texts wait for [`Limiter::texts`].
    pub fn check_request(&mut self, request: &str, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        match self.ask(request, units(cost), now) {
            Err(rule) => self.too_large(rule),
            Ok(Step::Done(decision)) => self.done(&decision),
            Ok(Step::Pending(pending)) => self.settle(pending),
        }
    }

    /// As [`Limiter::check_request`], for counters elsewhere: where the store must be asked, its question waits for
    /// [`Limiter::texts`] and the request is kept under the id in the buffer until [`Limiter::resume`].
    pub fn begin_request(&mut self, request: &str, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        match self.ask(request, units(cost), now) {
            Err(rule) => self.too_large(rule),
            Ok(Step::Done(decision)) => self.done(&decision),
            Ok(Step::Pending(pending)) => self.ask_store(pending),
        }
    }

    /// As [`Limiter::begin_request`] for one rule and a key.
    pub fn begin_key(&mut self, rule: usize, key: &str, cost: f64, now_us: f64) -> u32 {
        let now = timestamp(now_us);
        let lifted = lifted(&self.grants, &self.engine, rule, key, now);
        let Some(mut pending) = self.engine.check_key(rule, key, units(cost), now).and_then(|keyed| match keyed {
            Keyed::Unlimited => None,
            Keyed::Cells(pending) => Some(pending),
            Keyed::Cell(cell) => {
                let value = if cell.kind == Kind::Global { Vec::new() } else { key.as_bytes().to_vec() };
                Some(self.engine.pending_key(cell, value, now))
            }
        }) else {
            return self.unlimited();
        };
        if lifted {
            pending.lift(|_| true);
        }
        self.keep_waiting_where_room(&mut pending, now);
        self.ask_store(pending)
    }

    /// Goes on with a request that asked its store: with the answer, or with an empty text where there is none. Then
    /// `on_error` decides: 0 as each rule says, 1 `local`, 2 `allow`, 3 `deny`.
    pub fn resume(&mut self, id: u32, answer: &str, on_error: u32) -> u32 {
        let Some(pending) = taken(&mut self.asking, id) else { return self.unlimited() };
        if let Some(reply) = remote::reply(answer) {
            return self.finish(pending, reply);
        }
        let instead = match on_error {
            1 => Some(OnStoreError::Local),
            2 => Some(OnStoreError::Allow),
            3 => Some(OnStoreError::Deny),
            _ => None,
        };
        match pending.after_store_error(instead) {
            Ok(local) => self.settle(local),
            Err(failed) => {
                let decision = failed.fail(instead);
                self.done(&decision)
            }
        }
    }

    /// The texts of the last decision, or the question to the store.
    pub fn texts(&mut self) -> String {
        core::mem::take(&mut self.texts)
    }

    /// What the last decision changes about a request that is forwarded in a reduced form.
    pub fn reduced(&mut self) -> String {
        core::mem::take(&mut self.reduced)
    }

    /// Keeps what the last decision charged for later, until [`Limiter::release`]. Returns its id, 0 for nothing.
    pub fn hold(&mut self) -> u32 {
        let Some(reservation) = self.reservation.take() else { return 0 };
        self.ids = self.ids.wrapping_add(1).max(1);
        self.held.push((self.ids, reservation));
        self.ids
    }

    /// Ends a wait; `give_back` where the request is not sent on after all.
    pub fn release(&mut self, id: u32, give_back: bool, now_us: f64) {
        let Some(reservation) = taken(&mut self.held, id) else { return };
        self.waiting.leave(&reservation);
        if give_back {
            let quotas = Quotas { engine: &self.engine, extra: &self.extra };
            self.table.refund(&quotas, &reservation, timestamp(now_us));
        }
    }

    /// Which rules a request meets, under which key, and what is left: JSON. Charges nothing, counts nothing. Where
    /// `states` is not empty it holds the cells' states, 24 bytes each, in the order of the keys told before.
    pub fn explain(&mut self, request: &str, cost: f64, states: &[u8], now_us: f64) -> String {
        let now = timestamp(now_us);
        let Ok(Step::Pending(pending)) = self.ask(request, units(cost), now) else { return "[]".to_owned() };
        self.explained(&pending, states, now)
    }

    /// Gives an exception from `now_us` until `until_us` for `targets`: user, address, endpoint and rule, each ended by a
    /// NUL; an empty text is no target. Returns what is wrong, or nothing.
    pub fn grant(&mut self, id: &str, now_us: f64, until_us: f64, targets: &str) -> String {
        let mut fields = targets.split('\0');
        let targets = [(); 4].map(|()| fields.next().unwrap_or_default());
        match self.grants.give(&self.engine, id, [timestamp(now_us), timestamp(until_us)], targets) {
            Ok(engine) => self.engine = engine,
            Err(wrong) => return wrong,
        }
        String::new()
    }

    /// Ends an exception; false where there is none of that id.
    pub fn revoke(&mut self, id: &str, now_us: f64) -> bool {
        let engine = self.grants.take_back(&self.engine, id, timestamp(now_us));
        let is_known = engine.is_some();
        self.engine = engine.unwrap_or_else(|| self.engine.clone());
        is_known
    }

    /// Counts and gauges, as JSON.
    pub fn metrics(&self, now_us: f64) -> String {
        let names = self.engine.policy().rules.iter().map(|rule| rule.name.as_str());
        let (outcomes, rules) = self.counts.nodes(names);
        let (cells, given_up) = self.table.gauges();
        let gauges = object(&mut [
            ("outcomes", outcomes),
            ("rules", rules),
            ("cells", number(cells as u64)),
            ("cell_bytes", number(self.table.bytes() as u64)),
            ("given_up_idle", number(given_up.idle.into())),
            ("given_up_limiting", number(given_up.limiting.into())),
            ("waiting", number(self.waiting.count(timestamp(now_us)) as u64)),
            ("asking", number(self.asking.len() as u64)),
        ]);
        gauges.to_json()
    }
}

impl Limiter {
    /// A request's question, with the grants and the room for waiting applied; `Err` is a rule that never admits it.
    fn ask(&mut self, request: &str, cost: Option<u64>, now: Timestamp) -> Result<Step, usize> {
        let told = Told::read(request, self.engine.metadata_sources().count());
        let step = told.with(|request| self.engine.check(request, now));
        let Step::Pending(mut pending) = step else { return Ok(step) };
        if let Some(cost) = cost {
            pending.charge_cost(cost)?;
        }
        self.keep_waiting_where_room(&mut pending, now);
        Ok(Step::Pending(pending))
    }

    fn keep_waiting_where_room(&mut self, pending: &mut Pending, now: Timestamp) {
        let waiting = &mut self.waiting;
        pending.keep_waiting_only_where(|rule, cell, subject| waiting.has_room(rule, cell, subject, now));
    }

    /// Decides over a key whose bytes stand in `subject`.
    fn keyed(&mut self, keyed: Option<Keyed>, lifted: bool, now: Timestamp) -> u32 {
        match keyed {
            Some(Keyed::Cell(cell)) => self.one_cell(cell, lifted, now),
            Some(Keyed::Cells(mut pending)) => {
                if lifted {
                    pending.lift(|_| true);
                }
                self.settle(pending)
            }
            Some(Keyed::Unlimited) | None => self.unlimited(),
        }
    }

    /// The hot path: one rule, one cell, nothing allocated.
    fn one_cell(&mut self, mut cell: KeyedCell, lifted: bool, now: Timestamp) -> u32 {
        self.subject.kind = cell.kind;
        if cell.kind == Kind::Global {
            self.subject.value.clear();
        }
        if lifted {
            (cell.enforced, cell.request.must) = (false, false);
        }
        let Some(rule) = self.engine.policy().rules.get(cell.rule) else { return self.unlimited() };
        if cell.request.quota.horizon > Micros::ZERO {
            cell.request.may_wait &= self.waiting.has_room(rule, &cell.request, &self.subject, now);
        }
        let rate = rule.rate();
        let queues = rule.strategy.queue().is_some();
        let quotas = Quotas { engine: &self.engine, extra: &self.extra };
        let reply = self.table.acquire_one(&quotas, &self.subject, &cell.request, now);
        let verdict = cell.verdict(reply.wait, reply.remaining, reply.reset_after);
        let outcome = Outcome::of_verdict(&verdict, queues);
        self.counts.verdict(&verdict);
        self.counts.outcome(outcome);
        self.reservation = None;
        if outcome == Outcome::Delayed {
            self.keep_place(cell, reply, now);
        }
        self.write(rate, &verdict, reply.wait);
        outcome as u32 | if cell.enforced { 0 } else { NOT_ENFORCED }
    }

    fn keep_place(&mut self, cell: KeyedCell, reply: CellReply, now: Timestamp) {
        let pending = self.engine.pending_key(cell, self.subject.value.clone(), now);
        let reservation = pending.into_reservation(vec![reply]);
        self.waiting.enter(&reservation);
        self.reservation = Some(reservation);
    }

    /// Decides with the counters in memory.
    fn settle(&mut self, pending: Pending) -> u32 {
        let quotas = Quotas { engine: &self.engine, extra: &self.extra };
        let reply = self.table.acquire(&quotas, pending.acquire());
        self.finish(pending, reply)
    }

    fn finish(&mut self, pending: Pending, reply: Reply) -> u32 {
        match pending.resume(Ok(reply)) {
            Step::Done(mut decision) => {
                let reservation = decision.reservation.take();
                let outcome = self.done(&decision);
                if matches!(decision.action, Action::Delay(_) | Action::Enqueue(_)) {
                    if let Some(reservation) = &reservation {
                        self.waiting.enter(reservation);
                    }
                    self.reservation = reservation;
                }
                outcome
            }
            // The engine asks once a request.
            Step::Pending(pending) => self.ask_store(pending),
        }
    }

    /// Keeps the request until its store answers.
    fn ask_store(&mut self, pending: Pending) -> u32 {
        let rules: Vec<usize> = pending.asked().map(|asked| asked.rule).collect();
        self.texts = remote::question(self.engine.policy(), &rules, pending.acquire());
        self.ids = self.ids.wrapping_add(1).max(1);
        self.asking.push((self.ids, pending));
        self.out[out::ID] = f64::from(self.ids);
        ASK_STORE
    }

    /// Tells a decision: numbers into the buffer, texts for [`Limiter::texts`].
    fn done(&mut self, decision: &Decision) -> u32 {
        let outcome = Outcome::of(decision);
        self.reservation = None;
        self.counts.outcome(outcome);
        decision.verdicts.iter().for_each(|verdict| self.counts.verdict(verdict));
        let policy = self.engine.policy();
        let leading = decision.leading_rule(policy);
        let verdict = decision.verdicts.iter().find(|verdict| Some(verdict.rule) == leading);
        let rate = leading.and_then(|rule| policy.rules.get(rule)).map_or(0, Rule::rate);
        let wait = match decision.action {
            Action::Delay(wait) | Action::Enqueue(wait) => wait,
            _ => Micros::ZERO,
        };
        self.texts = self.texts_of(decision);
        if let Action::Degrade(Reduced::Forward { headers, path }) = &decision.action {
            self.reduced = wire::reduced(path.as_deref(), headers);
        }
        match verdict.copied() {
            Some(mut verdict) => {
                // A client that must come back must wait for every rule that refused it.
                verdict.retry_after = decision.denial.as_ref().map_or(verdict.retry_after, |denial| denial.retry_after);
                self.write(rate, &verdict, wait);
            }
            None => self.out[out::RULE] = -1.0,
        }
        outcome as u32 | HAS_TEXTS
    }

    fn texts_of(&self, decision: &Decision) -> String {
        let policy = self.engine.policy();
        let rule = decision.leading_rule(policy).and_then(|rule| policy.rules.get(rule));
        let reason = decision.denial.as_ref().map_or("", |denial| denial.reason.as_str());
        wire::texts(decision, rule.map_or("", |rule| rule.name.as_str()), reason)
    }

    fn unlimited(&mut self) -> u32 {
        self.counts.outcome(Outcome::Unlimited);
        self.reservation = None;
        self.out[out::RULE] = -1.0;
        Outcome::Unlimited as u32
    }

    #[expect(clippy::cast_precision_loss, reason = "a policy has at most 1,000 rules")]
    fn too_large(&mut self, rule: usize) -> u32 {
        self.out[out::RULE] = rule as f64;
        COST_TOO_LARGE
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and lengths that matter are below 2^53")]
    fn write(&mut self, rate: u64, verdict: &Verdict, wait: Micros) {
        self.out[out::RATE] = rate as f64;
        self.out[out::REMAINING] = verdict.remaining as f64;
        self.out[out::RESET_US] = verdict.reset_after.0 as f64;
        self.out[out::RETRY_US] = verdict.retry_after.0 as f64;
        self.out[out::WAIT_US] = wait.0 as f64;
        self.out[out::RULE] = verdict.rule as f64;
    }

    fn explained(&self, pending: &Pending, states: &[u8], now: Timestamp) -> String {
        let policy = self.engine.policy();
        let cells = remote::states(states, pending.acquire().cells.len());
        let cells = cells.unwrap_or_else(|| self.table.cells(pending.acquire()));
        let explained = list(pending.asked().zip(cells), |(asked, cell)| {
            let (request, rule) = (asked.request, policy.rules.get(asked.rule));
            let name = rule.map_or("", |rule| rule.name.as_str());
            let cell = request.algorithm.pull(cell, &request.quota, now);
            let standing = request.algorithm.standing(cell, &request.quota, now);
            let (_, wait) = request.charge(cell, now);
            object(&mut [
                ("rule", text(name)),
                ("enforced", Node::Boolean(asked.enforced)),
                ("key", text(&remote::key(&policy.namespace, asked.subject, name, request.rule_id))),
                ("limit", number(request.quota.rate.get())),
                ("cost", number(request.cost)),
                ("remaining", number(standing.remaining)),
                ("resetAfterMs", millis(standing.reset_after)),
                ("conforms", Node::Boolean(wait == Micros::ZERO)),
                ("strategy", text(rule.map_or("", |rule| rule.strategy.name()))),
            ])
        });
        explained.to_json()
    }
}

/// Takes the entry of that id out of a list.
fn taken<T>(list: &mut Vec<(u32, T)>, id: u32) -> Option<T> {
    let position = list.iter().position(|(known, _)| *known == id)?;
    Some(list.swap_remove(position).1)
}

/// Whether an exception lifts the rule for a key.
fn lifted(grants: &Grants, engine: &Engine, rule: usize, key: &str, now: Timestamp) -> bool {
    engine.policy().rules.get(rule).is_some_and(|rule| grants.lift(rule, key, now))
}

/// A moment that JavaScript tells in microseconds since the epoch.
pub(crate) fn timestamp(micros: f64) -> Timestamp {
    Timestamp::from_micros(whole(micros))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, and NaN is 0")]
fn whole(number: f64) -> u64 {
    number as u64
}

fn units(cost: f64) -> Option<u64> {
    (cost >= 0.0).then(|| whole(cost))
}
