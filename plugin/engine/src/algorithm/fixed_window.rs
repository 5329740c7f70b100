//! The fixed window: `rate` units in each window, windows aligned to the epoch. Cheapest and coarsest: around a
//! boundary twice the rate may pass within one window's length, which `sliding_window` prevents.
//!
//! Formula: n = floor(t / window); a charge of cost c conforms if count(n) + c <= rate, else at the start of window
//! n + 1. Source: none to name; counting per time slot is the oldest rate limit there is.
//!
//! Worked: 100 a minute. The 101st request at 10:00:40 conforms at 10:01:00, 20 s later.
//!
//! Words of a cell: the window's number, the count in it, and the seal: the highest number used before the clock
//! stepped back, or 0. What was charged for a sealed window cannot be refunded: it may belong to the old clock.
//!
//! A request that does not fit moves the cell into the next window, where its horizon allows; later ones wait there.
//!
//! Promise: at most `rate` in each window of the cell's clock, which is the clock as it is told while that does not
//! step back. A step back of less than a sixteenth of the window changes nothing: the cell stays in the later window.
//! A longer one over a boundary pulls the cell into the earlier window with its count, so that nobody is locked out;
//! the later window then starts again when the clock reaches it, which can admit one more `rate` for each such step.

use super::{Algorithm, Cell, Plan, Quota, Standing};
use crate::time::{Micros, Timestamp};

/// The fixed window.
pub static FIXED_WINDOW: FixedWindow = FixedWindow;

/// See [`FIXED_WINDOW`].
#[derive(Clone, Copy, Debug)]
pub struct FixedWindow;

impl Algorithm for FixedWindow {
    fn name(&self) -> &'static str {
        "fixed_window"
    }

    fn plan(&self, cell: Cell, quota: &Quota, cost: u64, now: Timestamp) -> Plan {
        let rate = quota.rate.get();
        if cost > rate {
            return Plan { wait: Micros::FOREVER, cell };
        }
        let open = Open::read(cell, quota, now).moved_to(number(quota, now));
        let count = open.count.saturating_add(cost);
        if count <= rate {
            return Plan { wait: open.opens_after(quota, now), cell: Open { count, ..open }.cell() };
        }
        let next = open.moved_to(open.number.saturating_add(1));
        Plan { wait: next.starts_after(quota, now), cell: Open { count: cost, ..next }.cell() }
    }

    fn pull(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Cell {
        Open::read(cell, quota, now).cell()
    }

    fn standing(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Standing {
        let open = Open::read(cell, quota, now).moved_to(number(quota, now));
        let opens_after = open.opens_after(quota, now);
        let remaining = if opens_after == Micros::ZERO { quota.rate.get().saturating_sub(open.count) } else { 0 };
        let reset_after = if open.count == 0 {
            opens_after
        } else {
            open.moved_to(open.number.saturating_add(1)).starts_after(quota, now)
        };
        Standing { remaining, reset_after }
    }

    fn refund(&self, cell: Cell, quota: &Quota, cost: u64, charged_at: Timestamp, now: Timestamp) -> Cell {
        let open = Open::read(cell, quota, now);
        let charged = number(quota, charged_at);
        if charged != open.number || charged <= open.seal {
            return open.cell();
        }
        Open { count: open.count.saturating_sub(cost), ..open }.cell()
    }

    fn largest_cost(&self, quota: &Quota) -> u64 {
        quota.rate.get()
    }
}

/// The number of the window that `at` lies in.
fn number(quota: &Quota, at: Timestamp) -> u64 {
    at.micros().checked_div(quota.window.0).unwrap_or_default()
}

/// The one window that a cell counts in.
#[derive(Clone, Copy, Debug)]
struct Open {
    number: u64,
    count: u64,
    seal: u64,
}

impl Open {
    /// Reads a cell, pulling it where the clock stepped back.
    fn read(cell: Cell, quota: &Quota, now: Timestamp) -> Self {
        let Cell([stored_number, count, seal]) = cell;
        let stored = Self { number: stored_number, count: count.min(quota.rate.get()), seal };
        let latest = number(quota, quota.latest(now));
        if stored.number <= latest {
            return stored;
        }
        Self { number: latest, seal: seal.max(stored.number), ..stored }
    }

    const fn cell(self) -> Cell {
        Cell([self.number, self.count, self.seal])
    }

    /// The cell in window `number`, or unchanged where it is already there or further.
    fn moved_to(self, number: u64) -> Self {
        if number <= self.number {
            return self;
        }
        Self { number, count: 0, seal: if self.seal < number { 0 } else { self.seal } }
    }

    fn starts_after(self, quota: &Quota, now: Timestamp) -> Micros {
        Micros(self.number.saturating_mul(quota.window.0).saturating_sub(now.micros()))
    }

    /// How long until requests may be counted in this window: where nothing can be reserved, a window ahead is that of
    /// a worker whose clock is read a little earlier or later, and takes requests at once.
    fn opens_after(self, quota: &Quota, now: Timestamp) -> Micros {
        if quota.horizon == Micros::ZERO { Micros::ZERO } else { self.starts_after(quota, now) }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn quota() -> Quota {
        let rate = NonZeroU64::new(100).unwrap();
        Quota { rate, window: Micros(MINUTE), burst: rate, horizon: Micros::ZERO }
    }

    fn at(minute: u64, second: u64) -> Timestamp {
        Timestamp::from_micros(minute * MINUTE + second * 1_000_000)
    }

    #[test]
    fn what_does_not_fit_waits_for_the_next_window() {
        let full = FIXED_WINDOW.plan(Cell::default(), &quota(), 100, at(600, 40));
        assert_eq!(full.wait, Micros::ZERO);
        let next = FIXED_WINDOW.plan(full.cell, &quota(), 1, at(600, 40));
        assert_eq!(next.wait, Micros::from_secs(20));
        assert_eq!(next.cell, Cell([601, 1, 0]));
        assert_eq!(FIXED_WINDOW.standing(full.cell, &quota(), at(600, 40)).remaining, 0);
        assert_eq!(FIXED_WINDOW.standing(full.cell, &quota(), at(601, 0)).remaining, 100);
    }

    #[test]
    fn a_small_step_back_over_a_boundary_does_not_start_the_window_again() {
        let later = FIXED_WINDOW.plan(Cell::default(), &quota(), 60, at(601, 1));
        let earlier = FIXED_WINDOW.plan(later.cell, &quota(), 10, at(600, 58));
        assert_eq!(earlier.wait, Micros::ZERO);
        assert_eq!(FIXED_WINDOW.standing(earlier.cell, &quota(), at(601, 2)).remaining, 30);
    }

    #[test]
    fn charges_of_a_clock_that_stepped_back_are_not_refunded() {
        let old = FIXED_WINDOW.plan(Cell::default(), &quota(), 60, at(605, 0));
        let pulled = FIXED_WINDOW.pull(old.cell, &quota(), at(601, 0));
        assert_eq!(pulled, Cell([601, 60, 605]));
        let again = FIXED_WINDOW.plan(pulled, &quota(), 60, at(605, 1));
        assert_eq!(FIXED_WINDOW.refund(again.cell, &quota(), 60, at(605, 0), at(605, 2)), again.cell);
    }
}
