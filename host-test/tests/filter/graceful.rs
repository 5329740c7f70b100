//! Reduced forms: what the upstream and the client see of them.

use crate::tidegate::{from, passed, policy, rule, serve};
use tidegate_host_test::{Host, Outcome, PluginId, Request, Response, Stream, Upstream};

fn served(more: &str) -> Option<(Host, PluginId)> {
    let module = crate::tidegate::module("graceful")?;
    Some(serve(&module, 1, &policy(&rule("mild", "per_user", 1, 60, more))))
}

/// The second request of a user: over the rate, below the ceiling.
fn degraded(host: &Host, id: &PluginId, request: &Request) -> Stream {
    assert!(passed(&host.request(0, id, request.clone())));
    host.request(0, id, request.clone())
}

#[test]
fn forward_changes_headers_path_and_cluster_for_the_upstream_and_marks_both_sides() {
    let Some((host, id)) = served(
        r#", "strategy": {"type": "graceful", "forward": {"headers": {"x-mode": "lite", "accept": "text/plain"},
            "path": "/lite?from=limit", "cluster_header": {"name": "x-cluster", "cluster": "spare"}}}"#,
    ) else {
        return;
    };
    host.set_upstream(Upstream::Direct(Response::new(200).header("x-tidegate-degraded", "the upstream's")));
    let request =
        Request::post("/full?a=1", "kept").header("x-user", "a").header("accept", "text/html").header("x-mode", "full");
    let first = host.request(0, &id, request.clone()).upstream_request().unwrap();
    assert_eq!(first.headers.get("x-tidegate-degraded"), None);
    assert_eq!(first.headers.text(":path").as_deref(), Some("/full?a=1"));
    let stream = host.request(0, &id, request);
    let seen = stream.upstream_request().unwrap();
    for (name, value) in [
        ("x-tidegate-degraded", "mild"),
        ("x-mode", "lite"),
        ("accept", "text/plain"),
        (":path", "/lite?from=limit"),
        ("x-cluster", "spare"),
        (":method", "POST"),
    ] {
        assert_eq!(seen.headers.get_all(name), [value.as_bytes()], "{name}");
    }
    assert_eq!(seen.body, b"kept");
    let response = stream.response().unwrap();
    assert!(response.headers.get_all("x-tidegate-degraded").contains(&&b"mild"[..]), "{:?}", response.headers);
}

#[test]
fn respond_answers_without_the_upstream() {
    let Some((host, id)) = served(
        r#", "strategy": {"type": "graceful", "respond": {"status": 203, "headers": {"x-cached": "1"}, "body": "old news"}}"#,
    ) else {
        return;
    };
    let stream = degraded(&host, &id, &from("a"));
    let Outcome::LocalReply(reply) = stream.outcome() else { panic!("{:?}", stream.outcome()) };
    assert_eq!(reply.details, "tidegate_degraded");
    let response = stream.response().unwrap();
    assert_eq!((response.status(), response.text().as_str()), (203, "old news"));
    for (name, value) in [("x-cached", "1"), ("x-tidegate-degraded", "mild"), ("cache-control", "no-store")] {
        assert_eq!(response.headers.get_all(name), [value.as_bytes()], "{name}");
    }
    assert_eq!(response.headers.get("retry-after"), None);
}

#[test]
fn the_ceiling_refuses_and_counts_every_request_of_the_rule() {
    let Some((host, id)) =
        served(r#", "strategy": {"type": "graceful", "forward": {"path": "/lite"}, "ceiling": 5.0}"#)
    else {
        return;
    };
    let outcomes: Vec<String> = (0..8)
        .map(|_| {
            let stream = host.request(0, &id, from("a"));
            String::from_utf8(stream.set_property(&["tidegate.outcome"]).unwrap()).unwrap()
        })
        .collect();
    let expected = ["allowed", "degraded", "degraded", "degraded", "degraded", "limited", "limited", "limited"];
    assert_eq!(outcomes, expected);
    let metrics = host.metrics();
    let counted = |outcome: &str| metrics.counter(&format!("tidegate.default.requests_total.{outcome}")).unwrap();
    assert_eq!(["allowed", "degraded", "limited"].map(counted), [1, 4, 3], "degraded apart from refused");
}

#[test]
fn a_client_cannot_ask_for_the_reduced_form() {
    let Some((host, id)) = served(
        r#", "strategy": {"type": "graceful", "forward": {"cluster_header": {"name": "x-cluster", "cluster": "spare"}}}"#,
    ) else {
        return;
    };
    let request = from("a").header("x-cluster", "admin").header("x-tidegate-degraded", "mild");
    let seen = host.request(0, &id, request.clone()).upstream_request().unwrap();
    assert_eq!((seen.headers.get("x-cluster"), seen.headers.get("x-tidegate-degraded")), (None, None));
    let seen = host.request(0, &id, request).upstream_request().unwrap();
    assert_eq!(seen.headers.get_all("x-cluster"), [b"spare"]);
}
