//! What a rate-limiting algorithm is: a pure function from a stored [`Cell`] and the time to a [`Plan`].
//! The four built-in ones live in the files below this one; where cells are kept is not known here.

mod fixed_window;
mod gcra;
mod leaky_bucket;
mod sliding_window;
mod token_bucket;

pub use fixed_window::FIXED_WINDOW;
pub use leaky_bucket::LEAKY_BUCKET;
pub use sliding_window::SLIDING_WINDOW;
pub use token_bucket::TOKEN_BUCKET;

use core::num::NonZeroU64;

use crate::time::{Micros, Timestamp};

/// An algorithm's stored state: three words, opaque to all but the algorithm that wrote them.
/// The default, all zero, is the state of a client that was never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell(pub [u64; 3]);

/// How much a rule admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Units of cost admitted per window, 1 to 10^7.
    pub rate: NonZeroU64,
    /// The window's length, 1 s to 366 days, in whole seconds.
    pub window: Micros,
    /// A token bucket's capacity; the depth of a leaky bucket's queue. 1 to 2 x rate.
    pub burst: NonZeroU64,
    /// How far ahead of now this rule's cells may hold reservations: zero unless its strategy lets requests wait.
    pub horizon: Micros,
}

impl Quota {
    /// The last moment that a cell may be charged for, read at `now`, if the clock never stepped back. Beside the
    /// horizon it leaves a sixteenth of the window: workers that share a cell read their clocks a little out of order.
    pub fn latest(&self, now: Timestamp) -> Timestamp {
        let ahead = self.horizon.0.saturating_add(self.window.0 / 16);
        Timestamp::from_micros(now.micros().saturating_add(ahead))
    }
}

/// What would happen if a charge were made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long until the charge conforms: zero is now, [`Micros::FOREVER`] is never.
    pub wait: Micros,
    /// The state after charging at that earliest time. Meaningless where `wait` is [`Micros::FOREVER`].
    pub cell: Cell,
}

/// What a cell says of its client, without charging it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Units of cost that would conform now.
    pub remaining: u64,
    /// How long until the cell equals that of a client never seen.
    pub reset_after: Micros,
}

/// A rate-limiting algorithm. Implementations are pure: equal arguments give equal results, no argument may panic.
///
/// The contract, which the property tests hold every algorithm to:
/// * what is admitted at the times `now + wait` never exceeds what the algorithm promises;
/// * `wait` is exact: the same charge at `now + wait` conforms at once, one microsecond before it does not;
/// * a cell ahead of `now` by more than `quota.horizon` and a sixteenth of the window means that the clock stepped
///   back: it is read as [`Algorithm::pull`] says, so that nobody waits longer than a full cell and that much asks for.
pub trait Algorithm: Sync {
    /// The name that policies use.
    fn name(&self) -> &'static str;

    /// What charging `cost` (at least 1) would mean at `now`. The plan's wait may exceed the quota's horizon; the
    /// caller then does not store the plan's cell.
    fn plan(&self, cell: Cell, quota: &Quota, cost: u64, now: Timestamp) -> Plan;

    /// The cell as every other method reads it at `now`: itself, unless the clock stepped back; then the fullest state
    /// that is possible now. A caller that gets another cell back stores it, also when the request is limited: else
    /// each later request finds the old cell and pulls it anew, and the client waits for the whole step.
    fn pull(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Cell;

    /// What is left at `now`, and when the cell is like new.
    fn standing(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Standing;

    /// Gives back `cost` units that a plan charged for the moment `charged_at`, as far as that is safe at `now`:
    /// never so much that later requests could exceed the quota.
    fn refund(&self, cell: Cell, quota: &Quota, cost: u64, charged_at: Timestamp, now: Timestamp) -> Cell;

    /// The largest cost that this quota can ever admit in one request.
    fn largest_cost(&self, quota: &Quota) -> u64;

    /// The longest that a request may wait in line, whatever a strategy allows. No bound but for a leaky bucket, whose
    /// line is `burst` requests deep.
    fn longest_line(&self, quota: &Quota) -> Micros {
        let _ = quota;
        Micros::FOREVER
    }
}

impl core::fmt::Debug for dyn Algorithm {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(self.name())
    }
}
