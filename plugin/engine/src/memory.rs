//! Cells in this process's own memory, for one thread: the edge package's store, and the oracle that replays and
//! scenarios compare a proxy with. It shares the filter's table, and so its limits; it needs no retries.

use std::collections::BTreeMap;

use crate::acquire::{Acquire, CellRequest, Reply};
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
        let mut cells: Vec<Cell> = acquire.cells.iter().map(|request| self.cell(acquire, request)).collect();
        let before = cells.clone();
        let reply = acquire.settle(&mut cells);
        for ((request, cell), before) in acquire.cells.iter().zip(cells).zip(before) {
            if cell != before {
                self.put(engine, acquire, request, cell);
            }
        }
        reply
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

    fn put(&mut self, engine: &Engine, acquire: &Acquire, request: &CellRequest, cell: Cell) {
        let Some(subject) = acquire.subjects.get(request.subject) else { return };
        if is_fixed(subject.kind) {
            self.fixed.insert((request.rule_id, subject.digest()), cell);
            return;
        }
        let place = self.geometry.place(subject, request.group, self.seed);
        let bucket = self.buckets.entry(place.bucket).or_default();
        if !bucket.put(place.fingerprint, request.rule_id, cell) {
            let given_up = bucket.make_room(1, place.fingerprint, acquire.now, |id| engine.limit_by_id(id));
            self.given_up.idle = self.given_up.idle.saturating_add(given_up.idle);
            self.given_up.limiting = self.given_up.limiting.saturating_add(given_up.limiting);
            bucket.put(place.fingerprint, request.rule_id, cell);
        }
    }
}

fn is_fixed(kind: Kind) -> bool {
    !kind.is_chosen_by_clients()
}
