//! What this VM has charged in the store ahead of the requests that will spend it, and what the store has just refused:
//! how much to ask for, answering without asking, and giving back. How long a lease may live, and what keeps an algorithm's
//! promise meanwhile, is the engine's (`redis::Lease`).
//!
//! A key's first request asks for itself alone. Whoever comes back within a second asks for more, twice as much after each
//! answer, up to a 64th of what is left: as a limit comes near, leases shrink to nothing, and every request asks again. One
//! question of a key asks ahead at a time: however many come at once, a VM never holds more than that 64th. What nobody
//! has touched for half a second goes back.

use tidegate_engine::acquire::{Acquire, CellReply, CellRequest, Outcome, Reply};
use tidegate_engine::identity::Subject;
use tidegate_engine::redis::{Charge, Lease, Outcomes};
use tidegate_engine::{Micros, Timestamp};

use tidegate_engine::sorted::Sorted;

/// How many keys of one VM have leases; further ones ask for every request. Each takes some 250 bytes.
const MOST: usize = 4096;

/// Where there are as many, how many are looked at for one to let go.
const LOOKED_AT: usize = 8;

/// The part of what is left that one VM may lease: with leases of eight workers unspent, an eighth of it is idle.
const SHARE: u64 = 64;

/// A key whose requests are further apart than this asks for one at a time. So long, too, a refusal is believed: an
/// operator may clear a counter, and others give back.
const LIVELY: Micros = Micros::from_secs(1);

/// How often leases are looked through, and how long one may lie untouched.
const SWEEP: Micros = Micros::from_millis(500);

/// When the next are given back, where there are more than go at once.
const SWEEP_ON: Micros = Micros::from_millis(10);

/// A cell's key within this proxy: its id and its subject's fingerprint.
type Key = (u64, u64);

/// All leases of one VM. Times are on the steady clock.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Boxed, so that coming and going moves little.
    held: Sorted<Key, Box<Held>>,
    sweep_at: Option<Timestamp>,
}

/// What is known of one cell.
#[derive(Debug)]
struct Held {
    /// Units charged and not spent.
    units: u64,
    /// When they are void.
    until: Timestamp,
    /// The store's moment that they were charged for.
    at: u64,
    /// How many requests the next lease is to serve.
    size: u64,
    /// Until when a question that asks ahead may be out.
    asking_until: Timestamp,
    /// When it was last asked for or spent from.
    touched: Timestamp,
    /// When the store was last asked.
    asked: Timestamp,
    /// Until when it admits no request, as the store said then.
    full_until: Timestamp,
    /// What the store last said was left beside the lease, and until when.
    remaining: u64,
    like_new_at: Timestamp,
    key: String,
    request: CellRequest,
}

/// What goes back.
#[derive(Debug)]
pub(super) struct Unspent {
    key: String,
    request: CellRequest,
    units: u64,
    at: u64,
}

impl Unspent {
    /// As a refund wants it.
    pub(super) fn charge(&self) -> Charge<'_> {
        Charge { key: &self.key, request: &self.request, units: self.units, at: self.at }
    }
}

impl Leases {
    /// Answers a request as the store would, at no call, where all its cells are known: leases pay for it, or the store
    /// has just said how long they are full.
    pub(super) fn answer(
        &mut self,
        acquire: &Acquire,
        fingerprint: &impl Fn(&Subject) -> u64,
        now: Timestamp,
    ) -> Option<Reply> {
        let mut keys = Vec::new();
        let mut cells = Vec::new();
        let mut is_granted = true;
        for cell in &acquire.cells {
            let key = key(acquire, cell, fingerprint)?;
            let reply = self.held.get(&key)?.answer(cell, now)?;
            is_granted &= reply.charged || !cell.must;
            keys.push(key);
            cells.push(reply);
        }
        for ((key, cell), reply) in keys.iter().zip(&acquire.cells).zip(&mut cells) {
            let held = self.held.get_mut(key)?;
            reply.charged &= is_granted;
            if reply.charged {
                held.units = held.units.saturating_sub(cell.cost);
                held.touched = now;
            }
            reply.remaining = held.remaining.saturating_add(held.units);
        }
        Some(Reply { cells, outcome: if is_granted { Outcome::Granted } else { Outcome::Refused } })
    }

    /// What to ask the store for, cell by cell, beyond what the request itself costs, by a question that may be out until
    /// `answered_by`.
    pub(super) fn wanted(
        &mut self,
        acquire: &Acquire,
        fingerprint: &impl Fn(&Subject) -> u64,
        now: Timestamp,
        answered_by: Timestamp,
    ) -> Vec<Lease> {
        let wanted = |cell: &CellRequest| {
            let held = key(acquire, cell, fingerprint).and_then(|key| self.held.get_mut(&key));
            let ahead = held.map_or(0, |held| held.wanted(cell, now, answered_by));
            Lease::of(cell, cell.cost, cell.cost.saturating_add(ahead))
        };
        acquire.cells.iter().map(wanted).collect()
    }

    /// Notes what the store has charged ahead, of what was asked for, and what it refuses. `asked` is from before the call
    /// was sent: lives count from there.
    pub(super) fn take(
        &mut self,
        acquire: &Acquire,
        (names, leases): (&[String], &[Lease]),
        outcomes: &Outcomes,
        fingerprint: &impl Fn(&Subject) -> u64,
        asked: Timestamp,
    ) {
        for (((cell, name), lease), outcome) in acquire.cells.iter().zip(names).zip(leases).zip(&outcomes.cells) {
            let Some(key) = key(acquire, cell, fingerprint) else { continue };
            if self.held.get(&key).is_none() {
                if self.held.len() >= MOST && !self.lets_go(key) {
                    continue;
                }
                self.held.insert(key, Box::new(Held::new(name, cell, asked)));
            }
            let Some(held) = self.held.get_mut(&key) else { continue };
            held.size = held.size_after(asked, outcome.reply.remaining);
            held.asked = held.asked.max(asked);
            held.touched = held.touched.max(asked);
            held.remaining = outcome.reply.remaining;
            held.like_new_at = after(asked, outcome.reply.reset_after);
            held.request = *cell;
            let is_refused = !outcome.reply.charged && outcome.reply.wait != Micros::FOREVER;
            held.full_until = after(asked, if is_refused { outcome.reply.wait } else { Micros::ZERO });
            if lease.most > cell.cost {
                held.asking_until = asked;
            }
            if outcome.leased > 0 {
                let until = after(asked, outcome.life);
                // What an earlier lease has left is spent with this one: no later, and given back for no more.
                let is_live = held.units > 0 && held.until > asked;
                (held.until, held.at) =
                    if is_live { (until.min(held.until), outcome.at.min(held.at)) } else { (until, outcome.at) };
                held.units = outcome.leased.saturating_add(if is_live { held.units } else { 0 });
            }
        }
        self.sweep_at.get_or_insert(after(asked, SWEEP));
    }

    /// Forgets a key to make room for another: of a few one that was asked for once, which a flood of clients that never come
    /// back leaves behind. `false` where none of them is.
    fn lets_go(&mut self, newcomer: Key) -> bool {
        // Twelve bits of a hash: any of them.
        let first = usize::try_from(newcomer.1 >> 52).unwrap_or(0);
        let is_idle = |(_, held): &&(Key, Box<Held>)| held.units == 0 && held.size <= 1;
        let idle = self.held.iter().skip(first).take(LOOKED_AT).find(is_idle).map(|(key, _)| *key);
        idle.is_some_and(|key| self.held.remove(&key).is_some())
    }

    /// When leases are to be looked through.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.sweep_at
    }

    /// Takes out what nobody has touched for a while, of so many keys at most: the rest is due at once. What is void already
    /// is forgotten.
    pub(super) fn unspent(&mut self, now: Timestamp, most: usize) -> Vec<Unspent> {
        let mut unspent = Vec::new();
        let mut pause = SWEEP;
        self.held.retain(|_, held| {
            let is_idle = now.since(held.touched) >= SWEEP && (held.units > 0 || now.since(held.asked) > LIVELY);
            if !is_idle || held.units == 0 || held.until <= now {
                return !is_idle;
            }
            if unspent.len() >= most {
                pause = SWEEP_ON;
                return true;
            }
            let key = core::mem::take(&mut held.key);
            unspent.push(Unspent { key, request: held.request, units: held.units, at: held.at });
            false
        });
        self.sweep_at = self.held.first().map(|_| after(now, pause));
        unspent
    }
}

impl Held {
    fn new(name: &str, request: &CellRequest, asked: Timestamp) -> Self {
        Self {
            units: 0,
            until: asked,
            at: 0,
            size: 0,
            asking_until: asked,
            touched: asked,
            asked,
            full_until: asked,
            remaining: 0,
            like_new_at: asked,
            key: name.to_owned(),
            request: *request,
        }
    }

    /// A clock that has stepped back makes a lease void: it would live longer than was charged for.
    fn is_live(&self, now: Timestamp) -> bool {
        self.asked <= now && now < self.until
    }

    /// What the store would say of a request's cell, as far as is known, and nothing taken yet.
    fn answer(&self, cell: &CellRequest, now: Timestamp) -> Option<CellReply> {
        let pays = self.is_live(now) && self.units >= cell.cost;
        let wait = if pays { Micros::ZERO } else { self.full_until.since(now) };
        let is_fresh = self.asked <= now && now.since(self.asked) < LIVELY && self.request.cost == cell.cost;
        let is_known = cell.cost > 0 && (pays || (is_fresh && !cell.admits(wait)));
        let reset_after = self.like_new_at.since(now);
        is_known.then_some(CellReply { wait, charged: pays, remaining: 0, reset_after })
    }

    /// How many requests the next lease is to serve after an answer to a question of then.
    fn size_after(&self, asked: Timestamp, remaining: u64) -> u64 {
        let size = if asked.since(self.asked) > LIVELY { self.size / 2 } else { self.size.saturating_mul(2).max(1) };
        size.min(remaining / SHARE)
    }

    /// How many units to ask for ahead: none while another question does, or while another of the request's cells is what
    /// must be asked for.
    fn wanted(&mut self, cell: &CellRequest, now: Timestamp, answered_by: Timestamp) -> u64 {
        if self.asked > now {
            (self.units, self.asked, self.touched) = (0, now, now);
            (self.asking_until, self.full_until) = (now, now);
        }
        if self.asking_until > now || (self.units >= cell.cost && self.is_live(now)) {
            return 0;
        }
        let size = if now.since(self.asked) > LIVELY { self.size / 2 } else { self.size };
        // A request without cost is never leased.
        let ahead = (self.remaining / SHARE).checked_div(cell.cost).unwrap_or(0).min(size).saturating_mul(cell.cost);
        if ahead > 0 {
            self.asking_until = answered_by;
        }
        ahead
    }
}

fn key(acquire: &Acquire, cell: &CellRequest, fingerprint: &impl Fn(&Subject) -> u64) -> Option<Key> {
    acquire.subjects.get(cell.subject).map(|subject| (cell.rule_id, fingerprint(subject)))
}

#[expect(clippy::arithmetic_side_effects, reason = "a Timestamp saturates")]
fn after(moment: Timestamp, wait: Micros) -> Timestamp {
    moment + wait
}
