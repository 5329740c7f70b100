//! How long the engine takes to decide: by algorithm, by the number of matching rules, by the size of the policy. The
//! store is the in-memory one, so a figure includes reading and writing the cells.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::Policy;
use tidegate_engine::{Decision, Engine, Header, Memory, Request, Step, Timestamp};

const START: u64 = 1_800_000_000_000_000;

/// An engine with its store and a clock that a request moves by 100 microseconds.
struct Proxy {
    engine: Engine,
    memory: Memory,
    micros: u64,
}

impl Proxy {
    fn new(rules: &[String]) -> Self {
        let text = format!(
            r#"{{"version": 1, "identity": {{"user": [{{"header": "x-user", "trust": "verified"}}]}}, "rules": [{}]}}"#,
            rules.join(",")
        );
        let Ok(policy) = Policy::parse(text.as_bytes(), &Catalogue::builtin()) else {
            unreachable!("the bench's own policy is valid: {text}")
        };
        Self { engine: Engine::new(policy), memory: Memory::new(65_536, [7; 16]), micros: START }
    }

    fn decide(&mut self, path: &str) -> Decision {
        self.micros = self.micros.wrapping_add(100);
        let headers: [Header<'_>; 8] = [
            (b":method", b"GET"),
            (b":path", path.as_bytes()),
            (b":authority", b"api.example.test"),
            (b":scheme", b"https"),
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
            (b"accept", b"application/json"),
            (b"x-user", b"user-4711"),
            (b"x-request-id", b"5c8a3f0e-9d4e-4a7b-8f0a-2d5b9f1c6e33"),
        ];
        let request = Request { headers: &headers, peer: b"192.0.2.1:40000", metadata: &[] };
        let mut step = self.engine.check(&request, Timestamp::from_micros(self.micros));
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
}

/// A rule that admits ten million in ten seconds (all that the bench sends), or one a day.
fn rule(name: &str, rate: u32, more: &str) -> String {
    let window = if rate == 1 { 86_400 } else { 10 };
    format!(r#"{{"name": "{name}", "scope": "per_user", "rate": {rate}, "window_seconds": {window}{more}}}"#)
}

fn by_algorithm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one rule");
    for algorithm in ["token_bucket", "leaky_bucket", "fixed_window", "sliding_window"] {
        let more = format!(r#", "algorithm": "{algorithm}""#);
        for (verdict, rate) in [("allowed", 10_000_000), ("limited", 1)] {
            let mut proxy = Proxy::new(&[rule("r", rate, &more)]);
            proxy.decide("/");
            let id = BenchmarkId::new(algorithm, verdict);
            group.bench_function(id, |bencher| bencher.iter(|| black_box(proxy.decide(black_box("/api/search?q=1")))));
        }
    }
    group.finish();
}

fn by_matching_rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matching rules");
    for count in [0, 1, 5, 20, 100] {
        let mut rules: Vec<String> = (0..count).map(|number| rule(&format!("r{number}"), 10_000_000, "")).collect();
        if rules.is_empty() {
            rules.push(rule("elsewhere", 1, r#", "endpoints": ["/elsewhere"]"#));
        }
        let mut proxy = Proxy::new(&rules);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| black_box(proxy.decide(black_box("/api/search?q=1"))));
        });
    }
    group.finish();
}

fn by_policy_size(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1,000 rules of which 3 match");
    let endpoint = |number: usize| {
        let path = if number.is_multiple_of(400) { "/v1/users/{id}".to_owned() } else { format!("/v1/part{number}/*") };
        rule(&format!("r{number}"), 10_000_000, &format!(r#", "endpoints": ["{path}"]"#))
    };
    let rules: Vec<String> = (0..1_000).map(endpoint).collect();
    let mut proxy = Proxy::new(&rules);
    assert_eq!(proxy.decide("/v1/users/7").verdicts.len(), 3);
    for (name, path) in [("plain path", "/v1/users/7"), ("odd path", "/v1//x/%2e%2e/users/7;v=1")] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(proxy.decide(black_box(path)))));
    }
    group.finish();
}

fn policy(criterion: &mut Criterion) {
    let text = include_str!("../../../policies/default.json");
    let catalogue = Catalogue::builtin();
    criterion.bench_function("parse policies/default.json", |bencher| {
        bencher.iter(|| Policy::parse(black_box(text.as_bytes()), &catalogue).map(Engine::new).is_ok());
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(20)
        .configure_from_args();
    by_algorithm(&mut criterion);
    by_matching_rules(&mut criterion);
    by_policy_size(&mut criterion);
    policy(&mut criterion);
    criterion.final_summary();
}
