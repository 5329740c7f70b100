//! What a request costs in host calls, and what the plugin asks of its host: golden files, so that a new call is a visible
//! change. `UPDATE_GOLDEN=1 cargo test -p tidegate-host-test --test filter` rewrites them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tidegate::{from, module_or_skip, plugin, policy, rule};
use tidegate_host_test::{CallKind, Calls, Host, Module, PluginId, Request, Response, Upstream};

/// Host calls that return bytes or write shared data, for a request that one rule matches.
const AIM: u64 = 6;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Compares with a golden file, or rewrites it where `UPDATE_GOLDEN` is set.
fn assert_golden(name: &str, found: &str) {
    let file = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == found, "host-test/golden/{name} differs; if it is meant, UPDATE_GOLDEN=1.\n{found}");
}

fn dear(calls: &Calls) -> u64 {
    calls.of_kind(CallKind::ReturnsBytes) + calls.of_kind(CallKind::WritesShared)
}

/// The calls of the `nth` request (from 1) of a series of equal ones, its response and its end included.
fn counted(module: &Module, policy: &str, nth: usize, request: &Request) -> Calls {
    let (host, id) = loaded(module, policy, Response::new(200));
    for _ in 1..nth {
        host.request(0, &id, request.clone());
    }
    host.reset_calls();
    host.request(0, &id, request.clone());
    // A held request is counted up to its end.
    host.advance(Duration::from_secs(1));
    host.calls()
}

fn loaded(module: &Module, policy: &str, response: Response) -> (Host, PluginId) {
    let host = Host::builder().upstream(Upstream::Direct(response)).build();
    let id = host.load(plugin(module, policy)).unwrap();
    (host, id)
}

/// Situations by name. The names stay: they are what a reader of the golden file compares.
fn situations(module: &Module) -> Vec<(&'static str, Calls)> {
    let default = std::fs::read_to_string(xtask::workspace::default_policy()).unwrap();
    let one = |scope: &str, more: &str| policy(&rule("r", scope, 2, 60, more));
    let five: Vec<String> = (0..5).map(|number| rule(&format!("r{number}"), "per_user", 9, 60, "")).collect();
    let alice = Request::get("/api/search")
        .property(&["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "payload", "sub"], "alice");
    let throttle = r#", "burst": 1, "strategy": {"type": "throttle", "max_delay_ms": 60000}"#;
    let graceful = |form: &str| format!(r#", "strategy": {{"type": "graceful", {form}}}"#);
    let user = from("a");
    let mut all = vec![
        ("no rule matches", counted(module, &one("global", r#", "endpoints": ["/x"]"#), 1, &user)),
        ("one rule, global", counted(module, &one("global", ""), 1, &user)),
        ("one rule, per user", counted(module, &one("per_user", ""), 1, &user)),
        ("one rule, per address", counted(module, &one("per_ip", ""), 1, &user)),
        ("one rule, per endpoint", counted(module, &one("per_endpoint", r#", "endpoints": ["/"]"#), 1, &user)),
        ("one rule, limited", counted(module, &one("per_ip", ""), 3, &user)),
        ("one rule, in shadow and limited", counted(module, &one("per_user", r#", "mode": "shadow""#), 3, &user)),
        ("five rules of one user", counted(module, &policy(&five.join(",")), 1, &user)),
        ("default policy, allowed, known user", counted(module, &default, 1, &alice)),
        ("default policy, allowed, no user", counted(module, &default, 1, &Request::get("/api/search"))),
        ("default policy, limited", counted(module, &default, 11, &alice)),
        ("throttle, held a moment", counted(module, &policy(&rule("r", "per_user", 60, 60, throttle)), 2, &user)),
        (
            "graceful, forwarded",
            counted(module, &one("global", &graceful(r#""forward": {"path": "/lite"}"#)), 3, &user),
        ),
        ("graceful, answered", counted(module, &one("global", &graceful(r#""respond": {"body": "x"}"#)), 3, &user)),
    ];
    let legacy = policy(&rule("r", "global", 2, 60, "")).replacen('{', r#"{"headers": "legacy", "#, 1);
    let (host, id) = loaded(module, &legacy, Response::new(200).header("x-ratelimit-remaining", "0"));
    host.reset_calls();
    host.request(0, &id, user);
    all.push(("one rule, legacy headers over the upstream's own", host.calls()));
    all
}

#[test]
fn host_calls_of_a_request_are_as_written_down() {
    let module = module_or_skip!();
    let mut text = String::from(
        "Host calls of one request, its response and its end, counted in host-test. `bytes` return bytes, `writes` write\n\
         shared data: these two kinds cost 0.15 to 0.95 us each in Envoy, all others below 0.25 us. Rewritten by\n\
         UPDATE_GOLDEN=1 cargo test -p tidegate-host-test --test filter\n",
    );
    for (name, calls) in situations(&module) {
        let of = |kind| calls.of_kind(kind);
        let (bytes, writes, other) = (of(CallKind::ReturnsBytes), of(CallKind::WritesShared), of(CallKind::Other));
        writeln!(text, "\n{name}: {bytes} bytes, {writes} writes, {other} others").unwrap();
        for (function, count) in calls.iter() {
            writeln!(text, "  {function} {count}").unwrap();
        }
    }
    assert_golden("host_calls.txt", &text);
}

#[test]
fn one_matching_rule_costs_at_most_six_dear_calls() {
    let module = module_or_skip!();
    let all = situations(&module);
    let mut seen = 0;
    for (name, calls) in all.iter().filter(|(name, _)| name.starts_with("one rule,")) {
        assert!(dear(calls) <= AIM, "{name}: {} calls", dear(calls));
        seen += 1;
    }
    assert_eq!(seen, 7);
    let (_, none) = &all[0];
    assert_eq!(dear(none), 1, "a request that no rule matches costs the reading of its headers");
}

#[test]
fn the_nth_request_costs_what_the_first_costs() {
    let module = module_or_skip!();
    let text = policy(&rule("r", "per_user", 1_000_000, 60, ""));
    let first = counted(&module, &text, 2, &from("a"));
    assert_eq!(counted(&module, &text, 2_000, &from("a")), first);
}

#[test]
fn the_plugin_imports_what_the_golden_list_says() {
    let module = module_or_skip!();
    let mut imports = module.imports();
    imports.sort();
    imports.dedup();
    let exports = module.exports();
    assert_golden("imports.txt", &format!("{}\n", imports.join("\n")));
    // Every callback that is exported costs the host a call a request: none that Tidegate does not use.
    for unused in ["proxy_on_response_body", "proxy_on_response_trailers", "proxy_on_log", "proxy_on_new_connection"] {
        assert!(!exports.contains(&unused.to_owned()), "{unused}");
    }
}
