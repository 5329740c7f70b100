//! Counters in this instance's own memory: the engine's table with the filter's rule for what a full bucket gives up,
//! and with refunds. Bounded, whatever clients send. One thread, so nothing is ever retried.

use tidegate_engine::acquire::{Acquire, CellReply, CellRequest, Outcome, Reply};
use tidegate_engine::algorithm::{Algorithm, Cell, Quota};
use tidegate_engine::identity::Subject;
use tidegate_engine::table::{Bucket, ENTRY_BYTES, Geometry, GivenUp, Place};
use tidegate_engine::{Engine, Reservation, Timestamp};

/// Quotas that an [`Engine`] does not know by id: those of local shares and of grants.
pub(crate) type Extra = Vec<(u64, &'static dyn Algorithm, Quota)>;

/// A bounded table of cells.
#[derive(Debug)]
pub(crate) struct Table {
    geometry: Geometry,
    seed: [u8; 16],
    /// Made when the first cell is stored: a limiter over another store never needs them.
    buckets: Vec<Bucket>,
    /// Cells whose key no client chooses, by rule id and fingerprint: nothing that clients send gives them up. There are
    /// about as many as the policy has global rules and endpoints.
    fixed: Vec<(u64, u64, Cell)>,
    given_up: GivenUp,
    cells: usize,
}

/// What knows the quotas behind the ids of cells.
pub(crate) struct Quotas<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) extra: &'a Extra,
}

impl Table {
    /// An empty table for about `max_keys` keys in use at once. The seed must be secret where clients choose keys.
    pub(crate) fn new(max_keys: u32, seed: [u8; 16]) -> Self {
        Self {
            geometry: Geometry::new(max_keys),
            seed,
            buckets: Vec::new(),
            fixed: Vec::new(),
            given_up: GivenUp::default(),
            cells: 0,
        }
    }

    /// Cells kept, and what full buckets gave up so far.
    pub(crate) fn gauges(&self) -> (usize, GivenUp) {
        (self.cells + self.fixed.len(), self.given_up)
    }

    /// About how many bytes the cells take.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>() + (self.cells + self.fixed.len()) * ENTRY_BYTES
    }

    /// Decides and charges in one step.
    pub(crate) fn acquire(&mut self, quotas: &Quotas<'_>, acquire: &Acquire) -> Reply {
        let before = self.cells(acquire);
        let mut cells = before.clone();
        let mut reply = acquire.settle(&mut cells);
        if !self.replace(quotas, acquire, &before, &cells) && reply.outcome == Outcome::Granted {
            // What was stored before the one that does not fit goes back, and this stops there as well.
            self.replace(quotas, acquire, &cells, &before);
            reply.withdraw();
        }
        reply
    }

    /// Stores the cells that differ between `before` and `after`, in order; `false` at the first that does not fit.
    fn replace(&mut self, quotas: &Quotas<'_>, acquire: &Acquire, before: &[Cell], after: &[Cell]) -> bool {
        let (geometry, seed) = (self.geometry, self.seed);
        let asked = |entry| geometry.asked(acquire, entry, seed);
        let mut cells = acquire.cells.iter().zip(before).zip(after);
        cells.all(|((request, before), after)| {
            let Some(subject) = acquire.subjects.get(request.subject) else { return true };
            let place = self.place(subject, request);
            before == after || self.put_at(place, quotas, (subject, request, *after), acquire.now, asked)
        })
    }

    /// Decides over one cell: what [`Table::acquire`] does, without building the question.
    pub(crate) fn acquire_one(
        &mut self,
        quotas: &Quotas<'_>,
        subject: &Subject,
        request: &CellRequest,
        now: Timestamp,
    ) -> CellReply {
        let place = self.place(subject, request);
        let before = self.cell_at(place, subject, request);
        let pulled = request.algorithm.pull(before, &request.quota, now);
        let (charged, wait) = request.charge(pulled, now);
        // What must be refused is not charged; what need not be admitted is charged where it conforms.
        let cell = charged.unwrap_or(pulled);
        if cell != before {
            // Nothing else is asked for, so there is room.
            self.put_at(place, quotas, (subject, request, cell), now, |_| None);
        }
        request.reply(cell, wait, charged.is_some(), now)
    }

    /// The cells asked for, as they stand.
    pub(crate) fn cells(&self, acquire: &Acquire) -> Vec<Cell> {
        let of = |request: &CellRequest| {
            acquire.subjects.get(request.subject).map_or_else(Cell::default, |subject| self.cell(subject, request))
        };
        acquire.cells.iter().map(of).collect()
    }

    /// Forgets what the cells asked for count.
    pub(crate) fn clear(&mut self, quotas: &Quotas<'_>, acquire: &Acquire) {
        for request in &acquire.cells {
            let Some(subject) = acquire.subjects.get(request.subject) else { continue };
            // A cell that was never stored stays so: it takes no entry, and pushes none out.
            if self.cell(subject, request) != Cell::default() {
                self.put(quotas, subject, request, Cell::default(), acquire.now);
            }
        }
    }

    /// Gives back what a request has charged and will not use.
    pub(crate) fn refund(&mut self, quotas: &Quotas<'_>, reservation: &Reservation, now: Timestamp) {
        let acquire = &reservation.acquire;
        for (request, reply) in acquire.cells.iter().zip(&reservation.cells) {
            let Some(subject) = acquire.subjects.get(request.subject) else { continue };
            if let Some(cell) = request.refund(self.cell(subject, request), reply, acquire.now, now) {
                self.put(quotas, subject, request, cell, now);
            }
        }
    }

    fn place(&self, subject: &Subject, request: &CellRequest) -> Place {
        self.geometry.place(subject, request.group, self.seed)
    }

    fn cell(&self, subject: &Subject, request: &CellRequest) -> Cell {
        self.cell_at(self.place(subject, request), subject, request)
    }

    fn cell_at(&self, place: Place, subject: &Subject, request: &CellRequest) -> Cell {
        if !subject.kind.is_chosen_by_clients() {
            let own = self.fixed.iter().find(|(id, fingerprint, _)| is_cell(request, place, *id, *fingerprint));
            return own.map_or_else(Cell::default, |(.., cell)| *cell);
        }
        let bucket = self.buckets.get(place.bucket as usize);
        bucket.map_or_else(Cell::default, |bucket| bucket.cell(place.fingerprint, request.rule_id))
    }

    fn put(&mut self, quotas: &Quotas<'_>, subject: &Subject, request: &CellRequest, cell: Cell, now: Timestamp) {
        self.put_at(self.place(subject, request), quotas, (subject, request, cell), now, |_| None);
    }

    /// Stores a cell; `false` where it must be and its bucket has no room, as [`Bucket::store`] says.
    fn put_at(
        &mut self,
        place: Place,
        quotas: &Quotas<'_>,
        (subject, request, cell): (&Subject, &CellRequest, Cell),
        now: Timestamp,
        asked: impl Fn((u64, u64)) -> Option<bool>,
    ) -> bool {
        if !subject.kind.is_chosen_by_clients() {
            let mut known = self.fixed.iter_mut();
            match known.find(|(id, fingerprint, _)| is_cell(request, place, *id, *fingerprint)) {
                Some((.., known)) => *known = cell,
                None => self.fixed.push((request.rule_id, place.fingerprint, cell)),
            }
            return true;
        }
        if self.buckets.is_empty() {
            self.buckets.resize_with(self.geometry.buckets() as usize, Bucket::default);
        }
        let Some(bucket) = self.buckets.get_mut(place.bucket as usize) else { return false };
        let before = bucket.len();
        let given_up = bucket.store((place.fingerprint, request.rule_id, cell), asked, now, |id| quotas.by_id(id));
        self.given_up.add(given_up.unwrap_or_default());
        self.cells = (self.cells + bucket.len()).saturating_sub(before);
        given_up.is_some()
    }
}

fn is_cell(request: &CellRequest, place: Place, id: u64, fingerprint: u64) -> bool {
    request.rule_id == id && place.fingerprint == fingerprint
}

impl<'a> Quotas<'a> {
    fn by_id(&self, id: u64) -> Option<(&'static dyn Algorithm, &'a Quota)> {
        let extra = || self.extra.iter().find(|(known, ..)| *known == id);
        self.engine.limit_by_id(id).or_else(|| extra().map(|(_, algorithm, quota)| (*algorithm, quota)))
    }
}
