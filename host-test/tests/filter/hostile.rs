//! Requests that no honest client sends: none may trap, and none may escape its limit.

use crate::tidegate::{assert_nothing_died, from, module_or_skip, passed, passing, policy, rule, serve};
use tidegate_host_test::{Host, Module, Outcome, PluginId, Request};

/// Users by header, cookie and JWT; addresses by X-Forwarded-For; a rule for each scope.
fn everything() -> String {
    r#"{"version": 1, "headers": "both", "store": {"type": "local", "max_keys": 1024},
        "identity": {
            "user": [{"metadata": ["ns", "user"]}, {"header": "x-user", "trust": "verified"}, {"cookie": "session"},
                {"jwt_claim": "sub", "header": "authorization", "trust": "unverified"}],
            "ip": {"from": {"x_forwarded_for": {"trusted_hops": 2}}}
        },
        "rules": [
            {"name": "user", "scope": "per_user", "rate": 1000000, "window_seconds": 60},
            {"name": "ip", "scope": "per_ip", "rate": 1000000, "window_seconds": 60},
            {"name": "endpoint", "scope": "per_endpoint", "rate": 1000000, "window_seconds": 60},
            {"name": "named", "scope": "per_endpoint", "rate": 1000000, "window_seconds": 60,
                "endpoints": ["/{a}/{b}/*", "/x"], "methods": ["GET", "POST"]},
            {"name": "all", "scope": "global", "rate": 9, "window_seconds": 60,
                "strategy": {"type": "graceful", "forward": {"path": "/lite"}}}
        ]}"#
    .to_owned()
}

fn survives(host: &Host, id: &PluginId, what: &str, request: Request) {
    let stream = host.request(0, id, request);
    assert!(!matches!(stream.outcome(), Outcome::VmFailed | Outcome::Paused), "{what}: {:?}", stream.outcome());
    assert_nothing_died(host);
}

#[test]
fn bytes_that_are_no_text_are_no_identity_and_no_trap() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &everything());
    let bad: [&[u8]; 6] = [b"\xff\xfe", b"\x00", b"a\x00b", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80"];
    for bytes in bad {
        for name in ["x-user", "cookie", "authorization", "x-forwarded-for", "content-type", "x-tidegate-\u{ff}"] {
            survives(&host, &id, name, Request::get("/").header(name, bytes));
        }
        survives(&host, &id, "name", Request::get("/").header([b"x-tidegate-", bytes].concat(), bytes));
        survives(&host, &id, "cookie", Request::get("/").header("cookie", [b"session=", bytes].concat()));
        for pseudo in [":path", ":method", ":authority"] {
            survives(&host, &id, pseudo, Request::get("/").set_header(pseudo, bytes));
        }
        survives(
            &host,
            &id,
            "metadata",
            Request::get("/").property(&["metadata", "filter_metadata", "ns", "user"], bytes),
        );
    }
}

#[test]
fn an_id_of_broken_bytes_counts_under_the_address() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "per_user", 3, 60, "")));
    let broken = |bytes: &[u8]| Request::get("/").header("x-user", bytes);
    for bytes in [&b"\xff\xfe"[..], b"\xff", b"ok\xff"] {
        assert!(passed(&host.request(0, &id, broken(bytes))));
    }
    assert!(!passed(&host.request(0, &id, Request::get("/"))), "all three were the address's");
    assert!(!passed(&host.request(0, &id, broken(b"\xfe"))));
}

#[test]
fn addresses_that_are_none_count_together() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "per_ip", 3, 60, "")));
    for peer in ["", "nonsense", "/run/envoy.sock"] {
        assert!(passed(&host.request(0, &id, Request::get("/").peer(peer))), "{peer}");
    }
    for peer in ["", "999.1.1.1:80", "[::1", "1.2.3.4:99999999999", "\u{ff}"] {
        assert!(!passed(&host.request(0, &id, Request::get("/").peer(peer))), "{peer}");
    }
}

#[test]
fn sixty_kilobytes_of_headers_and_ten_thousand_lines_are_borne() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &everything());
    let long = "x".repeat(60 * 1024);
    for name in ["x-user", "authorization", "x-forwarded-for", "x-tidegate-big", "x-any"] {
        survives(&host, &id, name, Request::get("/").header(name, &long));
    }
    survives(
        &host,
        &id,
        "cookie",
        Request::get("/").header("cookie", format!("session={long}; {}", ";".repeat(60_000))),
    );
    let path = format!("/{}", "a/../%2e%2e/;x//".repeat(4_000));
    survives(&host, &id, "path", Request::get(&path));
    survives(&host, &id, "query", Request::get(&format!("/?{long}")));
    let mut many = Request::get("/");
    for number in 0..10_000 {
        many = many.header("x-forwarded-for", format!("10.0.{}.1", number % 256)).header("cookie", "session=a");
    }
    survives(&host, &id, "lines", many);
    survives(&host, &id, "method", Request::new(&long, "/"));
}

#[test]
fn requests_without_pseudo_headers_are_counted() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "global", 4, 60, "")));
    let pseudo = [":path", ":method", ":authority", ":scheme"];
    for name in pseudo {
        assert!(passed(&host.request(0, &id, Request::get("/").without_header(name))), "{name}");
    }
    assert!(!passed(&host.request(0, &id, Request::get("/").without_header(":path"))));
    let none = pseudo.iter().fold(Request::get("/"), Request::without_header);
    assert!(!passed(&host.request(0, &id, none)), "no headers at all are no way around a global rule");
    assert_nothing_died(&host);
}

#[test]
fn odd_paths_and_methods_are_answered() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &everything());
    for path in ["*", "", "?", "#", "//", "/..", "/%", "/%2", "/%zz", "/%00", "/\\", "/;", "http://h/x", "x", "/%ff%fe"]
    {
        survives(&host, &id, path, Request::get(path));
    }
    for method in ["", "get", "CONNECT", "PRI", "M-SEARCH", "\u{fffd}"] {
        survives(&host, &id, method, Request::new(method, "/x"));
    }
    let upgrade = Request::get("/x").header("upgrade", "websocket").header("connection", "Upgrade");
    survives(&host, &id, "upgrade", upgrade);
}

#[test]
fn made_up_users_are_held_by_their_address() {
    let module = module_or_skip!();
    let identity = r#"{"version": 1, "store": {"type": "local", "max_keys": 1024},
        "identity": {"user": [{"header": "x-api-key"}]}, "rules": ["#;
    let rules = [rule("user", "per_user", 5, 60, ""), rule("ip", "per_ip", 50, 60, "")].join(",");
    let (host, id) = serve(&module, 2, &format!("{identity}{rules}]}}"));
    let passed = (0..10_000)
        .filter(|number| {
            let key = format!("key-{number}");
            passed(&host.request(number % 2, &id, Request::get("/").header("x-api-key", key)))
        })
        .count();
    assert_eq!(passed, 50);
}

#[test]
fn ten_thousand_addresses_of_one_network_are_one_client() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &policy(&rule("ip", "per_ip", 50, 60, "")));
    let passed = (0..10_000)
        .filter(|number| {
            let peer = format!("[2001:db8:7:7:{:x}:{:x}::1]:443", number * 31 % 65_536, number);
            passed(&host.request(number % 2, &id, Request::get("/").peer(&peer)))
        })
        .count();
    assert_eq!(passed, 50);
}

/// A host under so many rules of which each has these endpoints, `#` standing for its number. The rules count users, and
/// no request has one: so they are matched and not charged.
fn matching(module: &Module, rules: usize, endpoints: &str) -> (Host, PluginId) {
    let rules: Vec<String> = (0..rules)
        .map(|number| {
            let endpoints = endpoints.replace('#', &number.to_string());
            rule(&format!("r{number}"), "per_user", 9, 60, &format!(r#", "endpoints": [{endpoints}]"#))
        })
        .collect();
    let text = format!(
        r#"{{"version": 1, "identity": {{"user": [{{"metadata": ["a", "b"]}}], "anonymous": "skip"}},
            "store": {{"type": "local", "max_keys": 1024}}, "rules": [{}]}}"#,
        rules.join(",")
    );
    serve(module, 1, &text)
}

/// What a request for the path costs in fuel, about a unit a WebAssembly instruction, once the VM has the memory for it.
fn fuel(host: &Host, id: &PluginId, path: &str) -> u64 {
    survives(host, id, path, Request::get(path));
    let before = host.fuel_used();
    survives(host, id, path, Request::get(path));
    host.fuel_used() - before
}

#[test]
fn a_thousand_templates_cost_the_same_however_long_the_path_is() {
    // Fuel stands for time: 2.5 million instructions are some millisecond of a real machine.
    const MOST_OF_8_KB: u64 = 2_500_000;
    let module = module_or_skip!();
    let segment = |length: usize| "a".repeat(length);
    let long = [
        "/a".repeat(4_096),
        format!("/{}", segment(8_191)),
        format!("/v1/users/{}", segment(8_182)),
        format!("/%61{}", segment(8_188)),
        format!("/v1/users/{}", segment(60_000)),
        format!("/{}/x/{}", segment(30_000), segment(30_000)),
        "/a".repeat(30_000),
    ];
    for endpoints in [r#""/{a}/{b}/*""#, r#""/v1/users/{id}/s#""#, r#""/{a}/{b}/never", "/{a}/y/*""#] {
        let (one, one_id) = matching(&module, 1, endpoints);
        let (thousand, thousand_id) = matching(&module, 1_000, endpoints);
        let of_rules = |path: &str| {
            let whole = fuel(&thousand, &thousand_id, path);
            (whole, whole - fuel(&one, &one_id, path))
        };
        let short = ["/a", "/a/x/a", "/v1/users/7", "/v1/users/7/s1", "/a/a/a/a/a"].map(|path| of_rules(path).1);
        let dearest = short.into_iter().max().unwrap_or_default();
        for path in &long {
            let (whole, rules) = of_rules(path);
            let told = format!("{endpoints}: {}... of {} bytes", &path[..12], path.len());
            assert!(rules < dearest + dearest / 10, "{told}: {rules}, at most {dearest} for short paths");
            assert!(whole < MOST_OF_8_KB || path.len() > 8_192, "{told}: {whole}");
        }
    }
}

#[test]
fn an_h2_flood_of_opened_and_reset_requests_leaves_nothing_behind() {
    let module = module_or_skip!();
    let throttle = r#", "burst": 1, "strategy": {"type": "throttle", "max_delay_ms": 600000, "max_waiting": 100}"#;
    let (host, id) = serve(&module, 1, &policy(&rule("r", "per_user", 60, 60, throttle)));
    let user = from("a");
    for _ in 0..10_000 {
        host.request(0, &id, user.clone().open()).disconnect();
    }
    assert_eq!(host.metrics().gauge("tidegate.default.waiting"), Some(0));
    host.advance(std::time::Duration::from_secs(2));
    assert_eq!(passing(&host, &id, 1, 1, &user), 1, "those that left gave their places back");
    assert_nothing_died(&host);
}
