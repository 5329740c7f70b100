//! No history makes an algorithm admit more than it promises.

use proptest::prelude::*;
use tidegate_engine::algorithm::Quota;

use crate::client::{Client, Event, START, Span, costs, crowded_histories, histories, quotas};
use crate::promise::{broken, intervals};
use crate::{ALGORITHMS, config};

fn check(quota: Quota, history: &[Event]) -> Result<(), TestCaseError> {
    for algorithm in ALGORITHMS {
        let mut client = Client::new(algorithm, quota);
        for (step, event) in history.iter().enumerate() {
            let admitted = client.log.len();
            client.live(*event);
            if client.log.len() > admitted {
                prop_assert_eq!(broken(&client), None, "{} at step {}", algorithm.name(), step);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn with_reservations_refunds_and_a_clock_that_steps_back(quota in quotas(), history in histories()) {
        check(quota, &history)?;
    }

    #[test]
    fn with_workers_whose_clocks_are_read_out_of_order(quota in quotas(), history in crowded_histories()) {
        check(quota, &history)?;
    }

    /// A fixed window's promise is one on the cell's clock. In time that really passed it is twice the rate within one
    /// window's length, which small steps back do not raise.
    #[test]
    fn a_fixed_window_is_at_most_doubled_by_small_steps_back(
        quota in quotas(),
        steps in prop::collection::vec((0..1_000_u64, 0..1_000_u64, costs()), 1..60),
    ) {
        let mut client = Client::new(ALGORITHMS[2], Quota { horizon: tidegate_engine::Micros::ZERO, ..quota });
        for (back, on, cost) in steps {
            client.live(Event::StepBack(Span::SubWindows(back)));
            client.live(Event::Ask(cost));
            client.live(Event::Pass(Span::SubWindows(back + on)));
            client.live(Event::Ask(cost));
        }
        let most = intervals(&client.log).filter(|(length, _)| *length < quota.window.0).map(|(_, admitted)| admitted);
        prop_assert!(most.max().unwrap_or_default() <= 2 * quota.rate.get());
    }

    /// Whoever reserved first is released first.
    #[test]
    fn nobody_overtakes(quota in quotas(), history in histories()) {
        for algorithm in ALGORITHMS {
            let mut client = Client::new(algorithm, quota);
            for event in history.iter().filter(|event| matches!(event, Event::Pass(_) | Event::Ask(_))) {
                client.live(*event);
            }
            prop_assert!(client.log.is_sorted_by_key(|admission| admission.released), "{}", algorithm.name());
            prop_assert!(client.log.iter().all(|admission| admission.released >= START));
        }
    }
}
