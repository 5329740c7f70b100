//! No rounding adds up: a client that takes all it may gets its rate to the last unit, whatever rate and window are.

use proptest::prelude::*;
use tidegate_engine::Micros;
use tidegate_engine::algorithm::{FIXED_WINDOW, LEAKY_BUCKET, Quota, TOKEN_BUCKET};

use crate::client::{Client, Cost, START, quota, quotas};
use crate::config;

/// Asks for `cost` as soon as it is allowed, and gives what was admitted up to and with the moment `length` from START.
fn saturate(client: &mut Client, cost: u64, length: u64) -> u64 {
    let mut admitted = 0;
    loop {
        let wait = client.plan(cost).wait.0;
        if client.clock + wait > START + length {
            return admitted;
        }
        client.clock += wait;
        client.cell = client.plan(cost).cell;
        admitted += cost;
    }
}

#[test]
fn three_hundred_thousand_a_second_are_just_that() {
    const SECOND: Micros = Micros(1_000_000);
    let quota = quota(300_000, SECOND, 1_000, Micros::ZERO);
    let mut bucket = Client::new(&TOKEN_BUCKET, quota);
    assert_eq!(saturate(&mut bucket, 10, 10 * SECOND.0), 3_000_000 + 1_000);
    let mut leaky = Client::new(&LEAKY_BUCKET, quota);
    assert_eq!(saturate(&mut leaky, 1, SECOND.0), 300_000 + 1);
    let mut fixed = Client::new(&FIXED_WINDOW, quota);
    assert_eq!(saturate(&mut fixed, 100, 10 * SECOND.0 - 1), 3_000_000);
}

/// When `cost` units have drained, in microseconds rounded up.
fn drained_after(cost: u64, quota: &Quota) -> u64 {
    let exact = u128::from(cost) * u128::from(quota.window.0);
    u64::try_from(exact.div_ceil(u128::from(quota.rate.get()))).unwrap_or(u64::MAX)
}

proptest! {
    #![proptest_config(config())]

    /// The nth request passes at exactly the microsecond at which the quota has room for it. A bucket that one request
    /// fills, or that fills within a microsecond, cannot hold on to a fraction of one, and is left out.
    #[test]
    fn the_nth_request_is_on_time(any in quotas(), share in 1..=1_000_u64, requests in 1..300_u64) {
        let mut bucket = Client::new(&TOKEN_BUCKET, any);
        let cost = bucket.cost(Cost::Share(share));
        let has_room = drained_after(any.burst.get() - cost, &any) > 1;
        let mut leaky = Client::new(&LEAKY_BUCKET, any);
        // A clock ends in the year 2255, after 200 of the longest windows.
        let requests = requests.min(100 * any.rate.get() / cost).max(1);
        for request in 0..requests {
            if has_room {
                let over = ((request + 1) * cost).saturating_sub(any.burst.get());
                bucket.clock += bucket.plan(cost).wait.0;
                prop_assert_eq!(bucket.clock - START, drained_after(over, &any));
                bucket.cell = bucket.plan(cost).cell;
            }
            leaky.clock += leaky.plan(cost.min(any.rate.get())).wait.0;
            prop_assert_eq!(leaky.clock - START, drained_after(request * cost.min(any.rate.get()), &any));
            leaky.cell = leaky.plan(cost.min(any.rate.get())).cell;
        }
    }
}
