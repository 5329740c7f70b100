//! Leases: units that are charged in Redis ahead of the requests that will spend them, so that most requests need no
//! call. How many to ask for, and where they are kept, is not decided here.
//!
//! What keeps an algorithm's own promise: a lease of a fixed window ends with its window and one of a sliding window with
//! its sub-window, so that what is spent is spent where it was counted. A token bucket's lease lives l; what was charged
//! at s may be spent until s + l, beside what the bucket earned since. So every acquire of that key uses a tolerance
//! that is shorter by l (DESIGN: burst x T - l), and l is at most a twentieth of burst x T. A leaky bucket is never
//! leased: its requests pass one by one.
//!
//! The life counts from before the call was sent, on the clock of who asks. Where that steps back, the lease is void.

use crate::acquire::CellRequest;
use crate::time::Micros;

/// What is asked of a cell beyond the request's own cost. The default asks for nothing and keeps the whole tolerance: a
/// store in `exact` mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Charge up to this many units in all, the request's cost among them, as far as they conform now. Less than the
    /// cost is the cost alone.
    pub most: u64,
    /// What a token bucket's tolerance is short of. The same for every acquire of that key, by every proxy, also for
    /// those that lease nothing: only what [`Lease::of`] says.
    pub less: Micros,
}

impl Lease {
    /// Asks for up to `most` units of this cell, in `lease` mode. `rule_cost` is the cost of the rule's requests, whatever
    /// this call's own cost is: 0 where a call only looks, or only fills up a lease.
    ///
    /// Worked: 100 a minute with burst 100 and cost 1 have burst x T = 60 s, so that l = 3 s; a bucket whose cost is its
    /// burst has l = 0 and is not leased.
    pub fn of(request: &CellRequest, rule_cost: u64, most: u64) -> Self {
        if request.algorithm.name() != "token_bucket" {
            return Self { most, less: Micros::ZERO };
        }
        let quota = &request.quota;
        let length = |units: u64| {
            let product = u128::from(units).saturating_mul(u128::from(quota.window.0));
            product.checked_div(u128::from(quota.rate.get())).and_then(|us| u64::try_from(us).ok()).unwrap_or(u64::MAX)
        };
        let burst = quota.burst.get();
        // A request of this cost must still conform where the bucket is full.
        Self { most, less: Micros((length(burst) / 20).min(length(burst.saturating_sub(rule_cost)))) }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::algorithm::{Quota, SLIDING_WINDOW, TOKEN_BUCKET};

    #[test]
    fn a_lease_lives_a_twentieth_of_the_bucket_and_leaves_room_for_a_request() {
        let quota = |burst: u64| Quota {
            rate: NonZeroU64::new(100).unwrap(),
            window: Micros::from_secs(60),
            burst: NonZeroU64::new(burst).unwrap(),
            horizon: Micros::ZERO,
        };
        let request = |burst| CellRequest {
            subject: 0,
            rule_id: 0,
            group: 0,
            algorithm: &TOKEN_BUCKET,
            quota: quota(burst),
            cost: 0,
            must: true,
            may_wait: false,
        };
        assert_eq!(Lease::of(&request(100), 1, 50), Lease { most: 50, less: Micros::from_secs(3) });
        assert_eq!(Lease::of(&request(100), 97, 0).less, Micros::from_millis(1_800));
        assert_eq!(Lease::of(&request(1), 1, 50).less, Micros::ZERO);
        let window = CellRequest { algorithm: &SLIDING_WINDOW, ..request(100) };
        assert_eq!(Lease::of(&window, 1, 50), Lease { most: 50, less: Micros::ZERO });
    }
}
