//! The conformance suite itself: what is built in passes, and each deliberate mistake is caught as what it is, with a
//! history that a person can follow.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use core::sync::atomic::{AtomicU64, Ordering};

use tidegate_engine::algorithm::{
    Algorithm, Cell, FIXED_WINDOW, LEAKY_BUCKET, Plan, Quota, SLIDING_WINDOW, Standing, TOKEN_BUCKET,
};
use tidegate_engine::conformance::{Admission, Clause, Promise, Violation, check, check_seeds, check_strategy};
use tidegate_engine::strategy::{Action, Body, Denial, Reduced, Refusal, Reject, Relief, Room, Strategy, Throttle};
use tidegate_engine::{Micros, Timestamp};

#[test]
fn the_built_in_algorithms_keep_their_contract() {
    for (algorithm, promise) in [
        (&TOKEN_BUCKET as &dyn Algorithm, Promise::Burst),
        (&LEAKY_BUCKET, Promise::Spacing),
        (&FIXED_WINDOW, Promise::AlignedWindow),
        (&SLIDING_WINDOW, Promise::AnyWindow),
    ] {
        check(algorithm, promise).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

/// A promise is not kept by an algorithm that makes another: the judges are no rubber stamps.
#[test]
fn each_algorithm_keeps_its_own_promise_only() {
    let clause = |algorithm: &dyn Algorithm, promise| check(algorithm, promise).unwrap_err().clause;
    assert_eq!(clause(&TOKEN_BUCKET, Promise::AnyWindow), Clause::NeverOver);
    assert_eq!(clause(&TOKEN_BUCKET, Promise::Spacing), Clause::NeverOver);
    assert_eq!(clause(&FIXED_WINDOW, Promise::AnyWindow), Clause::NeverOver);
    assert_eq!(clause(&SLIDING_WINDOW, Promise::Burst), Clause::NeverOver);
    assert_eq!(clause(&LEAKY_BUCKET, Promise::Burst), Clause::NeverOver);
}

/// A built-in algorithm with a mistake.
#[derive(Clone, Copy)]
struct Broken {
    of: &'static dyn Algorithm,
    plan: fn(&Self, Cell, &Quota, u64, Timestamp) -> Plan,
    pull: fn(&Self, Cell, &Quota, Timestamp) -> Cell,
    standing: fn(&Self, Cell, &Quota, Timestamp) -> Standing,
    refund: fn(&Self, Cell, &Quota, u64, Timestamp, Timestamp) -> Cell,
    largest_cost: fn(&Self, &Quota) -> u64,
}

fn unbroken(of: &'static dyn Algorithm) -> Broken {
    Broken {
        of,
        plan: |broken, cell, quota, cost, now| broken.of.plan(cell, quota, cost, now),
        pull: |broken, cell, quota, now| broken.of.pull(cell, quota, now),
        standing: |broken, cell, quota, now| broken.of.standing(cell, quota, now),
        refund: |broken, cell, quota, cost, charged_at, now| broken.of.refund(cell, quota, cost, charged_at, now),
        largest_cost: |broken, quota| broken.of.largest_cost(quota),
    }
}

impl Algorithm for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn plan(&self, cell: Cell, quota: &Quota, cost: u64, now: Timestamp) -> Plan {
        (self.plan)(self, cell, quota, cost, now)
    }

    fn pull(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Cell {
        (self.pull)(self, cell, quota, now)
    }

    fn standing(&self, cell: Cell, quota: &Quota, now: Timestamp) -> Standing {
        (self.standing)(self, cell, quota, now)
    }

    fn refund(&self, cell: Cell, quota: &Quota, cost: u64, charged_at: Timestamp, now: Timestamp) -> Cell {
        (self.refund)(self, cell, quota, cost, charged_at, now)
    }

    fn largest_cost(&self, quota: &Quota) -> u64 {
        (self.largest_cost)(self, quota)
    }

    fn longest_line(&self, quota: &Quota) -> Micros {
        self.of.longest_line(quota)
    }
}

fn promise(of: &dyn Algorithm) -> Promise {
    match of.name() {
        "token_bucket" => Promise::Burst,
        "leaky_bucket" => Promise::Spacing,
        "fixed_window" => Promise::AlignedWindow,
        _ => Promise::AnyWindow,
    }
}

/// The violation, which must be of this clause, and found with a history of at most so many steps.
fn caught(broken: &Broken, clause: Clause, steps: usize) -> Violation {
    let violation = check(broken, promise(broken.of)).unwrap_err();
    assert_eq!(violation.clause, clause, "{violation}");
    assert!(violation.history.len() <= steps, "{violation}");
    *violation
}

fn one_more(quota: &Quota) -> Quota {
    Quota { burst: quota.burst.saturating_add(1), rate: quota.rate.saturating_add(1), ..*quota }
}

#[test]
fn one_unit_too_many_is_over() {
    for of in [&TOKEN_BUCKET as &dyn Algorithm, &LEAKY_BUCKET, &FIXED_WINDOW, &SLIDING_WINDOW] {
        caught(
            &Broken {
                plan: |broken, cell, quota, cost, now| {
                    if cost > broken.of.largest_cost(quota) {
                        return Plan { wait: Micros::FOREVER, cell };
                    }
                    broken.of.plan(cell, &one_more(quota), cost, now)
                },
                pull: |broken, cell, quota, now| broken.of.pull(cell, &one_more(quota), now),
                standing: |broken, cell, quota, now| broken.of.standing(cell, &one_more(quota), now),
                refund: |broken, cell, quota, cost, charged_at, now| {
                    broken.of.refund(cell, &one_more(quota), cost, charged_at, now)
                },
                ..unbroken(of)
            },
            Clause::NeverOver,
            8,
        );
    }
}

#[test]
fn a_wait_that_is_a_microsecond_too_long_or_too_short_is_not_exact() {
    let longer = |broken: &Broken, cell: Cell, quota: &Quota, cost: u64, now: Timestamp| {
        let Plan { wait, cell } = broken.of.plan(cell, quota, cost, now);
        Plan { wait: if wait == Micros::ZERO { wait } else { Micros(wait.0.saturating_add(1)) }, cell }
    };
    let shorter = |broken: &Broken, cell: Cell, quota: &Quota, cost: u64, now: Timestamp| {
        let Plan { wait, cell } = broken.of.plan(cell, quota, cost, now);
        Plan { wait: if wait.0 < 2 || wait == Micros::FOREVER { wait } else { Micros(wait.0 - 1) }, cell }
    };
    for of in [&TOKEN_BUCKET as &dyn Algorithm, &LEAKY_BUCKET, &FIXED_WINDOW, &SLIDING_WINDOW] {
        caught(&Broken { plan: longer, ..unbroken(of) }, Clause::ExactWait, 2);
        caught(&Broken { plan: shorter, ..unbroken(of) }, Clause::ExactWait, 2);
    }
}

#[test]
fn a_panic_at_the_end_of_the_range_is_caught_with_its_message() {
    let broken = Broken {
        plan: |broken, cell, quota, cost, now| {
            // What unchecked arithmetic does in a debug build.
            let _ = quota.window.0.checked_mul(cost).expect("window x cost fits");
            broken.of.plan(cell, quota, cost, now)
        },
        ..unbroken(&TOKEN_BUCKET)
    };
    let violation = caught(&broken, Clause::NoPanic, 1);
    assert_eq!(violation.found, "a panic, window x cost fits");
    assert!(violation.history[0].contains("cost "), "{violation}");
}

#[test]
fn a_refund_of_what_time_has_drained_already_is_over() {
    let broken = Broken {
        refund: |broken, cell, quota, cost, _, now| {
            // As if every charge had just been made: TAT -= cost x T.
            let Cell([tat, numerator, mark]) = broken.of.pull(cell, quota, now);
            let interval = quota.window.0 / quota.rate;
            Cell([tat.saturating_sub(cost.saturating_mul(interval)), numerator, mark])
        },
        ..unbroken(&TOKEN_BUCKET)
    };
    caught(&broken, Clause::NeverOver, 7);
}

#[test]
fn a_refund_into_a_window_that_was_not_charged_is_over() {
    let broken = Broken {
        refund: |broken, cell, quota, cost, _, now| broken.of.refund(cell, quota, cost, now, now),
        ..unbroken(&FIXED_WINDOW)
    };
    let violation = caught(&broken, Clause::NeverOver, 7);
    let told = violation.to_string();
    assert!(told.starts_with("broken breaks the contract: what is admitted never exceeds the promise\n"), "{told}");
    assert!(told.contains("units in one window since the epoch, allowed: "), "{told}");
    assert!(told.contains(". a refund of "), "{told}");
    let again = check_seeds(&broken, Promise::AlignedWindow, violation.seed..violation.seed + 1).unwrap_err();
    assert_eq!(again.to_string(), told, "the seed shows it again");
}

#[test]
fn what_depends_on_earlier_calls_is_not_pure() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    static REMEMBERED: AtomicU64 = AtomicU64::new(0);
    let counting = Broken {
        plan: |broken, cell, quota, cost, now| {
            let odd = CALLS.fetch_add(1, Ordering::Relaxed) % 1_000 == 999;
            let plan = broken.of.plan(cell, quota, cost, now);
            Plan { cell: if odd { Cell::default() } else { plan.cell }, ..plan }
        },
        ..unbroken(&TOKEN_BUCKET)
    };
    let violation = check(&counting, Promise::Burst).unwrap_err();
    assert_eq!(violation.clause, Clause::Pure, "{violation}");

    // A clock of its own that never steps back mixes up the histories of different clients.
    let remembering = Broken {
        plan: |broken, cell, quota, cost, now| {
            let latest = REMEMBERED.fetch_max(now.micros(), Ordering::Relaxed).max(now.micros());
            broken.of.plan(cell, quota, cost, Timestamp::from_micros(latest))
        },
        ..unbroken(&TOKEN_BUCKET)
    };
    assert!(check(&remembering, Promise::Burst).is_err());
}

#[test]
fn a_clock_that_stepped_back_must_not_lock_out() {
    let never_pulls = Broken {
        plan: |broken, cell, quota, cost, now| {
            let far = Quota { horizon: Micros(u64::MAX / 2), ..*quota };
            broken.of.plan(cell, &far, cost, now)
        },
        pull: |_, cell, _, _| cell,
        standing: |broken, cell, quota, now| {
            let far = Quota { horizon: Micros(u64::MAX / 2), ..*quota };
            broken.of.standing(cell, &far, now)
        },
        ..unbroken(&TOKEN_BUCKET)
    };
    caught(&never_pulls, Clause::NoLockout, 4);

    let forgets = Broken { pull: |_, _, _, _| Cell::default(), ..unbroken(&TOKEN_BUCKET) };
    caught(&forgets, Clause::Pull, 3);
}

#[test]
fn standing_must_be_what_plan_does() {
    let boasts = Broken {
        standing: |broken, cell, quota, now| {
            let standing = broken.of.standing(cell, quota, now);
            Standing { remaining: standing.remaining.saturating_add(1), ..standing }
        },
        ..unbroken(&SLIDING_WINDOW)
    };
    caught(&boasts, Clause::Standing, 1);
    let hurries = Broken {
        standing: |broken, cell, quota, now| {
            let standing = broken.of.standing(cell, quota, now);
            Standing { reset_after: Micros(standing.reset_after.0 / 2), ..standing }
        },
        ..unbroken(&LEAKY_BUCKET)
    };
    caught(&hurries, Clause::Standing, 2);
}

#[test]
fn the_largest_cost_must_be_just_that() {
    let modest = Broken { largest_cost: |_, _| 1, ..unbroken(&FIXED_WINDOW) };
    caught(&modest, Clause::LargestCost, 1);
    let boastful = Broken { largest_cost: |_, quota| quota.burst.get().saturating_add(1), ..unbroken(&TOKEN_BUCKET) };
    assert!(check(&boastful, Promise::Burst).is_err());
}

#[test]
fn a_reservation_must_not_be_overtaken() {
    let forgets_the_line = Broken {
        plan: |broken, cell, quota, cost, now| {
            let plan = broken.of.plan(cell, quota, cost, now);
            // Small requests slip in: whoever asks for one unit is not made to wait behind reservations.
            let is_small = cost == 1 && plan.wait <= quota.horizon;
            if is_small { Plan { wait: Micros::ZERO, cell } } else { plan }
        },
        ..unbroken(&TOKEN_BUCKET)
    };
    assert!(check(&forgets_the_line, Promise::Burst).is_err());
}

#[test]
fn a_promise_of_ones_own_is_judged() {
    /// What a token bucket also keeps: no request is larger than the burst.
    fn modest(quota: &Quota, log: &[Admission]) -> Result<(), String> {
        match log.iter().find(|one| one.cost > quota.burst.get()) {
            Some(one) => Err(format!("a request of {}", one.cost)),
            None => Ok(()),
        }
    }
    check(&TOKEN_BUCKET, Promise::Own(modest)).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(check(&FIXED_WINDOW, Promise::Own(modest)).unwrap_err().clause, Clause::NeverOver);
}

/// A strategy whose requests may be held for a second, with any answer.
#[derive(Debug)]
struct Careless(fn(&Denial) -> Action);

impl Strategy for Careless {
    fn name(&self) -> &'static str {
        "careless"
    }

    fn apply(&self, denial: &Denial) -> Action {
        (self.0)(denial)
    }

    fn horizon(&self) -> Micros {
        Micros::from_secs(1)
    }

    fn room(&self) -> Option<Room> {
        Some(Room { waiting: 1, waiting_per_key: 1 })
    }
}

#[test]
fn the_strategies_keep_theirs() {
    let retry_after = Reject { status: 429, body: Body::Problem, says_when: true };
    let room = Room { waiting: 10, waiting_per_key: 1 };
    check_strategy(&retry_after).unwrap();
    check_strategy(&Throttle { max_delay: Micros::from_secs(2), room }).unwrap();
    let found = |strategy: &dyn Strategy| check_strategy(strategy).unwrap_err().to_string();
    let ok = found(&Reject { status: 200, ..retry_after });
    assert!(ok.contains("allowed: a status of 400 to 599"), "{ok}");

    assert!(check_strategy(&Careless(|_| Action::Forward)).is_err(), "what is not charged must not go on");
    assert!(check_strategy(&Careless(|denial| Action::Delay(denial.retry_after))).is_err());
    let reduced = |_: &Denial| Action::Degrade(Reduced::Forward { headers: Vec::new(), path: None });
    assert!(check_strategy(&Careless(reduced)).is_err(), "there is no ceiling that it could be below");
    let longer = found(&Careless(|denial| match denial.relief {
        Relief::Reserved(wait) => Action::Delay(Micros(wait.0 + 1)),
        _ => Action::Respond(Refusal { status: 429, body: Body::Problem, retry_after: None }),
    }));
    assert!(longer.contains("for as long as is reserved"), "{longer}");
}
