//! Plugins built with the Rust SDK, which know nothing of this host.

#[path = "plugins/built.rs"]
mod built;

use built::{messages, module};
use std::time::Duration;
use tidegate_host_test::{Answer, Host, Outcome, Plugin, Request, Response, Upstream};

#[test]
fn headers_are_read_added_and_answered() {
    let host = Host::builder().build();
    let plugin = host.load(Plugin::new(&module("headers"))).unwrap();
    let stream = host.request(0, &plugin, Request::get("/").header("a", [0xff]));
    let seen = stream.upstream_request().unwrap();
    assert_eq!(seen.headers.text("x-counted").as_deref(), Some("5"));
    assert_eq!(stream.response().unwrap().headers.text("x-marked").as_deref(), Some("yes"));
    assert_eq!(stream.set_property(&["seen"]), Some(b"5".to_vec()));
    let reply = host.request(0, &plugin, Request::get("/").header("x-reply", "418"));
    assert_eq!(reply.status(), 418);
    let headers = reply.response().unwrap().headers;
    assert_eq!(headers.text("x-by").as_deref(), Some("marker"));
    assert_eq!(headers.text("x-marked").as_deref(), Some("yes"), "its own response callback ran");
}

#[test]
fn a_request_header_read_in_the_response_phase_kills_the_vm() {
    let host = Host::builder().build();
    let plugin = host.load(Plugin::new(&module("headers"))).unwrap();
    host.set_upstream(Upstream::Direct(Response::new(200).header("x-look-back", "1")));
    let stream = host.request(0, &plugin, Request::get("/"));
    assert_eq!((stream.outcome(), stream.status()), (Outcome::VmFailed, 503));
    assert!(messages(&host).iter().any(|line| line.contains("unexpected status: 2")));
}

#[test]
fn a_body_is_collected_and_replaced() {
    let host = Host::builder().build();
    let plugin = host.load(Plugin::new(&module("body"))).unwrap();
    let stream = host.request(0, &plugin, Request::post("/", "quiet ").open().header("content-length", "12"));
    stream.send_body("please", true);
    let seen = stream.upstream_request().unwrap();
    assert_eq!(seen.text(), "QUIET PLEASE");
    assert_eq!(seen.headers.get("content-length"), None);
}

#[test]
fn configuration_environment_ticks_and_output() {
    let host = Host::builder().build();
    let plugin = Plugin::new(&module("greeting")).name("greeting").environment("HOME_TOWN", "Kiel");
    let refused = host.load(plugin.clone()).unwrap_err();
    assert!(refused.logs.iter().any(|line| line.message == "a greeting is needed"), "{refused}");
    let loaded = host.load(plugin.configuration("moin")).unwrap();
    assert!(messages(&host).contains(&"greeting with moin at home in Ok(\"Kiel\")".to_owned()));
    host.advance(Duration::from_millis(250));
    assert!(messages(&host).contains(&"moin tick 2".to_owned()));
    let greeted = |text: &str| {
        let response = host.request(0, &loaded, Request::get("/")).response().unwrap();
        assert_eq!(response.headers.text("x-greeting").as_deref(), Some(text));
    };
    greeted("moin");
    assert!(host.reconfigure(&loaded, "").is_err());
    greeted("moin");
    host.reconfigure(&loaded, "servus").unwrap();
    greeted("servus");
}

#[test]
fn a_callout_decides_about_a_held_request() {
    let host = Host::builder().cluster("judge").build();
    let plugin = host.load(Plugin::new(&module("gate"))).unwrap();
    let ask = || host.request(0, &plugin, Request::get("/"));
    let (first, second, third, gone) = (ask(), ask(), ask(), ask());
    let callouts = host.callouts();
    assert_eq!(callouts.len(), 4);
    host.answer(&callouts[0], Answer::Response(Response::new(200)));
    assert_eq!(first.status(), 200);
    host.answer(&callouts[1], Answer::Response(Response::new(401).body("never")));
    assert_eq!(second.response().unwrap().text(), "Some(\"401\") never");
    gone.disconnect();
    host.advance(Duration::from_millis(50));
    assert_eq!(third.response().unwrap().text(), "Some(\"504\") upstream request timeout");
    assert_eq!(gone.outcome(), Outcome::Disconnected, "the SDK drops the late answer");
    assert_eq!(ask().outcome(), Outcome::Paused, "and lives on");
}

#[test]
fn an_unknown_cluster_is_refused_at_once() {
    let host = Host::builder().build();
    let plugin = host.load(Plugin::new(&module("gate"))).unwrap();
    assert_eq!(host.request(0, &plugin, Request::get("/")).response().unwrap().text(), "BadArgument");
}
