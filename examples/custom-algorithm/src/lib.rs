//! `lockout`: `rate` attempts, then a full quiet window. A Tidegate plugin with an algorithm of its own, from whose parts
//! you can make yours: `docs/write-your-own.md` goes through it line by line.
//!
//! Formula: admissions less than a window apart form a run. A charge of cost c at t conforms if t >= last + window (it
//! begins a run), or if the run's count + c <= rate; else at last + window. Refused attempts do not prolong the wait.
//! Source: the lockout counter of login systems, such as the one that PCI DSS 4.0, requirement 8.3.4, asks for.
//!
//! Worked: 5 in 15 minutes. Five wrong passwords by 10:04:00 lock the form until 10:19:00. Who tries once every 14
//! minutes is locked out after the fifth try as well, 15 minutes after it: that is what tells it from `sliding_window`.
//!
//! Words of a cell: the run's count, its latest admission, and the moment from which charges can be given back.
//!
//! Promise: never more than `rate` in any half-open interval as long as the window, since a run holds no more and the
//! next begins a window after its end. The clock may step back: then it holds for the time that really passed.

use tidegate_engine::algorithm::{Algorithm, Cell, Plan, Quota, Standing};
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::{Micros, Timestamp};

tidegate_filter::plugin!(Catalogue::builtin().with_algorithm(&LOCKOUT));

/// The algorithm, as the catalogue takes it.
static LOCKOUT: Lockout = Lockout;

#[derive(Debug)]
struct Lockout;

/// Admissions that are less than a window apart. Times are microseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct Run {
    count: u64,
    last: u64,
    /// Charges for earlier moments belong to another run, or to a clock that was set back since.
    refundable_from: u64,
}

impl Run {
    /// Reads a cell. One further ahead than workers' clocks can be apart was written before the clock stepped back: its
    /// latest admission becomes the latest that is possible now, and nothing of the old clock is given back any more.
    fn read(cell: Cell, quota: &Quota, now: Timestamp) -> Self {
        let Cell([count, last, refundable_from]) = cell;
        let ahead = quota.horizon.0.saturating_add(quota.window.0 / 16);
        let latest = now.micros().saturating_add(ahead);
        if last <= latest {
            return Self { count, last, refundable_from };
        }
        Self { count, last: latest, refundable_from: refundable_from.max(last.saturating_add(1)) }
    }

    fn cell(self) -> Cell {
        Cell([self.count, self.last, self.refundable_from])
    }

    /// When the run is over.
    fn end(self, quota: &Quota) -> u64 {
        self.last.saturating_add(quota.window.0)
    }
}

impl Algorithm for Lockout {
    fn name(&self) -> &'static str {
        "lockout"
    }

    fn plan(&self, cell: Cell, quota: &Quota, cost: u64, now: Timestamp) -> Plan {
        let rate = quota.rate.get();
        if cost > rate {
            return Plan { wait: Micros::FOREVER, cell };
        }
        let run = Run::read(cell, quota, now);
        let count = run.count.saturating_add(cost);
        if now.micros() < run.end(quota) && count <= rate {
            // A worker whose clock was read a little earlier joins the run that another one has begun.
            let joined = Run { count, last: run.last.max(now.micros()), ..run };
            return Plan { wait: Micros::ZERO, cell: joined.cell() };
        }
        let start = run.end(quota).max(now.micros());
        let begun = Run { count: cost, last: start, refundable_from: run.refundable_from.max(start) };
        Plan { wait: Micros(start.saturating_sub(now.micros())), cell: begun.cell() }
    }

    fn pull(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Cell {
        Run::read(cell, quota, now).cell()
    }

    fn standing(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Standing {
        let run = Run::read(cell, quota, now);
        let rate = quota.rate.get();
        let left = run.end(quota).saturating_sub(now.micros());
        if left == 0 || run.count == 0 {
            return Standing { remaining: rate, reset_after: Micros::ZERO };
        }
        Standing { remaining: rate.saturating_sub(run.count), reset_after: Micros(left) }
    }

    /// A run's own charges come off its count. Its end stays, for others may have been refused on the strength of it.
    fn refund(&self, cell: Cell, quota: &Quota, cost: u64, charged_at: Timestamp, now: Timestamp) -> Cell {
        let run = Run::read(cell, quota, now);
        if charged_at.micros() < run.refundable_from {
            return run.cell();
        }
        Run { count: run.count.saturating_sub(cost), ..run }.cell()
    }

    fn largest_cost(&self, quota: &Quota) -> u64 {
        quota.rate.get()
    }

    /// Nobody waits in line for the end of a lockout: `throttle` and `queue` then refuse at once.
    fn longest_line(&self, _: &Quota) -> Micros {
        Micros::ZERO
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use tidegate_engine::conformance::{Promise, check};

    use super::*;

    #[test]
    fn it_keeps_the_contract() {
        check(&LOCKOUT, Promise::AnyWindow).unwrap_or_else(|violation| panic!("{violation}"));
    }

    #[test]
    fn five_wrong_passwords_lock_for_a_quarter_of_an_hour() {
        let rate = NonZeroU64::new(5).unwrap();
        let quota = Quota { rate, window: Micros::from_secs(900), burst: rate, horizon: Micros::ZERO };
        let at = |minute: u64| Timestamp::from_micros(1_700_000_000_000_000) + Micros::from_secs(60 * minute);
        let mut cell = Cell::default();
        for minute in 0..5 {
            let plan = LOCKOUT.plan(cell, &quota, 1, at(minute));
            assert_eq!(plan.wait, Micros::ZERO);
            cell = plan.cell;
        }
        let locked = Standing { remaining: 0, reset_after: Micros::from_secs(60 * 15) };
        assert_eq!(LOCKOUT.standing(cell, &quota, at(4)), locked);
        assert_eq!(LOCKOUT.plan(cell, &quota, 1, at(10)).wait, Micros::from_secs(60 * 9));
        assert_eq!(LOCKOUT.plan(cell, &quota, 1, at(19)).wait, Micros::ZERO);
        assert_eq!(LOCKOUT.standing(cell, &quota, at(19)).remaining, 5);
    }

    #[test]
    fn a_client_that_never_rests_is_locked_out_however_slow_it_is() {
        let rate = NonZeroU64::new(5).unwrap();
        let quota = Quota { rate, window: Micros::from_secs(900), burst: rate, horizon: Micros::ZERO };
        let mut cell = Cell::default();
        for attempt in 0..6 {
            let now = Timestamp::from_micros(1_700_000_000_000_000) + Micros::from_secs(840 * attempt);
            let plan = LOCKOUT.plan(cell, &quota, 1, now);
            assert_eq!(plan.wait == Micros::ZERO, attempt < 5, "attempt {attempt}");
            cell = if attempt < 5 { plan.cell } else { cell };
        }
    }
}
