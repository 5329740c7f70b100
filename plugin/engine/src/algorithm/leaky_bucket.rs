//! The leaky bucket as a meter: requests pass one by one, each no sooner than the one before has drained. How time is
//! counted lies in `gcra`; waiting in line is the business of the strategies `throttle` and `queue`.
//!
//! Formula: a charge of cost c conforms at t if TAT <= t, and moves TAT to max(TAT, t) + c x T. Source: GCRA without tolerance,
//! ITU-T I.371; J. Turner, "New directions in communications (or which way to the information age?)", IEEE
//! Communications Magazine, October 1986.
//!
//! Worked: 100 a minute have T = 0.6 s. After a request of cost 5 the next one, of any cost, conforms 3 s later.
//!
//! Promise: from one request to a later one pass more than (the cost of the first and of all between) x T - 1 µs. The
//! microsecond is the clock's own width: a request in the microsecond in which the TAT falls due counts as having come
//! at the TAT. Else each request would lose a fraction, which at 300,000 a second adds up to 17 %. The clock may step
//! back: then the promise holds for the time that really passed.

use super::gcra::{Arrival, Exact};
use super::{Algorithm, Cell, Plan, Quota, Standing};
use crate::time::{Micros, Timestamp};

/// The leaky bucket.
pub static LEAKY_BUCKET: LeakyBucket = LeakyBucket;

/// See [`LEAKY_BUCKET`].
#[derive(Clone, Copy, Debug)]
pub struct LeakyBucket;

impl Algorithm for LeakyBucket {
    fn name(&self) -> &'static str {
        "leaky_bucket"
    }

    fn plan(&self, cell: Cell, quota: &Quota, cost: u64, now: Timestamp) -> Plan {
        if cost > quota.rate.get() {
            return Plan { wait: Micros::FOREVER, cell };
        }
        let arrival = read(cell, quota, now);
        let due = arrival.tat.ceil();
        let release = due.max(now.micros());
        let start = if release == due { arrival.tat } else { Exact::whole(release) };
        arrival.charge(quota, start, Exact::intervals(cost, quota), release, now)
    }

    fn pull(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Cell {
        read(cell, quota, now).cell()
    }

    /// `remaining` is 1 or 0: how many requests of cost 1 may be sent at once. A single larger one passes as well
    /// where it is 1, but after it nothing does, and a client told of more would send more.
    fn standing(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Standing {
        let reset_after = read(cell, quota, now).empty_after(now);
        Standing { remaining: u64::from(reset_after == Micros::ZERO), reset_after }
    }

    fn refund(&self, cell: Cell, quota: &Quota, cost: u64, charged_at: Timestamp, now: Timestamp) -> Cell {
        read(cell, quota, now).refund(quota, Exact::intervals(cost, quota), charged_at, now)
    }

    fn largest_cost(&self, quota: &Quota) -> u64 {
        quota.rate.get()
    }

    /// Worked: 100 a minute with burst 10 let ten requests wait, the last of them 6 s.
    fn longest_line(&self, quota: &Quota) -> Micros {
        Micros(Exact::intervals(quota.burst.get(), quota).ceil())
    }
}

/// The largest cost, `rate`, drains for one window: the TAT never lies further behind a release than that.
fn read(cell: Cell, quota: &Quota, now: Timestamp) -> Arrival {
    Arrival::read(cell, quota, now, Exact::whole(quota.window.0))
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;

    const NOW: u64 = 1_700_000_000_000_000;

    fn quota(rate: u64, window: u64) -> Quota {
        let rate = NonZeroU64::new(rate).unwrap();
        Quota { rate, window: Micros::from_secs(window), burst: rate, horizon: Micros::ZERO }
    }

    #[test]
    fn a_cost_of_five_drains_for_five_intervals() {
        let quota = quota(100, 60);
        let now = Timestamp::from_micros(NOW);
        let first = LEAKY_BUCKET.plan(Cell::default(), &quota, 5, now);
        assert_eq!(first.wait, Micros::ZERO);
        for cost in [1, 5, 100] {
            assert_eq!(LEAKY_BUCKET.plan(first.cell, &quota, cost, now).wait, Micros::from_secs(3));
        }
        assert_eq!(LEAKY_BUCKET.plan(first.cell, &quota, 101, now).wait, Micros::FOREVER);
        assert_eq!(LEAKY_BUCKET.longest_line(&quota), Micros::from_secs(60));
        let standing = LEAKY_BUCKET.standing(first.cell, &quota, now);
        assert_eq!(standing, Standing { remaining: 0, reset_after: Micros::from_secs(3) });
    }

    #[test]
    fn fractions_of_a_microsecond_are_not_lost() {
        let quota = quota(300_000, 1);
        let (mut cell, mut at) = (Cell::default(), Timestamp::from_micros(NOW));
        let mut passed = Vec::new();
        for _ in 0..7 {
            let plan = LEAKY_BUCKET.plan(cell, &quota, 1, at);
            at = at + plan.wait;
            cell = plan.cell;
            passed.push(at.micros() - NOW);
        }
        assert_eq!(passed, [0, 4, 7, 10, 14, 17, 20]);
    }
}
