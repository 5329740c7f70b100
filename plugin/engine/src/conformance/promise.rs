//! Judges by brute force what a cell admitted. Nothing of any algorithm's own arithmetic is used.

use super::{Admission, Promise};
use crate::algorithm::Quota;

impl Promise {
    /// What the log breaks of the promise. It is in the order of [`Admission::at`].
    pub(super) fn judge(self, quota: &Quota, log: &[Admission], clock_stepped: bool) -> Result<(), String> {
        match self {
            Self::Burst => burst(quota, log),
            Self::Spacing => spacing(quota, log),
            Self::AlignedWindow if clock_stepped => Ok(()),
            Self::AlignedWindow => aligned_window(quota, log),
            Self::AnyWindow => any_window(quota, log),
            Self::Own(judge) => judge(quota, log),
        }
    }
}

fn burst(quota: &Quota, log: &[Admission]) -> Result<(), String> {
    each_interval(log, |length, admitted| {
        let window = u128::from(quota.window.0);
        let allowed = u128::from(quota.burst.get()) * window + u128::from(quota.rate.get()) * u128::from(length);
        if u128::from(admitted) * window > allowed {
            return Err(format!("{admitted} units within {length} us, allowed: {}", allowed / window));
        }
        Ok(())
    })
}

fn any_window(quota: &Quota, log: &[Admission]) -> Result<(), String> {
    each_interval(log, |length, admitted| {
        if length < quota.window.0 && admitted > quota.rate.get() {
            return Err(format!("{admitted} units within {length} us, allowed: {} in any window", quota.rate));
        }
        Ok(())
    })
}

fn spacing(quota: &Quota, log: &[Admission]) -> Result<(), String> {
    let mut from = log;
    while let Some((first, rest)) = from.split_first() {
        let mut before = u128::from(first.cost);
        for later in rest {
            let needed = before * u128::from(quota.window.0);
            let passed = later.at.since(first.at);
            if needed >= u128::from(quota.rate.get()) * (u128::from(passed.0) + 1) {
                let needed = needed / u128::from(quota.rate.get());
                return Err(format!("{before} units {passed} before the next, allowed: more than {needed} us - 1"));
            }
            before += u128::from(later.cost);
        }
        from = rest;
    }
    Ok(())
}

fn aligned_window(quota: &Quota, log: &[Admission]) -> Result<(), String> {
    let number = |one: &Admission| one.told.micros().checked_div(quota.window.0);
    for one in log {
        let admitted: u64 = log.iter().filter(|other| number(other) == number(one)).map(|other| other.cost).sum();
        if admitted > quota.rate.get() {
            return Err(format!("{admitted} units in one window since the epoch, allowed: {}", quota.rate));
        }
    }
    Ok(())
}

/// Every interval from one admission to another: its length, and what was admitted in it, both ends included.
fn each_interval(log: &[Admission], judge: impl Fn(u64, u64) -> Result<(), String>) -> Result<(), String> {
    let mut from = log;
    while let Some((first, rest)) = from.split_first() {
        let mut admitted = 0;
        for to in from {
            admitted += to.cost;
            judge(to.at.since(first.at).0, admitted)?;
        }
        from = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::time::{Micros, Timestamp};

    fn is_kept(promise: Promise, log: &[(u64, u64)]) -> bool {
        let two = NonZeroU64::new(2).unwrap();
        let quota = Quota { rate: two, window: Micros::from_secs(1), burst: two, horizon: Micros::ZERO };
        let moment = |micros| Timestamp::from_micros(1_700_000_000_000_000 + micros);
        let log: Vec<Admission> =
            log.iter().map(|(at, cost)| Admission { cost: *cost, at: moment(*at), told: moment(*at) }).collect();
        promise.judge(&quota, &log, false).is_ok()
    }

    /// Two a second, burst 2: each log and, of the promises burst, spacing, aligned window and any window, those it keeps.
    #[test]
    fn each_promise_is_judged_to_the_microsecond() {
        for (log, kept) in [
            (&[(0, 2)][..], [true, true, true, true]),
            (&[(0, 3)], [false, true, false, false]),
            (&[(0, 2), (499_999, 1)], [false, false, false, false]),
            (&[(0, 2), (500_000, 1)], [true, false, false, false]),
            (&[(0, 2), (999_999, 1)], [true, false, false, false]),
            (&[(0, 2), (1_000_000, 2)], [true, true, true, true]),
            (&[(600_000, 2), (1_000_000, 1)], [false, false, true, false]),
            (&[(0, 1), (499_999, 1)], [true, false, true, true]),
            (&[(0, 1), (500_000, 1)], [true, true, true, true]),
        ] {
            let promises = [Promise::Burst, Promise::Spacing, Promise::AlignedWindow, Promise::AnyWindow];
            assert_eq!(promises.map(|promise| is_kept(promise, log)), kept, "{log:?}");
        }
    }
}
