//! What the sliding window costs its clients for the little it stores: at most a sixteenth of the window of time, and
//! above rate 255 less than 0.4 % of the rate. Compared with an exact log of the same requests.

use proptest::prelude::*;
use tidegate_engine::Micros;
use tidegate_engine::algorithm::{Quota, SLIDING_WINDOW};

use crate::client::{Client, Event, START, histories, quota, quotas};
use crate::config;

/// How long until `cost` fits beside what `client` was admitted, if at most `rate` may be within one window.
fn wait_by_log(client: &Client, rate: u64, cost: u64) -> u64 {
    let window = client.quota.window.0;
    let fits = |at: u64| {
        let recent = client.log.iter().filter(|admission| admission.released + window > at);
        recent.map(|admission| admission.cost).sum::<u64>() + cost <= rate
    };
    let ends = client.log.iter().map(|admission| admission.released + window);
    let mut moments: Vec<u64> = ends.chain([client.clock]).filter(|at| *at >= client.clock).collect();
    moments.sort_unstable();
    moments.into_iter().find(|at| fits(*at)).unwrap_or(u64::MAX) - client.clock
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn units_free_at_most_a_sixteenth_late(any in quotas(), history in histories(), share in 1..=1_000_u64) {
        let any = Quota { horizon: Micros::ZERO, ..any };
        let rate = any.rate.get();
        let unit = rate.div_ceil(255);
        let mut client = Client::new(&SLIDING_WINDOW, any);
        for event in history.iter().filter(|event| !matches!(event, Event::StepBack(_) | Event::Refund(_))) {
            client.live(*event);
            let cost = (rate * share / 1_000).clamp(1, (rate + 1 - unit).max(1));
            let exact = wait_by_log(&client, rate + 1 - unit, cost);
            let wait = client.plan(cost).wait.0;
            prop_assert!(wait <= exact + any.window.0 / 16, "{wait} against {exact}");
            prop_assert!(wait >= wait_by_log(&client, rate, cost));
        }
        // The part of the rate that may be held longer, in thousandths.
        prop_assert!((unit - 1) * 1_000 < 4 * rate);
    }
}

#[test]
fn a_client_that_takes_all_it_may_gets_sixteen_seventeenths() {
    for rate in [1, 16, 100, 255, 256, 1_000, 10_000] {
        let window = Micros::from_secs(16);
        let mut client = Client::new(&SLIDING_WINDOW, quota(rate, window, rate, Micros::ZERO));
        let mut admitted = 0;
        while client.clock < START + 170 * window.0 {
            client.clock += client.plan(1).wait.0;
            admitted += client.ask(1).wait.0 + 1;
            client.log.clear();
        }
        let expected = 160 * rate;
        assert!(admitted.abs_diff(expected) <= rate + expected / 100, "{admitted} of {expected}");
    }
}
