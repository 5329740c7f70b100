//! Time as the engine is told it: a [`Timestamp`] and lengths of time in [`Micros`].
//! No clock is read here; the host's clock may stand still or step back, and every caller copes.

use core::fmt;
use core::ops::Add;

/// A moment: microseconds since the Unix epoch, below 2^53 so that Lua and JavaScript hold it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last moment that is exact in a double: 2^53 - 1 microseconds, in the year 2255.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The moment `micros` microseconds after the epoch; later ones become [`Timestamp::MAX`].
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 {
            return Self::MAX;
        }
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// How long `self` lies after `earlier`; zero where it does not.
    pub const fn since(self, earlier: Self) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Micros> for Timestamp {
    type Output = Self;

    /// Saturates at [`Timestamp::MAX`].
    fn add(self, wait: Micros) -> Self {
        Self::from_micros(self.0.saturating_add(wait.0))
    }
}

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Longer than any wait that ends: what never conforms waits this long.
    pub const FOREVER: Self = Self(u64::MAX);

    /// A length given in seconds, saturating.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// A length given in milliseconds, saturating.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Whole seconds, rounded up: 1 µs is 1 s, 0 is 0.
    pub const fn secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }

    /// Whole milliseconds, rounded up.
    pub const fn millis_ceil(self) -> u64 {
        self.0.div_ceil(1_000)
    }

    /// `self - other`, or zero; what is forever stays so.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        if self.0 == Self::FOREVER.0 { self } else { Self(self.0.saturating_sub(other.0)) }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} us", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_up() {
        assert_eq!(Micros(1).secs_ceil(), 1);
        assert_eq!(Micros(1_000_000).secs_ceil(), 1);
        assert_eq!(Micros(1_000_001).secs_ceil(), 2);
        assert_eq!(Micros::ZERO.secs_ceil(), 0);
    }

    #[test]
    fn moments_stay_exact_in_a_double() {
        assert_eq!(Timestamp::from_micros(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX + Micros::FOREVER, Timestamp::MAX);
    }
}
