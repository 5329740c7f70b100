//! Random histories of a few cells that one clock rules, and how one is lived through: by the oracle and by a script.
//! What the oracle says stands in `oracle`.

use std::num::NonZeroU64;

use tidegate_engine::acquire::{Acquire, CellRequest};
use tidegate_engine::algorithm::{Algorithm, FIXED_WINDOW, LEAKY_BUCKET, Quota, SLIDING_WINDOW, TOKEN_BUCKET};
use tidegate_engine::identity::{Kind, Subject};
use tidegate_engine::redis::{Call, Charge, Conversation, Lease, key};
use tidegate_engine::{Micros, Timestamp};

use super::oracle::Oracle;

/// Steps of one history.
pub(crate) const STEPS: usize = 120;
/// The longest window that a policy may name, in seconds.
const LONGEST: u64 = 366 * 86_400;
/// Seeds from here on give the largest numbers that there are: rates of 10^7, windows of 366 days, the last year in which
/// the script counts.
pub(crate) const EXTREME: u64 = 1 << 40;

/// Vigna's `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }
}

/// One call and the answer that it must get.
pub(crate) struct Step {
    pub(crate) call: Call,
    pub(crate) now: u64,
    pub(crate) wanted: Vec<i64>,
}

/// What was charged and may be given back.
struct Charged {
    cell: usize,
    units: u64,
    at: u64,
    passed: u64,
}

struct World {
    random: Random,
    /// The cells as requests ask for them, but for cost, must and `may_wait`.
    cells: Vec<CellRequest>,
    keys: Vec<String>,
    /// What leases of each cell shorten the tolerance by; `None` in `exact` mode.
    less: Option<Vec<Micros>>,
    window: u64,
    clock: u64,
    latest: u64,
    /// Time that really passed.
    passed: u64,
    charged: Vec<Charged>,
    oracle: Oracle,
    steps: Vec<Step>,
}

/// The history of a seed.
pub(crate) fn of_seed(seed: u64) -> Vec<Step> {
    let mut random = Random(seed);
    let is_extreme = seed >= EXTREME;
    let window = match random.between(0, 6) {
        _ if is_extreme => LONGEST / 3,
        0..=3 => random.between(1, 4),
        4 | 5 => random.between(5, 100_000),
        _ => LONGEST / 3,
    } * 1_000_000;
    let start = match random.between(0, 5) {
        _ if is_extreme => 7_799_000_000_000_000 - 30 * window,
        0 => random.between(0, 10 * window),
        1 if window < 1_000_000_000_000 => 7_750_000_000_000_000 - random.between(0, window),
        _ => 1_700_000_000_000_000 + random.between(0, window),
    };
    let algorithms: [&'static dyn Algorithm; 4] = [&TOKEN_BUCKET, &LEAKY_BUCKET, &FIXED_WINDOW, &SLIDING_WINDOW];
    let first = random.next();
    let cells: Vec<CellRequest> = (0..random.between(1, 5))
        .map(|index| {
            let algorithm = algorithms[usize::try_from((first + index) % 4).unwrap()];
            let quota = quota(&mut random, algorithm, window, is_extreme);
            CellRequest { subject: 0, rule_id: index, group: 0, algorithm, quota, cost: 1, must: true, may_wait: false }
        })
        .collect();
    let subject = Subject { kind: Kind::VerifiedUser, value: seed.to_le_bytes().to_vec() };
    let keys = cells.iter().map(|cell| key("test", &subject, "rule", cell.rule_id)).collect();
    let less = random.one_in(3).then(|| cells.iter().map(|cell| Lease::of(cell, 1, 0).less).collect());
    let mut world = World {
        random,
        cells,
        keys,
        less,
        window,
        clock: start,
        latest: start,
        passed: 0,
        charged: Vec::new(),
        oracle: Oracle::default(),
        steps: Vec::new(),
    };
    while world.steps.len() < STEPS {
        world.live();
    }
    world.steps
}

fn quota(random: &mut Random, algorithm: &dyn Algorithm, window: u64, is_extreme: bool) -> Quota {
    let rate = match random.between(0, 7) {
        _ if is_extreme => 10_000_000 - random.between(0, 3),
        0..=2 => random.between(1, 12),
        3 | 4 => random.between(13, 255),
        5 | 6 => random.between(256, 5_000),
        _ if random.one_in(2) => 10_000_000,
        _ => random.between(5_001, 10_000_000),
    };
    let window = window * if is_extreme { 3 } else { random.between(1, 3) };
    let burst = if random.one_in(4) { 1 } else { (rate * random.between(1, 200) / 100).max(1) };
    let horizon = if random.between(0, 4) < 3 { 0 } else { window / 100 * random.between(1, 300) };
    let some = |units| NonZeroU64::new(units).unwrap();
    let quota = Quota { rate: some(rate), window: Micros(window), burst: some(burst), horizon: Micros(horizon) };
    Quota { horizon: quota.horizon.min(algorithm.longest_line(&quota)), ..quota }
}

impl World {
    fn live(&mut self) {
        match self.random.between(0, 19) {
            0..=3 => {
                // So much in all that nothing is kept for less long than the history lasts because of a seal or mark.
                let span = self.span().min((30 * self.window).saturating_sub(self.passed));
                self.clock += span;
                self.passed += span;
                self.latest = self.latest.max(self.clock);
            }
            4 if self.random.one_in(2) => {
                let farthest = self.latest.saturating_sub(8 * self.window);
                self.clock = self.clock.saturating_sub(self.span()).max(farthest);
            }
            5..=7 => self.refund(),
            8 => self.ask(false),
            _ => self.ask(true),
        }
    }

    fn span(&mut self) -> u64 {
        let cell = self.random.between(0, self.cells.len() as u64 - 1);
        let Quota { rate, window, .. } = self.cells[usize::try_from(cell).unwrap()].quota;
        match self.random.between(0, 3) {
            0 => self.random.between(0, 3),
            1 => window.0 / rate * self.random.between(0, 4_000) / 1_000,
            2 => window.0 / 16 * self.random.between(0, 4_000) / 1_000,
            _ => window.0 / 1_000 * self.random.between(0, 1_500),
        }
    }

    fn ask(&mut self, charges: bool) {
        let (mut acquire, mut keys, mut leases, mut chosen) =
            (self.empty_acquire(), Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.cells.len() {
            if self.random.one_in(3) && self.cells.len() > 1 {
                continue;
            }
            let cell = self.cells[index];
            let largest = cell.algorithm.largest_cost(&cell.quota);
            let cost = match self.random.between(0, 9) {
                0 => 0,
                1..=4 => self.random.between(1, 3),
                5..=7 => self.random.between(1, largest.div_ceil(5)),
                8 => self.random.between(1, largest),
                _ => largest + self.random.between(0, 1),
            };
            let (must, may_wait) = (!self.random.one_in(4), self.random.one_in(2));
            acquire.cells.push(CellRequest { cost, must, may_wait, ..cell });
            leases.push(match &self.less {
                Some(less) => Lease { most: self.random.between(0, largest + 1), less: less[index] },
                None => Lease::default(),
            });
            keys.push(self.keys[index].clone());
            chosen.push(index);
        }
        if chosen.is_empty() {
            return;
        }
        let wanted = self.oracle.ask(&acquire, &keys, &leases, charges);
        let mut call = Conversation::new(&acquire, false).next_call(&acquire, &keys, &leases).unwrap();
        if charges {
            let mut talk = Conversation::new(&acquire, false);
            talk.take(&wanted, &acquire, &leases).unwrap();
            for ((cell, request), outcome) in chosen.iter().zip(&acquire.cells).zip(talk.finish().cells) {
                let units = outcome.leased + if outcome.reply.charged { request.cost } else { 0 };
                if units > 0 {
                    self.charged.push(Charged { cell: *cell, units, at: outcome.at, passed: self.passed });
                }
            }
        } else {
            "probe".clone_into(&mut call.arguments[0]);
        }
        self.steps.push(Step { call, now: self.clock, wanted });
    }

    /// Gives back all or part of one charge, and of a second one in the same call.
    fn refund(&mut self) {
        let mut back: Vec<Charged> = Vec::new();
        for _ in 0..self.random.between(1, 2) {
            if self.charged.is_empty() {
                break;
            }
            let index = usize::try_from(self.random.between(0, self.charged.len() as u64 - 1)).unwrap();
            let mut charged = self.charged.swap_remove(index);
            let quota = &self.cells[charged.cell].quota;
            let is_late = self.passed - charged.passed > quota.window.0 + quota.horizon.0;
            if is_late || back.iter().any(|other| other.cell == charged.cell) {
                continue;
            }
            if self.random.one_in(2) {
                charged.units = self.random.between(1, charged.units);
            }
            back.push(charged);
        }
        if back.is_empty() {
            return;
        }
        let now = Timestamp::from_micros(self.clock);
        for charged in &back {
            let (key, request) = (&self.keys[charged.cell], &self.cells[charged.cell]);
            self.oracle.refund(key, request, charged.units, charged.at, now);
        }
        let charges: Vec<Charge<'_>> = back
            .iter()
            .map(|charged| Charge {
                key: &self.keys[charged.cell],
                request: &self.cells[charged.cell],
                units: charged.units,
                at: charged.at,
            })
            .collect();
        let call = Call::refunds(&charges, false).remove(0);
        self.steps.push(Step { call, now: self.clock, wanted: vec![1] });
    }

    fn empty_acquire(&self) -> Acquire {
        let subjects = vec![Subject { kind: Kind::VerifiedUser, value: Vec::new() }];
        Acquire { now: Timestamp::from_micros(self.clock), subjects, cells: Vec::new() }
    }
}
