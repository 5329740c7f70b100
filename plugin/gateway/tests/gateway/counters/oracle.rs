//! What `acquire.lua` must answer, by the engine's own algorithms: the same numbers in the same order.
//! A token bucket with a shorter tolerance, which only leases have, is counted here in 128 bits.

use std::collections::BTreeMap;

use tidegate_engine::acquire::{Acquire, CellRequest, Outcome};
use tidegate_engine::algorithm::{Cell, Standing};
use tidegate_engine::redis::Lease;
use tidegate_engine::{Micros, Timestamp};

/// Cells by key, none of which ever expires.
#[derive(Default)]
pub(crate) struct Oracle {
    cells: BTreeMap<String, Cell>,
}

impl Oracle {
    /// The script's answer to an acquire, or to a probe where `charges` is false.
    pub(crate) fn ask(&mut self, acquire: &Acquire, keys: &[String], leases: &[Lease], charges: bool) -> Vec<i64> {
        let now = acquire.now;
        let mut cells: Vec<Cell> = keys.iter().map(|key| self.cells.get(key).copied().unwrap_or_default()).collect();
        let mut settled = cells.clone();
        let reply = acquire.settle(&mut settled);
        let mut granted = true;
        let mut plans = Vec::new();
        for ((request, lease), cell) in acquire.cells.iter().zip(leases).zip(&mut cells) {
            *cell = request.algorithm.pull(*cell, &request.quota, now);
            let (wait, after) =
                if request.cost == 0 { (0, *cell) } else { plan(request, *lease, *cell, request.cost, now) };
            granted &= !request.must || request.admits(Micros(wait));
            plans.push((wait, after));
        }
        let mut numbers = vec![i64::from(granted), number(now.micros())];
        for (index, ((request, lease), (wait, after))) in acquire.cells.iter().zip(leases).zip(plans).enumerate() {
            let (mut units, mut life) = (0, 0);
            let cell = &mut cells[index];
            if granted && charges {
                if request.cost > 0 && request.admits(Micros(wait)) {
                    (*cell, units) = (after, request.cost);
                }
                if wait == 0 {
                    let room = standing(request, *lease, *cell, now).remaining;
                    let more = lease.most.saturating_sub(request.cost).min(room);
                    let lives = life_of(request, *lease, *cell, now);
                    if more > 0 && lives > 0 {
                        let (wait, after) = plan(request, *lease, *cell, more, now);
                        if wait == 0 {
                            (*cell, units, life) = (after, units + more, lives);
                        }
                    }
                }
            }
            let Standing { remaining, reset_after } = standing(request, *lease, *cell, now);
            numbers.push(if wait == u64::MAX { -1 } else { number(wait) });
            numbers.extend([units, remaining, reset_after.0, life].map(number));
        }
        if charges && leases.iter().all(|lease| *lease == Lease::default()) {
            assert_eq!((reply.outcome == Outcome::Granted, &settled), (granted, &cells), "this oracle and `settle`");
        }
        self.cells.extend(keys.iter().cloned().zip(cells));
        numbers
    }

    /// Gives back. A window that has passed gives nothing, and a store no longer has it.
    pub(crate) fn refund(&mut self, key: &str, request: &CellRequest, units: u64, at: u64, now: Timestamp) {
        let cell = self.cells.entry(key.to_owned()).or_default();
        let window = request.quota.window.0;
        let has_passed = match request.algorithm.name() {
            "fixed_window" => now.micros() / window > cell.0[0],
            "sliding_window" => now.micros() / (window / 16) >= ((cell.0[0] >> 24) & ((1 << 38) - 1)) + 17,
            _ => false,
        };
        if !has_passed {
            *cell = request.algorithm.refund(*cell, &request.quota, units, Timestamp::from_micros(at), now);
        }
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

fn plan(request: &CellRequest, lease: Lease, cell: Cell, cost: u64, now: Timestamp) -> (u64, Cell) {
    if request.algorithm.name() == "token_bucket" {
        let short = plan_short(request, lease.less.0, cell, cost, now);
        if lease.less == Micros::ZERO {
            let plan = request.algorithm.plan(cell, &request.quota, cost, now);
            assert!(plan.wait.0 == short.0 && (plan.wait == Micros::FOREVER || plan.cell == short.1), "{request:?}");
        }
        return short;
    }
    let plan = request.algorithm.plan(cell, &request.quota, cost, now);
    (plan.wait.0, plan.cell)
}

/// A token bucket whose tolerance is `less` µs short. Times are whole numbers of 1/rate µs.
fn plan_short(request: &CellRequest, less: u64, cell: Cell, cost: u64, now: Timestamp) -> (u64, Cell) {
    let [rate, window, burst] =
        [request.quota.rate.get(), request.quota.window.0, request.quota.burst.get()].map(u128::from);
    let [micros, numerator, mark] = cell.0.map(u128::from);
    let (tat, cost) = (micros * rate + numerator, u128::from(cost));
    let Some(spare) = burst.checked_sub(cost).and_then(|left| (left * window).checked_sub(u128::from(less) * rate))
    else {
        return (u64::MAX, cell);
    };
    let release = tat.saturating_sub(spare).div_ceil(rate).max(u128::from(now.micros()));
    let tat = tat.max(release * rate) + cost * window;
    let words = [tat / rate, tat % rate, mark.max(release)].map(|word| u64::try_from(word).unwrap());
    (u64::try_from(release).unwrap() - now.micros(), Cell(words))
}

fn standing(request: &CellRequest, lease: Lease, cell: Cell, now: Timestamp) -> Standing {
    let mut standing = request.algorithm.standing(cell, &request.quota, now);
    if lease.less > Micros::ZERO {
        let [rate, window, burst] =
            [request.quota.rate.get(), request.quota.window.0, request.quota.burst.get()].map(u128::from);
        let tat = u128::from(cell.0[0]) * rate + u128::from(cell.0[1]);
        let now_parts = u128::from(now.micros()) * rate;
        let top = now_parts + burst * window - u128::from(lease.less.0) * rate;
        standing.remaining = u64::try_from((top.saturating_sub(tat.max(now_parts)) / window).min(burst)).unwrap();
    }
    standing
}

fn life_of(request: &CellRequest, lease: Lease, cell: Cell, now: Timestamp) -> u64 {
    let (width, number) = match request.algorithm.name() {
        "token_bucket" => return lease.less.0,
        "fixed_window" => (request.quota.window.0, cell.0[0]),
        "sliding_window" => (request.quota.window.0 / 16, (cell.0[0] >> 24) & ((1 << 38) - 1)),
        _ => return 0,
    };
    let current = now.micros() / width;
    if number > current { 0 } else { (current + 1) * width - now.micros() }
}
