//! The token bucket: `burst` units at once, then `rate` a window. How time is counted lies in `gcra`.
//!
//! Formula: a charge of cost c conforms at t if TAT <= t + (burst - c) x T, and moves TAT to max(TAT, t) + c x T.
//! Source: GCRA with the limit (burst - 1) x T, ITU-T I.371; a bucket of `burst` tokens that fills with one each T is
//! the same thing seen from the other side.
//!
//! Worked: 100 a minute with burst 10 have T = 0.6 s. Ten requests at 0 leave TAT = 6 s; the eleventh conforms at
//! 6 - 9 x 0.6 = 0.6 s.
//!
//! Promise: in any interval from a to b, both included, at most burst + rate x (b - a) / window. The clock may step
//! back: then it holds for the time that really passed.

use super::gcra::{Arrival, Exact};
use super::{Algorithm, Cell, Plan, Quota, Standing};
use crate::time::{Micros, Timestamp};

/// The token bucket.
pub static TOKEN_BUCKET: TokenBucket = TokenBucket;

/// See [`TOKEN_BUCKET`].
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket;

impl Algorithm for TokenBucket {
    fn name(&self) -> &'static str {
        "token_bucket"
    }

    fn plan(&self, cell: Cell, quota: &Quota, cost: u64, now: Timestamp) -> Plan {
        let Some(spare) = quota.burst.get().checked_sub(cost) else {
            return Plan { wait: Micros::FOREVER, cell };
        };
        let spare = Exact::intervals(spare, quota);
        let length = Exact::intervals(cost, quota);
        let arrival = Arrival::read(cell, quota, now, spare.plus(length, quota));
        let release = arrival.tat.minus(spare, quota).ceil().max(now.micros());
        let start = arrival.tat.max(Exact::whole(release));
        arrival.charge(quota, start, length, release, now)
    }

    fn pull(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Cell {
        read(cell, quota, now).cell()
    }

    fn standing(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Standing {
        let arrival = read(cell, quota, now);
        let room = Exact::whole(now.micros()).plus(full(quota), quota).minus(arrival.tat, quota);
        Standing {
            remaining: room.count_intervals(quota).min(quota.burst.get()),
            reset_after: arrival.empty_after(now),
        }
    }

    fn refund(&self, cell: Cell, quota: &Quota, cost: u64, charged_at: Timestamp, now: Timestamp) -> Cell {
        read(cell, quota, now).refund(quota, Exact::intervals(cost, quota), charged_at, now)
    }

    fn largest_cost(&self, quota: &Quota) -> u64 {
        quota.burst.get()
    }
}

fn full(quota: &Quota) -> Exact {
    Exact::intervals(quota.burst.get(), quota)
}

fn read(cell: Cell, quota: &Quota, now: Timestamp) -> Arrival {
    Arrival::read(cell, quota, now, full(quota))
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;

    #[test]
    fn the_eleventh_of_a_burst_of_ten_waits_one_interval() {
        let quota = Quota {
            rate: NonZeroU64::new(100).unwrap(),
            window: Micros::from_secs(60),
            burst: NonZeroU64::new(10).unwrap(),
            horizon: Micros::ZERO,
        };
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let mut cell = Cell::default();
        for sent in 0..10 {
            assert_eq!(TOKEN_BUCKET.standing(cell, &quota, now).remaining, 10 - sent);
            let plan = TOKEN_BUCKET.plan(cell, &quota, 1, now);
            assert_eq!(plan.wait, Micros::ZERO);
            cell = plan.cell;
        }
        assert_eq!(TOKEN_BUCKET.plan(cell, &quota, 1, now).wait, Micros::from_millis(600));
        assert_eq!(TOKEN_BUCKET.plan(cell, &quota, 10, now).wait, Micros::from_secs(6));
        assert_eq!(TOKEN_BUCKET.plan(cell, &quota, 11, now).wait, Micros::FOREVER);
        assert_eq!(
            TOKEN_BUCKET.standing(cell, &quota, now),
            Standing { remaining: 0, reset_after: Micros::from_secs(6) }
        );
    }
}
