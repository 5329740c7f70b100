//! Puts a log's entries in order, as far as they are out of it by less than a window, in bounded memory.

use std::collections::BTreeMap;

use super::Entry;
use crate::time::{Micros, Timestamp};

/// What is held back takes no more memory than this; past it, the oldest goes on early.
const MOST_HELD_BYTES: usize = 64 << 20;
/// What an entry takes beside its texts.
const ENTRY_BYTES: usize = 256;
/// An entry this much before the newest means that the clock stepped back, or that another log begins.
const STEP: Micros = Micros::from_secs(3600);

#[derive(Debug)]
pub(super) struct Order {
    window: Micros,
    /// By time, then by the order of arrival.
    held: BTreeMap<(Timestamp, u64), Entry>,
    held_bytes: usize,
    arrived: u64,
    newest: Timestamp,
    /// The time of the entry that went on last: none that follows has an earlier one, but for a step.
    clock: Timestamp,
    late: u64,
    latest_by: Micros,
    clock_steps: u64,
    /// Everything held goes on before another entry is taken.
    is_flushing: bool,
    /// The entry that came after a step, until all before it went on.
    after_step: Option<Entry>,
}

impl Order {
    pub(super) fn new(window: Micros) -> Self {
        Self {
            window,
            held: BTreeMap::new(),
            held_bytes: 0,
            arrived: 0,
            newest: Timestamp::default(),
            clock: Timestamp::default(),
            late: 0,
            latest_by: Micros::ZERO,
            clock_steps: 0,
            is_flushing: false,
            after_step: None,
        }
    }

    /// Takes an entry. [`Order::next`] must have said `None` before.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.newest.since(entry.at) > STEP {
            self.is_flushing = true;
            self.after_step = Some(entry);
        } else {
            self.hold(entry);
        }
    }

    /// No more entries come.
    pub(super) fn end(&mut self) {
        self.is_flushing = true;
    }

    /// The next entry that may go on. One that came too late goes on at the time of the one before it.
    pub(super) fn next(&mut self) -> Option<Entry> {
        loop {
            let due = |at: &Timestamp| self.newest.since(*at) >= self.window;
            let is_due = self.held.first_key_value().is_some_and(|((at, _), _)| due(at));
            if (is_due || self.is_flushing || self.held_bytes > MOST_HELD_BYTES)
                && let Some((_, mut entry)) = self.held.pop_first()
            {
                self.held_bytes = self.held_bytes.saturating_sub(bytes(&entry));
                let lateness = self.clock.since(entry.at);
                if lateness > Micros::ZERO {
                    self.late = self.late.saturating_add(1);
                    self.latest_by = self.latest_by.max(lateness);
                }
                entry.at = entry.at.max(self.clock);
                self.clock = entry.at;
                return Some(entry);
            }
            let entry = self.after_step.take()?;
            self.is_flushing = false;
            self.clock_steps = self.clock_steps.saturating_add(1);
            // The first entry after a step need not be the earliest.
            (self.clock, self.newest) = (Timestamp::default(), entry.at);
            self.hold(entry);
        }
    }

    /// How many entries came too late to be put in order.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// How late the latest of them was.
    pub(super) fn latest_by(&self) -> Micros {
        self.latest_by
    }

    /// How often the log's clock stepped back by more than an hour.
    pub(super) fn clock_steps(&self) -> u64 {
        self.clock_steps
    }

    fn hold(&mut self, entry: Entry) {
        self.newest = self.newest.max(entry.at);
        self.held_bytes = self.held_bytes.saturating_add(bytes(&entry));
        self.arrived = self.arrived.saturating_add(1);
        self.held.insert((entry.at, self.arrived), entry);
    }
}

fn bytes(entry: &Entry) -> usize {
    let request = &entry.request;
    let user = request.user.as_ref().map_or(0, String::len);
    let headers = request.headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    [request.method.len(), request.path.len(), request.ip.len(), user]
        .into_iter()
        .chain(headers)
        .fold(ENTRY_BYTES, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::described::Described;

    fn run(seconds: &[u64]) -> (Vec<u64>, Order) {
        let mut order = Order::new(Micros::from_secs(60));
        let mut out = Vec::new();
        for second in seconds {
            let at = Timestamp::from_micros(second * 1_000_000);
            order.push(Entry { at, request: Described::default(), status: None });
            out.extend(core::iter::from_fn(|| order.next()));
        }
        order.end();
        out.extend(core::iter::from_fn(|| order.next()));
        (out.iter().map(|entry| entry.at.micros() / 1_000_000).collect(), order)
    }

    #[test]
    fn entries_a_little_out_of_order_are_put_in_order() {
        let (out, order) = run(&[1005, 1043, 1002, 1047, 1003, 1200]);
        assert_eq!(out, [1002, 1003, 1005, 1043, 1047, 1200]);
        assert_eq!((order.late(), order.clock_steps()), (0, 0));
    }

    #[test]
    fn an_entry_that_comes_too_late_goes_on_at_once() {
        let (out, order) = run(&[1000, 1100, 1200, 1010]);
        assert_eq!(out, [1000, 1100, 1100, 1200]);
        assert_eq!((order.late(), order.latest_by()), (1, Micros::from_secs(90)));
    }

    #[test]
    fn a_clock_that_stepped_back_is_followed() {
        let (out, order) = run(&[90_000, 90_001, 1003, 1001, 90_000]);
        assert_eq!(out, [90_000, 90_001, 1001, 1003, 90_000]);
        assert_eq!((order.late(), order.clock_steps()), (0, 1));
    }
}
