//! Cells in this process's own memory, for one thread: the edge package's store, and the oracle that replays and
//! scenarios compare a proxy with. It shares the filter's table, and so its limits; it needs no retries.

use std::collections::BTreeMap;

use crate::acquire::{Acquire, CellRequest, Outcome, Reply};
use crate::algorithm::Cell;
use crate::engine::Engine;
use crate::identity::Kind;
use crate::table::{Bucket, Geometry, GivenUp};

/// A bounded table of cells.
#[derive(Debug)]
pub struct Memory {
    geometry: Geometry,
    seed: [u8; 16],
    buckets: BTreeMap<u32, Bucket>,
    fixed: BTreeMap<(u64, [u8; 16]), Cell>,
    given_up: GivenUp,
}

impl Memory {
    /// An empty table for about `max_keys` keys in use at once. The seed must be secret where clients choose keys.
    pub fn new(max_keys: u32, seed: [u8; 16]) -> Self {
        Self {
            geometry: Geometry::new(max_keys),
            seed,
            buckets: BTreeMap::new(),
            fixed: BTreeMap::new(),
            given_up: GivenUp::default(),
        }
    }

    /// What full buckets gave up so far.
    pub fn given_up(&self) -> GivenUp {
        self.given_up
    }

    /// Decides and charges in one step.
    pub fn acquire(&mut self, engine: &Engine, acquire: &Acquire) -> Reply {
        let before: Vec<Cell> = acquire.cells.iter().map(|request| self.cell(acquire, request)).collect();
        let mut after = before.clone();
        let mut reply = acquire.settle(&mut after);
        if !self.replace(engine, acquire, &before, &after) && reply.outcome == Outcome::Granted {
            // What was stored before the one that does not fit goes back, and this stops there as well.
            self.replace(engine, acquire, &after, &before);
            reply.withdraw();
        }
        reply
    }

    /// Stores the cells that differ between `before` and `after`, in order; `false` at the first that does not fit.
    fn replace(&mut self, engine: &Engine, acquire: &Acquire, before: &[Cell], after: &[Cell]) -> bool {
        let mut cells = acquire.cells.iter().zip(before).zip(after);
        cells.all(|((request, before), after)| before == after || self.put(engine, acquire, request, *after))
    }

    /// A cell as it is stored, without charging it.
    pub fn cell(&self, acquire: &Acquire, request: &CellRequest) -> Cell {
        let Some(subject) = acquire.subjects.get(request.subject) else { return Cell::default() };
        if !is_fixed(subject.kind) {
            let place = self.geometry.place(subject, request.group, self.seed);
            return self
                .buckets
                .get(&place.bucket)
                .map_or_else(Cell::default, |bucket| bucket.cell(place.fingerprint, request.rule_id));
        }
        self.fixed.get(&(request.rule_id, subject.digest())).copied().unwrap_or_default()
    }

    fn put(&mut self, engine: &Engine, acquire: &Acquire, request: &CellRequest, cell: Cell) -> bool {
        let Some(subject) = acquire.subjects.get(request.subject) else { return true };
        if is_fixed(subject.kind) {
            self.fixed.insert((request.rule_id, subject.digest()), cell);
            return true;
        }
        let (geometry, seed) = (self.geometry, self.seed);
        let place = geometry.place(subject, request.group, seed);
        let bucket = self.buckets.entry(place.bucket).or_default();
        let asked = |entry| geometry.asked(acquire, entry, seed);
        let entry = (place.fingerprint, request.rule_id, cell);
        let given_up = bucket.store(entry, asked, acquire.now, |id| engine.limit_by_id(id));
        self.given_up.add(given_up.unwrap_or_default());
        given_up.is_some()
    }
}

fn is_fixed(kind: Kind) -> bool {
    !kind.is_chosen_by_clients()
}
