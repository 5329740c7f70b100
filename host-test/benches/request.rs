//! How long a whole request takes through the .wasm in wasmtime: context, headers, decision, response, end. The host is
//! this crate's, not Envoy's, so compare figures with each other; what they leave out are Envoy's own costs.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use tidegate_host_test::{Host, LogLevel, Module, Outcome, Plugin, PluginId, Request, Stream};

fn policy(rules: &str) -> String {
    format!(
        r#"{{"version": 1, "identity": {{"user": [{{"header": "x-user", "trust": "verified"}}]}}, "rules": [{rules}]}}"#
    )
}

/// A rule that admits all that the bench sends, or one a day.
fn rule(name: &str, scope: &str, rate: u32, more: &str) -> String {
    let window = if rate == 1 { 86_400 } else { 10 };
    format!(r#"{{"name": "{name}", "scope": "{scope}", "rate": {rate}, "window_seconds": {window}{more}}}"#)
}

/// Requests to one worker, 100 microseconds apart.
struct Proxy {
    host: Host,
    id: PluginId,
    request: Request,
}

impl Proxy {
    fn new(module: &Module, policy: &str) -> Self {
        let host = Host::builder().log_level(LogLevel::Error).build();
        let plugin = Plugin::new(module).name("tidegate").configuration(policy);
        let id = match host.load(plugin) {
            Ok(id) => id,
            Err(error) => unreachable!("the bench's own policy is valid: {error}"),
        };
        let request = Request::get("/api/search?q=1")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
            .header("accept", "application/json")
            .header("x-user", "user-4711")
            .header("x-request-id", "5c8a3f0e-9d4e-4a7b-8f0a-2d5b9f1c6e33");
        Self { host, id, request }
    }

    fn send(&self) -> Stream {
        let clock = self.host.clock();
        clock.set_micros(clock.micros().wrapping_add(100));
        self.host.request(0, &self.id, self.request.clone())
    }
}

fn main() {
    let file = xtask::workspace::wasm_file();
    if !file.is_file() {
        xtask::skip::tell("bench request", "the .wasm is not built; `cargo xtask build` does");
        return;
    }
    let module = match Module::from_file(&file) {
        Ok(module) => module,
        Err(error) => unreachable!("{error}"),
    };
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    let many = 10_000_000;
    let of_one_user: Vec<String> = (0..5).map(|number| rule(&format!("r{number}"), "per_user", many, "")).collect();
    let of_all_scopes = ["global", "per_user", "per_ip", "per_endpoint"].map(|scope| rule(scope, scope, many, ""));
    let cases = [
        ("no rule matches", rule("r", "global", many, r#", "endpoints": ["/x"]"#), true),
        ("one rule, global", rule("r", "global", many, ""), true),
        ("one rule, per user", rule("r", "per_user", many, ""), true),
        ("one rule, limited", rule("r", "per_user", 1, ""), false),
        ("five rules of one user", of_one_user.join(","), true),
        ("four scopes", of_all_scopes.join(","), true),
    ];
    let mut group = criterion.benchmark_group("request");
    for (name, rules, passes) in cases {
        let proxy = Proxy::new(&module, &policy(&rules));
        proxy.send();
        assert_eq!(matches!(proxy.send().outcome(), Outcome::Forwarded(_)), passes, "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(proxy.send())));
    }
    group.finish();
    criterion.final_summary();
}
