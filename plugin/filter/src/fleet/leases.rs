//! What this VM has charged in the store ahead of the requests that will spend it: how much to ask for, spending, and
//! giving back. How long a lease may live, and what keeps an algorithm's promise meanwhile, is the engine's
//! (`redis::Lease`).
//!
//! A key's first request asks for itself alone. Whoever comes back within a second asks for twice as much each time, up
//! to a 64th of what is left: as a limit comes near, leases shrink to nothing, and every request asks again. What nobody
//! has touched for half a second goes back.

use tidegate_engine::acquire::{Acquire, CellReply, CellRequest, Outcome, Reply};
use tidegate_engine::identity::Subject;
use tidegate_engine::redis::{Charge, Lease, Outcomes};
use tidegate_engine::{Micros, Timestamp};

use tidegate_engine::sorted::Sorted;

/// How many keys of one VM have leases; further ones ask for every request. Each takes some 250 bytes.
const MOST: usize = 4096;

/// The part of what is left that one VM may lease: with leases of eight workers unspent, an eighth of it is idle.
const SHARE: u64 = 64;

/// A key whose requests are further apart than this asks for one at a time.
const LIVELY: Micros = Micros::from_secs(1);

/// How often leases are looked through, and how long one may lie untouched.
const SWEEP: Micros = Micros::from_millis(500);

/// A cell's key within this proxy: its id and its subject's fingerprint.
type Key = (u64, u64);

/// All leases of one VM. Times are on the steady clock.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Sorted<Key, Held>,
    swept: Option<Timestamp>,
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
    /// How many requests the last question was to serve.
    size: u64,
    /// When it was last asked for or spent from.
    touched: Timestamp,
    /// When the store was last asked.
    asked: Timestamp,
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
    /// Pays for a request from leases, if they pay for all of it: an answer as the store would give, at no call.
    pub(super) fn spend(
        &mut self,
        acquire: &Acquire,
        fingerprint: &impl Fn(&Subject) -> u64,
        now: Timestamp,
    ) -> Option<Reply> {
        let keys: Vec<Key> = acquire.cells.iter().map(|cell| key(acquire, cell, fingerprint)).collect::<Option<_>>()?;
        let pays = |(key, cell): (&Key, &CellRequest)| {
            let held = self.held.get(key).filter(|held| held.is_live(now));
            cell.cost > 0 && held.is_some_and(|held| held.units >= cell.cost)
        };
        if keys.is_empty() || !keys.iter().zip(&acquire.cells).all(pays) {
            return None;
        }
        let mut cells = Vec::with_capacity(keys.len());
        for (key, cell) in keys.iter().zip(&acquire.cells) {
            let held = self.held.get_mut(key)?;
            held.units = held.units.saturating_sub(cell.cost);
            held.touched = now;
            cells.push(CellReply {
                wait: Micros::ZERO,
                charged: true,
                remaining: held.remaining.saturating_add(held.units),
                reset_after: held.like_new_at.since(now),
            });
        }
        Some(Reply { cells, outcome: Outcome::Granted })
    }

    /// What to ask the store for, cell by cell, beyond what the request itself costs.
    pub(super) fn wanted(
        &mut self,
        acquire: &Acquire,
        fingerprint: &impl Fn(&Subject) -> u64,
        now: Timestamp,
    ) -> Vec<Lease> {
        acquire.cells.iter().map(|cell| self.wanted_for(acquire, cell, fingerprint, now)).collect()
    }

    fn wanted_for(
        &mut self,
        acquire: &Acquire,
        cell: &CellRequest,
        fingerprint: &impl Fn(&Subject) -> u64,
        now: Timestamp,
    ) -> Lease {
        let mut known = key(acquire, cell, fingerprint).and_then(|key| self.held.get_mut(&key));
        if let Some(held) = known.as_mut().filter(|held| held.asked > now) {
            (held.units, held.asked, held.touched) = (0, now, now);
        }
        let Some(held) = known.filter(|held| cell.cost > 0 && (held.units < cell.cost || !held.is_live(now))) else {
            // Not known yet, or another of the request's cells is what must be asked for.
            return Lease::of(cell, cell.cost, cell.cost);
        };
        held.size = if now.since(held.asked) > LIVELY { held.size / 2 } else { held.size.saturating_mul(2).max(1) };
        held.size = held.size.min(held.remaining.checked_div(SHARE).unwrap_or(0));
        Lease::of(cell, cell.cost, cell.cost.saturating_add(held.size.saturating_mul(cell.cost)))
    }

    /// Notes what the store has charged ahead. `asked` is from before the call was sent: lives count from there.
    pub(super) fn take(
        &mut self,
        acquire: &Acquire,
        keys: &[String],
        outcomes: &Outcomes,
        fingerprint: &impl Fn(&Subject) -> u64,
        asked: Timestamp,
    ) {
        for ((cell, name), outcome) in acquire.cells.iter().zip(keys).zip(&outcomes.cells) {
            let Some(key) = key(acquire, cell, fingerprint) else { continue };
            if self.held.get(&key).is_none() {
                if self.held.len() >= MOST {
                    continue;
                }
                self.held.insert(key, Held::new(name, cell, asked));
            }
            let Some(held) = self.held.get_mut(&key) else { continue };
            held.asked = held.asked.max(asked);
            held.touched = held.touched.max(asked);
            held.remaining = outcome.reply.remaining;
            held.like_new_at = after(asked, outcome.reply.reset_after);
            if outcome.leased > 0 {
                let until = after(asked, outcome.life);
                // What an earlier lease has left is spent with this one: no later, and given back for no more.
                let is_live = held.units > 0 && held.until > asked;
                (held.until, held.at) =
                    if is_live { (until.min(held.until), outcome.at.min(held.at)) } else { (until, outcome.at) };
                held.units = outcome.leased.saturating_add(if is_live { held.units } else { 0 });
            }
        }
        self.swept.get_or_insert(asked);
    }

    /// When leases are to be looked through.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.swept.map(|swept| after(swept, SWEEP))
    }

    /// Takes out what nobody has touched for a while. What is void already is forgotten.
    pub(super) fn unspent(&mut self, now: Timestamp) -> Vec<Unspent> {
        if self.next_due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        let mut unspent = Vec::new();
        let idle: Vec<Key> = self
            .held
            .iter()
            .filter(|(_, held)| now.since(held.touched) >= SWEEP && (held.units > 0 || now.since(held.asked) > LIVELY))
            .map(|(key, _)| *key)
            .collect();
        for key in idle {
            if let Some(held) = self.held.remove(&key)
                && held.units > 0
                && held.until > now
            {
                unspent.push(Unspent { key: held.key, request: held.request, units: held.units, at: held.at });
            }
        }
        self.swept = self.held.first().map(|_| now);
        unspent
    }
}

impl Held {
    /// A clock that has stepped back makes a lease void: it would live longer than was charged for.
    fn is_live(&self, now: Timestamp) -> bool {
        self.asked <= now && now < self.until
    }

    fn new(name: &str, request: &CellRequest, asked: Timestamp) -> Self {
        Self {
            units: 0,
            until: asked,
            at: 0,
            size: 0,
            touched: asked,
            asked,
            remaining: 0,
            like_new_at: asked,
            key: name.to_owned(),
            request: *request,
        }
    }
}

fn key(acquire: &Acquire, cell: &CellRequest, fingerprint: &impl Fn(&Subject) -> u64) -> Option<Key> {
    acquire.subjects.get(cell.subject).map(|subject| (cell.rule_id, fingerprint(subject)))
}

#[expect(clippy::arithmetic_side_effects, reason = "a Timestamp saturates")]
fn after(moment: Timestamp, wait: Micros) -> Timestamp {
    moment + wait
}
