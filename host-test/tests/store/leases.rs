//! Units that are charged ahead: how many are asked for, who spends them without a call, how long they live on the steady
//! clock, and when they go back. How much an algorithm lets be leased is the script's, and tested with a real Redis.

use std::time::Duration;

use crate::played::{MS, NOW, Proxy, asked, done, granted, passed, proxy, refused};
use crate::tidegate::rule;

const LEASE: &str = r#", "mode": "lease""#;

fn leased(algorithm: &str, rate: u32) -> Option<Proxy> {
    let more = format!(r#", "algorithm": "{algorithm}", "on_store_error": "deny""#);
    proxy(LEASE, &[rule("r", "per_user", rate, 60, &more)])
}

/// The `most` of the one line that is asked, beside the request's own cost.
fn ahead(at: &Proxy) -> u64 {
    let question = asked(&at.call());
    let words: Vec<&str> = question.lines[0].split(' ').collect();
    words[7].parse::<u64>().unwrap() - words[5].parse::<u64>().unwrap()
}

/// A request that asks and gets all of it, to be spent within so many microseconds; what it asked for ahead.
fn grants(at: &Proxy, remaining: i64, life: i64) -> u64 {
    let stream = at.from("a");
    let more = ahead(at);
    let ahead = i64::try_from(more).unwrap();
    at.says(granted(&[[0, 1 + ahead, remaining, 30_000_000, if ahead > 0 { life } else { 0 }]]));
    assert!(passed(&stream));
    more
}

/// How many requests pass without a call; the next one asks, and is left asking.
fn free(at: &Proxy) -> u64 {
    let mut count = 0;
    loop {
        let stream = at.from("a");
        if at.is_asked() {
            return count;
        }
        assert!(passed(&stream));
        count += 1;
    }
}

/// The same, and its call is answered with nothing ahead.
fn free_then_one(at: &Proxy) -> u64 {
    let count = free(at);
    at.says(granted(&[[0, 1, 500, 30_000_000, 0]]));
    count
}

#[test]
fn leases_grow_from_nothing_to_a_sixty_fourth_of_what_is_left() {
    let Some(at) = leased("fixed_window", 1_000) else { return };
    let mut sizes = vec![grants(&at, 999, 0)];
    let mut calls = 1;
    for _ in 0..6 {
        let stream = at.from("a");
        let more = ahead(&at);
        sizes.push(more);
        at.says(granted(&[[0, 1 + i64::try_from(more).unwrap(), 700, 30_000_000, 5_000_000]]));
        assert!(passed(&stream));
        for _ in 0..more {
            assert!(passed(&at.from("a")) && !at.is_asked(), "spent without a call");
        }
        calls += 1;
    }
    assert_eq!(sizes, [0, 1, 2, 4, 8, 10, 10], "twice as many each time, up to 700 / 64");
    assert_eq!(at.counted(), [calls, 0, 0, 0, 35]);
    // Whoever comes after a second and more asks for less.
    at.host.advance(900 * MS);
    assert_eq!(free(&at), 0);
    assert_eq!(ahead(&at), 10, "within a second");
    at.says(granted(&[[0, 1, 700, 30_000_000, 0]]));
    at.sound();
}

#[test]
fn a_lease_lives_as_long_as_its_algorithm_lets_it_from_before_the_call() {
    // The tolerance of a token bucket is short by a twentieth of its burst for every question.
    for (algorithm, line, life) in [
        ("token_bucket", "t 1000 60000000 100 0 1 w 1 300000", 300_000),
        ("fixed_window", "f 1000 60000000 100 0 1 w 1 0", 400_000),
        ("sliding_window", "s 1000 60000000 100 0 1 w 1 0", 250_000),
    ] {
        for (micros, is_free) in [(life - 1, true), (life, false)] {
            let more = format!(r#", "algorithm": "{algorithm}", "burst": 100"#);
            let Some(at) = proxy(LEASE, &[rule("r", "per_user", 1_000, 60, &more)]) else { return };
            at.from("a");
            assert_eq!(asked(&at.call()).lines, [line]);
            at.says(granted(&[[0, 1, 99, 1_000_000, 0]]));
            let stream = at.from("a");
            at.host.advance(15 * MS);
            at.says(granted(&[[0, 2, 90, 1_000_000, i64::try_from(life).unwrap()]]));
            assert!(passed(&stream));
            at.host.advance(Duration::from_micros(micros - 15_000));
            assert_eq!(
                passed(&at.from("a")) && !at.is_asked(),
                is_free,
                "{algorithm}: {micros} us after it was asked for"
            );
        }
    }
}

#[test]
fn a_lease_is_void_at_its_end() {
    let Some(at) = leased("fixed_window", 1_000) else { return };
    grants(&at, 999, 0);
    let stream = at.from("a");
    at.host.advance(15 * MS);
    at.says(granted(&[[0, 2, 990, 1_000_000, 300_000]]));
    assert!(passed(&stream));
    at.host.advance(285 * MS);
    assert_eq!(free_then_one(&at), 0, "300 ms after it was asked for");
    at.host.advance(2_000 * MS);
    assert!(!at.is_asked(), "what is void is not given back");
    at.sound();
}

#[test]
fn a_leaky_bucket_and_a_cost_of_nothing_are_never_leased() {
    let Some(at) = leased("leaky_bucket", 1_000) else { return };
    for _ in 0..5 {
        let stream = at.from("a");
        // It may be asked for; the script leases none.
        at.says(granted(&[[0, 1, 0, 60_000, 0]]));
        assert!(passed(&stream));
    }
    assert_eq!(at.counted(), [5, 0, 0, 0, 0]);
    at.sound();
}

#[test]
fn what_nobody_touches_goes_back_after_half_a_second() {
    let Some(at) = leased("fixed_window", 1_000) else { return };
    grants(&at, 999, 0);
    grants(&at, 900, 20_000_000);
    free_then_one(&at);
    assert_eq!(grants(&at, 900, 20_000_000), 4);
    at.host.advance(100 * MS);
    assert!(passed(&at.from("a")) && !at.is_asked(), "touched at 100 ms, three are left");
    at.host.advance(899 * MS);
    assert!(!at.is_asked(), "looked at after half a second, when it was touched lately");
    at.host.advance(MS);
    let back = at.call();
    let question = asked(&back);
    assert_eq!(
        (question.purpose.as_str(), question.lines),
        ("refund", vec![format!("f 1000 60000000 1000 0 3 w {NOW} 0")])
    );
    at.says(done());
    assert_eq!(free_then_one(&at), 0, "it is not spent once more");
    at.host.advance(10_000 * MS);
    assert!(!at.is_asked(), "nor given back once more");
    at.sound();
}

#[test]
fn at_the_limit_every_request_asks() {
    let Some(at) = leased("fixed_window", 100) else { return };
    grants(&at, 63, 0);
    for left in (0..63).rev() {
        assert_eq!(grants(&at, left, 0), 0, "a 64th of {left} is nothing");
    }
    let stream = at.from("a");
    at.says(refused(&[[7_000_000, 0, 0, 7_000_000, 0]]));
    assert_eq!(stream.status(), 429);
    assert_eq!(at.counted(), [65, 0, 0, 0, 0]);
    at.sound();
}

#[test]
fn neither_clock_that_steps_lengthens_a_lease() {
    let hour = 3_600_000_000_i64;
    for wall in [0, 9_000_000_000_000_000] {
        let Some(at) = leased("fixed_window", 1_000) else { return };
        grants(&at, 999, 0);
        grants(&at, 990, 300_000);
        at.host.clock().set_micros(wall);
        assert_eq!(free_then_one(&at), 1, "the wall clock plays no part");
    }
    for (skew, what) in [(hour, "far ahead"), (-hour / 2, "back")] {
        let Some(at) = leased("fixed_window", 1_000) else { return };
        at.host.advance(3_600_000 * MS);
        grants(&at, 999, 0);
        grants(&at, 990, 300_000);
        at.host.clock().skew_steady(skew);
        assert_eq!(free_then_one(&at), 0, "void where the steady clock steps {what}");
        grants(&at, 990, 300_000);
        at.host.advance(5_000 * MS);
        while at.is_asked() {
            at.says(done());
        }
        grants(&at, 990, 300_000);
        at.sound();
    }
}

#[test]
fn leases_are_spent_while_the_store_fails_and_then_the_rules_mode_decides() {
    for (mode, then) in [("deny", 0), ("allow", 20), ("local", 3)] {
        let more = format!(r#", "algorithm": "fixed_window", "on_store_error": "{mode}", "local_share": 0.012"#);
        let Some(at) = proxy(LEASE, &[rule("r", "per_user", 1_000, 60, &more)]) else { return };
        grants(&at, 999, 0);
        grants(&at, 990, 20_000_000);
        free_then_one(&at);
        assert_eq!(grants(&at, 990, 20_000_000), 4);
        for _ in 0..5 {
            at.from("b");
            at.says(tidegate_host_test::Answer::Reset);
        }
        assert!(!at.is_healthy());
        let passing = |count: usize| (0..count).filter(|_| passed(&at.from("a"))).count();
        assert_eq!(passing(4), 4, "{mode}: what is charged already");
        // Twelve of its own, of which the store's answers and the leases have taken nine.
        assert_eq!(passing(20), then, "{mode}");
        assert_eq!(at.counted()[4], 5, "{mode}: leased");
        at.sound();
    }
}
