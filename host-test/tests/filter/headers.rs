//! What the filter takes out of requests and puts into responses.

use crate::tidegate::{from, module_or_skip, passed, plugin, policy, rule, serve, with_settings};
use tidegate_host_test::{Headers, Host, Module, Request, Response, Upstream};

/// A policy with one global rule that is never reached.
fn open() -> String {
    policy(&rule("r", "global", 1_000, 60, ""))
}

#[test]
fn headers_that_only_tidegate_may_set_never_reach_the_upstream() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &open());
    let forged = ["x-tidegate-degraded", "X-Tidegate-Outcome", "x_tidegate_degraded", "x-tidegate_rule", "x-tidegate-"];
    let mut request = Request::post("/", "body").header("x-tide", "mine").header("x-tidegatex", "mine");
    for name in forged {
        request = request.header(name, "r").header(name, "twice").trailer(name, "r");
    }
    let seen = host.request(0, &id, request.trailer("x-other", "kept")).upstream_request().unwrap();
    for name in forged {
        assert_eq!(seen.headers.get(name), None, "{name}");
    }
    assert_eq!(seen.headers.text("x-tide").as_deref(), Some("mine"));
    assert_eq!(seen.headers.text("x-tidegatex").as_deref(), Some("mine"));
    let trailers: Vec<_> = seen.trailers.unwrap().iter().map(|(name, _)| name.to_vec()).collect();
    assert_eq!(trailers, [b"x-other".to_vec()]);
    assert_eq!(seen.body, b"body");
}

#[test]
fn headers_that_a_rule_sets_are_reserved_whether_it_matches_or_not() {
    let module = module_or_skip!();
    let graceful = r#", "endpoints": ["/somewhere"], "strategy": {"type": "graceful",
        "forward": {"headers": {"X-Mode": "lite"}, "cluster_header": {"name": "x-cluster", "cluster": "spare"}}}"#;
    let (host, id) = serve(&module, 1, &policy(&rule("r", "global", 1_000, 60, graceful)));
    let request = Request::post("/", "").header("x-mode", "root").header("X_MODE", "root").header("x-cluster", "admin");
    let seen = host.request(0, &id, request.trailer("x-cluster", "admin")).upstream_request().unwrap();
    for name in ["x-mode", "x_mode", "x-cluster"] {
        assert_eq!(seen.headers.get(name), None, "{name}");
    }
    assert_eq!(seen.trailers.unwrap().get("x-cluster"), None);
}

/// What the client sees of these headers when the upstream sends them and our rule has 9 of 10 left for a minute.
fn seen_with(module: &Module, style: &str, upstream: &[(&str, &str)]) -> Headers {
    let text = with_settings(&format!(r#""headers": "{style}","#), &rule("ours", "global", 10, 60, ""));
    let mut response = Response::new(200);
    for (name, value) in upstream {
        response = response.header(name, value);
    }
    let host = Host::builder().upstream(Upstream::Direct(response)).build();
    let id = host.load(plugin(module, &text)).unwrap();
    host.request(0, &id, Request::get("/")).response().unwrap().headers
}

#[test]
fn the_upstreams_own_list_headers_grow_and_lose_nothing() {
    let module = module_or_skip!();
    let theirs = [("ratelimit-policy", "\"theirs\";q=5;w=1"), ("RateLimit", "\"theirs\";r=1;t=1")];
    let seen = seen_with(&module, "draft11", &theirs);
    let all = |name: &str| -> Vec<String> {
        seen.get_all(name).iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    };
    assert_eq!(all("ratelimit-policy"), ["\"theirs\";q=5;w=1", "\"ours\";q=10;w=60"]);
    assert_eq!(all("ratelimit"), ["\"theirs\";r=1;t=1", "\"ours\";r=9;t=6"]);
}

#[test]
fn of_two_legacy_limits_the_stricter_stays_whole() {
    let module = module_or_skip!();
    let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let seen = |theirs: &[(&str, &str)]| {
        let headers = seen_with(&module, "legacy", theirs);
        names.map(|name| {
            let values = headers.get_all(name);
            assert!(values.len() <= 1, "{name} is sent once");
            headers.text(name).unwrap_or_default()
        })
    };
    let triple = |limit, left, reset| [(names[0], limit), (names[1], left), (names[2], reset)];
    assert_eq!(seen(&triple("5", "2", "9")), ["5", "2", "9"], "theirs is stricter");
    assert_eq!(seen(&triple("500", "200", "9")), ["10", "9", "6"], "ours is");
    assert_eq!(seen(&triple("5", " 0 ", "9")), ["5", " 0 ", "9"]);
    assert_eq!(seen(&triple("20", "9", "30")), ["20", "9", "30"], "as much is left of both: theirs lasts longer");
    assert_eq!(seen(&triple("20", "9", "6")), ["10", "9", "6"]);
    assert_eq!(seen(&triple("20", "9", "soon")), ["10", "9", "6"]);
    assert_eq!(seen(&triple("5", "many", "9")), ["10", "9", "6"], "what is no number is no limit");
    assert_eq!(seen(&[("x-ratelimit-remaining", "\u{ff}")]), ["10", "9", "6"]);
    assert_eq!(seen(&[]), ["10", "9", "6"]);
}

#[test]
fn an_upstream_cannot_mark_its_own_response_as_degraded() {
    let module = module_or_skip!();
    let seen = seen_with(&module, "off", &[("x-other", "1")]);
    assert_eq!(seen.len(), 2, ":status and x-other: {seen:?}");
}

#[test]
fn a_refusal_is_whole_before_the_upstream_is_asked() {
    let module = module_or_skip!();
    let text = with_settings(r#""headers": "both","#, &rule("r", "global", 1, 60, ""));
    let (host, id) = serve(&module, 1, &text);
    host.request(0, &id, from("a"));
    let stream = host.request(0, &id, Request::post("/", "the body").open());
    stream.send_body("and more", true);
    assert!(stream.upstream_request().is_none() && !passed(&stream));
    let response = stream.response().unwrap();
    let text = |name: &str| response.headers.text(name).unwrap_or_default();
    assert_eq!((response.status(), text("retry-after"), text("x-ratelimit-reset")), (429, "60".into(), "60".into()));
    assert_eq!(text("cache-control"), "no-store");
    assert_eq!(response.headers.get_all("content-type").len(), 1);
    let head = host.request(0, &id, Request::new("HEAD", "/")).response().unwrap();
    assert_eq!((head.status(), head.body.len()), (429, 0));
}

#[test]
fn grpc_gets_its_own_answer_and_what_only_says_so_gets_http() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "global", 1, 60, "")));
    host.request(0, &id, from("a"));
    let call = |method: &str, content: &str| {
        let request = Request::new(method, "/s/M").header("content-type", content);
        host.request(0, &id, request).response().unwrap()
    };
    for content in ["application/grpc", "application/grpc+proto"] {
        let answer = call("POST", content);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers.text("grpc-status").as_deref(), Some("8"));
        assert_eq!(answer.headers.text("grpc-message").as_deref(), Some("the limit \"r\" is reached"));
        assert_eq!(answer.headers.text("grpc-retry-pushback-ms").as_deref(), Some("60000"));
        assert_eq!(answer.headers.text("content-type").as_deref(), Some("application/grpc"));
    }
    for (method, content, told) in [
        // Envoy has put the body into `grpc-message`, and there is none any more.
        ("GET", "application/grpc", None),
        ("PUT", "application/grpc+proto", None),
        ("POST", "application/grpc-web", Some("application/problem+json")),
        ("POST", "application/grpc;v=1", Some("application/problem+json")),
        ("PUT", "application/grpcx", Some("application/problem+json")),
    ] {
        let answer = call(method, content);
        assert_eq!(answer.status(), 429, "{method} {content}");
        assert_eq!(answer.headers.get("grpc-status"), None, "{method} {content}");
        assert_eq!(answer.headers.text("content-type").as_deref(), told, "{method} {content}");
    }
}
