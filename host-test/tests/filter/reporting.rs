//! What operators see: metrics, access-log properties, log lines.

use crate::tidegate::{from, messages, module_or_skip, policy, rule, serve, with_settings};
use tidegate_host_test::{Host, LogLevel, Outcome, Request};

fn counter(host: &Host, name: &str) -> u64 {
    host.metrics().counter(&format!("tidegate.default.{name}")).unwrap_or_else(|| panic!("no counter {name}"))
}

#[test]
fn every_metric_is_there_before_the_first_request() {
    let module = module_or_skip!();
    let (host, id) =
        serve(&module, 2, &policy(&[rule("a", "global", 1, 60, ""), rule("b", "per_ip", 9, 60, "")].join(",")));
    let before: Vec<String> = host.metrics().names().into_iter().map(str::to_owned).collect();
    for rule in ["a", "b"] {
        for verdict in ["allowed", "limited", "degraded", "delayed", "queued", "shadow_limited"] {
            assert_eq!(counter(&host, &format!("verdicts_total.{rule}.{verdict}")), 0);
        }
    }
    host.request(0, &id, from("x"));
    host.request(1, &id, from("x"));
    assert_eq!(host.metrics().names(), before, "no request makes a metric");
}

#[test]
fn requests_and_verdicts_are_counted_over_all_workers() {
    let module = module_or_skip!();
    let rules = [
        rule("all", "global", 100, 60, ""),
        rule("user", "per_user", 2, 60, r#", "endpoints": ["/limited"]"#),
        rule("shadowed", "per_user", 1, 60, r#", "mode": "shadow", "endpoints": ["/limited"]"#),
        rule(
            "mild",
            "per_user",
            1,
            60,
            r#", "endpoints": ["/mild"], "strategy": {"type": "graceful", "forward": {"path": "/x"}}"#,
        ),
        rule("slow", "per_user", 60, 60, r#", "burst": 1, "endpoints": ["/slow"], "strategy": "throttle""#),
    ];
    let (host, id) = serve(&module, 2, &policy(&rules.join(",")));
    let send = |path: &str, times: usize| {
        for number in 0..times {
            host.request(number % 2, &id, Request::get(path).header("x-user", "a"));
        }
    };
    send("/", 3);
    send("/limited", 5);
    send("/mild", 3);
    send("/slow", 3);
    let requests = |outcome: &str| counter(&host, &format!("requests_total.{outcome}"));
    assert_eq!(
        ["allowed", "limited", "degraded", "delayed", "queued", "unlimited"].map(requests),
        [3 + 2 + 1 + 1, 3 + 1, 1, 2, 0, 0]
    );
    let verdicts = |rule: &str, verdict: &str| counter(&host, &format!("verdicts_total.{rule}.{verdict}"));
    assert_eq!((verdicts("user", "allowed"), verdicts("user", "limited")), (2, 3));
    assert_eq!((verdicts("shadowed", "allowed"), verdicts("shadowed", "shadow_limited")), (1, 4));
    assert_eq!((verdicts("mild", "allowed"), verdicts("mild", "degraded"), verdicts("mild", "limited")), (1, 1, 1));
    assert_eq!((verdicts("slow", "allowed"), verdicts("slow", "delayed"), verdicts("slow", "limited")), (1, 2, 0));
    assert_eq!(verdicts("all", "allowed"), 14, "a rule that admits says so even where another refuses");
    assert_eq!(host.metrics().gauge("tidegate.default.waiting"), Some(2));
}

#[test]
fn unlimited_requests_are_counted_and_leave_no_property() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "global", 1, 60, r#", "endpoints": ["/r"]"#)));
    let stream = host.request(0, &id, Request::get("/other"));
    assert_eq!(counter(&host, "requests_total.unlimited"), 1);
    for name in ["tidegate.outcome", "tidegate.rule", "tidegate.at"] {
        assert_eq!(stream.set_property(&[name]), None);
    }
}

#[test]
fn the_access_log_is_told_outcome_rule_moment_and_reason() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "global", 1, 60, "")));
    host.clock().set_micros(1_800_000_000_123_456);
    let told = |stream: &tidegate_host_test::Stream| {
        ["tidegate.outcome", "tidegate.rule", "tidegate.at"]
            .map(|name| String::from_utf8(stream.set_property(&[name]).unwrap()).unwrap())
    };
    let first = host.request(0, &id, Request::get("/"));
    assert_eq!(told(&first), ["allowed", "r", "1800000000123456"]);
    let second = host.request(0, &id, Request::get("/"));
    assert_eq!(told(&second)[..2], ["limited", "r"]);
    let Outcome::LocalReply(reply) = second.outcome() else { panic!("{:?}", second.outcome()) };
    assert_eq!(reply.details, "tidegate_limited");
}

#[test]
fn nothing_is_logged_for_a_request() {
    let module = module_or_skip!();
    let text = with_settings(r#""headers": "both","#, &rule("r", "per_user", 1, 60, ""));
    let (host, id) = serve(&module, 1, &text);
    let before = messages(&host, LogLevel::Trace).len();
    for _ in 0..5 {
        host.request(0, &id, from("a\u{1b}[2J\nsecret"));
    }
    assert_eq!(messages(&host, LogLevel::Trace).len(), before, "a client cannot fill or forge the log");
}
