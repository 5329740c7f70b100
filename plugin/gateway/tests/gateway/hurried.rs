//! Callers that leave before the gateway's own time is up, as the filter's do after 20 ms: what is wrong with Redis must be
//! found all the same, and nothing may be done about a Redis that merely takes longer than they wait.
//! Not here: callers that wait for the gateway's answer (`outage`, `sentinel`, `cluster`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Gateway;
use crate::process::wait_for;
use crate::servers::{Cluster, Redis, Trio, text};
use crate::skip;

/// What the policy's default `timeout_ms` gives a callout.
const HURRY: Duration = Duration::from_millis(20);
/// Between two calls of one caller.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest time from the store's own recovery to an answer.
const BOUND: Duration = Duration::from_secs(2);

/// Calls in a hurry until one is answered 200: how long that took.
fn until_answered(gateway: &Gateway, command: &Value) -> Duration {
    let (began, mut client) = (Instant::now(), gateway.client());
    wait_for("an answer to a caller in a hurry", Duration::from_secs(30), || {
        std::thread::sleep(PAUSE);
        client.hurried(command, HURRY).filter(|answer| answer.0 == 200)
    });
    began.elapsed()
}

/// How many callers in a hurry are answered while `during` runs.
fn answered_during(gateway: &Gateway, command: &Value, during: impl FnOnce()) -> usize {
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = gateway.client();
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(PAUSE);
                if client.hurried(command, HURRY).is_some_and(|answer| answer.0 == 200) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // Also where `during` panics: the caller must end, or the test never does.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    answered.into_inner()
}

#[test]
fn a_hung_master_is_left_once_sentinel_names_another() {
    if !skip::has("callers in a hurry, Sentinel", &["redis-server", "redis-sentinel"]) {
        return;
    }
    let trio = Trio::start();
    let gateway = Gateway::start(&trio.url(), &[]);
    let incr = json!(["INCR", "n"]);
    until_answered(&gateway, &incr);
    trio.servers[0].process.signal(Signal::STOP);
    answered_during(&gateway, &incr, || trio.wait_for_another_master());
    let took = until_answered(&gateway, &incr);
    eprintln!("Sentinel, hung master, callers in a hurry: answered {took:?} after the switch");
    assert!(took < BOUND, "{took:?}");
    trio.servers[0].process.signal(Signal::CONT);
}

#[test]
fn a_hung_node_is_left_once_its_replica_is_promoted() {
    if !skip::has("callers in a hurry, Cluster", &["redis-server", "redis-cli"]) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &[]);
    let hung = cluster.master_of("k0");
    let other = (1..100).map(|index| format!("k{index}")).find(|key| cluster.master_of(key) != hung).unwrap();
    let (incr, elsewhere) = (json!(["INCR", "k0"]), json!(["INCR", other]));
    until_answered(&gateway, &incr);
    let witness = cluster.master_of(&other);
    cluster.nodes[hung].process.signal(Signal::STOP);
    let began = Instant::now();
    let served = answered_during(&gateway, &elsewhere, || {
        answered_during(&gateway, &incr, || {
            wait_for("a promoted replica", Duration::from_secs(20), || {
                let nodes = text(&cluster.nodes[witness].try_ask(&["CLUSTER", "NODES"])?);
                let serving = nodes.lines().filter(|line| line.contains("master") && !line.contains("fail"));
                (serving.filter(|line| line.split_whitespace().count() > 8).count() == 3 && nodes.contains("fail"))
                    .then_some(())
            });
        });
    });
    let possible = began.elapsed().as_millis() / (2 * PAUSE).as_millis();
    let took = until_answered(&gateway, &incr);
    eprintln!(
        "Cluster, hung node, callers in a hurry: answered {took:?} after the promotion; other slots {served} of about {possible}"
    );
    assert!(took < BOUND, "{took:?}");
    assert!(served as u128 > possible / 3, "the other slots stood still: {served} of about {possible}");
    cluster.nodes[hung].process.signal(Signal::CONT);
}

#[test]
fn a_redis_slower_than_its_callers_wait_keeps_its_connections() {
    if !skip::has("callers in a hurry, slow Redis", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts", "--threads", "1"]);
    let mut client = gateway.client();
    let mut left = 0;
    for _ in 0..40 {
        left += u32::from(client.hurried(&crate::bounds::busy(40), HURRY).is_none());
        // So that it is done before the next one: this is not about a Redis that cannot keep up.
        std::thread::sleep(Duration::from_millis(40));
    }
    // On a busy machine a caller may be late to leave.
    assert!(left > 20, "the script takes 40 ms, and only {left} of 40 callers left after 20");
    let text = String::from_utf8(gateway.client().send("GET", "/metrics", &[], b"").unwrap().body).unwrap();
    assert!(text.contains("tidegate_gateway_connects_total 1\n"), "{text}");
    assert!(!gateway.log().contains("does not answer"), "{}", gateway.log());
    // The one who stays is answered by the same connection.
    assert_eq!(gateway.call(&json!(["PING"])), (200, json!({"result": "PONG"})));
}

#[test]
fn a_hung_redis_is_told_once_and_found_again_without_callers() {
    if !skip::has("hung redis, log", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--threads", "1"]);
    until_answered(&gateway, &json!(["PING"]));
    redis.process.signal(Signal::STOP);
    let served = answered_during(&gateway, &json!(["PING"]), || std::thread::sleep(Duration::from_secs(4)));
    assert_eq!(served, 0);
    let before = gateway.log();
    assert_eq!(before.matches("Redis does not answer").count(), 1, "{before}");
    assert!(!before.contains("connected again") && !before.contains("answers again"), "{before}");
    redis.process.signal(Signal::CONT);
    wait_for("the line that says so", Duration::from_secs(3), || {
        let log = gateway.log();
        (log.contains("answers again") || log.contains("connected again")).then_some(())
    });
    assert_eq!(gateway.call(&json!(["PING"])).0, 200);
}
