//! Stories of whole requests through the engine, over the in-memory store: who is limited by which rule, and what the
//! client sees.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::Policy;
use tidegate_engine::strategy::Action;
use tidegate_engine::{Decision, Engine, Header, Memory, Micros, Request, Step, Timestamp};

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

struct Proxy {
    engine: Engine,
    memory: Memory,
    now: Timestamp,
}

impl Proxy {
    fn new(policy: &str) -> Self {
        let policy = Policy::parse(policy.as_bytes(), &Catalogue::builtin()).unwrap();
        Self { engine: Engine::new(policy), memory: Memory::new(4_096, [1; 16]), now: START }
    }

    fn with_rules(rules: &str) -> Self {
        Self::new(&format!(r#"{{"version": 1, "identity": {IDENTITY}, "rules": [{rules}]}}"#))
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Decision {
        let mut lines: Vec<Header<'_>> = vec![(b":method", method.as_bytes()), (b":path", path.as_bytes())];
        lines.extend(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let request = Request { headers: &lines, peer: b"192.0.2.1:1000", metadata: &[] };
        let mut step = self.engine.check(&request, self.now);
        loop {
            step = match step {
                Step::Done(decision) => return decision,
                Step::Pending(pending) => {
                    let reply = self.memory.acquire(&self.engine, pending.acquire());
                    pending.resume(Ok(reply))
                }
            };
        }
    }

    fn get(&mut self, path: &str) -> Decision {
        self.send("GET", path, &[])
    }
}

const IDENTITY: &str = r#"{"user": [{"header": "x-user-id", "trust": "verified"}, {"header": "x-api-key"}]}"#;

fn is_limited(decision: &Decision) -> bool {
    matches!(decision.action, Action::Respond(_))
}

fn header<'d>(decision: &'d Decision, name: &str) -> Option<&'d str> {
    match &decision.response {
        Some(response) => response.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()),
        None => decision.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str()),
    }
}

#[test]
fn a_client_is_told_what_is_left_and_then_when_to_come_back() {
    let mut proxy = Proxy::with_rules(r#"{"name": "two", "scope": "per_ip", "rate": 2, "window_seconds": 60}"#);
    let first = proxy.get("/");
    assert_eq!(header(&first, "ratelimit-policy"), Some("\"two\";q=2;w=60"));
    assert_eq!(header(&first, "ratelimit"), Some("\"two\";r=1;t=30"));
    assert!(!is_limited(&proxy.get("/")));
    let third = proxy.get("/");
    assert!(is_limited(&third));
    assert_eq!(header(&third, "ratelimit"), Some("\"two\";r=0;t=30"));
    assert_eq!(header(&third, "retry-after"), Some("30"));
    assert_eq!(header(&third, "cache-control"), Some("no-store"));
    assert_eq!(header(&third, "content-type"), Some("application/problem+json"));
    let body: serde_json::Value = serde_json::from_str(&third.response.as_ref().unwrap().body).unwrap();
    assert_eq!(body["status"], 429);
    assert_eq!(body["violated-policies"], serde_json::json!(["two"]));
    assert!(body["type"].as_str().unwrap().ends_with("#quota-exceeded"));
    let retry_after = third.denial.unwrap().retry_after;
    proxy.now = START + Micros(retry_after.0 - 1);
    assert!(is_limited(&proxy.get("/")), "one microsecond early");
    proxy.now = START + retry_after;
    assert!(!is_limited(&proxy.get("/")));
}

#[test]
fn all_rules_or_none_are_charged() {
    let mut proxy = Proxy::with_rules(
        r#"{"name": "wide", "scope": "global", "rate": 10, "window_seconds": 60},
           {"name": "narrow", "scope": "global", "rate": 1, "window_seconds": 60, "endpoints": ["/a"]}"#,
    );
    assert!(!is_limited(&proxy.get("/a")));
    for _ in 0..50 {
        assert!(is_limited(&proxy.get("/a")));
    }
    let elsewhere = proxy.get("/b");
    assert_eq!(elsewhere.verdicts[0].remaining, 8, "the refused requests did not burn the wide rule");
}

#[test]
fn the_largest_wait_is_told_and_priority_decides() {
    let mut proxy = Proxy::with_rules(
        r#"{"name": "minute", "scope": "global", "rate": 1, "window_seconds": 60, "priority": 5,
            "strategy": {"type": "hard", "status": 503}},
           {"name": "hour", "scope": "global", "rate": 1, "window_seconds": 3600}"#,
    );
    assert!(!is_limited(&proxy.get("/")));
    let refused = proxy.get("/");
    let denial = refused.denial.clone().unwrap();
    assert_eq!(denial.rule, "minute");
    assert_eq!(denial.violated, ["minute", "hour"]);
    assert_eq!(denial.retry_after, Micros::from_secs(3600));
    assert_eq!(refused.response.as_ref().unwrap().status, 503);
    assert_eq!(header(&refused, "retry-after"), None, "hard does not say when");
}

#[test]
fn a_shadow_rule_never_changes_an_outcome() {
    let mut proxy = Proxy::with_rules(
        r#"{"name": "shadow", "scope": "global", "rate": 1, "window_seconds": 60, "mode": "shadow"},
           {"name": "real", "scope": "global", "rate": 3, "window_seconds": 60}"#,
    );
    let outcomes: Vec<bool> = (0..4).map(|_| is_limited(&proxy.get("/"))).collect();
    assert_eq!(outcomes, [false, false, false, true]);
    let last = proxy.get("/");
    assert!(last.verdicts[0].limited && !last.verdicts[0].enforced);
    assert_eq!(last.denial.as_ref().unwrap().violated, ["real"]);
    assert_eq!(header(&last, "ratelimit-policy"), Some("\"real\";q=3;w=60"), "a shadow rule is not shown");
}

#[test]
fn every_spelling_of_a_path_is_counted() {
    let rule =
        r#"{"name": "search", "scope": "global", "rate": 100, "window_seconds": 60, "endpoints": ["/api/search"]}"#;
    let spellings = [
        "//api//search",
        "/x/%2E./api/search",
        "/x/..;/api/search",
        "/api/search/",
        "/api/search;v=1",
        "/api%2fsearch",
        "/api\\search",
        "/api/%73earch",
        "/api/search?q=1",
        "/.tidegate/../api/search",
    ];
    let mut proxy = Proxy::with_rules(rule);
    for path in spellings {
        assert_eq!(proxy.get(path).verdicts.len(), 1, "{path}");
    }
    for path in ["/api/search%252f", "/api/searches", "/API/Search", "/api/search."] {
        assert_eq!(proxy.get(path).verdicts.len(), 0, "{path}");
    }
    let mut loose = Proxy::new(&format!(r#"{{"version": 1, "paths": "loose", "rules": [{rule}]}}"#));
    for path in spellings.into_iter().chain(["/API/Search", "/api/search."]) {
        assert_eq!(loose.get(path).verdicts.len(), 1, "loose {path}");
    }
}

#[test]
fn what_replaces_needs_both_readings() {
    let mut proxy = Proxy::with_rules(
        r#"{"name": "all", "scope": "global", "rate": 100, "window_seconds": 60},
           {"name": "static", "scope": "global", "rate": 1000, "window_seconds": 60, "endpoints": ["/static/*"],
            "replaces": ["all"]}"#,
    );
    let names = |decision: &Decision| decision.verdicts.iter().map(|verdict| verdict.rule).collect::<Vec<_>>();
    assert_eq!(names(&proxy.get("/static/app.js")), [1]);
    assert_eq!(names(&proxy.get("/static/..%2fapi/search")), [0, 1], "not exempt");
    assert_eq!(names(&proxy.get("/x/%2e%2e/static/a")), [0, 1], "only one reading matches");
    assert_eq!(names(&proxy.get("/api")), [0]);
}

#[test]
fn a_path_with_a_fragment_is_limited_and_never_loosened() {
    let all = r#"{"name": "all", "scope": "global", "rate": 1, "window_seconds": 60}"#;
    let fast = r#"{"name": "static", "scope": "global", "rate": 9, "window_seconds": 60, "endpoints": ["/static/*"],
        "replaces": ["all"]}"#;
    let mut proxy = Proxy::with_rules(&format!("{all}, {fast}"));
    assert!(!is_limited(&proxy.get("/static/a#/../../api")));
    assert!(is_limited(&proxy.get("/static/a#/../../api")), "an upstream that knows no fragment serves /api");
    assert!(is_limited(&proxy.get("/static/a#")));
    assert!(!is_limited(&proxy.get("/static/a?#/../../api")), "within the query it is nothing");
    let search =
        r#"{"name": "search", "scope": "global", "rate": 1, "window_seconds": 60, "endpoints": ["/api/search"]}"#;
    let mut proxy = Proxy::with_rules(search);
    assert!(!is_limited(&proxy.get("/api/search#top")));
    assert!(is_limited(&proxy.get("/x/../api/search#/y")));
}

#[test]
fn a_ceiling_of_part_of_a_request_is_rounded_up() {
    let rule = |ceiling: &str| {
        format!(
            r#"{{"name": "one", "scope": "global", "rate": 1, "window_seconds": 60,
            "strategy": {{"type": "graceful", "forward": {{}}, "ceiling": {ceiling}}}}}"#
        )
    };
    for (ceiling, reduced) in [("1.5", 1), ("1.000001", 1), ("2", 1), ("2.5", 2)] {
        let mut proxy = Proxy::with_rules(&rule(ceiling));
        assert!(matches!(proxy.get("/").action, Action::Forward), "{ceiling}");
        for _ in 0..reduced {
            assert!(matches!(proxy.get("/").action, Action::Degrade(_)), "{ceiling}");
        }
        assert!(is_limited(&proxy.get("/")), "{ceiling}");
    }
}

#[test]
fn a_replaced_or_shadow_rule_replaces_nothing() {
    let rules = |mode: &str| {
        format!(
            r#"{{"name": "a", "scope": "global", "rate": 1, "window_seconds": 60}},
               {{"name": "b", "scope": "global", "rate": 1, "window_seconds": 60, "replaces": ["a"]}},
               {{"name": "c", "scope": "global", "rate": 1, "window_seconds": 60, "mode": "{mode}", "replaces": ["b"]}}"#
        )
    };
    let matching =
        |rules: &str| Proxy::with_rules(rules).get("/").verdicts.iter().map(|verdict| verdict.rule).collect::<Vec<_>>();
    assert_eq!(matching(&rules("enforce")), [0, 2], "c replaces b, so b does not replace a");
    assert_eq!(matching(&rules("shadow")), [1, 2], "c in shadow leaves b, which replaces a");
}

#[test]
fn only_a_verified_user_matches_lists_and_kinds_never_mix() {
    let mut proxy = Proxy::new(&format!(
        r#"{{"version": 1, "identity": {IDENTITY}, "admins": {{"user_ids": ["root"]}}, "rules": [
            {{"name": "user", "scope": "per_user", "rate": 1, "window_seconds": 60}},
            {{"name": "vip", "scope": "per_user", "rate": 5, "window_seconds": 60, "user_ids": ["vip"], "replaces": ["user"]}}
        ]}}"#
    ));
    for _ in 0..5 {
        assert!(!is_limited(&proxy.send("GET", "/", &[("x-user-id", "vip")])));
    }
    assert!(is_limited(&proxy.send("GET", "/", &[("x-user-id", "vip")])));
    assert!(!is_limited(&proxy.send("GET", "/", &[("x-api-key", "vip")])), "an own cell");
    assert!(is_limited(&proxy.send("GET", "/", &[("x-api-key", "vip")])), "without the larger limit");
    assert!(!is_limited(&proxy.send("GET", "/", &[("x-api-key", "root")])));
    assert!(is_limited(&proxy.send("GET", "/", &[("x-api-key", "root")])), "an API key is no admin");
    for _ in 0..20 {
        assert!(!is_limited(&proxy.send("GET", "/", &[("x-user-id", "root")])));
    }
}

#[test]
fn methods_ignore_case_and_get_covers_head() {
    let mut proxy = Proxy::with_rules(
        r#"{"name": "reads", "scope": "global", "rate": 9, "window_seconds": 60, "methods": ["GET"]}"#,
    );
    for method in ["GET", "get", "HEAD", "Head"] {
        assert_eq!(proxy.send(method, "/", &[]).verdicts.len(), 1, "{method}");
    }
    assert!(proxy.send("POST", "/", &[("x-http-method-override", "GET")]).verdicts.is_empty());
}

#[test]
fn grpc_calls_get_a_grpc_answer() {
    let rules = |strategy: &str| {
        format!(r#"{{"name": "g", "scope": "global", "rate": 1, "window_seconds": 10, "strategy": "{strategy}"}}"#)
    };
    for (strategy, pushback) in [("retry_after", "10000"), ("hard", "-1")] {
        let mut proxy = Proxy::with_rules(&rules(strategy));
        let call = [("content-type", "application/grpc")];
        assert!(!is_limited(&proxy.send("POST", "/s/M", &call)));
        let refused = proxy.send("POST", "/s/M", &call);
        let response = refused.response.as_ref().unwrap();
        assert_eq!(response.grpc_status, Some(8));
        assert_eq!(header(&refused, "grpc-retry-pushback-ms"), Some(pushback));
        assert_eq!(proxy.send("GET", "/s/M", &call).response.unwrap().grpc_status, None, "gRPC is POST only");
    }
}

#[test]
fn a_cost_of_zero_charges_nothing_and_is_never_limited() {
    let mut proxy =
        Proxy::with_rules(r#"{"name": "free", "scope": "global", "rate": 1, "window_seconds": 60, "cost": 0}"#);
    for _ in 0..10 {
        let decision = proxy.get("/");
        assert!(!is_limited(&decision));
        assert_eq!(decision.verdicts[0].remaining, 1);
    }
}

#[test]
fn a_path_that_reads_as_two_endpoints_counts_for_both() {
    let mut proxy = Proxy::with_rules(
        r#"{"name": "each", "scope": "per_endpoint", "rate": 1, "window_seconds": 60,
            "endpoints": ["/static/*", "/api/search"]}"#,
    );
    assert!(!is_limited(&proxy.get("/static/..%2fapi/search")));
    assert!(is_limited(&proxy.get("/static/a")));
    assert!(is_limited(&proxy.get("/api/search")));
}

#[test]
fn an_answer_of_the_wrong_shape_is_no_answer() {
    let mut proxy = Proxy::with_rules(
        r#"{"name": "open", "scope": "global", "rate": 1, "window_seconds": 60, "on_store_error": "allow"},
           {"name": "shut", "scope": "global", "rate": 1, "window_seconds": 60, "on_store_error": "deny", "endpoints": ["/shut"]}"#,
    );
    let mut fail = |path: &str| {
        let headers: [Header<'_>; 2] = [(b":method", b"GET"), (b":path", path.as_bytes())];
        let request = Request { headers: &headers, peer: b"", metadata: &[] };
        let Step::Pending(pending) = proxy.engine.check(&request, proxy.now) else { panic!("no rule applies") };
        let reply = proxy.memory.acquire(&proxy.engine, pending.acquire());
        let short = tidegate_engine::acquire::Reply { cells: Vec::new(), ..reply };
        let Step::Done(decision) = pending.resume(Ok(short)) else { panic!("not decided") };
        is_limited(&decision)
    };
    assert!(!fail("/"));
    assert!(fail("/shut"));
}

#[test]
fn a_clock_that_steps_back_locks_nobody_out() {
    // As long as a full cell asks for, and the sixteenth of the window by which a clock may be late; a sliding window's
    // units free up to a sixteenth late, too.
    for (algorithm, sixteenths) in
        [("token_bucket", 17), ("leaky_bucket", 17), ("fixed_window", 17), ("sliding_window", 18)]
    {
        let window = Micros::from_secs(60);
        let longest = Micros(window.0 / 16 * sixteenths);
        let mut proxy = Proxy::with_rules(&format!(
            r#"{{"name": "a", "scope": "global", "rate": 1, "window_seconds": 60, "algorithm": "{algorithm}"}}"#
        ));
        let ten_years = Micros::from_secs(10 * 365 * 86_400);
        for step in [ten_years, Micros(window.0 + window.0 / 16 + 1)] {
            proxy.now = START + step;
            while !is_limited(&proxy.get("/")) {}
            proxy.now = START;
            let denial = proxy.get("/").denial.expect("what was used stays used");
            assert!(denial.retry_after <= longest, "{algorithm}: {}", denial.retry_after);
            proxy.now = START + denial.retry_after;
            assert!(!is_limited(&proxy.get("/")), "{algorithm}: it says when");
        }
    }
}

#[test]
fn a_policy_that_grows_starts_counters_afresh_a_few_times_only() {
    let engine = |rules: usize| {
        let rule = |number| {
            format!(
                r#"{{"name": "r{number}", "scope": "per_ip", "rate": 1, "window_seconds": 60, "endpoints": ["/{number}"]}}"#
            )
        };
        let rules: Vec<String> = (0..rules).map(rule).collect();
        Proxy::with_rules(&rules.join(",")).engine
    };
    let mut proxy = Proxy { engine: engine(8), memory: Memory::new(4_096, [1; 16]), now: START };
    let passing = |proxy: &mut Proxy| (0..8).filter(|path| !is_limited(&proxy.get(&format!("/{path}")))).count();
    assert_eq!(passing(&mut proxy), 8);
    let mut afresh = Vec::new();
    for rules in 9..=100 {
        proxy.engine = engine(rules);
        if passing(&mut proxy) > 0 {
            afresh.push(rules);
        }
    }
    assert!(afresh.len() <= 6, "{afresh:?}");
}
