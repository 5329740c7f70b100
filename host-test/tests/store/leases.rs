//! Units that are charged ahead: how many are asked for, who spends them without a call, how long they live on the steady
//! clock, and when they go back. How much an algorithm lets be leased is the script's, and tested with a real Redis.

use std::time::Duration;

use crate::played::{MS, NOW, Proxy, asked, done, granted, passed, policy, proxy, refused};
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
fn however_many_ask_at_once_one_asks_ahead() {
    let Some(at) = leased("fixed_window", 10_000) else { return };
    let mut left = 10_000;
    let mut held: Vec<i64> = Vec::new();
    for _ in 0..12 {
        // All at once: as many questions are out as nothing pays for.
        let streams: Vec<_> = (0..100).map(|_| at.from("a")).collect();
        let calls = at.host.callouts();
        let more: Vec<i64> = calls
            .iter()
            .map(|call| {
                let line = asked(call).lines.remove(0);
                let words: Vec<i64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
                words[5] - words[4]
            })
            .collect();
        assert!(more.iter().filter(|more| **more > 0).count() <= 1, "{more:?}");
        held.extend(more.iter().max());
        for (call, more) in calls.iter().zip(more) {
            left -= 1 + more;
            at.host.answer(call, granted(&[[0, 1 + more, left, 30_000_000, if more > 0 { 20_000_000 } else { 0 }]]));
        }
        assert!(streams.iter().all(passed));
    }
    assert_eq!(held, [0, 154, 150, 147, 144, 141, 138], "a 64th of what is left");
    at.sound();
}

#[test]
fn a_lease_of_dear_requests_is_no_larger() {
    let more = r#", "algorithm": "fixed_window", "cost": 10"#;
    let Some(at) = proxy(LEASE, &[rule("r", "per_user", 1_000, 60, more)]) else { return };
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let stream = at.from("a");
        let more = ahead(&at);
        sizes.push(more);
        let charged = 10 + i64::try_from(more).unwrap();
        at.says(granted(&[[0, charged, 900, 30_000_000, if more > 0 { 5_000_000 } else { 0 }]]));
        assert!(passed(&stream));
        assert_eq!(free(&at), more / 10);
        at.says(granted(&[[0, 10, 900, 30_000_000, 0]]));
    }
    assert_eq!(sizes, [0, 10, 10, 10, 10], "900 / 64 is 14");
    at.sound();
}

#[test]
fn a_refusal_is_believed_for_a_second_and_no_longer_than_it_lasts() {
    for (wait, believed) in [(30_000_000, 1_000), (400_000, 400)] {
        let Some(at) = leased("fixed_window", 100) else { return };
        let stream = at.from("a");
        at.host.advance(5 * MS);
        at.says(refused(&[[wait, 0, 0, wait, 0]]));
        assert_eq!(stream.status(), 429);
        at.host.advance(295 * MS);
        let stream = at.from("a");
        assert_eq!((stream.status(), at.is_asked()), (429, false), "the store has said so");
        let seconds = (wait - 300_000 + 999_999) / 1_000_000;
        assert_eq!(stream.response().unwrap().headers.text("retry-after").unwrap(), seconds.to_string());
        let other = at.from("b");
        at.says(granted(&[[0, 1, 99, 1_000_000, 0]]));
        assert!(passed(&other), "of one key");
        at.host.advance((believed - 301) * MS);
        assert_eq!((at.from("a").status(), at.is_asked()), (429, false));
        at.host.advance(MS);
        let stream = at.from("a");
        at.says(granted(&[[0, 1, 50, 1_000_000, 0]]));
        assert!(passed(&stream), "asked again after {believed} ms");
        assert_eq!(at.counted(), [3, 0, 0, 0, 2]);
        at.sound();
    }
}

#[test]
fn a_rule_in_trial_that_is_over_its_limit_costs_no_calls() {
    let rules = [
        rule("r", "global", 100_000, 60, r#", "algorithm": "fixed_window""#),
        rule("trial", "per_user", 10, 60, r#", "algorithm": "fixed_window", "mode": "shadow""#),
    ];
    let Some(at) = proxy(LEASE, &rules) else { return };
    let mut asked_for = 0;
    for _ in 0..2_000 {
        let stream = at.from("a");
        if at.is_asked() {
            let words: Vec<String> = asked(&at.call()).lines[0].split(' ').map(str::to_owned).collect();
            let most = words[7].parse::<i64>().unwrap();
            at.says(granted(&[
                [0, most, 90_000, 30_000_000, if most > 1 { 30_000_000 } else { 0 }],
                [30_000_000, 0, 0, 30_000_000, 0],
            ]));
            asked_for += 1;
        }
        assert!(passed(&stream));
        at.host.advance(MS);
    }
    assert!(asked_for < 20, "{asked_for} calls of 2000");
    let metric = |name: &str| at.host.metrics().counter(&format!("tidegate.default.verdicts_total.{name}"));
    assert_eq!(metric("trial.shadow_limited"), Some(2_000), "as the store said");
    at.sound();
}

#[test]
fn a_refused_client_takes_nothing_of_what_others_may_spend() {
    let rules = [
        rule("all", "global", 1_000, 60, r#", "algorithm": "fixed_window""#),
        rule("each", "per_user", 10, 60, r#", "algorithm": "fixed_window""#),
    ];
    let Some(at) = proxy(LEASE, &rules) else { return };
    let free = |left: i64| [0, 1, left, 30_000_000, 0];
    at.from("b");
    at.says(granted(&[free(900), free(9)]));
    at.from("b");
    at.says(granted(&[[0, 2, 900, 30_000_000, 20_000_000], free(8)]));
    at.from("a");
    at.says(refused(&[[0, 0, 900, 30_000_000, 0], [7_000_000, 0, 0, 7_000_000, 0]]));
    for _ in 0..9 {
        assert_eq!((at.from("a").status(), at.is_asked()), (429, false));
    }
    at.host.advance(500 * MS);
    assert_eq!(asked(&at.call()).purpose, "refund", "the unit ahead is still there, and goes back");
    at.sound();
}

#[test]
fn what_is_held_for_many_goes_back_a_few_at_a_time() {
    let Some(at) = leased("fixed_window", 1_000) else { return };
    for user in 0..200 {
        let user = format!("u{user}");
        at.from(&user);
        at.says(granted(&[[0, 1, 999, 30_000_000, 0]]));
        at.from(&user);
        at.says(granted(&[[0, 2, 990, 30_000_000, 20_000_000]]));
    }
    at.host.advance(499 * MS);
    assert!(!at.is_asked());
    let mut sizes = Vec::new();
    for _ in 0..6 {
        at.host.advance(MS);
        while at.is_asked() {
            sizes.push(asked(&at.call()).keys.len());
            at.says(done());
        }
        at.host.advance(9 * MS);
    }
    assert_eq!(sizes, [64, 64, 64, 8], "10 ms apart");
    at.sound();
}

#[test]
fn clients_that_never_come_back_do_not_keep_others_from_leases() {
    let Some(at) = leased("fixed_window", 1_000) else { return };
    for user in 0..4_200 {
        at.from(&format!("once{user}"));
        at.says(granted(&[[0, 1, 999, 30_000_000, 0]]));
    }
    assert_eq!(grants(&at, 999, 0), 0);
    assert_eq!(grants(&at, 990, 20_000_000), 1);
    for user in 0..1_000 {
        at.from(&format!("later{user}"));
        at.says(granted(&[[0, 1, 999, 30_000_000, 0]]));
    }
    assert_eq!(free(&at), 1, "whoever has units keeps them");
    at.sound();
}

#[test]
fn a_policy_that_follows_spends_what_the_one_before_holds() {
    let rules = |more: &str| [rule("r", "per_user", 1_000, 60, &format!(r#", "algorithm": "fixed_window"{more}"#))];
    let pushed = |store: &str| {
        let at = proxy(LEASE, &rules(""))?;
        grants(&at, 999, 0);
        grants(&at, 990, 20_000_000);
        free_then_one(&at);
        assert_eq!(grants(&at, 900, 20_000_000), 4);
        let mut next = policy(&format!("{LEASE}{store}"), &rules(r#", "description": "another""#));
        if store.is_empty() {
            next = next.replace("gateway", "elsewhere");
        }
        at.host.reconfigure(&at.id, next).unwrap();
        Some(at)
    };
    let Some(at) = pushed(r#", "timeout_ms": 50"#) else { return };
    at.host.drain(&at.id);
    for _ in 0..4 {
        assert!(passed(&at.from("a")) && !at.is_asked());
    }
    assert_eq!(free(&at), 0);
    // What is left of it goes back though the deployment that charged it is gone.
    at.says(granted(&[[0, 1 + 8, 900, 30_000_000, 20_000_000]]));
    at.host.advance(500 * MS);
    assert_eq!(asked(&at.call()).lines, [format!("f 1000 60000000 1000 0 8 w {NOW} 0")]);
    at.sound();
    // Another store's units are not this one's.
    let Some(at) = pushed("") else { return };
    assert_eq!(free(&at), 0);
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
