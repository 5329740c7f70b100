//! Measuring on totals and clocks that the tests set.

use super::*;
use crate::alert::tests::{at, random};
use crate::topk::group_of;

fn totals(requests: u64, limited: u64) -> Totals {
    Totals { requests, limited, rejected: limited, store_failures: 0 }
}

#[test]
fn a_hit_rate_is_that_of_the_last_five_to_ten_seconds() {
    let mut meter = Meter::default();
    let mut measure = |second, totals| meter.measure(Condition::HitRateAbove(250_000), at(second).steady, totals, None);
    assert_eq!(measure(0, totals(1_000_000, 900_000)), None, "what was before is not measured");
    let value = |measure: Option<Measure>| measure.map(|measure| (measure.value, measure.is_above));
    assert_eq!(value(measure(1, totals(1_000_004, 900_001))), Some((250_000, false)), "a quarter is not above it");
    assert_eq!(value(measure(2, totals(1_000_007, 900_002))), Some((285_714, true)));
    for second in 3..=11 {
        measure(second, totals(1_000_007 + second, 900_002));
    }
    assert_eq!(value(measure(12, totals(1_000_019, 900_002))), Some((0, false)), "the old ones are forgotten");
    assert_eq!(value(measure(30, totals(1_000_019, 900_002))), Some((0, false)));
    assert_eq!(value(measure(50, totals(1_000_019, 900_002))), Some((0, false)), "no request is no share");
}

#[test]
fn rates_are_compared_exactly() {
    // 3 rejections in 2 seconds are 1.5 a second.
    for (threshold, is_above) in [(1_499_999, true), (1_500_000, false), (1_500_001, false)] {
        let mut meter = Meter::default();
        let when = Condition::RejectionsPerSecondAbove(threshold);
        meter.measure(when, at(10).steady, totals(0, 0), None);
        let measure = meter.measure(when, at(12).steady, totals(9, 3), None).unwrap();
        assert_eq!((measure.value, measure.is_above), (1_500_000, is_above), "{threshold}");
    }
    let mut meter = Meter::default();
    let when = Condition::RejectionsPerSecondAbove(10_000_000_000_000);
    meter.measure(when, at(0).steady, totals(0, 0), None);
    let measure = meter.measure(when, at(1).steady, totals(u64::MAX, u64::MAX), None).unwrap();
    assert!(measure.is_above, "saturates, and does not wrap");
}

#[test]
fn a_failing_store_is_any_request_that_did_without_it() {
    let mut meter = Meter::default();
    let mut measure = |second, store_failures| {
        let totals = Totals { store_failures, ..totals(second * 100, 0) };
        meter.measure(Condition::StoreUnhealthy, at(second).steady, totals, None)
    };
    measure(0, 7);
    let value = |measure: Option<Measure>| measure.map(|measure| (measure.value, measure.is_above));
    assert_eq!(value(measure(1, 7)), Some((0, false)));
    assert_eq!(value(measure(2, 10)), Some((3, true)));
    for second in 3..12 {
        measure(second, 10);
    }
    assert_eq!(value(measure(12, 10)), Some((0, false)));
}

#[test]
fn counters_that_are_reset_and_clocks_that_step_back_begin_anew() {
    let mut meter = Meter::default();
    let when = Condition::HitRateAbove(500_000);
    meter.measure(when, at(100).steady, totals(1_000, 1_000), None);
    assert!(meter.measure(when, at(101).steady, totals(1_010, 1_010), None).unwrap().is_above);
    assert_eq!(meter.measure(when, at(102).steady, totals(3, 0), None), None, "a reset");
    assert!(!meter.measure(when, at(103).steady, totals(13, 1), None).unwrap().is_above);
    assert_eq!(meter.measure(when, at(50).steady, totals(14, 2), None), None, "a step back");
    assert_eq!(meter.measure(when, at(50).steady, totals(14, 2), None), None, "and no time is no measurement");
    assert!(!meter.measure(when, at(51).steady, totals(24, 2), None).unwrap().is_above);
}

/// What `users` and `addresses` were refused: client and how often.
fn refuse(sketches: &mut [TopK; 2], rule: &str, clients: &[(&str, &str, u64)]) -> u64 {
    let group = group_of(rule);
    for (user, address, times) in clients {
        for _ in 0..*times {
            if !user.is_empty() {
                sketches[0].count(group, user);
            }
            sketches[1].count(group, address);
        }
    }
    clients.iter().map(|(.., times)| times).sum()
}

fn offenders(sketches: &[TopK; 2], rule: Option<&str>) -> Offenders<'static> {
    let [users, addresses] = sketches.clone();
    let leak = |sketch: TopK| -> &'static TopK { Box::leak(Box::new(sketch)) };
    Offenders { users: leak(users), addresses: leak(addresses), group: rule.map(group_of) }
}

#[test]
fn the_top_violator_is_whoever_is_refused_most_now_and_not_ever() {
    let when = Condition::TopViolatorShareAbove(500_000);
    let mut sketches = [TopK::default(), TopK::default()];
    let mut refused = refuse(&mut sketches, "r", &[("old", "10.0.0.1", 5_000)]);
    let mut meter = Meter::default();
    assert_eq!(meter.measure(when, at(0).steady, totals(0, refused), Some(offenders(&sketches, None))), None);
    // Two rules refuse the same requests of one user from many addresses; another client is refused as well.
    for address in 0..30 {
        let address = format!("10.9.0.{address}");
        refused += refuse(&mut sketches, "r", &[("new", &address, 1)]);
        refused += refuse(&mut sketches, "s", &[("new", &address, 1)]);
    }
    refused += refuse(&mut sketches, "r", &[("", "10.0.0.7", 20)]);
    let measure = meter.measure(when, at(2).steady, totals(0, refused), Some(offenders(&sketches, None))).unwrap();
    assert_eq!(measure.top, Some(("user", "new".to_owned())));
    assert_eq!((measure.value, measure.is_above), (750_000, true), "60 of 80");
    let mut of_rule = Meter::default();
    of_rule.measure(when, at(0).steady, totals(0, 0), Some(offenders(&Default::default(), Some("r"))));
    let measure = of_rule.measure(when, at(2).steady, totals(0, 50), Some(offenders(&sketches, Some("r")))).unwrap();
    assert_eq!(measure.top, Some(("user", "old".to_owned())), "of another meter's begin, and of one rule");
    // Later nobody is refused: the sketches are not even read.
    for second in 3..20 {
        let now = totals(0, refused);
        let seen = meter.needs_offenders(&now).then(|| offenders(&sketches, None));
        meter.measure(when, at(second).steady, now, seen);
    }
    assert!(!meter.needs_offenders(&totals(0, refused)));
    let measure = meter.measure(when, at(20).steady, totals(0, refused), None).unwrap();
    assert_eq!((measure.value, measure.is_above, measure.top), (0, false, None));
    // Then one client a little, and what was before does not count for it.
    refused += refuse(&mut sketches, "r", &[("old", "10.0.0.1", 2), ("x", "10.0.0.2", 1), ("y", "10.0.0.3", 1)]);
    let measure = meter.measure(when, at(21).steady, totals(0, refused), Some(offenders(&sketches, None))).unwrap();
    assert_eq!((measure.value, measure.is_above), (500_000, false));
}

#[test]
fn a_flood_of_keys_makes_no_top_violator() {
    let when = Condition::TopViolatorShareAbove(100_000);
    let mut sketches = [TopK::default(), TopK::default()];
    let mut meter = Meter::default();
    let (mut refused, mut seed) = (0, 7);
    for second in 0..40 {
        for _ in 0..2_000 {
            let key = format!("10.{}.{}.1", random(&mut seed) % 250, random(&mut seed) % 250);
            refused += refuse(&mut sketches, "r", &[("", &key, 1)]);
        }
        let measure = meter.measure(when, at(second).steady, totals(0, refused), Some(offenders(&sketches, None)));
        assert!(measure.is_none_or(|measure| !measure.is_above), "second {second}");
    }
    // One client among the flood, with a share of a fifth.
    let mut above = 0;
    for second in 40..60 {
        for number in 0..2_000_u64 {
            let key = if number % 5 == 0 { "192.0.2.1".to_owned() } else { format!("10.{second}.{number}.2") };
            refused += refuse(&mut sketches, "r", &[("", &key, 1)]);
        }
        let measure =
            meter.measure(when, at(second).steady, totals(0, refused), Some(offenders(&sketches, None))).unwrap();
        if measure.is_above {
            assert_eq!(measure.top, Some(("ip", "192.0.2.1".to_owned())));
            assert!(measure.value <= 200_000, "never more than it is");
            above += 1;
        }
    }
    assert!(above >= 10, "{above}");
}
