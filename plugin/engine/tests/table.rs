//! What a full table promises, whatever becomes of the policy meanwhile: a client is never let through because there is no
//! room to count it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tidegate_engine::acquire::CellRequest;
use tidegate_engine::admin::grant::{Allowance, Grant, Target};
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::Policy;
use tidegate_engine::strategy::{Action, Reason};
use tidegate_engine::table::WAYS;
use tidegate_engine::{Decision, Engine, Header, Memory, Micros, Pending, Request, Step, Timestamp};

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A table of one bucket, in which everything meets.
const ONE_BUCKET: u32 = 8;

/// A policy that limits every user by rules of these rates a day.
fn engine(rates: &[u64]) -> Engine {
    let rule = |(number, rate): (usize, &u64)| {
        format!(r#"{{"name": "r{number}", "scope": "per_user", "rate": {rate}, "window_seconds": 86400}}"#)
    };
    let rules: Vec<String> = rates.iter().enumerate().map(rule).collect();
    let text = format!(
        r#"{{"version": 1, "identity": {{"user": [{{"header": "x-user", "trust": "verified"}}]}}, "rules": [{}]}}"#,
        rules.join(",")
    );
    Engine::new(Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap())
}

/// Everything of alice's, so many times.
fn times(factor: u64) -> Grant {
    Grant {
        id: "ov_1".to_owned(),
        admin: "ops".to_owned(),
        target: Target { user: Some("alice".to_owned()), ip: None, endpoint: None, rule: None },
        reason: "testing".to_owned(),
        note: String::new(),
        allowance: Allowance::Times(factor * 1_000_000),
        created_at: START,
        expires_at: START + Micros::from_secs(86_400),
    }
}

/// What a request of alice asks for.
fn asked(engine: &Engine) -> Pending {
    let headers: [Header<'_>; 3] = [(b":method", b"GET"), (b":path", b"/"), (b"x-user", b"alice")];
    let request = Request { headers: &headers, peer: b"192.0.2.1:1000", metadata: &[] };
    match engine.check(&request, START) {
        Step::Pending(pending) => pending,
        Step::Done(_) => panic!("the rules apply"),
    }
}

fn request(engine: &Engine, memory: &mut Memory) -> Decision {
    let pending = asked(engine);
    let reply = memory.acquire(engine, pending.acquire());
    match pending.resume(Ok(reply)) {
        Step::Done(decision) => decision,
        Step::Pending(_) => panic!("the engine asks once"),
    }
}

/// How many of `count` requests of alice pass.
fn passing(engine: &Engine, memory: &mut Memory, count: u64) -> u64 {
    (0..count).filter(|_| request(engine, memory).action == Action::Forward).map(|_| 1).sum()
}

#[test]
fn a_client_that_comes_back_after_each_of_many_edits_stays_limited() {
    let mut memory = Memory::new(ONE_BUCKET, [1; 16]);
    for rate in 2..40 {
        assert_eq!(passing(&engine(&[rate]), &mut memory, rate + 3), rate, "after {} edits", rate - 2);
    }
    assert_eq!(memory.given_up().limiting, 0, "only counters that no rule reads any more made room");
}

#[test]
fn a_client_of_more_rules_than_a_bucket_has_room_for_is_limited_by_each() {
    for count in [WAYS / 2, WAYS / 2 + 1, WAYS, WAYS + 1, 40, 200] {
        let mut rates = vec![50; count];
        for strictest in [0, count / 2, count - 1] {
            rates[strictest] = 3;
            let engine = engine(&rates);
            let mut memory = Memory::new(65_536, [1; 16]);
            assert_eq!(passing(&engine, &mut memory, 10), 3, "rule {strictest} of {count}");
            // Every rule then counts twice: its own quota, and the enlarged one.
            let enlarged = engine.with_grants(&[times(2)]);
            let mut memory = Memory::new(65_536, [1; 16]);
            assert_eq!(passing(&enlarged, &mut memory, 10), 6, "rule {strictest} of {count}, twice");
            rates[strictest] = 50;
        }
    }
}

#[test]
fn what_is_kept_together_fits_into_a_bucket_also_under_a_grant() {
    for count in 1..150 {
        let engine = engine(&vec![5; count]).with_grants(&[times(2)]);
        let pending = asked(&engine);
        let cells = &pending.acquire().cells;
        assert_eq!(cells.len(), 2 * count);
        let together = |cell: &CellRequest| cells.iter().filter(|other| other.group == cell.group).count();
        let most = cells.iter().map(together).max().unwrap();
        assert!(most <= WAYS, "{most} of {count} rules");
    }
}

#[test]
fn a_grant_refuses_nobody_whose_own_counters_leave_no_room() {
    let many = engine(&[5; WAYS]).with_grants(&[times(2)]);
    let mut memory = Memory::new(ONE_BUCKET, [1; 16]);
    assert_eq!(passing(&many, &mut memory, 20), 10, "the enlarged quotas fill the bucket");
    assert!(memory.given_up().limiting > 0, "that the rules' own are not counted meanwhile is told");
}

#[test]
fn a_request_whose_cells_do_not_fit_together_is_refused_and_charges_nothing() {
    let mut memory = Memory::new(ONE_BUCKET, [1; 16]);
    let many = engine(&[5; WAYS + 1]);
    for _ in 0..20 {
        let decision = request(&many, &mut memory);
        assert!(matches!(decision.action, Action::Respond(_)));
        assert_eq!(decision.denial.unwrap().reason, Reason::Contended);
        assert!(decision.reservation.unwrap().cells.iter().all(|cell| !cell.charged));
    }
    let as_many_as_fit = engine(&[5; WAYS]);
    assert_eq!(passing(&as_many_as_fit, &mut memory, 9), 5, "what was refused has charged nothing");
}

#[derive(Clone, Debug)]
enum Event {
    Edit(usize, u64),
    Grant(u64),
    Send(u64),
}

fn steps() -> impl Strategy<Value = Vec<Event>> {
    let step = prop_oneof![
        4 => (0..20_usize, 1..9_u64).prop_map(|(rule, rate)| Event::Edit(rule, rate)),
        1 => (1..5_u64).prop_map(Event::Grant),
        4 => (1..12_u64).prop_map(Event::Send),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/table.regressions.txt"))),
        ..ProptestConfig::default()
    })]

    /// Between two changes of any quota nobody gets more than the smallest of them, even in the smallest of tables.
    #[test]
    fn no_edit_and_no_grant_lets_a_client_through(rules in 1..20_usize, steps in steps()) {
        let mut rates = vec![4; rules];
        let (mut factor, mut passed) = (1, 0);
        let mut memory = Memory::new(ONE_BUCKET, [1; 16]);
        for step in steps {
            match step {
                Event::Edit(rule, rate) => (rates[rule % rules], passed) = (rate, 0),
                Event::Grant(times) => (factor, passed) = (times, 0),
                Event::Send(count) => {
                    let grants = if factor > 1 { vec![times(factor)] } else { Vec::new() };
                    passed += passing(&engine(&rates).with_grants(&grants), &mut memory, count);
                    let most = rates.iter().min().unwrap() * factor;
                    prop_assert!(passed <= most, "{passed} passed of at most {most}");
                }
            }
        }
    }
}
