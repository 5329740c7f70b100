//! The root's tick, which the host repeats until it is told otherwise: it runs only while something is due.

use core::cell::Cell;

use tidegate_engine::{Micros, Timestamp};

use crate::host;

/// When the host ticks next.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    ticks_at: Cell<Option<Timestamp>>,
}

impl Timer {
    /// Has the host tick at `due`; `ticked` where it just did.
    pub(crate) fn set(&self, due: Option<Timestamp>, now: Timestamp, ticked: bool) {
        if let Some(millis) = self.next(due, now, ticked) {
            host::set_tick(millis);
        }
    }

    /// What to tell the host, in milliseconds from now, so that it ticks at `due`, the earliest moment at which there is
    /// something to do: `None` leaves its timer as it is, 0 stops it. `ticked` says that it just fired.
    fn next(&self, due: Option<Timestamp>, now: Timestamp, ticked: bool) -> Option<u32> {
        if ticked {
            self.ticks_at.set(None);
        }
        let Some(due) = due else {
            return (ticked || self.ticks_at.take().is_some()).then_some(0);
        };
        if self.ticks_at.get().is_some_and(|at| at <= due) {
            return None;
        }
        // The timer knows milliseconds and must not be early; 0 would stop it.
        let millis = due.since(now).millis_ceil().max(1);
        self.ticks_at.set(Some(now + Micros::from_millis(millis)));
        Some(u32::try_from(millis).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + millis * 1_000)
    }

    #[test]
    fn the_timer_runs_only_while_something_is_due() {
        let timer = Timer::default();
        assert_eq!(timer.next(None, at(0), false), None);
        assert_eq!(timer.next(Some(at(100)), at(0), false), Some(100));
        assert_eq!(timer.next(Some(at(40)), at(0), false), Some(40), "an earlier moment moves it");
        assert_eq!(timer.next(Some(at(60)), at(0), false), None, "a later one does not: the tick looks again");
        assert_eq!(timer.next(Some(at(60)), at(40), true), Some(20));
        assert_eq!(timer.next(Some(at(10)), at(60), true), Some(1), "what is overdue is due at once");
        assert_eq!(timer.next(None, at(61), true), Some(0));
        assert_eq!(timer.next(None, at(61), false), None);
    }
}
