//! Alerts: when one starts, fires and resolves, and whom that is told to. Pure: totals and moments come in, notices go
//! out. How a share or a rate is measured is `meter`'s; what lies in shared data is `kept`'s; what a receiver is sent,
//! and how often, is `notice`'s. Who evaluates, and who sends, is the filter's.
//!
//! An alert is pending from the first measurement above its threshold, and firing once it was above at every one for
//! `for_seconds`. The first measurement that is not above ends it. It is told when it fires and, if that was told, when it
//! resolves. After it told that it fires it says so again no sooner than `cooldown_seconds` later: where it resolves and
//! fires again before, the state is shown and nothing is told, until the cooldown is over and it still fires.

pub mod kept;
pub mod meter;
pub mod notice;

use crate::policy::{Alert, Condition};
use crate::time::Timestamp;
use meter::Measure;
use notice::Notice;

/// A moment on both of a host's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// On the clock that never steps: what is waited for counts by it.
    pub steady: Timestamp,
    /// On the clock that people read: it is only shown.
    pub wall: Timestamp,
}

/// How far an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Its condition does not hold.
    #[default]
    Inactive,
    /// It holds, and not yet for long enough.
    Pending,
    /// It has held for long enough, and still does.
    Firing,
}

/// What is told of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It fires.
    Firing,
    /// It was told to fire and does not any more.
    Resolved,
}

/// One alert between two measurements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The alert's name.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// Since when it is so.
    pub since: Moment,
    /// What was last measured, in millionths.
    pub value: Option<u64>,
    /// When it last told that it fires, on the steady clock.
    told_at: Option<Timestamp>,
    /// Whether it told of the firing that it is in.
    is_told: bool,
    /// What its webhook has not taken yet, the oldest first.
    outbox: Vec<Notice>,
}

impl Phase {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

impl Condition {
    /// The word of the policy format.
    pub fn word(self) -> &'static str {
        match self {
            Self::HitRateAbove(_) => "hit_rate_above",
            Self::RejectionsPerSecondAbove(_) => "rejections_per_second_above",
            Self::StoreUnhealthy => "store_unhealthy",
            Self::TopViolatorShareAbove(_) => "top_violator_share_above",
        }
    }

    /// What must be exceeded, in millionths; `None` where the store fails or does not.
    pub fn threshold(self) -> Option<u64> {
        match self {
            Self::HitRateAbove(value) | Self::RejectionsPerSecondAbove(value) | Self::TopViolatorShareAbove(value) => {
                Some(value)
            }
            Self::StoreUnhealthy => None,
        }
    }
}

impl State {
    /// An alert that was never measured.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes a measurement; `None`, where there is none yet, changes nothing. A clock that steps back makes what was
    /// waited for begin anew, at most.
    pub fn step(&mut self, alert: &Alert, measure: Option<&Measure>, now: Moment) -> Option<Event> {
        self.since.steady = self.since.steady.min(now.steady);
        self.told_at = self.told_at.map(|at| at.min(now.steady));
        let measure = measure?;
        self.value = Some(measure.value);
        if !measure.is_above {
            if self.phase != Phase::Inactive {
                self.enter(Phase::Inactive, now);
            }
            return core::mem::take(&mut self.is_told).then_some(Event::Resolved);
        }
        if self.phase == Phase::Inactive {
            self.enter(Phase::Pending, now);
        }
        if self.phase == Phase::Pending && now.steady.since(self.since.steady) >= alert.holds_for {
            self.enter(Phase::Firing, now);
        }
        let is_silent = self.told_at.is_some_and(|at| now.steady.since(at) < alert.cooldown);
        if self.phase != Phase::Firing || self.is_told || is_silent {
            return None;
        }
        self.is_told = true;
        self.told_at = Some(now.steady);
        Some(Event::Firing)
    }

    fn enter(&mut self, phase: Phase, now: Moment) {
        self.phase = phase;
        self.since = now;
    }
}

#[cfg(test)]
mod tests;
