//! When a store that fails is left alone: after so many failed calls in a row nobody is sent to it, until a call that no
//! request waits for has come back well. Whom requests ask meanwhile is not known here.

use tidegate_engine::Timestamp;
use tidegate_engine::policy;

/// What one VM knows of the store. Times are on the steady clock.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: policy::Breaker,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requests ask the store; so many calls in a row failed.
    Closed { failures: u32 },
    /// Nobody asks before this moment.
    Open { probe_at: Timestamp },
    /// One call finds out whether it answers again.
    HalfOpen,
}

impl Breaker {
    pub(crate) fn new(settings: policy::Breaker) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// Whether requests may ask the store.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Takes a call that came back well; whether that closes it.
    pub(crate) fn worked(&mut self) -> bool {
        let closes = !self.is_closed();
        self.state = State::Closed { failures: 0 };
        closes
    }

    /// Takes a call that failed; whether that opens it.
    pub(crate) fn failed(&mut self, now: Timestamp) -> bool {
        #[expect(clippy::arithmetic_side_effects, reason = "a Timestamp saturates")]
        let open = State::Open { probe_at: now + self.settings.open };
        match self.state {
            State::Closed { failures } if failures.saturating_add(1) < self.settings.failures => {
                self.state = State::Closed { failures: failures.saturating_add(1) };
                false
            }
            State::Closed { .. } => {
                self.state = open;
                true
            }
            State::HalfOpen => {
                self.state = open;
                false
            }
            // A call from before it opened.
            State::Open { .. } => false,
        }
    }

    /// When the store is to be tried again; `None` while it is not left alone, or is being tried.
    pub(crate) fn probe_at(&self) -> Option<Timestamp> {
        if let State::Open { probe_at } = self.state { Some(probe_at) } else { None }
    }

    /// Whether the moment to try the store again has come; then its outcome is waited for.
    pub(crate) fn starts_probe(&mut self, now: Timestamp) -> bool {
        let starts = self.probe_at().is_some_and(|at| at <= now);
        if starts {
            self.state = State::HalfOpen;
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use tidegate_engine::Micros;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    fn breaker(failures: u32) -> Breaker {
        Breaker::new(policy::Breaker { failures, open: Micros::from_millis(1_000) })
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_probe_closes_it() {
        let mut breaker = breaker(3);
        assert!(!breaker.failed(at(0)) && !breaker.failed(at(1)));
        assert!(!breaker.worked(), "it was closed");
        assert!(!breaker.failed(at(2)) && !breaker.failed(at(3)), "counted anew");
        assert!(breaker.failed(at(4)), "the third in a row");
        assert!(!breaker.is_closed());
        assert!(!breaker.failed(at(5)), "a late one of before");
        assert_eq!(breaker.probe_at(), Some(at(1_004)));
        assert!(!breaker.starts_probe(at(1_003)));
        assert!(breaker.starts_probe(at(1_004)));
        assert!(!breaker.starts_probe(at(1_005)), "one at a time");
        assert!(!breaker.is_closed(), "requests do not ask meanwhile");
        assert!(!breaker.failed(at(1_010)), "still open");
        assert_eq!(breaker.probe_at(), Some(at(2_010)));
        assert!(breaker.starts_probe(at(2_010)));
        assert!(breaker.worked());
        assert!(breaker.is_closed());
        assert_eq!(breaker.probe_at(), None);
    }

    #[test]
    fn a_breaker_of_one_opens_at_once() {
        assert!(breaker(1).failed(at(0)));
    }

    #[test]
    fn a_good_answer_of_before_closes_an_open_one() {
        let mut breaker = breaker(1);
        breaker.failed(at(0));
        assert!(breaker.worked());
        assert!(breaker.is_closed());
    }
}
