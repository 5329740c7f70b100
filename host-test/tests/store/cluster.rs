//! A Redis Cluster: a request whose identities live in several slots is asked for call by call, and what a refusal or a
//! failure leaves charged goes back. Which identity is asked first is the engine's.

use tidegate_host_test::{Answer, Callout};

use crate::played::{MS, NOW, Proxy, asked, done, error, granted, passed, proxy, refused};
use crate::tidegate::rule;

const FIXED: &str = r#", "algorithm": "fixed_window", "on_store_error": "deny""#;

/// A user's thousand, and ten of all.
fn rules() -> [String; 2] {
    [rule("user", "per_user", 1_000, 60, FIXED), rule("all", "global", 10, 60, FIXED)]
}

/// A cell that is charged, one that is not, and a full one.
const CHARGED: [i64; 5] = [0, 1, 9, 60_000_000, 0];
const FREE: [i64; 5] = [0, 0, 10, 0, 0];
const FULL: [i64; 5] = [5_000_000, 0, 0, 5_000_000, 0];

/// A proxy that knows already that its store is a Cluster.
fn split() -> Option<Proxy> {
    let at = proxy("", &rules())?;
    let stream = at.from("a");
    assert_eq!(asked(&at.call()).keys.len(), 2);
    at.host.advance(5 * MS);
    at.says(error("CROSSSLOT Keys in request don't hash to the same slot"));
    assert_eq!(at.call().timeout_ms, 15, "the same 20 ms");
    at.says(granted(&[CHARGED]));
    at.says(granted(&[CHARGED]));
    assert!(passed(&stream));
    assert_eq!(at.counted(), [1, 0, 0, 0, 0], "one question, however many calls");
    Some(at)
}

fn key(call: &Callout) -> String {
    let question = asked(call);
    assert_eq!(question.keys.len(), 1);
    question.keys[0].clone()
}

#[test]
fn each_identity_is_asked_for_by_itself_the_scarcest_first() {
    let Some(at) = split() else { return };
    let stream = at.from("a");
    assert!(key(&at.call()).contains("}:all:"), "from the first call on");
    at.says(granted(&[CHARGED]));
    assert!(key(&at.call()).contains("}:user:"));
    at.says(granted(&[CHARGED]));
    assert!(passed(&stream) && !at.is_asked());
    at.sound();
}

#[test]
fn a_refusal_half_way_gives_back_and_tells_every_limit() {
    let Some(at) = split() else { return };
    let stream = at.from("a");
    at.says(granted(&[CHARGED]));
    at.host.advance(3 * MS);
    at.says(refused(&[FULL]));
    assert_eq!(stream.status(), 429);
    let back = at.call();
    let question = asked(&back);
    assert_eq!(question.purpose, "refund");
    assert!(key(&back).contains("}:all:"), "what the first call charged");
    assert_eq!(question.lines, [format!("f 10 60000000 10 0 1 w {NOW} 0")]);
    assert_eq!(back.timeout_ms, 20, "nobody waits for it, so it has a time of its own");
    at.says(done());
    assert_eq!(at.counted(), [3, 0, 0, 0, 0], "two questions and the refund");
    at.sound();
}

#[test]
fn a_refusal_at_once_charges_nobody_and_looks_at_the_rest() {
    let Some(at) = split() else { return };
    let stream = at.from("a");
    at.says(refused(&[FULL]));
    assert_eq!(asked(&at.call()).purpose, "probe", "only looked at");
    at.says(granted(&[FREE]));
    assert_eq!((stream.status(), at.is_asked()), (429, false), "nothing to give back");
    at.sound();
}

#[test]
fn a_failure_half_way_gives_back_what_is_charged() {
    for (answer, keeps_asking) in [(Answer::Reset, true), (error("CLUSTERDOWN The cluster is down"), true)] {
        let Some(at) = split() else { return };
        let stream = at.from("a");
        at.says(granted(&[CHARGED]));
        at.says(answer);
        assert_eq!(stream.status(), 429, "deny");
        let back = at.call();
        assert_eq!((asked(&back).purpose.as_str(), key(&back).contains("}:all:")), ("refund", keeps_asking));
        // The refund fails too: it ages out, and is not tried for ever.
        at.says(Answer::Reset);
        assert!(!at.is_asked());
        assert_eq!(at.counted(), [1, 2, 0, 0, 0]);
        at.sound();
    }
}

#[test]
fn all_calls_of_a_request_share_one_time() {
    let Some(at) = split() else { return };
    let stream = at.from("a");
    at.host.advance(12 * MS);
    at.says(granted(&[CHARGED]));
    assert_eq!(at.call().timeout_ms, 8);
    at.host.advance(8 * MS);
    assert_eq!(stream.status(), 429, "20 ms after it came");
    assert_eq!(asked(&at.call()).purpose, "refund");
    at.sound();
}

#[test]
fn crossslot_for_one_identity_is_a_failure_and_no_loop() {
    let Some(at) = split() else { return };
    let stream = at.from("a");
    at.says(error("CROSSSLOT"));
    assert_eq!((stream.status(), at.is_asked()), (429, false));
    assert_eq!(at.counted(), [1, 1, 0, 0, 0]);
    at.sound();
}

#[test]
fn a_try_names_the_keys_that_failed_and_so_finds_their_node() {
    let Some(at) = proxy(r#", "breaker": {"failures": 2, "open_ms": 100}"#, &rules()[..1]) else { return };
    let other = at.from("other");
    let healthy = key(&at.call());
    at.says(granted(&[CHARGED]));
    assert!(passed(&other));
    at.fails();
    at.from("a");
    let lost = asked(&at.call());
    at.says(error("CLUSTERDOWN The cluster is down"));
    assert!(!at.is_healthy());
    for _ in 0..3 {
        at.host.advance(100 * MS);
        let probe = asked(&at.call());
        assert_eq!((probe.purpose.as_str(), &probe.keys, &probe.lines), ("probe", &lost.keys, &lost.lines));
        assert_ne!(probe.keys[0], healthy, "its node would answer, and the next requests would find out anew");
        at.says(error("CLUSTERDOWN The cluster is down"));
        assert!(!at.is_healthy());
    }
    at.host.advance(100 * MS);
    at.says(refused(&[FULL]));
    assert!(at.is_healthy(), "whatever it says of the cells, it is there");
    at.sound();
}

#[test]
fn what_a_store_says_of_one_key_alone_does_not_keep_it_from_all_others() {
    for word in ["WRONGTYPE Operation against a key", "TIDEGATE a key holds what is not of this script", "CROSSSLOT"] {
        let Some(at) = proxy(r#", "breaker": {"failures": 1, "open_ms": 100}"#, &rules()) else { return };
        at.fails();
        at.host.advance(100 * MS);
        assert_eq!(asked(&at.call()).keys.len(), 2);
        at.says(error(word));
        assert!(at.is_healthy(), "{word}: it is there");
        at.sound();
    }
}
