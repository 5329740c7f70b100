//! When the store is left alone, and when it is asked again: to the millisecond, with what is counted, shown and said.

use tidegate_host_test::{Answer, Cluster, Stream};

use crate::played::{MS, Proxy, asked, done, error, granted, passed, policy, proxy, proxy_of, store_of};
use crate::tidegate::rule;

const BREAKER: &str = r#", "breaker": {"failures": 3, "open_ms": 700}"#;

fn rules() -> [String; 1] {
    [rule("r", "per_user", 10, 60, r#", "on_store_error": "deny""#)]
}

/// A proxy whose breaker has opened at this very moment.
fn opened() -> Option<Proxy> {
    let at = proxy(BREAKER, &rules())?;
    for _ in 0..3 {
        at.fails();
    }
    assert!(!at.is_healthy());
    Some(at)
}

fn works(at: &Proxy) -> Stream {
    let stream = at.from("a");
    at.says(granted(&[[0, 1, 9, 6_000_000, 0]]));
    stream
}

#[test]
fn so_many_failures_in_a_row_open_it_and_a_try_closes_it() {
    let Some(at) = proxy(BREAKER, &rules()) else { return };
    assert!(at.is_healthy());
    at.fails();
    at.fails();
    assert!(passed(&works(&at)), "an answer between them");
    at.fails();
    at.fails();
    assert!(at.is_healthy() && at.said().is_empty(), "two in a row");
    assert_eq!(at.counted(), [1, 4, 0, 0, 0]);
    at.fails();
    assert!(!at.is_healthy(), "three");
    assert_eq!(
        at.said(),
        [
            "store: 3 calls to Redis failed in a row, the last with STATUS; each rule does what its on_store_error says, \
          and Redis is tried again after 700 ms"
        ]
    );
    for _ in 0..5 {
        let spared = at.from("a");
        assert_eq!((spared.status(), at.is_asked()), (429, false), "at once, and nobody is asked");
        assert_eq!(store_of(&spared).as_deref(), Some(&b"failed"[..]));
    }
    assert_eq!(at.counted(), [1, 5, 0, 5, 0]);
    at.host.advance(699 * MS);
    assert!(!at.is_asked());
    at.host.advance(MS);
    assert_eq!(asked(&at.call()).purpose, "probe", "700 ms after the third failure");
    assert_eq!(at.from("a").status(), 429, "requests do not wait for the try");
    at.host.advance(5 * MS);
    at.says(done());
    assert!(at.is_healthy());
    assert_eq!(at.said()[1..], ["store: Redis answers again, and counts from here on"]);
    assert!(passed(&works(&at)));
    assert_eq!(at.counted(), [3, 5, 0, 6, 0]);
    at.fails();
    at.fails();
    assert!(at.is_healthy(), "counted anew");
    at.sound();
}

#[test]
fn a_try_that_fails_waits_as_long_again() {
    let Some(at) = opened() else { return };
    let fails = [Answer::Reset, Answer::Refused, error("LOADING Redis is loading"), error("NOSCRIPT")];
    for fail in fails {
        at.host.advance(700 * MS);
        at.says(fail.clone());
        if fail == error("NOSCRIPT") {
            assert_eq!(asked(&at.call()).command, "EVAL", "a try that finds an empty server brings the script");
            at.says(Answer::Reset);
        }
        assert!(!at.is_healthy() && !at.is_asked());
        at.host.advance(MS * 1_399 / 2);
        assert!(!at.is_asked(), "not before");
        at.host.advance(MS / 2);
        assert!(at.is_asked());
        at.says(Answer::Reset);
    }
    // A try that nobody answers ends with the policy's time, and the next one counts from there.
    at.host.advance(700 * MS);
    assert_eq!(at.call().timeout_ms, 20);
    at.host.advance(20 * MS);
    assert!(!at.is_asked());
    at.host.advance(699 * MS);
    assert!(!at.is_asked());
    at.host.advance(MS);
    at.says(done());
    assert!(at.is_healthy());
    assert_eq!(at.said().len(), 2, "the log tells of the beginning and the end alone");
    at.sound();
}

#[test]
fn a_moment_between_two_milliseconds_is_rounded_up() {
    let Some(at) = proxy(BREAKER, &rules()) else { return };
    at.host.advance(MS * 3 / 10);
    for _ in 0..3 {
        at.fails();
    }
    at.host.advance(MS * 7_009 / 10);
    assert!(at.is_asked(), "700.9 ms after");
    at.host.advance(20 * MS);
    assert!(!at.is_asked());
}

#[test]
fn what_was_out_when_it_opened_neither_delays_nor_hastens_the_try() {
    let Some(at) = proxy(BREAKER, &rules()) else { return };
    let streams: Vec<Stream> = (0..6).map(|_| at.from("a")).collect();
    let calls = at.host.callouts();
    for call in &calls[..3] {
        at.host.answer(call, Answer::Reset);
    }
    at.host.advance(10 * MS);
    for call in &calls[3..5] {
        at.host.answer(call, Answer::Reset);
    }
    assert_eq!((at.counted(), at.said().len()), ([0, 5, 0, 0, 0], 1));
    // One of before that is answered well closes it at once.
    at.host.answer(&calls[5], granted(&[[0, 1, 9, 6_000_000, 0]]));
    assert!(at.is_healthy() && passed(&streams[5]));
    for _ in 0..3 {
        at.fails();
    }
    at.host.advance(699 * MS);
    assert!(!at.is_asked(), "the first opening's try is off");
    at.host.advance(MS);
    assert!(at.is_asked());
    at.sound();
}

#[test]
fn neither_clock_that_steps_moves_a_try() {
    for wall in [0, 5_000_000_000_000_000] {
        let Some(at) = opened() else { return };
        at.host.advance(100 * MS);
        at.host.clock().set_micros(wall);
        at.host.advance(599 * MS);
        assert!(!at.is_asked());
        at.host.advance(MS);
        assert!(at.is_asked(), "wall clock at {wall}");
        at.sound();
    }
}

#[test]
fn each_worker_finds_out_for_itself() {
    let Some(at) = proxy_of(2, &policy(BREAKER, &rules())) else { return };
    for _ in 0..3 {
        at.fails();
    }
    let stream = at.host.request(1, &at.id, crate::tidegate::from("a"));
    at.says(granted(&[[0, 1, 9, 6_000_000, 0]]));
    assert!(passed(&stream), "the other worker still asks");
    assert!(!at.is_healthy(), "the gauge says that a worker leaves it alone");
    at.host.advance(700 * MS);
    at.says(done());
    assert!(at.is_healthy());
    at.sound();
}

#[test]
fn a_try_without_room_for_its_call_waits_as_long_again() {
    let Some(at) = opened() else { return };
    at.host.set_cluster("redis", Cluster::NoHealthyHost);
    at.host.advance(700 * MS);
    assert_eq!((at.is_asked(), at.counted()), (false, [0, 3, 1, 0, 0]));
    at.host.set_cluster("redis", Cluster::Healthy { max_requests: 1 });
    at.host.advance(699 * MS);
    assert!(!at.is_asked());
    at.host.advance(MS);
    at.says(done());
    assert!(at.is_healthy());
    at.sound();
}

#[test]
fn a_try_without_room_for_the_script_waits_as_long_again() {
    let Some(at) = opened() else { return };
    at.host.advance(700 * MS);
    let call = at.call();
    at.host.set_cluster("redis", Cluster::NoHealthyHost);
    at.host.answer(&call, error("NOSCRIPT"));
    assert_eq!((at.is_asked(), at.counted()), (false, [0, 3, 1, 0, 0]));
    at.host.set_cluster("redis", Cluster::Healthy { max_requests: 1 });
    at.host.advance(700 * MS);
    at.says(done());
    assert!(at.is_healthy(), "it was not waited for for ever");
    at.sound();
}

#[test]
fn a_cluster_that_the_proxy_does_not_have_opens_it() {
    let policy = policy(BREAKER, &rules()).replace(r#""cluster": "redis""#, r#""cluster": "nowhere""#);
    let Some(at) = proxy_of(1, &policy) else { return };
    for _ in 0..4 {
        at.from("a");
    }
    assert_eq!(at.counted(), [0, 3, 0, 1, 0]);
    assert!(at.said()[0].contains("the last with no such cluster in the proxy"), "{:?}", at.said());
    // It comes after its listener, as configuration by xDS may have it; and the first try after that closes the breaker.
    at.host.advance(350 * MS);
    at.host.set_cluster("nowhere", Cluster::Healthy { max_requests: 8 });
    at.host.advance(349 * MS);
    assert!(!at.is_asked());
    at.host.advance(MS);
    at.says(done());
    assert!(at.is_healthy() && passed(&works(&at)));
    at.sound();
}

#[test]
fn what_no_counter_is_asked_for_says_nothing_of_the_store() {
    for (cluster, state) in [("nowhere", Cluster::Healthy { max_requests: 8 }), ("redis", Cluster::NoHealthyHost)] {
        let queue = r#", "strategy": {"type": "queue", "cluster": "jobs", "authority": "jobs"}"#;
        let policy = policy(BREAKER, &[rule("r", "per_user", 10, 60, queue)]);
        let policy = policy.replace(r#""cluster": "redis""#, &format!(r#""cluster": "{cluster}""#));
        let Some(at) = proxy_of(1, &policy) else { return };
        at.host.set_cluster("redis", state);
        // It looks for jobs once a second.
        at.host.advance(9_000 * MS);
        assert_eq!((at.counted(), at.is_healthy(), at.said()), ([0; 5], true, Vec::<String>::new()), "{cluster}");
        at.sound();
    }
}

#[test]
fn a_store_that_there_is_never_room_for_is_said_once_and_shows() {
    let alert = r#""alerts": [{"name": "store", "when": "store_unhealthy"}], "rules": "#;
    let policy = policy(BREAKER, &rules()).replace("\"rules\": ", alert);
    let Some(at) = proxy_of(1, &policy) else { return };
    at.host.set_cluster("redis", Cluster::NoHealthyHost);
    let firing = || at.host.metrics().gauge("tidegate.default.alert_firing.store");
    at.from("a");
    at.from("a");
    at.host.advance(19 * MS);
    at.from("a");
    assert!(at.is_healthy() && at.said().is_empty(), "others may have had the room until now");
    at.host.advance(MS);
    let stream = at.from("a");
    assert!(passed(&stream), "its own counters decide");
    assert_eq!((at.is_healthy(), store_of(&stream).as_deref()), (false, Some(&b"busy"[..])));
    let said = "store: the proxy had no room for 3 calls to Redis in a row: its cluster has no endpoint, or its circuit \
                breakers are full; the proxy's own counters decide";
    assert_eq!(at.said(), [said]);
    for _ in 0..8 {
        at.from("b");
        at.host.advance(1_000 * MS);
    }
    assert_eq!((at.said().len(), firing()), (1, Some(1)), "{:?}", at.said());
    at.host.set_cluster("redis", Cluster::Healthy { max_requests: 8 });
    assert!(passed(&works(&at)), "it is asked on");
    assert!(at.is_healthy());
    assert_eq!(at.said()[1..], ["store: Redis answers again, and counts from here on"]);
    at.sound();
}
