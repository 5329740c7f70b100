//! Makes a history that goes wrong as short and as round as can be, so that a person sees why.

use super::random::{Case, Event};
use super::{Clause, Fault, Promise, live_through};
use crate::algorithm::{Algorithm, Quota};
use crate::time::Micros;

/// How many histories are tried; a debug build tries some thousands a second.
const TRIES: u32 = 3_000;

/// The shortest case found in which the same clause is broken, and how.
pub(super) fn shortest(algorithm: &dyn Algorithm, promise: Promise, case: Case, fault: Fault) -> (Case, Fault) {
    // Each panic prints a report of its own; one is enough.
    if fault.clause == Clause::NoPanic {
        return (case, fault);
    }
    let mut best = (case, fault);
    let mut tries = 0;
    let mut has_changed = true;
    while has_changed {
        has_changed = false;
        // Candidates are made anew from each better case; the position stays, since what is before it was tried.
        let mut position = 0;
        while let Some(candidate) = candidate(&best.0, position) {
            position += 1;
            tries += 1;
            if tries > TRIES {
                return best;
            }
            match live_through(algorithm, promise, &candidate) {
                Err(fault) if fault.clause == best.1.clause => {
                    best = (candidate, fault);
                    position -= 1;
                    has_changed = true;
                }
                _ => {}
            }
        }
    }
    best
}

/// The simpler case of that number: without one of the events, at a simpler quota, or with one event simpler.
fn candidate(case: &Case, number: usize) -> Option<Case> {
    let Case { quota, events, .. } = case;
    let without = |index: usize| events.iter().enumerate().filter(move |(at, _)| *at != index).map(|(_, event)| *event);
    if number < events.len() {
        let last_first = events.len() - 1 - number;
        return Some(Case { events: without(last_first).collect(), ..case.clone() });
    }
    let mut simpler = Vec::new();
    let horizons = [Micros::ZERO, Micros(quota.horizon.0 / 2)];
    let horizons = horizons.into_iter().filter(|horizon| *horizon < quota.horizon);
    simpler.extend(horizons.map(|horizon| Case { quota: Quota { horizon, ..*quota }, ..case.clone() }));
    for (index, event) in events.iter().enumerate() {
        for event in rounder(*event) {
            let mut events = events.clone();
            events.splice(index..=index, [event]);
            simpler.push(Case { events, ..case.clone() });
        }
    }
    simpler.into_iter().nth(number - events.len())
}

/// The same event with rounder numbers, the simplest first.
fn rounder(event: Event) -> Vec<Event> {
    match event {
        Event::Pass(time) => times(time).map(Event::Pass).collect(),
        Event::StepBack(time) => times(time).map(Event::StepBack).collect(),
        Event::Ask(cost) => less(cost).map(Event::Ask).collect(),
        Event::AskInTime(cost) => less(cost).map(Event::AskInTime).collect(),
        Event::AskLate { cost, late } => {
            let rounder = times(late).map(|late| Event::AskLate { cost, late });
            core::iter::once(Event::Ask(cost))
                .chain(rounder)
                .chain(less(cost).map(|cost| Event::AskLate { cost, late }))
        }
        .collect(),
        Event::Refund(index) => (0..index.min(3)).map(Event::Refund).collect(),
    }
}

/// Smaller costs.
fn less(cost: u64) -> impl Iterator<Item = u64> {
    [1, cost / 2, cost.saturating_sub(1)].into_iter().filter(move |less| (1..cost).contains(less))
}

/// Shorter times that end in more zeros.
fn times(time: u64) -> impl Iterator<Item = u64> {
    [1_000_000, 100_000, 10_000, 1_000, 10].into_iter().map(move |unit| time - time % unit).filter(move |it| *it < time)
}
