//! One policy with its counters, as JavaScript holds it. Keys come in through a fixed buffer and numbers go out through
//! another, so that the hot call passes no text. JavaScript checks its arguments before it calls: nothing here throws
//! but the constructor.

mod counts;
mod explained;
mod held;
mod requests;
mod told;
mod waiting;

use tidegate_engine::acquire::CellReply;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::identity::{Kind, Subject};
use tidegate_engine::policy::{Policy, UserSource};
use tidegate_engine::{Engine, Keyed, KeyedCell, Micros, Pending, Reservation, Timestamp};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::describe;
use crate::grants::Grants;
use crate::table::{Extra, Quotas, Table};
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
/// Instead of an outcome: the address that came with the request is none.
const NO_ADDRESS: u32 = 253;

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
    /// The first rule that was to count an address where none was told.
    unaddressed: Option<usize>,
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
            unaddressed: None,
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
        if let Some(Keyed::Cell(_)) = keyed {
            self.subject.value.clear();
            self.subject.value.extend_from_slice(key.as_bytes());
        }
        self.keyed(keyed, now, true)
    }

    /// The same for a key of any length. Where `may_wait` is false, nothing is charged for later.
    pub fn check_key(&mut self, rule: usize, key: &str, cost: f64, now_us: f64, may_wait: bool) -> u32 {
        let now = timestamp(now_us);
        let keyed = self.engine.check_key(rule, key, units(cost), now);
        self.subject.value.clear();
        self.subject.value.extend_from_slice(key.as_bytes());
        let outcome = self.keyed(keyed, now, may_wait);
        // One long key must not keep its room for ever.
        self.subject.value.shrink_to(KEY_BYTES);
        outcome
    }
}

impl Limiter {
    /// Decides over a key whose bytes stand in `subject`.
    fn keyed(&mut self, keyed: Option<Keyed>, now: Timestamp, may_wait: bool) -> u32 {
        match keyed {
            Some(Keyed::Cell(mut cell)) => {
                cell.request.may_wait &= may_wait;
                self.one_cell(cell, now)
            }
            Some(Keyed::Cells(mut pending)) => {
                self.keep_waiting_where_room(&mut pending, now, may_wait);
                self.settle(pending)
            }
            Some(Keyed::Unlimited) | None => self.unlimited(),
        }
    }

    /// The hot path: one rule, one cell, nothing allocated.
    fn one_cell(&mut self, mut cell: KeyedCell, now: Timestamp) -> u32 {
        self.subject.kind = cell.kind;
        if cell.kind == Kind::Global {
            self.subject.value.clear();
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
}

/// Takes the entry of that id out of a list.
fn taken<T>(list: &mut Vec<(u32, T)>, id: u32) -> Option<T> {
    let position = list.iter().position(|(known, _)| *known == id)?;
    Some(list.swap_remove(position).1)
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
