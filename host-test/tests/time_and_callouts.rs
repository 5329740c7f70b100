//! Ticks, clocks and calls to clusters.

#[path = "plugins/built.rs"]
mod built;

use built::{answer, messages, probe, tell};
use std::time::Duration;
use tidegate_host_test::{Answer, Cluster, Host, Outcome, Response, Thread};

const MS: Duration = Duration::from_millis(1);

fn ticks(host: &Host, thread: Thread) -> usize {
    let logs = host.logs();
    logs.iter().filter(|line| line.thread == thread && line.message.starts_with("tick(")).count()
}

#[test]
fn ticks_fire_on_every_thread_at_their_times_and_stop_at_zero() {
    let host = Host::builder().start_micros(1_000_000).build();
    let plugin = host.load(probe("configure: tick 10\ntick: time")).unwrap();
    host.advance(9 * MS);
    assert_eq!(ticks(&host, Thread::Worker(0)), 0);
    host.advance(16 * MS);
    assert_eq!((ticks(&host, Thread::Main), ticks(&host, Thread::Worker(0))), (2, 2));
    assert_eq!(ticks(&host, Thread::Canary), 0);
    assert_eq!(answer(&host, "tick: time -> "), "1020000000", "the clock stood at the tick's own time");
    tell(&host, &plugin, "tick 0");
    host.advance(100 * MS);
    assert_eq!(ticks(&host, Thread::Worker(0)), 2);
    assert_eq!(ticks(&host, Thread::Main), 12);
}

#[test]
fn the_wall_clock_steps_both_ways_and_timers_do_not_care() {
    let host = Host::builder().start_micros(5_000_000).build();
    let plugin = host.load(probe("configure: tick 10")).unwrap();
    host.clock().set_micros(3);
    tell(&host, &plugin, "time");
    assert_eq!(answer(&host, "request_headers: time -> "), "3000");
    host.advance(10 * MS);
    assert_eq!(ticks(&host, Thread::Worker(0)), 1);
    assert_eq!((host.clock().micros(), host.clock().steady_micros()), (10_003, 10_000));
}

#[test]
fn answers_reach_the_root_as_envoy_gives_them() {
    let host = Host::builder().cluster("up").build();
    let plugin = host.load(probe("call_response: header 6 :status; buffer 4; status")).unwrap();
    let cases = [
        (Answer::Response(Response::new(201).body("hi")), "2", "201", "hi"),
        (Answer::Timeout, "24", "504", "upstream request timeout"),
    ];
    for (given, size, status, body) in cases {
        tell(&host, &plugin, "call up 0 /x");
        let callout = host.callouts().pop().unwrap();
        assert_eq!((callout.path().as_str(), callout.cluster.as_str()), ("/x", "up"));
        host.answer(&callout, given);
        assert!(answer(&host, "call_response(1) ").ends_with(size));
        assert_eq!(answer(&host, "call_response: header 6 :status -> "), format!("(0, \"{status}\")"));
        assert_eq!(answer(&host, "call_response: buffer 4 -> "), format!("(0, \"{body}\")"));
    }
    tell(&host, &plugin, "call up 0 /x");
    host.answer(&host.callouts()[0], Answer::Refused);
    assert!(answer(&host, "call_response(1) ").starts_with("3 3 "), "503 with three headers");
    tell(&host, &plugin, "call up 0 /x");
    host.answer(&host.callouts()[0], Answer::Reset);
    assert_eq!(answer(&host, "call_response(1) "), "4 0 0");
    assert_eq!(answer(&host, "call_response: header 6 :status -> "), r#"(2, "")"#);
    assert_eq!(answer(&host, "call_response: status -> "), "0 11 reset");
    assert!(host.callouts().is_empty());
}

#[test]
fn timeouts_follow_the_clock_and_an_answer_outlives_its_request() {
    let host = Host::builder().cluster("up").build();
    let plugin = host.load(probe("")).unwrap();
    let stream = tell(&host, &plugin, "call up 50 /slow; pause");
    stream.disconnect();
    host.advance(49 * MS);
    assert_eq!(host.callouts().len(), 1);
    host.advance(MS);
    assert_eq!(answer(&host, "call_response(1) "), "1 3 24");
}

#[test]
fn refusals_come_at_once_and_without_callback() {
    let host = Host::builder().cluster("up").build();
    let plugin = host.load(probe("")).unwrap();
    let told = |command: &str| {
        tell(&host, &plugin, command);
        answer(&host, &format!("request_headers: {command} -> "))
    };
    assert_eq!(told("call nowhere 0 /"), "2 0");
    assert_eq!(told("call up 0 bare"), "2 0", "no pseudo-headers");
    host.set_cluster("up", Cluster::NoHealthyHost);
    assert_eq!(told("call up 0 /"), "10 0");
    host.set_cluster("up", Cluster::Healthy { max_requests: 1 });
    assert_eq!(told("call up 0 /"), "0 1");
    assert_eq!(told("call up 0 /"), "10 0", "one too many");
    assert!(!messages(&host).iter().any(|line| line.starts_with("call_response(")));
}

#[test]
fn a_reply_from_an_answer_and_a_grpc_call() {
    let host = Host::builder().cluster("up").build();
    let plugin = host.load(probe("call_response: reply-held")).unwrap();
    let stream = tell(&host, &plugin, "call up 0 /; pause");
    host.answer(&host.callouts()[0], Answer::Response(Response::new(200)));
    assert!(matches!(stream.outcome(), Outcome::LocalReply(reply) if reply.status == 429));
    assert_eq!(stream.status(), 429, "and it went out");
    tell(&host, &plugin, "grpc svc pkg.S Do");
    let call = host.callouts().pop().unwrap();
    assert_eq!(call.body, b"ask");
    host.answer(&call, Answer::GrpcMessage(b"four".to_vec()));
    assert!(answer(&host, "grpc_receive(1) ").ends_with(" 4"));
}
