//! Requests that the store has counted and that do not go on at once: held until the store's moment, or taken as jobs with
//! the bodies that came while it was asked. Holding and jobs themselves are `filter` and `strategies`.

use serde_json::json;
use tidegate_host_test::{Answer, Outcome, Request};

use crate::jobs::result;
use crate::played::{MS, NOW, asked, done, granted, passed, proxy, refused};
use crate::tidegate::rule;

const THROTTLE: &str = r#", "algorithm": "leaky_bucket", "on_store_error": "deny",
    "strategy": {"type": "throttle", "max_delay_ms": 5000}"#;
const QUEUE: &str = r#", "on_store_error": "deny", "burst": 1, "strategy": {"type": "queue", "cluster": "redis",
    "authority": "jobs", "max_queued": 10, "max_body_bytes": 1000, "max_attempts": 1, "backoff_ms": 100,
    "timeout_ms": 5000, "max_wait_seconds": 60, "result_ttl_seconds": 60}"#;

#[test]
fn a_throttled_request_waits_for_the_stores_moment() {
    let Some(at) = proxy("", &[rule("r", "per_user", 10, 10, THROTTLE)]) else { return };
    let stream = at.from("a");
    assert_eq!(asked(&at.call()).lines, ["l 10 10000000 10 5000000 1 w 1 0"], "it may wait five seconds");
    at.host.advance(8 * MS);
    at.says(granted(&[[700_000, 1, 0, 1_700_000, 0]]));
    assert_eq!(stream.outcome(), Outcome::Paused);
    at.host.advance(699 * MS);
    assert_eq!(stream.outcome(), Outcome::Paused);
    at.host.advance(MS);
    assert!(passed(&stream), "700 ms after the answer");
    at.sound();
}

#[test]
fn who_leaves_while_held_gets_back_what_the_store_charged_for_then() {
    let Some(at) = proxy("", &[rule("r", "per_user", 10, 10, THROTTLE)]) else { return };
    let stream = at.from("a");
    at.says(granted(&[[700_000, 1, 0, 1_700_000, 0]]));
    at.host.advance(300 * MS);
    stream.disconnect();
    let back = asked(&at.call());
    assert_eq!(back.purpose, "refund");
    assert_eq!(back.lines, [format!("l 10 10000000 10 5000000 1 w {} 0", NOW + 700_000)]);
    at.says(done());
    at.sound();
}

#[test]
fn a_throttled_request_without_an_answer_does_as_its_rule_says() {
    let Some(at) = proxy("", &[rule("r", "per_user", 10, 10, THROTTLE)]) else { return };
    let stream = at.from("a");
    at.host.advance(20 * MS);
    assert_eq!(stream.status(), 429);
    let stream = at.from("a");
    at.says(refused(&[[6_000_000, 0, 0, 6_000_000, 0]]));
    assert_eq!(stream.status(), 429, "longer than it may wait");
    at.sound();
}

#[test]
fn of_many_at_once_no_more_are_held_than_there_is_room_for() {
    let room = r#", "algorithm": "leaky_bucket", "strategy": {"type": "throttle", "max_delay_ms": 5000, "max_waiting": 3,
        "max_waiting_per_key": 2}"#;
    let Some(at) = proxy("", &[rule("r", "per_user", 10, 10, room)]) else { return };
    let streams: Vec<_> = ["a", "a", "a", "a", "b", "b"].map(|user| at.from(user)).into();
    for (place, call) in at.host.callouts().iter().enumerate() {
        assert_eq!(asked(call).lines, ["l 10 10000000 10 5000000 1 w 1 0"], "nobody waits yet");
        let wait = 1_000_000 * i64::try_from(place).unwrap();
        at.host.answer(call, granted(&[[wait, 1, 0, wait + 1_000_000, 0]]));
    }
    let held: Vec<bool> = streams.iter().map(|stream| stream.outcome() == Outcome::Paused).collect();
    assert!(passed(&streams[0]));
    assert_eq!(held, [false, true, true, false, true, false], "two of one client, three in all");
    for (place, stream) in [(3, &streams[3]), (5, &streams[5])] {
        assert_eq!(stream.status(), 429);
        assert_eq!(stream.response().unwrap().headers.text("retry-after").unwrap(), place.to_string());
    }
    let back: Vec<_> = at.host.callouts().iter().map(|call| asked(call).lines.remove(0)).collect();
    let line = |micros: i64| format!("l 10 10000000 10 5000000 1 m {} 0", NOW + micros);
    assert_eq!(back, [line(3_000_000), line(5_000_000)], "what they were charged for goes back");
    at.sound();
}

#[test]
fn a_request_that_becomes_a_job_waits_for_both_answers_within_one_time() {
    let Some(at) = proxy("", &[rule("r", "per_user", 1, 60, QUEUE)]) else { return };
    let stream = at.from("a");
    let call = at.step("acquire");
    at.host.advance(13 * MS);
    at.host.answer(&call, granted(&[[2_000_000, 1, 0, 62_000_000, 0]]));
    assert_eq!(at.step("put").timeout_ms, 7, "20 less the 13 that are gone");
    at.host.advance(7 * MS);
    assert_eq!(stream.status(), 503, "20 ms after it came");
    at.sound();
}

#[test]
fn a_job_keeps_what_came_of_its_body_while_the_store_was_asked() {
    let Some(at) = proxy("", &[rule("r", "per_user", 1, 60, QUEUE)]) else { return };
    let body = "0123456789".repeat(50);
    let mut open = Request::new("POST", "/report").header("x-user", "a").open();
    open = open.header("content-length", "500");
    let stream = at.host.request(0, &at.id, open);
    let call = at.step("acquire");
    stream.send_body(&body[..200], false);
    stream.send_body(&body[200..], true);
    assert_eq!(stream.outcome(), Outcome::Paused);
    at.host.answer(&call, granted(&[[2_000_000, 1, 0, 62_000_000, 0]]));
    let put = at.step("put");
    at.host.answer(&put, result(&json!([1, 1])));
    assert_eq!(stream.status(), 202, "taken as a job");
    let words = asked(&put).lines;
    let job = at.claims(0, &(words[0].clone(), words[words.len() - 1].clone()), 1);
    assert_eq!((job.headers.text(":authority").as_deref(), job.body.len()), (Some("jobs"), 500));
    assert_eq!(job.body, body.as_bytes());
    at.host.answer(&job, Answer::Response(tidegate_host_test::Response::new(200)));
    at.sound();
}

#[test]
fn a_body_that_comes_while_asked_reaches_the_upstream_whole() {
    let Some(at) = proxy("", &[rule("r", "per_user", 10, 60, "")]) else { return };
    let stream = at.host.request(0, &at.id, Request::new("POST", "/").header("x-user", "a").open());
    stream.send_body("first ", false);
    let call = at.call();
    at.host.answer(&call, granted(&[[0, 1, 9, 6_000_000, 0]]));
    stream.send_body("second", true);
    assert_eq!(stream.upstream_request().unwrap().text(), "first second");
    at.sound();
}
