//! What requests leave in the memory of the VM that served them: nothing. What Envoy keeps of them is not told here.

use std::time::Duration;

use crate::tidegate::{assert_nothing_died, from, module_or_skip, plugin, policy, rule, serve};
use tidegate_host_test::{Answer, Host, Request, Response, Thread};

/// The VM's memory after each of four rounds: it grows in the first to what one takes.
fn after_each_round(host: &Host, mut round: impl FnMut()) -> [usize; 4] {
    [(); 4].map(|()| {
        round();
        host.memory_bytes(Thread::Worker(0))
    })
}

fn assert_level(left: [usize; 4]) {
    assert!(left.iter().all(|bytes| *bytes == left[0]), "{left:?}");
}

#[test]
fn requests_that_are_reset_while_they_are_held_leave_nothing() {
    let module = module_or_skip!();
    let throttle = r#", "burst": 1, "strategy": {"type": "throttle", "max_delay_ms": 60000}"#;
    let (host, id) = serve(&module, 1, &policy(&rule("r", "per_user", 1, 60, throttle)));
    assert_level(after_each_round(&host, || {
        for number in 0..2_000 {
            host.request(0, &id, from(&format!("user-{}", number % 97))).disconnect();
        }
        assert_eq!(host.metrics().gauge("tidegate.default.waiting"), Some(0));
    }));
    assert!(host.metrics().counter("tidegate.default.abandoned_total").unwrap() > 4 * 1_800);
}

#[test]
fn requests_over_all_strategies_leave_nothing() {
    let module = module_or_skip!();
    let of_path = |name: &str, scope: &str, rate, strategy: &str| {
        rule(name, scope, rate, 1, &format!(r#", "endpoints": ["/{name}"], "strategy": {strategy}"#))
    };
    let rules = [
        of_path("hard", "per_user", 2, r#""hard""#),
        of_path("retry", "per_ip", 20, r#""retry_after""#),
        of_path("throttle", "per_user", 4, r#"{"type": "throttle", "max_delay_ms": 1000}"#),
        of_path(
            "queue",
            "per_user",
            4,
            r#"{"type": "queue", "cluster": "jobs", "authority": "jobs.test", "max_queued": 200, "max_wait_seconds": 5,
                "result_ttl_seconds": 1}"#,
        ),
        of_path("graceful", "global", 10, r#"{"type": "graceful", "forward": {"headers": {"x-quality": "low"}}}"#),
    ];
    let host = Host::builder().workers(1).cluster("jobs").build();
    let id = host.load(plugin(&module, &policy(&rules.join(",")))).unwrap();
    let carry_out = || {
        host.advance(Duration::from_secs(1));
        for job in host.callouts() {
            host.answer(&job, Answer::Response(Response::new(200).body("done")));
        }
    };
    assert_level(after_each_round(&host, || {
        for number in 0..2_000_usize {
            let path = ["/hard", "/retry", "/throttle", "/queue", "/graceful"][number % 5];
            let user = format!("user-{}", number / 5 % 20);
            host.request(0, &id, Request::post(path, vec![b'x'; number % 900]).header("x-user", user));
            if number % 500 == 499 {
                carry_out();
            }
        }
        (0..8).for_each(|_| carry_out());
        for gauge in ["waiting", "queue_waiting.queue"] {
            assert_eq!(host.metrics().gauge(&format!("tidegate.default.{gauge}")), Some(0), "{gauge}");
        }
    }));
    for outcome in ["allowed", "degraded", "delayed", "queued", "limited"] {
        let count = host.metrics().counter(&format!("tidegate.default.requests_total.{outcome}")).unwrap();
        assert!(count > 100, "{outcome}: {count}");
    }
    assert_nothing_died(&host);
}
