//! A replay counts exactly what the engine decides, and says what another policy would change.

use super::*;
use crate::catalogue::Catalogue;
use crate::engine::Step;
use crate::memory::Memory;
use crate::policy::Policy;

fn engine(rules: &str) -> Engine {
    let text = format!(r#"{{"version": 1, "rules": [{rules}]}}"#);
    Engine::new(Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap())
}

fn entry(second: u64, ip: &str, path: &str) -> Entry {
    let request = Described { method: "GET".into(), path: path.into(), ip: ip.into(), user: None, headers: Vec::new() };
    Entry { at: Timestamp::from_micros((1_767_225_600 + second) * 1_000_000), request, status: Some(200) }
}

/// Three clients, one of them ten times as busy, over ten minutes.
fn log() -> Vec<Entry> {
    let one = |second: u64| {
        let ip = match second % 12 {
            0 => "192.0.2.1",
            1 => "192.0.2.2",
            _ => "203.0.113.9",
        };
        entry(second, ip, if second.is_multiple_of(5) { "/api/search" } else { "/" })
    };
    (0..600).map(one).collect()
}

const RULES: &str = r#"{"name": "ip", "scope": "per_ip", "rate": 30, "window_seconds": 60, "burst": 5},
    {"name": "search", "scope": "global", "rate": 6, "window_seconds": 60,
     "endpoints": ["/api/search"], "mode": "shadow"},
    {"name": "slow", "scope": "global", "rate": 50, "window_seconds": 60, "algorithm": "leaky_bucket", "burst": 5,
     "strategy": {"type": "throttle", "max_delay_ms": 3000}}"#;

#[test]
fn a_replay_counts_what_the_engine_decides() {
    let engine = engine(RULES);
    let mut replay = Replay::new(engine.clone(), None, 3);
    let mut memory = Memory::new(65_536, [0; 16]);
    let mut expected = Outcomes::default();
    let mut limited = [0_u64; 3];
    for entry in log() {
        let decision = entry.request.as_request(&engine, |request| {
            let Step::Pending(pending) = engine.check(request, entry.at) else { panic!("rules apply") };
            let answer = memory.acquire(&engine, pending.acquire());
            let Step::Done(decision) = pending.resume(Ok(answer)) else { panic!("asked once") };
            decision
        });
        expected.add(decision.outcome());
        for verdict in decision.verdicts.iter().filter(|verdict| verdict.limited) {
            limited[verdict.rule] += 1;
        }
        replay.push(entry);
    }
    let report = replay.finish();
    assert_eq!(report.run.outcomes, expected);
    assert!(expected.limited > 0 && expected.delayed > 0 && expected.allowed > 0, "{expected:?}");
    for (rule, limited) in report.run.rules.iter().zip(limited) {
        assert_eq!(rule.limited + rule.delayed + rule.queued + rule.degraded + rule.shadow_limited, limited);
        assert_eq!(rule.total, rule.allowed + limited);
    }
    assert!(report.run.rules[1].shadow_limited > 0);
    assert_eq!(report.run.rules[0].offenders[0].label.as_deref(), Some("203.0.113.9"));
    assert_eq!((report.requests, report.late, report.answered_429), (600, 0, 0));
}

#[test]
fn order_within_a_minute_does_not_matter() {
    let run = |log: Vec<Entry>| {
        let mut replay = Replay::new(engine(RULES), None, 3);
        for entry in log {
            replay.push(entry);
        }
        let report = replay.finish();
        (report.run.outcomes, report.run.rules)
    };
    let mut shuffled = log();
    for chunk in shuffled.chunks_mut(50) {
        chunk.reverse();
    }
    assert_ne!(shuffled, log());
    assert_eq!(run(shuffled), run(log()));
}

#[test]
fn a_candidate_is_compared_request_by_request() {
    let tighter = RULES.replace("\"rate\": 30", "\"rate\": 12");
    let mut replay = Replay::new(engine(RULES), Some(engine(&tighter)), 3);
    for entry in log() {
        replay.push(entry);
    }
    let report = replay.finish();
    let changes = report.candidate.unwrap();
    let more: u64 = changes.changes.iter().filter(|it| it.to == "limited").map(|it| it.requests).sum();
    let fewer: u64 = changes.changes.iter().filter(|it| it.from == "limited").map(|it| it.requests).sum();
    assert_eq!(changes.run.outcomes.limited, report.run.outcomes.limited + more - fewer);
    assert!(more > 0);
    assert_eq!(changes.newly_limited[0].label.as_deref(), Some("203.0.113.9"));
}

#[test]
fn a_log_in_the_wrong_order_limits_nobody_whom_its_parts_do_not() {
    let limited = |logs: &[&[Entry]]| {
        let mut replay = Replay::new(engine(RULES), Some(engine(RULES)), 3);
        logs.iter().flat_map(|log| log.iter().cloned()).for_each(|entry| replay.push(entry));
        let report = replay.finish();
        let changes = report.candidate.unwrap();
        assert_eq!((changes.run.outcomes, changes.changes.as_slice()), (report.run.outcomes, &[][..]));
        (report.run.outcomes.limited, report.clock_steps, report.requests)
    };
    let early = log();
    let late: Vec<Entry> =
        log().into_iter().map(|entry| Entry { at: entry.at + Micros::from_secs(86_400), ..entry }).collect();
    let (of_one, ..) = limited(&[&early]);
    assert!(of_one > 0);
    assert_eq!(limited(&[&early, &late]), (2 * of_one, 0, 1200));
    assert_eq!(limited(&[&late, &early]), (2 * of_one, 1, 1200));
}

#[test]
fn what_was_given_up_before_a_step_is_still_told() {
    let text = r#"{"version": 1, "store": {"type": "local", "max_keys": 1024}, "rules":
        [{"name": "ip", "scope": "per_ip", "rate": 1, "window_seconds": 3600}]}"#;
    let given_up = |starts: &[u64]| {
        let engine = Engine::new(Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap());
        let mut replay = Replay::new(engine, None, 3);
        for start in starts {
            (0..5000_u32).for_each(|client| {
                replay.push(entry(*start, &format!("10.0.{}.{}", client >> 8, client & 255), "/"));
            });
        }
        replay.finish().run.given_up.limiting
    };
    let once = given_up(&[0]);
    assert!(once > 0);
    assert_eq!(given_up(&[90_000, 0]), 2 * once);
}
