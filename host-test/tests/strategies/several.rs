//! Several rules on one request that want different things: the strictest wins, and among equals the priority. The
//! table in `docs/strategies.md` is this file.

use serde_json::{Value, json};
use xtask::load::{Answer, Client, Request};

use crate::bench::{Bench, Bodies, policy, serve};

/// A rule of one request a second for each user, so that the second is limited.
fn rule(name: &str, strategy: Value) -> Value {
    let priority = if name.starts_with("first") { 10 } else { 0 };
    json!({"name": name, "scope": "per_user", "rate": 1, "window_seconds": 1, "burst": 1,
        "priority": priority, "strategy": strategy})
}

fn hard() -> Value {
    json!("hard")
}

fn retry() -> Value {
    json!("retry_after")
}

fn queue() -> Value {
    json!({"type": "queue", "cluster": "upstream", "authority": "jobs.test"})
}

fn throttle() -> Value {
    json!({"type": "throttle", "max_delay_ms": 5_000})
}

fn degrade(status: u16) -> Value {
    json!({"type": "graceful", "ceiling": 50, "respond": {"status": status}})
}

fn forward() -> Value {
    json!({"type": "graceful", "ceiling": 50, "forward": {"headers": {"x-quality": "low"}}})
}

/// What a client sees of its second request, in one word; the rule that the answer names, where it names one.
fn seen(answer: &Answer) -> (&'static str, String) {
    let degraded = answer.header("x-tidegate-degraded").unwrap_or_default().to_owned();
    match answer.status {
        429 => {
            let rule = answer.json().unwrap()["violated-policies"][0].as_str().unwrap_or_default().to_owned();
            (if answer.header("retry-after").is_some() { "retry_after" } else { "hard" }, rule)
        }
        202 => ("queue", String::new()),
        203 => ("degrade", degraded),
        200 if !degraded.is_empty() => ("degrade", degraded),
        200 if answer.took.as_millis() > 300 => ("delay", String::new()),
        _ => ("pass", String::new()),
    }
}

/// The second of two requests under these rules. Every case has users of its own.
fn second(bench: &Bench, client: &Client, case: usize, rules: &[Value]) -> (&'static str, String) {
    bench.update(&policy(json!(rules)));
    let request = Request::new("POST", "/").header("x-user", format!("user-{case}")).body("x");
    assert_eq!(client.send(&request).unwrap().status, 200, "case {case}");
    seen(&client.send(&request).unwrap())
}

#[test]
fn the_strictest_action_wins_and_then_the_priority() {
    let Some(mut bench) = serve("several rules", &policy(json!([rule("a", hard())])), Bodies::Seen) else { return };
    let client = bench.http1(1);
    let cases: [(&[Value], &str, &str); 14] = [
        // reject over queue over delay over degrade, whichever stands first or has the priority.
        (&[rule("first", queue()), rule("b", retry())], "retry_after", "b"),
        (&[rule("first", throttle()), rule("b", retry())], "retry_after", "b"),
        (&[rule("first", degrade(203)), rule("b", retry())], "retry_after", "b"),
        (&[rule("first", throttle()), rule("b", queue())], "queue", ""),
        (&[rule("first", degrade(203)), rule("b", queue())], "queue", ""),
        (&[rule("first", degrade(203)), rule("b", throttle())], "delay", ""),
        (&[rule("first", forward()), rule("b", throttle())], "delay", ""),
        (&[rule("a", degrade(203)), rule("b", throttle()), rule("c", queue()), rule("d", hard())], "hard", "d"),
        // Among equals the larger priority, then the policy's order.
        (&[rule("a", hard()), rule("first", retry())], "retry_after", "first"),
        (&[rule("a", retry()), rule("first", hard())], "hard", "first"),
        (&[rule("a", hard()), rule("b", retry())], "hard", "a"),
        (&[rule("a", degrade(203)), rule("first", forward())], "degrade", "first"),
        (&[rule("a", degrade(203)), rule("b", forward())], "degrade", "a"),
        // A rule that is not limited has no say.
        (
            &[rule("a", forward()), json!({"name": "b", "scope": "global", "rate": 1_000, "window_seconds": 1})],
            "degrade",
            "a",
        ),
    ];
    for (case, (rules, wanted, by)) in cases.iter().enumerate() {
        assert_eq!(second(&bench, &client, case, rules), (*wanted, (*by).to_owned()), "case {case}: {rules:?}");
    }
    bench.assert_nothing_died();
}

#[test]
fn two_throttles_hold_for_the_longer_of_their_waits() {
    let slow =
        json!({"name": "slow", "scope": "global", "rate": 1, "window_seconds": 1, "burst": 1, "strategy": throttle()});
    let fast =
        json!({"name": "fast", "scope": "global", "rate": 10, "window_seconds": 1, "burst": 1, "strategy": throttle()});
    let Some(mut bench) = serve("two throttles", &policy(json!([fast, slow])), Bodies::Unseen) else { return };
    let client = bench.http1(1);
    let answers: Vec<Answer> = (0..2).map(|_| client.send(&Request::get("/")).unwrap()).collect();
    assert!(answers[1].took.as_millis() >= 850, "{:?}", answers[1].took);
    bench.assert_nothing_died();
}
