//! `graceful` serves a reduced form: it sends requests to another cluster of the same configuration by header or by
//! path, or answers itself, up to its ceiling.

use serde_json::{Value, json};
use xtask::envoy::Cluster;
use xtask::load::{Answer, Request};
use xtask::upstream::Upstream;

use crate::bench::{Bench, Bodies, policy, send, serve, serve_with, with_status};

/// Routes as a user would write them: by the cluster header where it is there, by a header, by path, else as ever.
fn routes() -> Vec<Value> {
    vec![
        json!({"match": {"prefix": "/", "headers": [{"name": "x-to-cluster", "present_match": true}]},
            "route": {"cluster_header": "x-to-cluster"}}),
        json!({"match": {"prefix": "/", "headers": [{"name": "x-quality", "string_match": {"exact": "low"}}]},
            "route": {"cluster": "reduced"}}),
        json!({"match": {"prefix": "/cached"}, "route": {"cluster": "reduced"}}),
        json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}),
    ]
}

/// An Envoy with the clusters `upstream` and `reduced`, and a rule of two requests an hour with this reduced form.
fn start(what: &str, strategy: Value) -> Option<(Bench, Upstream)> {
    let reduced = Upstream::start().unwrap();
    let mut strategy = strategy;
    strategy["type"] = json!("graceful");
    let rules = json!([{"name": "full_service", "scope": "per_user", "rate": 2, "window_seconds": 3600,
        "algorithm": "fixed_window", "strategy": strategy}]);
    let bench = serve_with(&format!("graceful, {what}"), &policy(rules), Bodies::Unseen, |settings| {
        settings.clusters.push(Cluster::new("reduced", reduced.address()));
        settings.listeners[0].routes = routes();
    })?;
    Some((bench, reduced))
}

fn get(path: &str) -> Request {
    Request::get(path).header("x-user", "ann")
}

/// Six requests: two in full, two in the reduced form, two beyond the ceiling of twice the rate.
fn six(bench: &Bench, request: &Request) -> Vec<Answer> {
    let client = bench.http1(1);
    let answers: Vec<Answer> = (0..6).map(|_| client.send(request).unwrap()).collect();
    let marks: Vec<Option<&str>> = answers.iter().map(|answer| answer.header("x-tidegate-degraded")).collect();
    let mark = Some("full_service");
    assert_eq!(marks, [None, None, mark, mark, None, None]);
    assert_eq!(answers.iter().skip(4).map(|answer| answer.status).collect::<Vec<_>>(), [429, 429]);
    assert!(answers[4].header("retry-after").is_some());
    let counts = ["allowed", "degraded", "limited"]
        .map(|outcome| bench.count(&format!("verdicts_total.full_service.{outcome}")));
    assert_eq!(counts, [2, 2, 2], "counted apart");
    answers
}

#[test]
fn another_cluster_by_cluster_header() {
    let forward = json!({"forward": {"cluster_header": {"name": "x-to-cluster", "cluster": "reduced"}}});
    let Some((mut bench, reduced)) = start("cluster header", forward) else { return };
    // A client that names the cluster itself, or says that it is degraded, is not believed, however it spells it.
    let forged = get("/a")
        .header("x-to-cluster", "reduced")
        .header("X_To_Cluster", "reduced")
        .header("x-tidegate-degraded", "forged")
        .header("X_Tidegate_Degraded", "forged");
    let answers = six(&bench, &forged);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 200, 200, 429, 429]);
    assert_eq!((bench.upstream.requests(), reduced.requests()), (2, 2));
    for full in bench.upstream.arrivals() {
        for name in ["x-to-cluster", "x_to_cluster", "x-tidegate-degraded", "x_tidegate_degraded"] {
            assert_eq!(full.headers.get(name), None, "{name}");
        }
    }
    for arrival in reduced.arrivals() {
        assert_eq!(arrival.headers.get_all("x-tidegate-degraded").iter().collect::<Vec<_>>(), ["full_service"]);
        assert_eq!(arrival.headers.get_all("x-to-cluster").iter().collect::<Vec<_>>(), ["reduced"]);
        assert_eq!((arrival.headers.get("x_to_cluster"), arrival.headers.get("x_tidegate_degraded")), (None, None));
    }
    bench.assert_nothing_died();
}

#[test]
fn another_cluster_by_a_header_that_a_route_matches() {
    let Some((mut bench, reduced)) = start("headers", json!({"forward": {"headers": {"X-Quality": "low"}}})) else {
        return;
    };
    six(&bench, &get("/a").header("x-quality", "low"));
    assert_eq!((bench.upstream.requests(), reduced.requests()), (2, 2), "the client's own header is removed");
    bench.assert_nothing_died();
}

#[test]
fn another_cluster_by_path_over_both_protocols_and_with_bodies() {
    let Some((mut bench, reduced)) = start("path", json!({"forward": {"path": "/cached/search"}})) else { return };
    six(&bench, &Request::new("POST", "/search?q=1").header("x-user", "ann").body("question"));
    for arrival in reduced.arrivals() {
        assert_eq!((arrival.method.as_str(), arrival.path.as_str()), ("POST", "/cached/search"));
        assert_eq!(arrival.body, "question");
    }
    let bob = (0..4).map(|_| Request::get("/search").header("x-user", "bob"));
    let answers = send(&bench.http2(1), bob);
    assert_eq!(with_status(&answers, 200), 4);
    assert_eq!((bench.upstream.requests(), reduced.requests()), (4, 4));
    bench.assert_nothing_died();
}

#[test]
fn a_reduced_answer_of_its_own() {
    let respond = json!({"respond": {"status": 203, "headers": {"X-From": "cache"}, "body": {"items": []}}});
    let Some((mut bench, _reduced)) = start("respond", respond) else { return };
    let answers = six(&bench, &get("/a"));
    let reduced = &answers[2];
    assert_eq!((reduced.status, reduced.header("x-from")), (203, Some("cache")));
    assert_eq!(reduced.header("content-type"), Some("application/json"));
    assert_eq!(reduced.header("cache-control"), Some("no-store"));
    assert_eq!(reduced.body, r#"{"items":[]}"#);
    assert_eq!(bench.upstream.requests(), 2);
    bench.assert_nothing_died();
}

#[test]
fn a_ceiling_of_one_and_a_half() {
    let rules = json!([{"name": "r", "scope": "global", "rate": 10, "window_seconds": 3600,
        "algorithm": "fixed_window", "strategy": {"type": "graceful", "ceiling": 1.5, "respond": {"status": 203}}}]);
    let Some(bench) = serve("graceful, ceiling", &policy(rules), Bodies::Unseen) else { return };
    let answers = send(&bench.http1(30), (0..30).map(|n| Request::get(&format!("/{n}"))));
    assert_eq!([200, 203, 429].map(|status| with_status(&answers, status)), [10, 5, 15]);
}
