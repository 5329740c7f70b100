//! A client of one cell, its clock, and the log of what it was admitted; and strategies for quotas and histories.
//! Whether the log keeps a promise is judged in `promise.rs`.

use core::num::NonZeroU64;

use proptest::prelude::*;
use tidegate_engine::algorithm::{Algorithm, Cell, Plan, Quota};
use tidegate_engine::{Micros, Timestamp};

/// Where clocks start: November 2023.
pub(crate) const START: u64 = 1_700_000_000_000_000;

/// A length of time in thousandths of one that matters to the quota.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span {
    Micros(u64),
    Intervals(u64),
    SubWindows(u64),
    Windows(u64),
}

/// A cost: literal, or in thousandths of the largest that the quota admits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cost {
    Units(u64),
    Share(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Time passes.
    Pass(Span),
    /// A request.
    Ask(Cost),
    /// A client that heeds `retry_after`: it waits as long as it is told, then asks.
    AskInTime(Cost),
    /// One of those admitted was not needed after all.
    Refund(usize),
    /// The clock is set back. No time passes.
    StepBack(Span),
    /// A request whose clock was read a little earlier than those before it, by less than a sub-window.
    AskLate(Cost, u64),
}

/// One request that was admitted and not refunded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) cost: u64,
    /// When it is released, on the clock that decided it.
    pub(crate) charged_at: Timestamp,
    /// When it is released, in time that really passed.
    pub(crate) released: u64,
    /// The first word of the cell that it was charged to. For a fixed window, the window's number on the cell's clock.
    pub(crate) label: u64,
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) algorithm: &'static dyn Algorithm,
    pub(crate) quota: Quota,
    pub(crate) cell: Cell,
    pub(crate) clock: u64,
    /// How far the clock was set back in all.
    behind: u64,
    pub(crate) log: Vec<Admission>,
}

impl Client {
    pub(crate) fn new(algorithm: &'static dyn Algorithm, quota: Quota) -> Self {
        Self { algorithm, quota, cell: Cell::default(), clock: START, behind: 0, log: Vec::new() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock)
    }

    pub(crate) fn cost(&self, cost: Cost) -> u64 {
        let largest = self.algorithm.largest_cost(&self.quota);
        match cost {
            Cost::Units(units) => units.clamp(1, largest),
            Cost::Share(thousandths) => (largest * thousandths / 1000).clamp(1, largest),
        }
    }

    pub(crate) fn micros(&self, span: Span) -> u64 {
        let window = self.quota.window.0;
        match span {
            Span::Micros(micros) => micros,
            Span::Intervals(thousandths) => {
                u64::try_from(u128::from(window) * u128::from(thousandths) / u128::from(self.quota.rate.get()) / 1000)
                    .unwrap_or(window)
            }
            Span::SubWindows(thousandths) => window / 16 * thousandths / 1000,
            Span::Windows(thousandths) => window / 1000 * thousandths,
        }
    }

    pub(crate) fn plan(&self, cost: u64) -> Plan {
        self.algorithm.plan(self.cell, &self.quota, cost, self.now())
    }

    /// Reads the cell as a store does: a pull is kept.
    pub(crate) fn pull(&mut self) {
        let pulled = self.algorithm.pull(self.cell, &self.quota, self.now());
        let step = self.cell.0[0].saturating_sub(pulled.0[0]);
        for admission in &mut self.log {
            admission.label = admission.label.saturating_sub(step);
        }
        self.cell = pulled;
    }

    /// Asks, and charges where the quota's horizon allows the wait.
    pub(crate) fn ask(&mut self, cost: u64) -> Plan {
        self.pull();
        let plan = self.plan(cost);
        if plan.wait <= self.quota.horizon {
            self.cell = plan.cell;
            let charged_at = self.now() + plan.wait;
            let released = charged_at.micros() + self.behind;
            self.log.push(Admission { cost, charged_at, released, label: plan.cell.0[0] });
        }
        plan
    }

    fn refund(&mut self, index: usize) {
        self.pull();
        if self.log.is_empty() {
            return;
        }
        let unused = self.log.remove(index % self.log.len());
        self.cell = self.algorithm.refund(self.cell, &self.quota, unused.cost, unused.charged_at, self.now());
    }

    /// A sliding window takes a late request as made in the cell's sub-window, which another worker already began: the
    /// request is not decided before that, and its own older clock does not count.
    fn count_from_the_sub_window(&mut self) {
        let began = ((self.cell.0[0] >> 24) & ((1 << 38) - 1)) * (self.quota.window.0 / 16);
        if let Some(late) = self.log.last_mut() {
            late.released = late.released.max(began);
        }
    }

    pub(crate) fn live_through(&mut self, history: &[Event]) {
        for event in history {
            self.live(*event);
        }
    }

    pub(crate) fn live(&mut self, event: Event) {
        match event {
            Event::Pass(span) => self.clock += self.micros(span),
            Event::Ask(cost) => {
                self.ask(self.cost(cost));
            }
            Event::AskInTime(cost) => {
                let cost = self.cost(cost);
                self.pull();
                self.clock += self.plan(cost).wait.0;
                assert_eq!(self.ask(cost).wait, Micros::ZERO, "a client that waited as told");
            }
            Event::Refund(index) => self.refund(index),
            Event::StepBack(span) => {
                let step = self.micros(span).min(self.clock);
                self.clock -= step;
                self.behind += step;
            }
            Event::AskLate(cost, thousandths) => {
                let late = self.micros(Span::SubWindows(thousandths.min(999)));
                self.clock -= late;
                let admitted = self.log.len();
                self.ask(self.cost(cost));
                self.clock += late;
                if self.algorithm.name() == "sliding_window" && self.log.len() > admitted {
                    self.count_from_the_sub_window();
                }
            }
        }
    }
}

pub(crate) fn quota(rate: u64, window: Micros, burst: u64, horizon: Micros) -> Quota {
    let some = |units| NonZeroU64::new(units).unwrap_or(NonZeroU64::MIN);
    Quota { rate: some(rate), window, burst: some(burst), horizon }
}

/// Any quota that a policy may name.
pub(crate) fn quotas() -> impl Strategy<Value = Quota> {
    let rate = prop_oneof![3 => 1..=12_u64, 2 => 13..=255_u64, 2 => 256..=5_000_u64, 1 => 5_001..=10_000_000_u64];
    let window = prop_oneof![4 => 1..=4_u64, 2 => 5..=100_000_u64, 1 => Just(366 * 86_400_u64)];
    let burst_percent = prop_oneof![1 => Just(0), 3 => 1..=200_u64];
    let horizon_percent = prop_oneof![3 => Just(0), 2 => 1..=300_u64];
    (rate, window, burst_percent, horizon_percent).prop_map(|(rate, seconds, burst, horizon)| {
        let window = Micros::from_secs(seconds);
        quota(rate, window, (rate * burst / 100).max(1), Micros(window.0 / 100 * horizon))
    })
}

pub(crate) fn costs() -> impl Strategy<Value = Cost> {
    prop_oneof![
        2 => (1..=3_u64).prop_map(Cost::Units),
        4 => (0..=200_u64).prop_map(Cost::Share),
        1 => (0..=1_000_u64).prop_map(Cost::Share),
    ]
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![
        (0..=3_u64).prop_map(Span::Micros),
        (0..=4_000_u64).prop_map(Span::Intervals),
        (0..=4_000_u64).prop_map(Span::SubWindows),
        (0..=1_500_u64).prop_map(Span::Windows),
    ]
}

/// Histories on a clock that may be set back at any time.
pub(crate) fn histories() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => spans().prop_map(Event::Pass),
        6 => costs().prop_map(Event::Ask),
        2 => costs().prop_map(Event::AskInTime),
        2 => any::<usize>().prop_map(Event::Refund),
        1 => spans().prop_map(Event::StepBack),
    ];
    prop::collection::vec(event, 1..60)
}

/// Histories in which workers share the cell, and some read their clock before others but charge after them.
pub(crate) fn crowded_histories() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => spans().prop_map(Event::Pass),
        3 => costs().prop_map(Event::Ask),
        4 => (costs(), 0..1_000_u64).prop_map(|(cost, late)| Event::AskLate(cost, late)),
        2 => any::<usize>().prop_map(Event::Refund),
    ];
    prop::collection::vec(event, 1..60)
}
