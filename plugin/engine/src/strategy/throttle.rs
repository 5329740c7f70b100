//! `throttle`: holds a limited request until the algorithm itself would admit it. Its place is reserved at once, so the
//! order within a key is kept and no later request overtakes.

use super::{Action, Denial, Relief, Room, Strategy, refuse};
use crate::algorithm::Quota;
use crate::time::Micros;

/// Holds limited requests.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// The longest that a request is held.
    pub max_delay: Micros,
    /// How many a worker may hold.
    pub room: Room,
    /// Whether the algorithm passes requests one by one: then at most `burst` emission intervals may be waited for,
    /// which makes `burst` the depth of the queue.
    pub burst_is_depth: bool,
}

impl Strategy for Throttle {
    fn name(&self) -> &'static str {
        "throttle"
    }

    fn apply(&self, denial: &Denial) -> Action {
        match denial.relief {
            Relief::Reserved(wait) => Action::Delay(wait),
            Relief::None | Relief::BelowCeiling => refuse(denial),
        }
    }

    fn horizon(&self, quota: &Quota) -> Micros {
        if self.burst_is_depth { self.max_delay.min(depth(quota)) } else { self.max_delay }
    }

    fn room(&self) -> Option<Room> {
        Some(self.room)
    }
}

/// How long `burst` requests of a leaky bucket take to pass, rounded up.
pub(super) fn depth(quota: &Quota) -> Micros {
    let product = u128::from(quota.burst.get()).saturating_mul(u128::from(quota.window.0));
    Micros(u64::try_from(product.div_ceil(u128::from(quota.rate.get()))).unwrap_or(u64::MAX))
}
