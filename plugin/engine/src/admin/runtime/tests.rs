//! Tests of the run-time state: what is laid over the file, what is refused, and what a reload keeps.

use proptest::prelude::*;

use super::*;
use crate::admin::grant::{Allowance, Giving, Grant};
use crate::catalogue::Catalogue;
use crate::policy::{Mistakes, Policy};

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn policy() -> Policy {
    let text = br#"{"version": 1, "identity": {"user": [{"header": "x-user", "trust": "verified"}]},
        "rules": [{"name": "r", "scope": "per_user", "rate": 1, "window_seconds": 60}]}"#;
    Policy::parse(text, &Catalogue::builtin()).unwrap()
}

fn grant(body: &str) -> Result<Grant, Vec<String>> {
    read(body).map_err(|mistakes| mistakes.iter().map(|mistake| mistake.pointer.clone()).collect())
}

fn read(body: &str) -> Result<Grant, Mistakes> {
    let giving = Giving { admin: "ops", random: [7; 8], now: NOW };
    Grant::read(body.as_bytes(), &policy(), &Catalogue::builtin(), giving)
}

fn full() -> Runtime {
    let mut runtime = Runtime::default();
    runtime.rules.push(crate::policy::json::parse(br#"{"name": "x", "rate": 5}"#).unwrap());
    for what in [
        r#""target_user_id": "zoë \"q\" <b>", "unlimited": true"#,
        r#""target_ip": "10.0.0.0/8", "rate_multiplier": 2.5"#,
        r#""target_endpoint": "/v1/{id}/*", "target_rule": "r", "unlimited": true"#,
        r#""target_rule": "*", "unlimited": true, "note": "all off""#,
    ] {
        runtime.give(grant(&format!(r#"{{{what}, "reason": "testing", "duration_minutes": 5}}"#)).unwrap()).unwrap();
    }
    runtime.reset(Baseline { rule: "r".to_owned(), at: NOW, counts: vec![1, 2, 3] });
    runtime.done(NOW, "ops", "rule_put", object(&mut [("rule", text("x"))]));
    runtime
}

#[test]
fn what_is_written_is_read_again() {
    let runtime = full();
    assert_eq!(Runtime::read(&runtime.bytes().unwrap()), Some(runtime));
    assert_eq!(Runtime::read(b""), Some(Runtime::default()));
}

#[test]
fn grants_end_and_each_end_is_noted_once() {
    let mut runtime = full();
    let end = NOW + crate::time::Micros::from_secs(300);
    assert_eq!(runtime.next_expiry(), Some(end));
    let ended = |runtime: &mut Runtime, now| {
        let before = runtime.generation;
        runtime.expire(now);
        runtime.generation - before
    };
    assert_eq!(ended(&mut runtime, Timestamp::from_micros(end.micros() - 1)), 0);
    assert_eq!(ended(&mut runtime, end), 4);
    assert!(ended(&mut runtime, end) == 0 && runtime.grants.is_empty());
    assert_eq!(runtime.generation, 5);
}

#[test]
fn every_mistake_of_a_grant_is_told() {
    let with = |what: &str| grant(&format!(r#"{{"reason": "testing", {what}}}"#)).unwrap_err();
    let user = r#""target_user_id": "u", "unlimited": true"#;
    for minutes in ["0", "-1", "10081", "9223372036854775808", "1.5", "\"5\"", "1e3"] {
        assert_eq!(with(&format!(r#"{user}, "duration_minutes": {minutes}"#)), ["/duration_minutes"], "{minutes}");
    }
    for times in ["1", "0.5", "-3", "1e308", "1001", "null", "\"2\""] {
        let what = format!(r#""target_user_id": "u", "duration_minutes": 5, "rate_multiplier": {times}"#);
        assert_eq!(with(&what), ["/rate_multiplier"], "{times}");
    }
    for range in ["0.0.0.0/0", "128.0.0.0/1", "::/0", "2000::/16", "::ffff:0:0/96"] {
        let what = format!(r#""target_ip": "{range}", "duration_minutes": 5, "unlimited": true"#);
        assert_eq!(with(&what), ["/target_ip"], "{range}");
    }
    assert_eq!(with(r#""target_user_id": " ", "duration_minutes": 5, "unlimited": true"#), ["/target_user_id"]);
    let spaced = r#"{"reason": "testing", "target_user_id": " u", "duration_minutes": 5, "unlimited": true}"#;
    assert_eq!(grant(spaced).unwrap().target.user.as_deref(), Some(" u"), "an id is the text that was verified");
    let told = read(&format!(r#"{{"reason": "testing", {user}, "duration_minutes": 0}}"#)).unwrap_err().to_string();
    assert!(told.ends_with("allowed: 1 to 10080, the policy's max_override_minutes"), "{told}");
    assert_eq!(with(r#""target_user_id": "u", "unlimited": true"#), [""], "it must end");
    assert_eq!(with(r#""duration_minutes": 5, "unlimited": true"#), [""], "it must be for somebody");
    assert_eq!(with(r#""target_rule": "rr", "duration_minutes": 5, "unlimited": true"#), ["/target_rule"]);
    assert_eq!(with(&format!(r#"{user}, "duration_minutes": 5, "rate_multiplier": 2"#)), [""]);
    assert_eq!(with(r#""target_user_id": "u", "duration_minutes": 5"#), [""]);
    assert_eq!(with(&format!(r#"{user}, "duration_minutes": 5, "admin_id": "root""#)), ["/admin_id"]);
    assert_eq!(with(&format!(r#"{user}, "duration_minutes": 5, "note": "a\u001b[2J""#)), ["/note"]);
    assert_eq!(
        grant(r#"{"target_user_id": "", "target_ip": "x", "duration_minutes": 0, "reason": "because"}"#).unwrap_err(),
        ["/target_user_id", "/target_ip", "/duration_minutes", "/reason"]
    );
    let ok = grant(r#"{"target_user_id": "u", "rate_multiplier": 2.5, "duration_minutes": 10080, "reason": "other"}"#);
    assert_eq!(ok.unwrap().allowance, Allowance::Times(2_500_000));
}

fn rule(name: &str, bytes: usize) -> Node {
    object(&mut [("name", text(name)), ("more", text(&"x".repeat(bytes)))])
}

/// A state into which no further rule or grant goes, each change noted as the API notes it.
fn filled() -> Runtime {
    let mut runtime = Runtime::default();
    let what = r#"{"target_user_id": "u", "unlimited": true, "reason": "testing", "duration_minutes": 5}"#;
    while runtime.give(grant(what).unwrap()).is_ok() {
        runtime.done(NOW, "ops", "override_given", object(&mut []));
    }
    assert_eq!(runtime.grants.len(), MOST_GRANTS);
    for bytes in [60_000, 2_000, 1] {
        for number in 0.. {
            let rule = rule(&format!("r{bytes}_{number}"), bytes);
            if runtime.put_rule(rule.clone()).is_err() {
                break;
            }
            runtime.done(NOW, "ops", "rule_put", object(&mut [("content", rule)]));
        }
    }
    runtime
}

#[test]
fn a_full_state_can_always_be_written_and_emptied() {
    let mut runtime = filled();
    let known = |runtime: &Runtime| Runtime::read(runtime.to_spread().unwrap().as_bytes()).unwrap();
    // Whatever was done last is in the trail; what it took the room of is not.
    assert_eq!(known(&runtime).trail.last(), runtime.trail.last());
    assert_eq!(known(&runtime).trail.shown(0).get("truncated"), Some(&Node::Boolean(true)));
    for number in 0..1_000 {
        runtime.reset(Baseline { rule: format!("{number:064}"), at: NOW, counts: vec![u64::MAX; 11] });
    }
    for _ in 0..8 {
        runtime.done(NOW, "ops", "counter_cleared", object(&mut [("key", text(&"x".repeat(65_000)))]));
    }
    assert!(runtime.to_spread().unwrap().len() <= MOST_BYTES);
    assert_eq!(Runtime::read(&runtime.bytes().unwrap()).map(|read| read.baselines.len()), Some(1_000));
    // The last resort, with the longest note there is.
    let note = "\u{1f600}".repeat(500);
    let kill = format!(
        r#"{{"target_rule": "*", "unlimited": true, "reason": "testing", "duration_minutes": 5, "note": "{note}"}}"#
    );
    for _ in 0..SPARE_GRANTS {
        runtime.give(grant(&kill).unwrap()).unwrap();
        assert!(runtime.bytes().is_ok() && runtime.to_spread().unwrap().len() <= MOST_BYTES);
    }
    assert_eq!(runtime.give(grant(&kill).unwrap()), Err(Refused::Full));
    // A rule may shrink; nothing may grow.
    let largest = runtime.rules[0].word("name").unwrap().to_owned();
    assert_eq!(runtime.put_rule(rule(&largest, 60_001)), Err(Refused::Full));
    assert_eq!(runtime.put_rule(rule(&largest, 59_999)), Ok(()));
    let id = runtime.grants[0].id.clone();
    assert!(runtime.revoke(&id, NOW).is_ok() && runtime.remove_rule(&largest).is_ok());
    runtime.expire(NOW + crate::time::Micros::from_secs(300));
    assert!(runtime.grants.is_empty());
    let written = known(&runtime);
    assert_eq!((written.tag(), written.grants.len()), (runtime.tag(), 0));
    assert_eq!(runtime.put_rule(rule(&largest, 50_000)), Ok(()), "there is room again");
}

proptest! {
    #[test]
    fn any_bytes_are_a_state_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..4000, flip in any::<u8>()) {
        let _ = Runtime::read(&bytes);
        let mut good = full().bytes().unwrap();
        let at = cut % good.len();
        good[at] ^= flip;
        let _ = Runtime::read(&good);
        good.truncate(at);
        let _ = Runtime::read(&good);
    }
}

#[test]
fn a_fleet_goes_on_with_the_state_in_which_more_was_done() {
    let at = Timestamp::from_micros(1_795_000_000_000_000);
    let done = |of: &Runtime, what: &str| {
        let mut next = of.clone();
        next.done(at, "ops", what, object(&mut []));
        next
    };
    let nothing = Runtime::default();
    let first = done(&nothing, "one");
    let second = done(&first, "two");
    assert!(first.supersedes(&nothing) && !nothing.supersedes(&first));
    assert!(second.supersedes(&first) && !first.supersedes(&second));
    assert!(!first.supersedes(&first.clone()));
    // Two histories of one length: whoever holds one goes on with the other, which is the store's.
    let other = done(&first, "other");
    assert!(other.supersedes(&second) && second.supersedes(&other));
    assert_ne!(other.tag(), second.tag());
    assert_eq!(second.trail.since(&first.trail).len(), 1);
    assert_eq!(second.trail.since(&nothing.trail), second.trail.since(&first.trail), "a new proxy is told the head");
}

#[test]
fn every_proxy_counts_for_itself() {
    let baseline =
        |rule: &str, count| Baseline { rule: rule.to_owned(), at: Timestamp::default(), counts: vec![count] };
    let mut ours = Runtime { baselines: vec![baseline("a", 1), baseline("b", 2)], ..Runtime::default() };
    let mut next = Runtime::read(ours.to_spread().unwrap().as_bytes()).unwrap();
    assert!(next.baselines.is_empty());
    next.reset(baseline("a", 9));
    next.keep_baselines(&ours);
    ours.baselines = vec![baseline("a", 9), baseline("b", 2)];
    assert_eq!(next.baselines, ours.baselines);
}
