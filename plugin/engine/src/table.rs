//! A table of cells whose memory is fixed, whatever clients send: keyed hashes pick a bucket, a bucket holds a few
//! entries, and a full one gives up the entry that matters least. Where the bytes are kept is not known here.

use core::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::acquire::{Acquire, CellRequest};
use crate::algorithm::{Algorithm, Cell, Quota};
use crate::identity::Subject;
use crate::time::{Micros, Timestamp};

/// Entries that a bucket may hold. With eight keys a bucket on average (see [`Geometry::new`]), 17 or more meet in
/// one of 270 buckets (Poisson, mean 8).
pub const WAYS: usize = 16;

/// Keys that a bucket holds on average when the table is as full as the policy's `max_keys` says.
const KEYS_PER_BUCKET: u32 = 8;

/// Bytes of one entry: fingerprint, rule id, three words of state.
pub const ENTRY_BYTES: usize = 40;

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    buckets: u32,
}

/// Where a subject's cells are kept, and what tells them from others' in the same bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bucket's number, below [`Geometry::buckets`].
    pub bucket: u32,
    /// 64 bits that only this subject has, but for one chance in 2^60 a bucket.
    pub fingerprint: u64,
}

/// What full buckets gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// Entries of clients who were not at their limit: those clients start afresh.
    pub idle: u32,
    /// Entries that still limited their client: exactness holds while this stays 0.
    pub limiting: u32,
}

impl GivenUp {
    /// Counts what another bucket gave up.
    pub fn add(&mut self, more: Self) {
        self.idle = self.idle.saturating_add(more.idle);
        self.limiting = self.limiting.saturating_add(more.limiting);
    }
}

impl Geometry {
    /// A table for about `max_keys` keys in use at once.
    pub fn new(max_keys: u32) -> Self {
        Self { buckets: max_keys.div_ceil(KEYS_PER_BUCKET).max(1) }
    }

    /// How many buckets the table has.
    pub fn buckets(self) -> u32 {
        self.buckets
    }

    /// The bytes that all buckets hold together when every one is full.
    pub fn largest_bytes(self) -> u64 {
        u64::from(self.buckets).saturating_mul((WAYS * ENTRY_BYTES) as u64)
    }

    /// Where the cells of `subject` for one group of rules live ([`crate::acquire::CellRequest::group`]). The seed is
    /// secret: who knows it can aim at one bucket.
    pub fn place(self, subject: &Subject, group: u32, seed: [u8; 16]) -> Place {
        let mut hasher = SipHasher24::new_with_key(&seed);
        hasher.write_u32(group);
        hasher.write_u32(u32::from(subject.kind.letter()));
        hasher.write(&subject.value);
        let hash = hasher.finish128();
        let bucket =
            hash.h1.checked_rem(u64::from(self.buckets)).and_then(|bucket| u32::try_from(bucket).ok()).unwrap_or(0);
        Place { bucket, fingerprint: hash.h2 }
    }

    /// Whether `acquire` asks for an entry, and then whether its cell must admit; see [`Bucket::store`].
    pub fn asked(self, acquire: &Acquire, (fingerprint, rule_id): (u64, u64), seed: [u8; 16]) -> Option<bool> {
        let mut cells = acquire.cells.iter().filter(|cell| cell.rule_id == rule_id);
        let is_it = |cell: &&CellRequest| {
            let subject = acquire.subjects.get(cell.subject);
            subject.is_some_and(|subject| self.place(subject, cell.group, seed).fingerprint == fingerprint)
        };
        cells.find(is_it).map(|cell| cell.must)
    }
}

/// One bucket's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    fingerprint: u64,
    rule_id: u64,
    cell: Cell,
}

/// How much an entry matters: compared field by field, the smallest is given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    has_rule: bool,
    retry_after: Micros,
    used_ppm: u64,
    reset_after: Micros,
}

impl Bucket {
    /// Reads a bucket. Any bytes are a bucket: what is left over after whole entries is ignored.
    pub fn read(bytes: &[u8]) -> Self {
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        Self { entries: entries.iter().take(WAYS).map(Entry::read).collect() }
    }

    /// The bytes that [`Bucket::read`] reads.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len().saturating_mul(ENTRY_BYTES));
        for entry in &self.entries {
            let [first, second, third] = entry.cell.0;
            for word in [entry.fingerprint, entry.rule_id, first, second, third] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }

    /// How many cells are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The cell of a subject and rule; a client that was never seen has the default one.
    pub fn cell(&self, fingerprint: u64, rule_id: u64) -> Cell {
        self.find(fingerprint, rule_id).map_or_else(Cell::default, |entry| entry.cell)
    }

    /// Stores a cell, and makes room for a new one where the bucket is full: first drops cells that are like new, then
    /// gives up those that matter least. `asked` tells of an entry, by fingerprint and rule id, whether the request that is
    /// being served asks for it, and then whether it must: what it asks for is not given up, or only for what it must. The
    /// same client's other cells are given up like anybody's. `rule` tells a rule's algorithm and quota by its id.
    ///
    /// A cell that need not be stored and finds no room counts as given up. `None` where one that must be finds none.
    #[must_use = "a request must not pass that a cell of its rules cannot count"]
    pub fn store<'r>(
        &mut self,
        (fingerprint, rule_id, cell): (u64, u64, Cell),
        asked: impl Fn((u64, u64)) -> Option<bool>,
        now: Timestamp,
        rule: impl Fn(u64) -> Option<(&'static dyn Algorithm, &'r Quota)>,
    ) -> Option<GivenUp> {
        let mut given_up = GivenUp::default();
        for only_musts_stay in [false, true] {
            if self.put(fingerprint, rule_id, cell) {
                return Some(given_up);
            }
            if only_musts_stay && asked((fingerprint, rule_id)) != Some(true) {
                given_up.add(GivenUp { idle: 0, limiting: 1 });
                return Some(given_up);
            }
            let stays = |entry| asked(entry).is_some_and(|must| must || !only_musts_stay);
            given_up.add(self.make_room(&stays, now, &rule));
        }
        self.put(fingerprint, rule_id, cell).then_some(given_up)
    }

    /// Stores a cell that the bucket knows or has room for; `false` where it is full and the cell is new.
    pub fn put(&mut self, fingerprint: u64, rule_id: u64, cell: Cell) -> bool {
        let known = self.entries.iter_mut().find(|entry| entry.fingerprint == fingerprint && entry.rule_id == rule_id);
        if let Some(entry) = known {
            entry.cell = cell;
            return true;
        }
        if self.entries.len() >= WAYS {
            return false;
        }
        self.entries.push(Entry { fingerprint, rule_id, cell });
        true
    }

    /// Makes room for one more cell, if any does not stay.
    fn make_room<'r>(
        &mut self,
        stays: &dyn Fn((u64, u64)) -> bool,
        now: Timestamp,
        rule: &dyn Fn(u64) -> Option<(&'static dyn Algorithm, &'r Quota)>,
    ) -> GivenUp {
        let mut given_up = GivenUp::default();
        let stays = |entry: &Entry| stays((entry.fingerprint, entry.rule_id));
        let weigh = |entry: &Entry| Weight::of(entry, now, rule(entry.rule_id));
        self.entries.retain(|entry| stays(entry) || weigh(entry).reset_after > Micros::ZERO);
        while self.entries.len() >= WAYS {
            let others = self.entries.iter().enumerate().filter(|(_, entry)| !stays(entry));
            let Some((least, weight)) =
                others.map(|(index, entry)| (index, weigh(entry))).min_by_key(|(_, weight)| *weight)
            else {
                break;
            };
            self.entries.swap_remove(least);
            let is_limiting = weight.retry_after > Micros::ZERO;
            given_up.add(GivenUp { idle: (!is_limiting).into(), limiting: is_limiting.into() });
        }
        given_up
    }

    fn find(&self, fingerprint: u64, rule_id: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.fingerprint == fingerprint && entry.rule_id == rule_id)
    }
}

impl Entry {
    fn read(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        Self { fingerprint: next(), rule_id: next(), cell: Cell([next(), next(), next()]) }
    }
}

impl Weight {
    fn of(entry: &Entry, now: Timestamp, rule: Option<(&'static dyn Algorithm, &Quota)>) -> Self {
        let Some((algorithm, quota)) = rule else {
            return Self { has_rule: false, retry_after: Micros::ZERO, used_ppm: 0, reset_after: Micros(1) };
        };
        let standing = algorithm.standing(entry.cell, quota, now);
        let largest = algorithm.largest_cost(quota).max(1);
        let used = largest.saturating_sub(standing.remaining);
        Self {
            has_rule: true,
            retry_after: algorithm.plan(entry.cell, quota, 1, now).wait,
            used_ppm: used.saturating_mul(1_000_000).checked_div(largest).unwrap_or(0),
            reset_after: standing.reset_after,
        }
    }
}

#[cfg(test)]
mod tests;
