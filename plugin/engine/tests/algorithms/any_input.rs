//! No bytes in a cell, no time, no cost and no quota panics; and no cell, whatever wrote it, locks a client out.

use core::num::NonZeroU64;

use proptest::prelude::*;
use tidegate_engine::algorithm::{Algorithm, Cell, Quota};
use tidegate_engine::{Micros, Timestamp};

use crate::client::{START, costs, quotas};
use crate::{ALGORITHMS, client, config};

fn words() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>(), 0..1_u64 << 54, START..START + (1 << 42)]
}

/// The longest that a charge may have to wait once the cell is pulled: for a full cell, the horizon, and the sixteenth
/// of a window (for whole sub-windows, two) that a clock may be late.
fn longest_wait(algorithm: &dyn Algorithm, quota: &Quota) -> u64 {
    let window = quota.window.0;
    let full = match algorithm.name() {
        "token_bucket" => (window / quota.rate + 1) * quota.burst.get(),
        "sliding_window" => window + window / 16,
        _ => window,
    };
    quota.horizon.0 + full + window / 16
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_panics(
        cell in [words(), words(), words()],
        [rate, burst, window, horizon] in [words(), words(), words(), words()],
        [cost, now, charged_at] in [words(), words(), words()],
    ) {
        let some = |word| NonZeroU64::new(word).unwrap_or(NonZeroU64::MIN);
        let quota = Quota { rate: some(rate), window: Micros(window), burst: some(burst), horizon: Micros(horizon) };
        let [now, charged_at] = [now, charged_at].map(Timestamp::from_micros);
        for algorithm in ALGORITHMS {
            let cell = algorithm.pull(Cell(cell), &quota, now);
            let plan = algorithm.plan(cell, &quota, cost, now);
            algorithm.standing(plan.cell, &quota, now + plan.wait);
            algorithm.refund(plan.cell, &quota, cost, charged_at, now);
            let never = cost > algorithm.largest_cost(&quota);
            prop_assert!(!never || plan.wait == Micros::FOREVER);
        }
    }

    #[test]
    fn no_cell_locks_a_client_out(cell in [words(), words(), words()], quota in quotas(), cost in costs()) {
        for algorithm in ALGORITHMS {
            let mut client = client::Client::new(algorithm, quota);
            client.cell = Cell(cell);
            client.pull();
            let cost = client.cost(cost);
            let wait = client.plan(cost).wait;
            prop_assert!(wait.0 <= longest_wait(algorithm, &quota), "{} waits {wait}", algorithm.name());
            client.clock += wait.0;
            prop_assert_eq!(client.ask(cost).wait, Micros::ZERO);
        }
    }

    #[test]
    fn a_pull_is_done_once(cell in [words(), words(), words()], quota in quotas()) {
        let now = Timestamp::from_micros(START);
        for algorithm in ALGORITHMS {
            let pulled = algorithm.pull(Cell(cell), &quota, now);
            prop_assert_eq!(algorithm.pull(pulled, &quota, now), pulled, "{}", algorithm.name());
            prop_assert_eq!(
                algorithm.plan(pulled, &quota, 1, now).wait,
                algorithm.plan(Cell(cell), &quota, 1, now).wait
            );
        }
    }
}
