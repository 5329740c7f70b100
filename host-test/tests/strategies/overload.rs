//! More than everything can take: twenty thousand requests over all strategies at once leave nothing behind.

use std::time::Instant;

use serde_json::{Value, json};
use xtask::load::{Client, Request};

use crate::bench::{Bench, Bodies, alone, policy, serve};

const REQUESTS: usize = 20_000;

/// A rule for each strategy with its own path, and one over all of them.
fn rules() -> Value {
    let rule = |name: &str, scope: &str, rate: u32, strategy: Value| {
        json!({"name": name, "scope": scope, "rate": rate, "window_seconds": 1, "endpoints": [format!("/{name}/*")],
            "strategy": strategy})
    };
    let queue = json!({"type": "queue", "cluster": "upstream", "authority": "jobs.test", "max_queued": 200,
        "max_wait_seconds": 5, "result_ttl_seconds": 1, "max_result_bytes": 1_000});
    json!([
        rule("hard", "per_user", 2, json!("hard")),
        rule("retry", "per_ip", 20, json!("retry_after")),
        rule("throttle", "per_user", 4, json!({"type": "throttle", "max_delay_ms": 1_000})),
        rule("queue", "per_user", 4, queue),
        rule("graceful", "global", 50, json!({"type": "graceful", "forward": {"headers": {"x-quality": "low"}}})),
        {"name": "all", "scope": "global", "rate": 1_500, "window_seconds": 1,
            "strategy": {"type": "throttle", "max_delay_ms": 500, "max_waiting": 1_000, "max_waiting_per_key": 1_000}},
    ])
}

fn request(n: usize) -> Request {
    let path = ["hard", "retry", "throttle", "queue", "graceful"][n % 5];
    let user = format!("user-{}", n / 5 % 20);
    let request = Request::new(if n.is_multiple_of(2) { "POST" } else { "GET" }, &format!("/{path}/{n}"));
    let request = request.header("x-user", user);
    if n.is_multiple_of(2) { request.body(vec![b'x'; n % 900]) } else { request }
}

/// All of them over both protocols; how many answers there were of each status.
fn flood(bench: &Bench) -> Vec<(u16, usize)> {
    let half = |client: Client, from: usize| {
        let mut counts: Vec<(u16, usize)> = Vec::new();
        client.for_each((from..from + REQUESTS / 2).map(request), |_, answer| {
            let status = answer.unwrap().status;
            match counts.iter_mut().find(|(known, _)| *known == status) {
                Some((_, count)) => *count += 1,
                None => counts.push((status, 1)),
            }
        });
        counts
    };
    let (http1, http2) = (bench.http1(1_000), bench.http2(1_000));
    let mut counts = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(http1, 0));
        let mut counts = half(http2, REQUESTS / 2);
        for (status, count) in other.join().unwrap() {
            match counts.iter_mut().find(|(known, _)| *known == status) {
                Some((_, sum)) => *sum += count,
                None => counts.push((status, count)),
            }
        }
        counts
    });
    counts.sort_unstable();
    counts
}

#[test]
fn twenty_thousand_over_all_strategies_leave_nothing_behind() {
    let _alone = alone();
    let Some(mut bench) = serve("overload", &policy(rules()), Bodies::Seen) else { return };
    let mut left = Vec::new();
    for round in 1..=3 {
        let start = Instant::now();
        let counts = flood(&bench);
        let took = start.elapsed();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), REQUESTS, "{counts:?}");
        assert!(counts.iter().all(|(status, _)| [200, 202, 429].contains(status)), "{counts:?}");
        bench.wait_for("waiting", 0);
        bench.wait_for("queue_waiting.queue", 0);
        left.push(bench.left_bytes());
        println!("overload, round {round}: {REQUESTS} in {took:.1?}: {counts:?}, Envoy then has {left:?} bytes");
    }
    for outcome in ["allowed", "degraded", "delayed", "queued", "limited"] {
        assert!(bench.count(&format!("requests_total.{outcome}")) > 0, "{outcome}");
    }
    assert_eq!(bench.count("abandoned_total"), 0);
    assert!(left[2] < left[0] + (4 << 20), "100 bytes a request: {left:?}");
    // 20 users under three rules, one address, nothing else.
    assert!(bench.count("table_keys") <= 61 + 4, "{} keys", bench.count("table_keys"));
    bench.assert_nothing_died();
}
