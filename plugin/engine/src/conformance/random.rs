//! Makes quotas, cells and histories from a seed. The first seeds give small ones, so that what is wrong shows there.

use crate::algorithm::{Algorithm, Cell, Quota};
use crate::time::{Micros, Timestamp};
use core::num::NonZeroU64;

/// Where clocks start: November 2023.
pub(super) const START: u64 = 1_700_000_000_000_000;
/// Seeds below this give small quotas and short histories.
const SMALL: u64 = 500;
/// The longest window that a policy may name, in seconds.
const LONGEST: u64 = 366 * 86_400;

/// A quota, the cell to start from, and what then happens.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) quota: Quota,
    pub(super) cell: Cell,
    pub(super) events: Vec<Event>,
}

/// Something that happens to a client. Times are microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Time passes.
    Pass(u64),
    /// A request.
    Ask(u64),
    /// A client that heeds `wait`: it waits as long as it is told, then asks.
    AskInTime(u64),
    /// A request of a worker whose clock was read earlier than others' that charged before it.
    AskLate { cost: u64, late: u64 },
    /// One of those admitted was not needed after all.
    Refund(usize),
    /// The clock is set back. No time passes.
    StepBack(u64),
}

/// Vigna's `SplitMix64`: 64 bits of state, every output of which is a bijection of it.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        let count = u128::from(high - low) + 1;
        low + u64::try_from((u128::from(self.next()) * count) >> 64).unwrap_or_default()
    }

    /// A word as nobody expects it: an end of the range, anything, or near to now.
    pub(super) fn word(&mut self) -> u64 {
        match self.between(0, 5) {
            0 => self.between(0, 2),
            1 => u64::MAX - self.between(0, 2),
            2 => self.next(),
            3 => self.between(0, Timestamp::MAX.micros() + 1),
            4 => 1 << self.between(0, 63),
            _ => START + self.between(0, 1 << 42) - (1 << 41),
        }
    }

    pub(super) fn quota_of_any_words(&mut self) -> Quota {
        let [rate, burst] = [self.word(), self.word()].map(positive);
        Quota { rate, window: Micros(self.word()), burst, horizon: Micros(self.word()) }
    }

    fn quota(&mut self, algorithm: &dyn Algorithm, is_small: bool) -> Quota {
        let rate = match self.between(0, if is_small { 0 } else { 7 }) {
            0 => self.between(1, 4),
            1..=3 => self.between(1, 12),
            4 | 5 => self.between(13, 255),
            6 => self.between(256, 5_000),
            _ => self.between(5_001, 10_000_000),
        };
        let window = match self.between(0, if is_small { 0 } else { 7 }) {
            0 => 1,
            1..=4 => self.between(1, 4),
            5 | 6 => self.between(5, 100_000),
            _ => LONGEST,
        };
        let window = Micros::from_secs(window);
        let burst = if self.between(0, 3) == 0 { 1 } else { rate * self.between(1, 200) / 100 };
        let horizon = if self.between(0, 4) < 3 { 0 } else { window.0 / 100 * self.between(1, 300) };
        let quota = Quota { rate: positive(rate), window, burst: positive(burst), horizon: Micros::ZERO };
        // As when a policy is read: no strategy lets a request wait longer than the algorithm's line is.
        Quota { horizon: Micros(horizon).min(algorithm.longest_line(&quota)), ..quota }
    }

    fn cost(&mut self, largest: u64) -> u64 {
        let share = |thousandths: u64| {
            u64::try_from(u128::from(largest) * u128::from(thousandths) / 1_000).unwrap_or(largest).max(1)
        };
        match self.between(0, 6) {
            0 | 1 => self.between(1, 3).min(largest),
            2..=5 => share(self.between(0, 200)),
            _ => share(self.between(0, 1_000)),
        }
    }

    fn span(&mut self, quota: &Quota) -> u64 {
        let window = quota.window.0;
        match self.between(0, 3) {
            0 => self.between(0, 3),
            1 => window / quota.rate * self.between(0, 4_000) / 1_000,
            2 => window / 16 * self.between(0, 4_000) / 1_000,
            _ => window / 1_000 * self.between(0, 1_500),
        }
    }
}

impl Case {
    /// The case of a seed. Every fifth starts from a cell that no history made; else half of them have a clock that
    /// steps back, and the others have workers whose clocks are read out of order.
    pub(super) fn new(algorithm: &dyn Algorithm, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let quota = random.quota(algorithm, seed < SMALL);
        if seed.is_multiple_of(5) {
            let cell = Cell([random.word(), random.word(), random.word()]);
            return Self { quota, cell, events: Vec::new() };
        }
        let clock_steps = seed.is_multiple_of(2);
        let length = random.between(1, if seed < SMALL { 8 } else { 40 });
        let largest = algorithm.largest_cost(&quota).max(1);
        let events = (0..length).map(|_| match random.between(0, 15) {
            0..=3 => Event::Pass(random.span(&quota)),
            4..=9 => Event::Ask(random.cost(largest)),
            10 | 11 => Event::AskInTime(random.cost(largest)),
            12 | 13 => Event::Refund(usize::try_from(random.between(0, 39)).unwrap_or_default()),
            _ if clock_steps => Event::StepBack(random.span(&quota)),
            _ => Event::AskLate { cost: random.cost(largest), late: random.between(0, quota.window.0 / 16 - 1) },
        });
        let events = events.collect();
        Self { quota, cell: Cell::default(), events }
    }
}

fn positive(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        // The first outputs for seed 1234567 in Vigna's reference code.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        let numbers: Vec<u64> = (0..1_000).map(|_| random.between(5, 7)).collect();
        assert!((5..=7).all(|wanted| numbers.contains(&wanted)) && numbers.iter().all(|number| *number < 8));
    }
}
