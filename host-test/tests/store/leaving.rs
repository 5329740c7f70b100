//! Who is gone when the answer comes: the client, the VM, the policy. What was charged for nobody goes back, and nobody is
//! left without an answer.

use tidegate_host_test::{Answer, Outcome, Thread};

use crate::played::{MS, NOW, asked, done, granted, passed, policy, proxy, proxy_of, refused};
use crate::tidegate::{from, rule};

const FIXED: &str = r#", "algorithm": "fixed_window", "on_store_error": "deny""#;
const GRANTED: [i64; 5] = [0, 1, 9, 60_000_000, 0];

fn rules() -> [String; 1] {
    [rule("r", "per_user", 10, 60, FIXED)]
}

#[test]
fn a_client_that_left_gets_its_charge_back() {
    let Some(at) = proxy("", &rules()) else { return };
    let stream = at.from("a");
    stream.disconnect();
    assert_eq!(at.host.callouts().len(), 1, "the call is out all the same");
    at.host.advance(9 * MS);
    at.says(granted(&[GRANTED]));
    assert_eq!(stream.outcome(), Outcome::Disconnected);
    let back = asked(&at.call());
    assert_eq!((back.purpose.as_str(), back.lines), ("refund", vec![format!("f 10 60000000 10 0 1 w {NOW} 0")]));
    at.says(done());
    // One that was refused, or failed, has nothing to get.
    for answer in [refused(&[[5, 0, 0, 5, 0]]), Answer::Reset] {
        at.from("a").disconnect();
        at.says(answer);
        assert!(!at.is_asked());
    }
    assert_eq!(at.counted(), [3, 1, 0, 0, 0]);
    at.sound();
}

#[test]
fn a_lease_that_came_for_one_who_left_is_kept_for_the_next() {
    let Some(at) = proxy(r#", "mode": "lease""#, &[rule("r", "per_user", 1_000, 60, FIXED)]) else { return };
    at.from("a");
    at.says(granted(&[[0, 1, 999, 60_000_000, 0]]));
    at.from("a").disconnect();
    at.says(granted(&[[0, 2, 990, 60_000_000, 5_000_000]]));
    let back = asked(&at.call());
    assert_eq!(back.lines, [format!("f 1000 60000000 1000 0 1 w {NOW} 0")], "its own unit");
    at.says(done());
    assert!(passed(&at.from("a")) && !at.is_asked());
    at.sound();
}

#[test]
fn a_vm_that_dies_while_it_asks_takes_nobody_else_along() {
    let Some(at) = proxy_of(2, &policy("", &rules())) else { return };
    let stream = at.from("a");
    let call = at.call();
    // It dies in the callback of the answer.
    at.host.kill(Thread::Worker(0));
    at.host.answer(&call, granted(&[GRANTED]));
    assert!(!at.is_asked());
    assert!(!passed(&stream), "it is the host's to end: Envoy's failure policy, or the client's time");
    let other = at.host.request(1, &at.id, from("a"));
    at.says(granted(&[GRANTED]));
    assert!(passed(&other), "the other worker's VM");
    at.host.advance(1_000 * MS);
    let again = at.from("a");
    assert_eq!(at.call().token, call.token, "tokens start anew with the VM");
    at.says(granted(&[GRANTED]));
    assert!(passed(&again), "and the new one");
    let traps = at.host.logs().iter().filter(|line| line.level == tidegate_host_test::LogLevel::Critical).count();
    assert_eq!(traps, 1, "none but the one that this test made");
}

#[test]
fn a_policy_that_changes_while_it_is_asked_is_the_next_ones() {
    let Some(at) = proxy("", &rules()) else { return };
    let old = at.from("a");
    let first = at.call();
    at.host.reconfigure(&at.id, policy("", &[rule("new", "per_user", 5, 60, FIXED)])).unwrap();
    at.host.drain(&at.id);
    let new = at.from("a");
    let calls = at.host.callouts();
    assert_eq!(calls.len(), 2);
    let second = calls.iter().find(|call| call.token != first.token).unwrap();
    assert!(asked(second).keys[0].contains("}:new:"));
    // Crossed: each belongs to the deployment that asked.
    at.host.answer(second, granted(&[[0, 1, 4, 60_000_000, 0]]));
    at.host.answer(&first, granted(&[GRANTED]));
    let limits = |stream: &tidegate_host_test::Stream| stream.response().unwrap().headers.text("ratelimit").unwrap();
    assert_eq!([limits(&old), limits(&new)], [r#""r";r=9;t=60"#, r#""new";r=4;t=60"#]);
    assert!(!at.is_asked());
    // And one that is asked for by an old deployment that then fails.
    let old = at.from("a");
    at.host.reconfigure(&at.id, policy("", &rules())).unwrap();
    at.host.drain(&at.id);
    at.host.advance(20 * MS);
    assert_eq!(old.status(), 429);
    at.sound();
}

#[test]
fn a_client_that_leaves_last_of_an_old_policy_leaves_its_charge() {
    let Some(at) = proxy("", &rules()) else { return };
    let stream = at.from("a");
    at.host.reconfigure(&at.id, policy("", &rules())).unwrap();
    at.host.drain(&at.id);
    let call = at.call();
    stream.disconnect();
    at.host.answer(&call, granted(&[GRANTED]));
    // Its root context went with its last request: nobody hears the answer, and the charge ages out. Never the other way.
    assert!(!at.is_asked());
    let next = at.from("a");
    at.says(granted(&[GRANTED]));
    assert!(passed(&next));
    at.sound();
}
