//! `wait` and `remaining` are exact in every state that a history leads to, and planning changes nothing.

use proptest::prelude::*;
use tidegate_engine::Micros;

use crate::client::{Client, Cost, costs, histories, quotas};
use crate::{ALGORITHMS, config};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_wait_ends_when_it_says(
        quota in quotas(), history in histories(), cost in costs(), part in 0..=1_000_u64,
    ) {
        for algorithm in ALGORITHMS {
            let mut client = Client::new(algorithm, quota);
            client.live_through(&history);
            client.pull();
            let (cost, now) = (client.cost(cost), client.now());
            let plan = client.plan(cost);
            let at = |passed: u64| algorithm.plan(client.cell, &quota, cost, now + Micros(passed));
            prop_assert_eq!(at(plan.wait.0).wait, Micros::ZERO, "{}", algorithm.name());
            prop_assert_eq!(at(plan.wait.0).cell, plan.cell, "{}", algorithm.name());
            let before = u64::try_from(u128::from(plan.wait.0) * u128::from(part) / 1_000).unwrap();
            for passed in [before, plan.wait.0.saturating_sub(1)] {
                prop_assert_eq!(at(passed).wait.0, plan.wait.0 - passed, "{}", algorithm.name());
            }
        }
    }

    #[test]
    fn what_remains_is_what_conforms(quota in quotas(), history in histories()) {
        for algorithm in ALGORITHMS {
            let mut client = Client::new(algorithm, quota);
            client.live_through(&history);
            client.pull();
            let remaining = algorithm.standing(client.cell, &quota, client.now()).remaining;
            let fits = |cost: u64| client.clone().ask(cost).wait == Micros::ZERO;
            prop_assert!(remaining == 0 || fits(remaining), "{}: {remaining} fit", algorithm.name());
            // A leaky bucket tells of one request: after it no other conforms, however small.
            if algorithm.name() == "leaky_bucket" {
                prop_assert!(remaining == 1 || (remaining == 0 && !fits(1)));
            } else {
                prop_assert!(!fits(remaining + 1), "{}: {} fit", algorithm.name(), remaining + 1);
            }
        }
    }

    /// After `reset_after`, the client is as one never seen: its largest request conforms. A microsecond before, a
    /// bucket is not empty yet.
    #[test]
    fn a_reset_is_complete(quota in quotas(), history in histories()) {
        for algorithm in ALGORITHMS {
            let mut client = Client::new(algorithm, quota);
            client.live_through(&history);
            client.pull();
            let reset_after = algorithm.standing(client.cell, &quota, client.now()).reset_after;
            let fresh = algorithm.standing(tidegate_engine::algorithm::Cell::default(), &quota, client.now());
            client.clock += reset_after.0;
            prop_assert_eq!(algorithm.standing(client.cell, &quota, client.now()), fresh, "{}", algorithm.name());
            prop_assert_eq!(client.plan(algorithm.largest_cost(&quota)).wait, Micros::ZERO);
        }
    }

    #[test]
    fn planning_and_looking_change_nothing(quota in quotas(), history in histories(), asked in costs()) {
        for algorithm in ALGORITHMS {
            let (mut curious, mut plain) = (Client::new(algorithm, quota), Client::new(algorithm, quota));
            for event in &history {
                curious.plan(curious.cost(asked));
                algorithm.standing(curious.cell, &quota, curious.now());
                curious.live(*event);
                plain.live(*event);
            }
            prop_assert_eq!(curious.cell, plain.cell, "{}", algorithm.name());
            let cost = plain.cost(Cost::Units(1));
            prop_assert_eq!(curious.plan(cost), plain.plan(cost));
        }
    }
}
