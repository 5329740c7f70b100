//! When a store that fails is left alone: after so many failed calls in a row nobody is sent to it, until a call that no
//! request waits for has come back well. A store that the proxy never has room to call is asked on, but that is said.
//! Whom requests ask meanwhile is not known here.

use tidegate_engine::policy;
use tidegate_engine::{Micros, Timestamp};

/// What one VM knows of the store. Times are on the steady clock.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: policy::Breaker,
    /// How long a call may take.
    timeout: Micros,
    state: State,
    /// How many calls in a row found no room, since when, and whether that was said.
    crowded: (u32, Timestamp),
    is_shut_out: bool,
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
    pub(crate) fn new(settings: policy::Breaker, timeout: Micros) -> Self {
        let crowded = Default::default();
        Self { settings, timeout, state: State::Closed { failures: 0 }, crowded, is_shut_out: false }
    }

    /// Whether requests may ask the store.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Takes a call that came back well; whether that ends what was said of the store.
    pub(crate) fn worked(&mut self) -> bool {
        let ends = !self.is_closed() || self.is_shut_out;
        self.state = State::Closed { failures: 0 };
        (self.crowded.0, self.is_shut_out) = (0, false);
        ends
    }

    /// Takes a call that the proxy had no room for; whether that is to be said: there were as many in a row as open it, and
    /// whoever took the room before them has had the time of a call to leave it, so that there may be none at all.
    pub(crate) fn found_no_room(&mut self, now: Timestamp) -> bool {
        let (count, since) = &mut self.crowded;
        if *count == 0 {
            *since = now;
        }
        *count = count.saturating_add(1);
        let is_shut_out = *count >= self.settings.failures && now.since(*since) >= self.timeout;
        is_shut_out && !core::mem::replace(&mut self.is_shut_out, is_shut_out)
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
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    fn breaker(failures: u32) -> Breaker {
        Breaker::new(policy::Breaker { failures, open: Micros::from_millis(1_000) }, Micros::from_millis(20))
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
    fn no_room_for_longer_than_a_call_takes_is_said_once_and_taken_back_once() {
        let mut breaker = breaker(3);
        assert!((0..9).all(|_| !breaker.found_no_room(at(0))), "others may be using it");
        assert!(!breaker.found_no_room(at(19)));
        assert!(!breaker.worked(), "they were");
        assert!(!breaker.found_no_room(at(20)) && !breaker.found_no_room(at(90)), "two in a row");
        assert!(breaker.found_no_room(at(91)));
        assert!(!breaker.found_no_room(at(200)), "that was said");
        assert!(breaker.is_closed(), "it is asked on");
        assert!(breaker.worked() && !breaker.worked());
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
