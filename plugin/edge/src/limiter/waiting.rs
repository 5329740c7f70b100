//! How many requests wait, as far as this instance knows: each until its moment has come or it is given up. Bounded by
//! what the rules allow. Who sleeps is JavaScript's business.

use tidegate_engine::acquire::CellRequest;
use tidegate_engine::identity::Subject;
use tidegate_engine::policy::Rule;
use tidegate_engine::strategy::Room;
use tidegate_engine::{Reservation, Timestamp};

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    subject: Subject,
    due: Timestamp,
}

impl Waiting {
    /// Whether one more may wait for this cell. Where a rule sets no bounds, its requests do not wait here.
    pub(super) fn has_room(&mut self, rule: &Rule, cell: &CellRequest, subject: &Subject, now: Timestamp) -> bool {
        let of_queue =
            || rule.strategy.queue().map(|queue| Room { waiting: queue.max_queued, waiting_per_key: u32::MAX });
        let Some(room) = rule.strategy.room().or_else(of_queue) else { return true };
        self.places.retain(|place| place.due > now);
        let (mut all, mut own) = (0_u32, 0_u32);
        for place in self.places.iter().filter(|place| place.id == cell.rule_id) {
            all = all.saturating_add(1);
            own = own.saturating_add(u32::from(place.subject == *subject));
        }
        all < room.waiting && own < room.waiting_per_key
    }

    /// Takes a place for each cell that is charged for later.
    pub(super) fn enter(&mut self, reservation: &Reservation) {
        let acquire = &reservation.acquire;
        for (cell, reply) in acquire.cells.iter().zip(&reservation.cells) {
            let due = acquire.now + reply.wait;
            if let (true, Some(subject)) = (reply.charged && due > acquire.now, acquire.subjects.get(cell.subject)) {
                self.places.push(Place { id: cell.rule_id, subject: subject.clone(), due });
            }
        }
    }

    /// Frees the places of a request that does not wait any more.
    pub(super) fn leave(&mut self, reservation: &Reservation) {
        let acquire = &reservation.acquire;
        for (cell, reply) in acquire.cells.iter().zip(&reservation.cells) {
            let due = acquire.now + reply.wait;
            let Some(subject) = acquire.subjects.get(cell.subject) else { continue };
            let own = |place: &Place| place.id == cell.rule_id && place.due == due && place.subject == *subject;
            if let Some(position) = self.places.iter().position(own) {
                self.places.swap_remove(position);
            }
        }
    }

    /// How many wait at `now`.
    pub(super) fn count(&self, now: Timestamp) -> usize {
        self.places.iter().filter(|place| place.due > now).count()
    }
}
