//! The sliding window: at most `rate` units in any trailing window, from seventeen counts in 24 bytes. No list of
//! requests is kept, so the cost of that promise is time: units free up to a sixteenth of the window late.
//!
//! Formula: w = window / 16; sub-window i = floor(t / w). A cell holds an open count for its own sub-window and sixteen
//! closed ones, in units of q = ceil(rate / 255). Moving on by one sub-window closes k = min(255, floor(open / q))
//! units and keeps open - k x q open; moving on by 17 clears all. A charge of cost c conforms if
//! open + q x sum(closed) + c <= rate, else at the start of the first sub-window in which it does.
//!
//! Source: the basic window of stream counting (Y. Zhu, D. Shasha, VLDB 2002); M. Datar et al., "Maintaining
//! stream statistics over sliding windows", SIAM J. Computing 31, 2002, bound such counts with an error to both sides.
//! Here every rounding is to the side of the quota.
//!
//! Worked: 1000 a minute, w = 3.75 s, q = 4. After 998 in sub-window 0 the next sub-window has closed 249 units and
//! keeps 2 open: three more do not fit until sub-window 17 starts, at 63.75 s.
//!
//! Words of a cell: two bits of seal, 38 of the sub-window's number and 24 of the open count; then the closed counts,
//! the newest in the lowest byte.
//!
//! Promise: never more than `rate` in any half-open interval as long as the window. A client that saturates it gets
//! 16/17. The clock may step back: then it holds for the time that really passed. A request that reads an older clock
//! than the cell's sub-window counts as made at its start.

use super::{Algorithm, Cell, Plan, Quota, Standing};
use crate::time::{Micros, Timestamp};

/// The sliding window.
pub static SLIDING_WINDOW: SlidingWindow = SlidingWindow;

/// See [`SLIDING_WINDOW`].
#[derive(Clone, Copy, Debug)]
pub struct SlidingWindow;

/// Closed sub-windows that a window has: as many bytes as two words hold.
const CLOSED: u64 = 16;
/// Moves after which nothing of a cell is left: the closed counts, and the open one.
const CLEARED: u64 = 17;
/// Bits of the open count: the largest rate, 10^7, is below 2^24.
const OPEN_BITS: u32 = 24;
/// Bits of a sub-window's number: 2^53 µs are 1.5 x 10^11 of the shortest sub-windows, 62.5 ms; that is below 2^38.
const NUMBER_BITS: u32 = 38;

impl Algorithm for SlidingWindow {
    fn name(&self) -> &'static str {
        "sliding_window"
    }

    fn plan(&self, cell: Cell, quota: &Quota, cost: u64, now: Timestamp) -> Plan {
        let rate = quota.rate.get();
        if cost > rate {
            return Plan { wait: Micros::FOREVER, cell };
        }
        let counts = Counts::read(cell, quota, now);
        let behind = number(quota, now).saturating_sub(counts.number);
        let moves = (behind..CLEARED)
            .find(|moves| counts.held_after(*moves, quota).saturating_add(cost) <= rate)
            .unwrap_or(behind.max(CLEARED));
        let wait = if moves == 0 { counts.opens_after(quota, now) } else { counts.starts_after(moves, quota, now) };
        let after = counts.moved_by(moves, quota);
        Plan { wait, cell: Counts { open: after.open.saturating_add(cost), ..after }.cell() }
    }

    fn pull(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Cell {
        Counts::read(cell, quota, now).cell()
    }

    fn standing(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Standing {
        let counts = Counts::read(cell, quota, now);
        let held = counts.held_after(number(quota, now).saturating_sub(counts.number), quota);
        let opens_after = counts.opens_after(quota, now);
        Standing {
            remaining: if opens_after == Micros::ZERO { quota.rate.get().saturating_sub(held) } else { 0 },
            reset_after: if held == 0 { opens_after } else { counts.starts_after(CLEARED, quota, now) },
        }
    }

    /// Only the sub-window that was charged gives back, and a closed one only whole units.
    fn refund(&self, cell: Cell, quota: &Quota, cost: u64, charged_at: Timestamp, now: Timestamp) -> Cell {
        let counts = Counts::read(cell, quota, now);
        if counts.seal != 0 {
            return counts.cell();
        }
        match counts.number.checked_sub(number(quota, charged_at)) {
            Some(0) => Counts { open: counts.open.saturating_sub(cost), ..counts },
            Some(age @ 1..=CLOSED) => counts.reopened(age, cost.checked_div(unit(quota)).unwrap_or_default()),
            _ => counts,
        }
        .cell()
    }

    fn largest_cost(&self, quota: &Quota) -> u64 {
        quota.rate.get()
    }
}

fn width(quota: &Quota) -> u64 {
    quota.window.0 / CLOSED
}

/// The number of the sub-window that `at` lies in.
fn number(quota: &Quota, at: Timestamp) -> u64 {
    at.micros().checked_div(width(quota)).unwrap_or_default().min(low_bits(NUMBER_BITS))
}

/// What one closed unit stands for.
fn unit(quota: &Quota) -> u64 {
    quota.rate.get().div_ceil(255)
}

const fn low_bits(bits: u32) -> u64 {
    1_u64.wrapping_shl(bits).wrapping_sub(1)
}

/// The counts of a cell, as they were when its sub-window was the current one.
#[derive(Clone, Copy, Debug)]
struct Counts {
    number: u64,
    open: u64,
    closed: u128,
    seal: u64,
}

impl Counts {
    /// Reads a cell, pulling it where the clock stepped back: the counts keep their order and move into the latest
    /// sub-window that is possible now. That is never further than the clock stepped.
    fn read(cell: Cell, quota: &Quota, now: Timestamp) -> Self {
        let Cell([head, newer, older]) = cell;
        let stored = Self {
            number: head.wrapping_shr(OPEN_BITS) & low_bits(NUMBER_BITS),
            open: (head & low_bits(OPEN_BITS)).min(quota.rate.get()),
            closed: u128::from(older).wrapping_shl(64) | u128::from(newer),
            seal: head.wrapping_shr(OPEN_BITS.saturating_add(NUMBER_BITS)),
        };
        let latest = number(quota, quota.latest(now));
        if stored.number <= latest {
            return stored;
        }
        Self { number: latest, seal: stored.seal_at(latest), ..stored }
    }

    fn cell(self) -> Cell {
        let head = self.seal.wrapping_shl(OPEN_BITS.saturating_add(NUMBER_BITS))
            | self.number.min(low_bits(NUMBER_BITS)).wrapping_shl(OPEN_BITS)
            | self.open.min(low_bits(OPEN_BITS));
        let [newer, older] = [self.closed, self.closed.wrapping_shr(64)].map(|half| {
            // The mask leaves 64 bits, so the half always fits.
            u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default()
        });
        Cell([head, newer, older])
    }

    /// Units held when the cell has moved on by `moves`: closing moves none away, the oldest closed count goes.
    fn held_after(self, moves: u64, quota: &Quota) -> u64 {
        if moves >= CLEARED {
            return 0;
        }
        let left = shifted(self.closed, moves);
        let units = left.to_le_bytes().into_iter().map(u64::from).fold(0, u64::saturating_add);
        units.saturating_mul(unit(quota)).saturating_add(self.open)
    }

    fn moved_by(self, moves: u64, quota: &Quota) -> Self {
        if moves == 0 {
            return self;
        }
        let number = self.number.saturating_add(moves);
        let seal = if block(self.seal, number) == block(self.seal, self.number) { self.seal } else { 0 };
        if moves >= CLEARED {
            return Self { number, open: 0, closed: 0, seal };
        }
        let units = self.open.checked_div(unit(quota)).unwrap_or_default().min(255);
        let closed = shifted(shifted(self.closed, 1) | u128::from(units), moves.saturating_sub(1));
        Self { number, open: self.open.saturating_sub(units.saturating_mul(unit(quota))), closed, seal }
    }

    /// The counts without `units` of those that closed `age` sub-windows ago, 1 to 16.
    fn reopened(self, age: u64, units: u64) -> Self {
        let newer = u32::try_from(age.saturating_sub(1).saturating_mul(8)).unwrap_or(u32::MAX);
        let there = self.closed.checked_shr(newer).unwrap_or_default() & 0xff;
        let back = there.min(u128::from(units)).checked_shl(newer).unwrap_or_default();
        Self { closed: self.closed.saturating_sub(back), ..self }
    }

    fn starts_after(self, moves: u64, quota: &Quota, now: Timestamp) -> Micros {
        let start = self.number.saturating_add(moves).saturating_mul(width(quota));
        Micros(start.saturating_sub(now.micros()))
    }

    /// How long until requests may be counted in the cell's sub-window: where nothing can be reserved, one ahead is
    /// that of a worker whose clock is read a little earlier or later, and takes requests at once.
    fn opens_after(self, quota: &Quota, now: Timestamp) -> Micros {
        if quota.horizon == Micros::ZERO { Micros::ZERO } else { self.starts_after(0, quota, now) }
    }

    /// The seal of this cell once it is pulled to `number`.
    ///
    /// After a pull, sub-windows up to the old number will be used twice, and what was charged on the old clock must
    /// not be refunded from those of the new. The old number does not fit into the cell, so the seal says in what
    /// block of 2^8, 2^16 or all sub-windows it lies; nothing is refunded until the cell has left that block.
    fn seal_at(self, number: u64) -> u64 {
        let sealed_before = block(self.seal, self.number).saturating_add(1).wrapping_shl(block_bits(self.seal));
        let last = if self.seal == 0 { self.number } else { self.number.max(sealed_before) };
        (1..3).find(|seal| last.wrapping_shr(block_bits(*seal)) == block(*seal, number)).unwrap_or(3)
    }
}

const fn block_bits(seal: u64) -> u32 {
    match seal {
        0 | 1 => 8,
        2 => 16,
        _ => NUMBER_BITS,
    }
}

/// The block that a cell at `number` is in, counted so that it leaves one when no closed count of it is left.
const fn block(seal: u64, number: u64) -> u64 {
    number.saturating_sub(CLEARED).wrapping_shr(block_bits(seal))
}

/// The closed counts after `moves` sub-windows in which nothing was closed.
fn shifted(closed: u128, moves: u64) -> u128 {
    let bits = u32::try_from(moves.saturating_mul(8)).unwrap_or(u32::MAX);
    closed.checked_shl(bits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;

    const W: u64 = 3_750_000;

    fn quota(rate: u64) -> Quota {
        let rate = NonZeroU64::new(rate).unwrap();
        Quota { rate, window: Micros::from_secs(60), burst: rate, horizon: Micros::ZERO }
    }

    fn at(sub_window: u64) -> Timestamp {
        Timestamp::from_micros(sub_window * W)
    }

    #[test]
    fn nothing_frees_before_its_sub_window_is_a_window_old() {
        let first = SLIDING_WINDOW.plan(Cell::default(), &quota(1000), 998, at(0));
        assert_eq!(first.cell, Cell([998, 0, 0]));
        let second = SLIDING_WINDOW.plan(first.cell, &quota(1000), 2, at(1));
        assert_eq!(second.wait, Micros::ZERO);
        assert_eq!(second.cell, Cell([(1 << 24) | 4, 249, 0]));
        let third = SLIDING_WINDOW.plan(first.cell, &quota(1000), 3, at(1));
        assert_eq!(third.wait, Micros(16 * W));
        assert_eq!(SLIDING_WINDOW.plan(first.cell, &quota(1000), 1000, at(17)).wait, Micros::ZERO);
    }

    #[test]
    fn a_refund_takes_whole_units_from_the_sub_window_charged() {
        let first = SLIDING_WINDOW.plan(Cell::default(), &quota(1000), 10, at(0));
        let second = SLIDING_WINDOW.plan(first.cell, &quota(1000), 5, at(1));
        let refund = |cost, charged_at| SLIDING_WINDOW.refund(second.cell, &quota(1000), cost, at(charged_at), at(1));
        let remaining = |cell| SLIDING_WINDOW.standing(cell, &quota(1000), at(1)).remaining;
        assert_eq!(remaining(second.cell), 985);
        assert_eq!(remaining(refund(10, 0)), 985 + 8);
        assert_eq!(remaining(refund(5, 1)), 985 + 5);
    }

    #[test]
    fn a_seal_lasts_until_the_old_sub_windows_are_past() {
        let old = SLIDING_WINDOW.plan(Cell::default(), &quota(100), 60, at(1_000));
        let pulled = SLIDING_WINDOW.pull(old.cell, &quota(100), at(900));
        let mut cell = pulled;
        for sub_window in 901..1_100 {
            let plan = SLIDING_WINDOW.plan(cell, &quota(100), 2, at(sub_window));
            let back = SLIDING_WINDOW.refund(plan.cell, &quota(100), 2, at(sub_window), at(sub_window));
            let sealed = back == plan.cell;
            assert_eq!(sealed, sub_window < 1_024 + 17, "sub-window {sub_window}");
            cell = plan.cell;
        }
    }
}
