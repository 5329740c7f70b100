//! One key of shared data while a request holds it: what was read, with which CAS number, and which of the request's
//! cells it keeps.

use tidegate_engine::Engine;
use tidegate_engine::acquire::{Acquire, StoreError};
use tidegate_engine::algorithm::Cell;
use tidegate_engine::table::{Bucket, Geometry, GivenUp};

use crate::counters::Counters;
use crate::host::{self, IF_ABSENT, Status};

/// One key and the request's cells in it.
#[derive(Debug)]
pub(super) struct Slot {
    key: Vec<u8>,
    /// Each cell's index in the acquire, with its subject's fingerprint.
    cells: Vec<(usize, u64)>,
    content: Content,
    cas: u32,
}

/// Why a slot is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// Somebody wrote since it was read.
    Changed,
    /// The request must have more cells here than a bucket holds.
    Full,
    /// The host's shared data failed.
    Failed,
}

/// What a key holds.
#[derive(Debug)]
pub(super) enum Content {
    /// A bucket; the fingerprint is that of the cell it was made for.
    Shared { bucket: Bucket, fingerprint: u64 },
    /// One cell.
    Own(Cell),
}

impl Content {
    /// A bucket, not read yet.
    pub(super) fn shared(fingerprint: u64) -> Self {
        Self::Shared { bucket: Bucket::default(), fingerprint }
    }

    /// A single cell, not read yet.
    pub(super) fn own() -> Self {
        Self::Own(Cell::default())
    }

    fn fingerprint(&self) -> u64 {
        match self {
            Self::Shared { fingerprint, .. } => *fingerprint,
            Self::Own(_) => 0,
        }
    }
}

impl Slot {
    pub(super) fn new(key: Vec<u8>, cell: usize, content: Content) -> Self {
        Self { key, cells: vec![(cell, content.fingerprint())], content, cas: IF_ABSENT }
    }

    pub(super) fn is_at(&self, key: &[u8]) -> bool {
        self.key == key
    }

    pub(super) fn add(&mut self, cell: usize, content: &Content) {
        self.cells.push((cell, content.fingerprint()));
    }

    /// The indices of the cells kept here.
    pub(super) fn cells(&self) -> impl Iterator<Item = usize> {
        self.cells.iter().map(|(index, _)| *index)
    }

    /// Reads the key anew. An absent one is empty, and is only written while it stays absent.
    pub(super) fn read(&mut self) -> Result<(), StoreError> {
        let (value, cas) = match host::shared(&self.key) {
            Ok(found) => found,
            Err(Status::NOT_FOUND) => (Vec::new(), IF_ABSENT),
            Err(_) => return Err(StoreError),
        };
        self.cas = cas;
        match &mut self.content {
            Content::Shared { bucket, .. } => *bucket = Bucket::read(&value),
            Content::Own(cell) => *cell = own_cell(&value),
        }
        Ok(())
    }

    /// Copies what was read to the places of its cells.
    pub(super) fn copy_to(&self, acquire: &Acquire, cells: &mut [Cell]) {
        for (index, fingerprint) in &self.cells {
            let (Some(request), Some(cell)) = (acquire.cells.get(*index), cells.get_mut(*index)) else { continue };
            *cell = match &self.content {
                Content::Shared { bucket, .. } => bucket.cell(*fingerprint, request.rule_id),
                Content::Own(cell) => *cell,
            };
        }
    }

    /// Writes those of its cells that differ between `before` and `after`, all or none.
    pub(super) fn write(
        &self,
        (engine, acquire): (&Engine, &Acquire),
        (before, after): (&[Cell], &[Cell]),
        (counters, geometry): (&Counters, Geometry),
    ) -> Result<(), Unwritten> {
        let changed = |index: &usize| before.get(*index) != after.get(*index);
        if !self.cells().any(|index| changed(&index)) {
            return Ok(());
        }
        match &self.content {
            Content::Own(_) => {
                let cell = self.cells.first().and_then(|(index, _)| after.get(*index)).copied().unwrap_or_default();
                self.set(&own_bytes(cell))
            }
            Content::Shared { bucket, .. } => {
                let asked = |(fingerprint, rule_id)| {
                    let mut own = self.cells.iter().filter(|(_, own)| *own == fingerprint);
                    let cell =
                        own.find_map(|(index, _)| acquire.cells.get(*index).filter(|cell| cell.rule_id == rule_id));
                    cell.map(|cell| cell.must)
                };
                let mut next = bucket.clone();
                let mut given_up = GivenUp::default();
                for (index, fingerprint) in self.cells.iter().filter(|(index, _)| changed(index)) {
                    let (Some(request), Some(cell)) = (acquire.cells.get(*index), after.get(*index)) else { continue };
                    let entry = (*fingerprint, request.rule_id, *cell);
                    let more = next.store(entry, asked, acquire.now, |id| engine.limit_by_id(id));
                    given_up.add(more.ok_or(Unwritten::Full)?);
                }
                self.set(&next.bytes())?;
                let entries = |bucket: &Bucket| i64::try_from(bucket.len()).unwrap_or(i64::MAX);
                counters.count_keys(geometry, entries(&next).saturating_sub(entries(bucket)));
                counters.count_given_up(given_up);
                Ok(())
            }
        }
    }

    /// Writes what `refund` makes of each cell as just read.
    pub(super) fn refund(
        &mut self,
        acquire: &Acquire,
        refund: impl Fn(usize, Cell) -> Option<Cell>,
    ) -> Result<(), Unwritten> {
        match &mut self.content {
            Content::Own(cell) => {
                let Some(less) = self.cells.first().and_then(|(index, _)| refund(*index, *cell)) else { return Ok(()) };
                let bytes = own_bytes(less);
                self.set(&bytes)
            }
            Content::Shared { bucket, .. } => {
                for (index, fingerprint) in &self.cells {
                    let Some(request) = acquire.cells.get(*index) else { continue };
                    let Some(less) = refund(*index, bucket.cell(*fingerprint, request.rule_id)) else { continue };
                    // A cell that the bucket gave up meanwhile has nothing to give back; where there is no room for
                    // it, it stays given up.
                    bucket.put(*fingerprint, request.rule_id, less);
                }
                let bytes = bucket.bytes();
                self.set(&bytes)
            }
        }
    }

    fn set(&self, bytes: &[u8]) -> Result<(), Unwritten> {
        host::set_shared(&self.key, bytes, self.cas).map_err(|status| match status {
            Status::CAS_MISMATCH => Unwritten::Changed,
            _ => Unwritten::Failed,
        })
    }
}

/// A cell that has a key of its own. Any bytes are a cell: missing ones are zero.
fn own_cell(value: &[u8]) -> Cell {
    let (words, _) = value.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut next = || words.next().unwrap_or_default();
    Cell([next(), next(), next()])
}

fn own_bytes(cell: Cell) -> [u8; 24] {
    let mut bytes = [0; 24];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(cell.0) {
        *to = word.to_le_bytes();
    }
    bytes
}
