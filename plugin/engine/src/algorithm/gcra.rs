//! What token bucket and leaky bucket share: the theoretical arrival time of the generic cell rate algorithm, kept
//! without rounding, with its charges, refunds and backward clocks. When a request conforms is for each of them to say.
//!
//! Source: ITU-T I.371 and ATM Forum Traffic Management 4.0, "virtual scheduling". T = window / rate is the emission
//! interval. The theoretical arrival time (TAT) is the moment at which the cell is empty again; a charge of cost c
//! made at t moves it to max(TAT, t) + c x T.
//!
//! Worked: 300,000 a second have T = 3 1/3 µs, three of which are exactly 10 µs. Rounded up to 4 µs, every sixth
//! request would be lost.
//!
//! Words of a cell: the TAT's whole microseconds, its numerator over `rate`, and the mark: the latest moment that a
//! charge was made for, on any clock this cell ever had.

use core::num::NonZeroU128;

use super::{Cell, Plan, Quota};
use crate::time::{Micros, Timestamp};

/// A moment or a length of time: `micros + numerator / rate`, with the numerator below the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exact {
    micros: u64,
    numerator: u64,
}

impl Exact {
    /// A whole number of microseconds.
    pub(super) const fn whole(micros: u64) -> Self {
        Self { micros, numerator: 0 }
    }

    /// `cost` emission intervals.
    pub(super) fn intervals(cost: u64, quota: &Quota) -> Self {
        // Windows up to twelve days and costs up to sixteen million: the product of both has 64 bits, and no WebAssembly has
        // a multiplication that tells.
        if cost < 1 << 24 && quota.window.0 < 1 << 40 {
            let product = cost.wrapping_mul(quota.window.0);
            let micros = product / quota.rate;
            // One division, not two: this runs several times a request.
            return Self { micros, numerator: product.wrapping_sub(micros.wrapping_mul(quota.rate.get())) };
        }
        let product = u128::from(cost).saturating_mul(u128::from(quota.window.0));
        let rate = NonZeroU128::from(quota.rate);
        u64::try_from(product / rate).map_or(Self::whole(u64::MAX), |micros| {
            // A remainder is below the rate, so it always fits.
            Self { micros, numerator: u64::try_from(product % rate).unwrap_or_default() }
        })
    }

    /// The first whole microsecond that is not before this moment.
    pub(super) const fn ceil(self) -> u64 {
        self.micros.saturating_add(if self.numerator > 0 { 1 } else { 0 })
    }

    /// How many whole emission intervals fit into this length; `u64::MAX` where an interval has no length.
    pub(super) fn count_intervals(self, quota: &Quota) -> u64 {
        let rate = quota.rate.get();
        if self.micros < 1 << 39 && rate < 1 << 24 && self.numerator < rate {
            let parts = self.micros.wrapping_mul(rate).wrapping_add(self.numerator);
            return parts.checked_div(quota.window.0).unwrap_or(u64::MAX);
        }
        let parts = u128::from(self.micros)
            .saturating_mul(u128::from(quota.rate.get()))
            .saturating_add(u128::from(self.numerator));
        let count = parts.checked_div(u128::from(quota.window.0));
        count.and_then(|count| u64::try_from(count).ok()).unwrap_or(u64::MAX)
    }

    /// The sum, saturating.
    pub(super) fn plus(self, other: Self, quota: &Quota) -> Self {
        let micros = self.micros.saturating_add(other.micros);
        let to_carry = quota.rate.get().saturating_sub(other.numerator);
        match self.numerator.checked_sub(to_carry) {
            Some(numerator) => Self { micros: micros.saturating_add(1), numerator },
            None => Self { micros, numerator: self.numerator.saturating_add(other.numerator) },
        }
    }

    /// The difference, or zero where `other` is larger.
    pub(super) fn minus(self, other: Self, quota: &Quota) -> Self {
        if self <= other {
            return Self::default();
        }
        let micros = self.micros.saturating_sub(other.micros);
        if let Some(numerator) = self.numerator.checked_sub(other.numerator) {
            return Self { micros, numerator };
        }
        let borrowed = quota.rate.get().saturating_sub(other.numerator);
        Self { micros: micros.saturating_sub(1), numerator: borrowed.saturating_add(self.numerator) }
    }
}

/// A cell as it is read at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// When the cell is empty again, as far as is known now.
    pub(super) tat: Exact,
    mark: u64,
}

impl Arrival {
    /// Reads `cell` at `now`. `full` is how far past the moment of its release a charge may ever leave the TAT.
    ///
    /// A TAT beyond the latest possible one by more than that was written before the clock stepped back, and is pulled
    /// there. The pull is never longer than the step: measured in time that really passed, the quota still holds. The
    /// mark then moves past the old TAT, because no charge of the old clock may be refunded on the new one; the one
    /// microsecond more is for charges that count from a fraction of a microsecond before their release.
    pub(super) fn read(cell: Cell, quota: &Quota, now: Timestamp, full: Exact) -> Self {
        let Cell([micros, numerator, mark]) = cell;
        let stored = Exact { micros, numerator: numerator.min(quota.rate.get().saturating_sub(1)) };
        let bound = Exact::whole(quota.latest(now).micros()).plus(full, quota);
        if stored <= bound {
            return Self { tat: stored, mark };
        }
        Self { tat: bound, mark: mark.max(stored.ceil().saturating_add(1)) }
    }

    /// The state as a cell.
    pub(super) const fn cell(self) -> Cell {
        Cell([self.tat.micros, self.tat.numerator, self.mark])
    }

    /// The plan of a charge that takes `length` from `start` on and is released at `release`, in microseconds.
    pub(super) fn charge(self, quota: &Quota, start: Exact, length: Exact, release: u64, now: Timestamp) -> Plan {
        let charged = Self { tat: start.plus(length, quota), mark: self.mark.max(release) };
        Plan { wait: Micros(release.saturating_sub(now.micros())), cell: charged.cell() }
    }

    /// Gives back a charge of `length` made for `charged_at`: the TAT moves back by `length - (t - charged_at)`, where
    /// t is now or the latest moment charged for, whichever is later. Time up to t has already drained the charge, or
    /// was already promised to others on the strength of it.
    ///
    /// Worked: at one a second, a charge of 5 for second 10 that returns at second 12 gives back 3 s. If meanwhile
    /// another request was scheduled for second 13, it gives back 2 s.
    pub(super) fn refund(self, quota: &Quota, length: Exact, charged_at: Timestamp, now: Timestamp) -> Cell {
        let drained = now.micros().max(self.mark).saturating_sub(charged_at.micros());
        let back = length.minus(Exact::whole(drained), quota);
        Self { tat: self.tat.minus(back, quota), mark: self.mark }.cell()
    }

    /// How long until the cell is empty.
    pub(super) fn empty_after(self, now: Timestamp) -> Micros {
        Micros(self.tat.ceil().saturating_sub(now.micros()))
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;

    fn quota(rate: u64, seconds: u64) -> Quota {
        let rate = NonZeroU64::new(rate).unwrap();
        Quota { rate, window: Micros::from_secs(seconds), burst: rate, horizon: Micros::ZERO }
    }

    #[test]
    fn three_intervals_of_a_third_are_whole() {
        let quota = quota(300_000, 1);
        let interval = Exact::intervals(1, &quota);
        assert_eq!(interval, Exact { micros: 3, numerator: 100_000 });
        let three = interval.plus(interval, &quota).plus(interval, &quota);
        assert_eq!(three, Exact::whole(10));
        assert_eq!(three, Exact::intervals(3, &quota));
        assert_eq!(three.minus(interval, &quota), Exact { micros: 6, numerator: 200_000 });
        assert_eq!(three.count_intervals(&quota), 3);
    }

    #[test]
    fn products_beyond_64_bits_are_exact() {
        let quota = quota(10_000_000, 366 * 86_400);
        assert_eq!(Exact::intervals(20_000_000, &quota), Exact::whole(2 * 366 * 86_400 * 1_000_000));
    }

    #[test]
    fn a_refund_gives_back_what_time_has_not_drained() {
        let quota = quota(1, 1);
        let second = |s: u64| Timestamp::from_micros(s * 1_000_000);
        let refund = |tat: u64, mark: u64| {
            Arrival { tat: Exact::whole(tat * 1_000_000), mark: mark * 1_000_000 }
                .refund(&quota, Exact::intervals(5, &quota), second(10), second(12))
                .0
        };
        assert_eq!(refund(15, 10)[0], 12_000_000);
        assert_eq!(refund(16, 13)[0], 14_000_000);
    }
}
