//! Holding, resuming and answering requests.

#[path = "plugins/built.rs"]
mod built;

use built::{answer, messages, probe, tell};
use std::time::Duration;
use tidegate_host_test::{Headers, Host, Outcome, Request, Response, Upstream};

const MS: Duration = Duration::from_millis(1);

fn callbacks(host: &Host) -> Vec<String> {
    let names = ["request_", "response_", "log(", "done(", "delete("];
    let mut lines = messages(host);
    lines.retain(|line| names.iter().any(|name| line.starts_with(name)) && !line.contains("->"));
    lines
}

#[test]
fn a_whole_exchange_in_order() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    host.set_upstream(Upstream::Direct(Response::new(201).body("made").trailer("t", "1")));
    let stream = host.request(0, &plugin, Request::post("/", "abc").trailer("x", "y"));
    assert_eq!(
        callbacks(&host),
        [
            "request_headers(2) 4 0",
            "request_body(2) 3 0",
            "request_trailers(2) 1",
            "response_headers(2) 0",
            "response_body(2) 4 0",
            "response_trailers(2) 1",
            "log(2)",
            "done(2)",
            "delete(2)"
        ]
    );
    let seen = stream.upstream_request().unwrap();
    assert_eq!((seen.text().as_str(), seen.complete), ("abc", true));
    assert_eq!((stream.status(), stream.response().unwrap().text()), (201, "made".to_owned()));
    assert!(stream.is_finished());
}

#[test]
fn a_held_request_keeps_its_body_and_is_resumed_from_a_tick() {
    let host = Host::builder().build();
    let plugin = host.load(probe("configure: tick 10\ntick: resume-held")).unwrap();
    let stream = host.request(0, &plugin, Request::post("/", "one").open().header("x-do", "pause"));
    stream.send_body(" two", true);
    assert_eq!(stream.outcome(), Outcome::Paused);
    assert!(!callbacks(&host).iter().any(|line| line.starts_with("request_body")));
    host.advance(10 * MS);
    assert_eq!(answer(&host, "request_body(2) "), "7 1", "held pieces come as one");
    assert_eq!(stream.upstream_request().unwrap().text(), "one two");
}

#[test]
fn a_body_that_is_held_is_collected_and_too_much_is_413() {
    let host = Host::builder().buffer_limit(8).build();
    let plugin = host.load(probe("request_body: pause; buffer 0")).unwrap();
    let stream = host.request(0, &plugin, Request::post("/", "12345").open());
    assert_eq!(stream.outcome().clone(), Outcome::Forwarded(stream.upstream_request().unwrap()));
    stream.send_body("678", false);
    assert_eq!(answer(&host, "request_body: buffer 0 -> "), r#"(0, "12345678")"#);
    stream.send_body("9", true);
    assert_eq!(stream.status(), 413);
}

#[test]
fn a_local_reply_passes_the_plugins_own_response_callbacks() {
    let host = Host::builder().build();
    let plugin =
        host.load(probe("response_headers: add 2 x-own 1; header 0 :path; property response.code_details")).unwrap();
    let stream = tell(&host, &plugin, "reply 429 slow; pause");
    let Outcome::LocalReply(reply) = stream.outcome() else { panic!("{:?}", stream.outcome()) };
    assert_eq!((reply.status, reply.details.as_str(), reply.grpc_status), (429, "probe_details", None));
    let response = stream.response().unwrap();
    assert_eq!(response.headers.text("x-own").as_deref(), Some("1"));
    assert_eq!(response.headers.text("content-length").as_deref(), Some("4"));
    assert!(stream.upstream_request().is_none());
}

#[test]
fn grpc_and_head_get_their_own_form_of_a_reply() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    let grpc =
        Request::post("/s/M", "").header("content-type", "application/grpc+proto").header("x-do", "reply 429 a%b");
    let response = host.request(0, &plugin, grpc).response().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers.text("grpc-status").as_deref(), Some("14"));
    assert_eq!(response.headers.text("grpc-message").as_deref(), Some("a%25b"));
    let head = host.request(0, &plugin, Request::new("HEAD", "/").header("x-do", "reply 429 slow"));
    assert_eq!(head.response().unwrap().body, b"");
}

#[test]
fn harmless_combinations_and_the_second_of_two_replies() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    assert_eq!(tell(&host, &plugin, "resume; resume").status(), 200);
    assert_eq!(tell(&host, &plugin, "resume; pause").status(), 200);
    assert_eq!(tell(&host, &plugin, "reply 429 a").status(), 429, "reply and Continue");
    assert_eq!(tell(&host, &plugin, "reply 429 a; reply 430 b; pause").status(), 430);
    assert_eq!(tell(&host, &plugin, "close 0").outcome(), Outcome::Reset);
}

#[test]
fn maps_are_gone_where_the_real_host_forgets_them() {
    let host = Host::builder().build();
    let plugin = host
        .load(probe(
            "response_headers: header 0 :path; property request.path\nlog: header 0 :path; property request.path",
        ))
        .unwrap();
    tell(&host, &plugin, "header 0 :path; resume; header 0 :path");
    let lines = messages(&host);
    let at = |text: &str| lines.iter().filter(|line| line.starts_with(text)).cloned().collect::<Vec<_>>();
    assert_eq!(
        at("request_headers: header"),
        [r#"request_headers: header 0 :path -> (0, "/told")"#, r#"request_headers: header 0 :path -> (2, "")"#]
    );
    assert_eq!(answer(&host, "response_headers: header 0 :path -> "), r#"(2, "")"#);
    assert_eq!(answer(&host, "response_headers: property request.path -> "), r#"(1, "")"#);
    assert_eq!(answer(&host, "log: header 0 :path -> "), r#"(0, "/told")"#);
    assert_eq!(answer(&host, "log: property request.path -> "), r#"(0, "/told")"#);
}

#[test]
fn a_client_that_goes_away_ends_the_stream_at_once() {
    let host = Host::builder().build();
    let plugin = host.load(probe("configure: tick 10\ntick: resume-held")).unwrap();
    let stream = tell(&host, &plugin, "pause");
    stream.disconnect();
    assert_eq!(stream.outcome(), Outcome::Disconnected);
    assert_eq!(callbacks(&host)[1..], ["log(2)", "done(2)", "delete(2)"]);
    host.advance(10 * MS);
    assert_eq!(answer(&host, "tick: resume-held -> "), "1 held, 1 gone", "BadArgument for a stream that is gone");
    assert_eq!(stream.response(), None);
}

#[test]
fn resumes_nest_last_in_first_out_and_too_many_end_the_vm() {
    let host = Host::builder().build();
    let plugin = host.load(probe("configure: tick 10\ntick: resume-held")).unwrap();
    let streams: Vec<_> = (0..3).map(|_| tell(&host, &plugin, "pause")).collect();
    host.advance(10 * MS);
    let seen = callbacks(&host)[3..].iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        seen,
        [
            "response_headers(2)",
            "response_headers(3)",
            "response_headers(4)",
            "log(4)",
            "done(4)",
            "delete(4)",
            "log(3)",
            "done(3)",
            "delete(3)",
            "log(2)",
            "done(2)",
            "delete(2)"
        ]
    );
    assert_eq!(host.deepest_nesting(), 3);
    assert!(streams.iter().all(|stream| stream.status() == 200));

    let many: Vec<_> = (0..270).map(|_| tell(&host, &plugin, "pause")).collect();
    host.advance(10 * MS);
    assert!(many.iter().all(|stream| stream.status() == 200), "270 are borne");
    for _ in 0..300 {
        tell(&host, &plugin, "pause");
    }
    host.advance(10 * MS);
    assert!(messages(&host).iter().any(|line| line.contains("Maximum call stack size exceeded")));
    assert_eq!(tell(&host, &plugin, "").outcome(), Outcome::VmFailed);
}

#[test]
fn an_upstream_that_answers_later_does_not_nest() {
    let host = Host::builder().upstream(Upstream::Later(Response::new(200))).build();
    let plugin = host.load(probe("configure: tick 10\ntick: resume-held")).unwrap();
    let streams: Vec<_> = (0..1000).map(|_| tell(&host, &plugin, "pause")).collect();
    host.advance(10 * MS);
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(host.deepest_nesting(), 0);
}

#[test]
fn a_manual_upstream_and_a_held_response() {
    let host = Host::builder().upstream(Upstream::Manual).build();
    let plugin = host.load(probe("configure: tick 10\nresponse_headers: pause")).unwrap();
    let stream = host.request(0, &plugin, Request::get("/"));
    assert!(matches!(stream.outcome(), Outcome::Forwarded(_)));
    stream.respond(Response::new(200).body("x"));
    assert_eq!(stream.status(), 0, "the plugin holds the response");
    assert!(!stream.is_finished());
}

#[test]
fn any_bytes_and_duplicates_reach_the_plugin() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    let request = Request::get("/")
        .header("x-a", [0xff, 0xfe])
        .header("X-A", "2")
        .header("x-do", "header 0 x-a; property request.headers.x-a");
    host.request(0, &plugin, request);
    assert_eq!(answer(&host, "request_headers: header 0 x-a -> "), "(0, \"\u{fffd}\u{fffd}\")", "the first only");
    assert_eq!(answer(&host, "request_headers: property request.headers.x-a -> "), "(0, \"\u{fffd}\u{fffd},2\")");
}

#[test]
fn trailers_end_a_request_and_bytes_pass_a_connection() {
    let host = Host::builder().build();
    let plugin = host.load(probe("downstream: buffer 2")).unwrap();
    let stream = host.request(0, &plugin, Request::post("/", "a").open());
    stream.send_trailers(Headers::new().with("t", "1"));
    stream.send_body("late", true);
    assert_eq!(stream.upstream_request().unwrap().trailers.unwrap().text("t").as_deref(), Some("1"));
    let connection = host.connect(0, &plugin, "10.0.0.9:99").unwrap();
    connection.send("hello", false);
    connection.close();
    assert_eq!(answer(&host, "downstream: buffer 2 -> "), r#"(0, "hello")"#);
    assert_eq!(connection.forwarded(), b"hello");
    assert!(connection.is_closed());
}
