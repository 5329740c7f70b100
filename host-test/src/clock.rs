//! The virtual clock: a wall clock that a test sets in either direction and a steady clock that drives timers. Nothing
//! here, and nothing in this crate, reads the real time.

use std::cell::Cell;
use std::time::Duration;

/// Wall time in microseconds since the Unix epoch, and steady time in microseconds since the host was built.
///
/// Setting the wall clock fires nothing and moves no timer, as a step of the system clock does to a real proxy; only
/// [`Host::advance`](crate::Host::advance) lets time pass.
#[derive(Debug)]
pub struct Clock {
    wall: Cell<u64>,
    steady: Cell<u64>,
    /// How far what plugins read of the steady clock is from what it says.
    skew: Cell<i64>,
}

impl Clock {
    pub(crate) fn starting_at(micros: u64) -> Self {
        Self { wall: Cell::new(micros), steady: Cell::new(0), skew: Cell::new(0) }
    }

    /// Wall time, microseconds since the Unix epoch.
    pub fn micros(&self) -> u64 {
        self.wall.get()
    }

    /// Steps the wall clock, forwards or backwards, without letting time pass.
    pub fn set_micros(&self, micros: u64) {
        self.wall.set(micros);
    }

    /// Steady time, microseconds since the host was built.
    pub fn steady_micros(&self) -> u64 {
        self.steady.get()
    }

    /// Has plugins read a steady clock that is so many microseconds ahead, or behind, from now on. No real one steps; a
    /// plugin must survive one that does. Timers do not care.
    pub fn skew_steady(&self, micros: i64) {
        self.skew.set(micros);
    }

    /// What plugins read of the steady clock.
    pub(crate) fn shown_steady_micros(&self) -> u64 {
        self.steady.get().saturating_add_signed(self.skew.get())
    }

    /// Moves both clocks to where the steady one reads `steady` (never back).
    pub(crate) fn pass_until(&self, steady: u64) {
        let passed = steady.saturating_sub(self.steady.get());
        self.steady.set(self.steady.get() + passed);
        self.wall.set(self.wall.get().saturating_add(passed));
    }
}

/// A duration in whole microseconds; more than u64 holds counts as u64's maximum.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
