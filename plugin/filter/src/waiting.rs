//! The requests that a worker holds until their reserved moment: who waits, for which keys, and who is due. Bounded by
//! each rule's `max_waiting` and `max_waiting_per_key`; releasing them is the root's tick. Moments are on the host's
//! steady clock: a step of the wall clock must not hold anybody longer.

use tidegate_engine::strategy::Room;
use tidegate_engine::{Micros, Timestamp};

use tidegate_engine::sorted::Sorted;

/// How many requests one tick may release: each release may nest a call into the VM, and Envoy's VM dies of about 270.
pub(crate) const RELEASES: usize = 64;

/// What one client's cells of one rule are known by: the cells' id and the client's fingerprint.
pub(crate) type Key = (u64, u64);

/// All requests that one worker holds for one deployment.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    held: Sorted<Seat, Held>,
    by_key: Sorted<Key, u32>,
    /// Of all clients together, see [`everybody`].
    by_limit: Sorted<Key, u32>,
    seats_taken: u64,
}

/// A held request's place: when it is due, then in the order of coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seat {
    due: Timestamp,
    order: u64,
}

#[derive(Debug)]
struct Held {
    exchange: u32,
    keys: Vec<Key>,
}

impl WaitingRoom {
    /// Whether one more request may wait for `key`.
    pub(crate) fn has_room(&self, key: Key, room: Room) -> bool {
        let taken = |count: Option<&u32>| count.copied().unwrap_or(0);
        taken(self.by_limit.get(&everybody(key))) < room.waiting && taken(self.by_key.get(&key)) < room.waiting_per_key
    }

    /// Takes in a request that waits for `keys` until `due`.
    pub(crate) fn enter(&mut self, exchange: u32, keys: Vec<Key>, due: Timestamp) -> Seat {
        for key in &keys {
            count_one(&mut self.by_key, *key);
            count_one(&mut self.by_limit, everybody(*key));
        }
        self.seats_taken = self.seats_taken.wrapping_add(1);
        let seat = Seat { due, order: self.seats_taken };
        self.held.insert(seat, Held { exchange, keys });
        seat
    }

    /// Lets a request go; `false` where it is not here any more.
    pub(crate) fn leave(&mut self, seat: Seat) -> bool {
        let Some(held) = self.held.remove(&seat) else { return false };
        for key in &held.keys {
            uncount_one(&mut self.by_key, key);
            uncount_one(&mut self.by_limit, &everybody(*key));
        }
        true
    }

    /// Takes out the exchanges that are due, the earliest first, at most [`RELEASES`] of them; with how late each is.
    pub(crate) fn release(&mut self, now: Timestamp) -> Vec<(u32, Micros)> {
        let due: Vec<(Seat, u32)> = self
            .held
            .iter()
            .take_while(|(seat, _)| seat.due <= now)
            .take(RELEASES)
            .map(|(seat, held)| (*seat, held.exchange))
            .collect();
        due.into_iter()
            .map(|(seat, exchange)| {
                self.leave(seat);
                (exchange, now.since(seat.due))
            })
            .collect()
    }

    /// When the first of the held requests is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.held.first().map(|(seat, _)| seat.due)
    }
}

/// What all clients' cells of one rule are known by.
fn everybody((limit, _): Key) -> Key {
    (limit, 0)
}

fn count_one(counts: &mut Sorted<Key, u32>, key: Key) {
    match counts.get_mut(&key) {
        Some(count) => *count = count.saturating_add(1),
        None => counts.insert(key, 1),
    }
}

/// Forgets a key with its last request, so that the counts are never more than the requests.
fn uncount_one(counts: &mut Sorted<Key, u32>, key: &Key) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + millis * 1_000)
    }

    #[test]
    fn requests_leave_in_the_order_of_their_moments_and_at_most_64_at_once() {
        let mut room = WaitingRoom::default();
        for exchange in 0..200 {
            room.enter(exchange, vec![(1, 1)], at(u64::from(exchange)));
        }
        let first = room.release(at(1_000));
        assert_eq!(first.iter().map(|(exchange, _)| *exchange).collect::<Vec<_>>(), (0..64).collect::<Vec<_>>());
        assert_eq!(first[0].1, Micros::from_millis(1_000));
        assert_eq!(room.next_due(), Some(at(64)));
        assert_eq!(room.release(at(1_000)).len() + room.release(at(1_000)).len(), 128);
        assert_eq!(room.release(at(1_000)).len(), 8);
        assert_eq!(room.next_due(), None);
        assert!(room.by_key.first().is_none() && room.by_limit.first().is_none());
    }

    #[test]
    fn room_is_counted_for_each_key_and_for_all() {
        let mut room = WaitingRoom::default();
        let size = Room { waiting: 3, waiting_per_key: 2 };
        let first = room.enter(1, vec![(7, 1)], at(1));
        room.enter(2, vec![(7, 1)], at(2));
        assert!(!room.has_room((7, 1), size), "the key is full");
        assert!(room.has_room((7, 2), size));
        room.enter(3, vec![(7, 2)], at(3));
        assert!(!room.has_room((7, 3), size), "the rule is full");
        assert!(room.has_room((8, 3), size), "another rule is not");
        assert!(room.leave(first));
        assert!(!room.leave(first), "nobody leaves twice");
        assert!(room.has_room((7, 1), size));
    }
}
