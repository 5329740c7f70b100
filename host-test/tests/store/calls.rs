//! What a request's question costs: one call with the policy's time, a second one in what is left of it where the store
//! has forgotten the script, and nothing that a client sends in any of them.

use tidegate_host_test::Outcome;

use crate::played::{MS, NOW, asked, error, granted, passed, proxy, refused, store_of};
use crate::tidegate::rule;

fn rules() -> [String; 1] {
    [rule("r", "per_user", 10, 60, r#", "algorithm": "fixed_window", "on_store_error": "deny""#)]
}

#[test]
fn one_call_decides_and_carries_nothing_of_the_client() {
    let Some(at) = proxy("", &rules()) else { return };
    let stream = at.from("alice");
    assert_eq!(stream.outcome(), Outcome::Paused);
    let call = at.call();
    assert_eq!((call.cluster.as_str(), call.timeout_ms), ("redis", 20), "the default");
    let header = |name: &str| call.headers.text(name).unwrap_or_default();
    assert_eq!([header(":method"), header(":path"), header(":authority")], ["POST", "/", "gateway"]);
    assert_eq!([header("content-type"), header("authorization")], ["application/json", "Bearer s3cret"]);
    let question = asked(&call);
    assert_eq!((question.command.as_str(), question.purpose.as_str()), ("EVALSHA", "acquire"));
    assert_eq!(question.lines, ["f 10 60000000 10 0 1 w 1 0"]);
    assert!(
        question.keys[0].starts_with("tg1:{default:v:") && question.keys[0].contains("}:r:"),
        "{:?}",
        question.keys
    );
    assert!(!String::from_utf8_lossy(&call.body).contains("alice"));
    at.host.advance(7 * MS);
    at.says(granted(&[[0, 1, 6, 30_000_000, 0]]));
    assert_eq!(stream.status(), 200);
    let limits = stream.response().unwrap().headers.text("ratelimit").unwrap();
    assert_eq!(limits, r#""r";r=6;t=30"#, "the store's numbers");
    assert_eq!(store_of(&stream), None);
    assert_eq!(at.host.metrics().histogram("tidegate.default.store_call_us"), Some(&[7_000][..]));
    let other = at.from("alice");
    at.says(refused(&[[4_200_000, 0, 0, 30_000_000, 0]]));
    assert_eq!(other.status(), 429);
    assert_eq!(other.response().unwrap().headers.text("retry-after").as_deref(), Some("5"), "rounded up");
    assert_eq!(at.counted(), [2, 0, 0, 0, 0]);
    at.sound();
}

#[test]
fn a_forgotten_script_is_sent_in_the_time_that_is_left() {
    let Some(at) = proxy("", &rules()) else { return };
    let stream = at.from("a");
    let first = asked(&at.call());
    at.host.advance(7 * MS);
    at.says(error("NOSCRIPT No matching script. Please use EVAL."));
    let call = at.call();
    let second = asked(&call);
    assert_eq!(call.timeout_ms, 13, "20 less the 7 that are gone");
    assert_eq!((second.command.as_str(), second.keys, second.lines), ("EVAL", first.keys, first.lines));
    at.host.advance(12 * MS);
    assert!(at.is_asked() && !passed(&stream));
    at.host.advance(MS);
    assert_eq!((stream.status(), at.is_asked()), (429, false), "20 ms after it came, as its rule says");
    assert_eq!(at.counted(), [0, 1, 0, 0, 0], "one question, one failure");
    at.sound();
}

#[test]
fn a_script_forgotten_in_the_last_moment_still_gets_a_millisecond() {
    let Some(at) = proxy("", &rules()) else { return };
    let stream = at.from("a");
    at.host.advance(MS * 39 / 2);
    at.says(error("NOSCRIPT"));
    assert_eq!(at.call().timeout_ms, 1, "half a millisecond is left; 0 would be no limit at all");
    at.says(granted(&[[0, 1, 9, 1, 0]]));
    assert!(passed(&stream));
    at.sound();
}

#[test]
fn a_store_that_never_knows_the_script_has_failed() {
    let Some(at) = proxy("", &rules()) else { return };
    let stream = at.from("a");
    at.says(error("NOSCRIPT"));
    at.says(error("NOSCRIPT"));
    assert_eq!((stream.status(), at.is_asked()), (429, false), "the text is sent once");
    assert_eq!(at.counted(), [0, 1, 0, 0, 0]);
    // No room for the second call: that is no answer either, but none that a breaker counts.
    let stream = at.from("a");
    let call = at.call();
    at.host.set_cluster("redis", tidegate_host_test::Cluster::NoHealthyHost);
    at.host.answer(&call, error("NOSCRIPT"));
    assert_eq!(at.counted(), [0, 1, 1, 0, 0]);
    assert!(passed(&stream), "its own counters decide, whatever the rule says");
    at.sound();
}

#[test]
fn the_moment_of_the_store_is_not_compared_with_the_proxys() {
    let Some(at) = proxy("", &rules()) else { return };
    for wall in [0, 1_000_000, u64::MAX / 4_000] {
        at.host.clock().set_micros(wall);
        let stream = at.from("a");
        at.says(granted(&[[0, 1, 9, 60_000_000, 0]]));
        assert!(passed(&stream), "{wall} beside {NOW}");
    }
    at.sound();
}
