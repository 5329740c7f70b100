//! `throttle`: holds a limited request until the algorithm itself would admit it. Its place is reserved at once, so the
//! order within a key is kept and no later request overtakes.

use super::{Action, Denial, Relief, Room, Strategy, refuse};
use crate::time::Micros;

/// Holds limited requests.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// The longest that a request is held.
    pub max_delay: Micros,
    /// How many a worker may hold.
    pub room: Room,
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

    fn horizon(&self) -> Micros {
        self.max_delay
    }

    fn room(&self) -> Option<Room> {
        Some(self.room)
    }
}
