//! Jobs of the fleet's queue, carried out: when they are claimed, what is sent, what the store is told of it, and what
//! becomes of a job whose VM, or whose word, is lost.

use serde_json::{Value, json};
use tidegate_host_test::{Answer, Cluster, Request, Response, Thread};

use crate::jobs::{PAGES, ok, queueing, result};
use crate::played::{MS, answer, asked, error};

/// Status 200, `text/plain` and `done`, as an answer is kept; and no answer at all.
const KEPT: &str = "yAAAAAAAAAAKAAAAAAAAAHRleHQvcGxhaW4EAAAAAAAAAGRvbmU";
const NO_ANSWER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn a_job_is_claimed_when_it_is_due_sent_as_it_was_and_ended() {
    let Some(at) = queueing(1, "") else { return };
    let job = at.stores(0);
    at.passes(2_001);
    assert!(at.steps("claim").iter().all(|call| call.thread != Thread::Worker(0)), "the store has just begun to count");
    let claim = at.claim_of(0, 1);
    assert_eq!(asked(&claim).keys, ["tg1:{default:q}:"]);
    let holder = asked(&claim).lines[0].clone();
    assert_eq!(asked(&claim).lines[1..], ["32", "262144"]);
    at.host.answer(&claim, result(&json!([0, 1, "r", 3, 0, job.0, 2, job.1])));
    let sent = at.tries().remove(0);
    let header = |name: &str| sent.headers.text(name).unwrap_or_default();
    assert_eq!([":method", ":path", "content-type", "x-user"].map(header), ["POST", "/report?x=1", "text/x", ""]);
    assert_eq!(header("idempotency-key"), job.0);
    assert_eq!(["x-tidegate-attempt", "x-tidegate-rule"].map(header), ["2", "r"]);
    assert_eq!((sent.body.as_slice(), sent.timeout_ms, at.count("waiting")), (&b"work"[..], 5_000, 3));
    at.host.answer(&sent, ok());
    assert_eq!(asked(&at.step("end")).lines, [job.0.as_str(), &holder, "done", KEPT]);
    assert_eq!(at.count("ended_total"), 0, "not before the store says so");
    at.told("end", &json!([1]));
    assert_eq!((at.count("ended_total"), at.count("failed_total"), at.out()), (1, 0, Vec::new()));
    // The next claim has a name of its own.
    at.stores(0);
    assert_ne!(asked(&at.claim_of(0, 3_000)).lines[0], holder);
    at.sound();
}

#[test]
fn a_try_that_fails_is_put_off_longer_each_time_and_the_last_one_ends_it() {
    let Some(at) = queueing(1, "") else { return };
    let job = at.stores(0);
    for (attempt, delay) in [(1, "100"), (2, "200")] {
        let sent = at.claims(0, &job, attempt);
        at.host.answer(&sent, Answer::Response(Response::new(503)));
        let again = asked(&at.step("again")).lines;
        assert_eq!((again[0].as_str(), again[2].as_str(), again[3].as_str()), (job.0.as_str(), delay, "0"));
        at.told("again", &json!([1]));
        // This VM comes for it itself.
        at.passes(delay.parse::<u32>().unwrap() - 2);
        at.claim_of(0, 5);
    }
    let sent = at.claims(0, &job, 3);
    at.host.answer(&sent, Answer::Reset);
    assert_eq!(asked(&at.step("end")).lines[2..], ["failed", NO_ANSWER]);
    at.told("end", &json!([1]));
    assert_eq!((at.count("ended_total"), at.count("failed_total")), (1, 1));
    at.sound();
}

#[test]
fn what_could_not_be_sent_counts_as_no_try() {
    let Some(at) = queueing(1, "") else { return };
    let job = at.stores(0);
    at.host.set_cluster("jobs", Cluster::NoHealthyHost);
    let claim = at.claim_of(0, 3_000);
    at.host.answer(&claim, result(&json!([0, 1, "r", 1, 0, job.0, 3, job.1])));
    assert_eq!(asked(&at.step("again")).lines[2..], ["200", "1"]);
    // It might wait no longer.
    at.told("again", &json!([2]));
    assert_eq!((at.count("ended_total"), at.count("failed_total"), at.out()), (1, 1, Vec::new()));
    at.sound();
}

#[test]
fn the_store_is_told_until_it_answers_or_the_claim_ends() {
    let Some(at) = queueing(1, "") else { return };
    let job = at.stores(0);
    let sent = at.claims(0, &job, 1);
    at.host.answer(&sent, ok());
    let first = asked(&at.step("end")).lines;
    for said in [Answer::Reset, error("LOADING"), answer(200, "<html>"), result(&json!(["1"])), result(&json!([3]))] {
        at.host.answer(&at.step("end"), said);
        at.passes(998);
        assert_eq!(at.out(), Vec::<String>::new());
        at.passes(3);
        assert_eq!(asked(&at.step("end")).lines, first, "the same again");
    }
    at.told("end", &json!([1]));
    assert_eq!(at.count("ended_total"), 1);
    // Not for ever: nine seconds after the claim it is another's.
    let job = at.stores(0);
    let sent = at.claims(0, &job, 1);
    at.host.answer(&sent, ok());
    let mut told = 0;
    for _ in 0..12_000 {
        at.nothing_due();
        for call in at.steps("end") {
            told += 1;
            at.host.answer(&call, Answer::Reset);
        }
        at.host.advance(MS);
    }
    assert_eq!(told, 9);
    // A word that comes too late ends nothing.
    let sent = at.claims(0, &at.stores(0), 1);
    at.host.answer(&sent, ok());
    at.told("end", &json!([0]));
    assert_eq!((at.count("ended_total"), at.out()), (1, Vec::new()));
    at.sound();
}

#[test]
fn a_claim_whose_answer_was_lost_is_asked_for_again_by_its_name() {
    let Some(at) = queueing(1, "") else { return };
    let job = at.stores(0);
    let not_ours = [
        json!([0]),
        json!([0, 1]),
        json!([0, 1, "r", 1]),
        json!([0, 0, "x"]),
        json!([0, 0, "t", "1", "x"]),
        json!([0, -1]),
        json!([0, i64::MAX]),
        json!([0, 0, "t", -1, "x"]),
        json!(["0", 0]),
        json!([0, 0, 1, 1, 1]),
    ];
    let claim = at.claim_of(0, 3_000);
    let name = asked(&claim).lines[0].clone();
    at.host.answer(&claim, Answer::Reset);
    for said in &not_ours {
        let claim = at.claim_of(0, 2_000);
        assert_eq!(asked(&claim).lines[0], name, "{said}");
        at.host.answer(&claim, result(said));
    }
    let sent = at.claims(0, &job, 1);
    at.host.answer(&sent, ok());
    assert_eq!(asked(&at.step("end")).lines[1], name);
    at.sound();
}

#[test]
fn a_job_that_this_version_cannot_read_is_left_to_the_others() {
    let Some(at) = queueing(1, "") else { return };
    let (ticket, request) = at.stores(0);
    for damaged in ["", "AgAA", "%%%", &request[..request.len() / 2]] {
        let claim = at.any_claim();
        at.host.answer(&claim, result(&json!([0, 1, "r", 1, 0, ticket, 1, damaged])));
        assert!(at.tries().is_empty());
        assert_eq!(asked(&at.step("again")).lines[2..], ["60000", "1"], "it counts as no try");
        at.told("again", &json!([1]));
    }
    at.sound();
}

#[test]
fn as_long_as_there_is_more_it_claims_on() {
    let Some(at) = queueing(1, "") else { return };
    let job = at.stores(0);
    let mut claim = at.claim_of(0, 3_000);
    for n in 0..5 {
        at.host.answer(&claim, result(&json!([1, 1, "r", 1, 2, job.0, 1, job.1])));
        claim = at.claim_of(0, 0);
        assert_eq!((at.tries().len(), at.count("failed_total")), (n + 1, (2 * n as u64) + 2));
    }
    // Nothing came of what was said to be more: it waits for its turn.
    at.host.answer(&claim, result(&json!([1, 0])));
    assert_eq!((at.steps("claim").len(), at.count("waiting")), (0, 0));
    at.sound();
}

#[test]
fn what_its_line_keeps_back_is_claimed_when_the_store_says() {
    let Some(at) = queueing(1, "") else { return };
    let job = at.stores(0);
    let mut claim = at.claim_of(0, 3_000);
    for _ in 0..3 {
        at.host.answer(&claim, result(&json!([41, 1, "r", 1, 0, job.0, 1, job.1])));
        at.passes(39);
        assert!(at.steps("claim").iter().all(|call| call.thread != Thread::Worker(0)));
        claim = at.claim_of(0, 4);
    }
    // Also where nothing came but others were put off, and never in circles.
    at.host.answer(&claim, result(&json!([2, 0])));
    assert!(at.steps("claim").is_empty());
    claim = at.claim_of(0, 4);
    // For what is further off than a second any VM comes in its turn.
    at.host.answer(&claim, result(&json!([1_001, 0])));
    for ms in 0..3_000 {
        let own = at.steps("claim").into_iter().find(|call| call.thread == Thread::Worker(0));
        assert!(own.is_none() || ms % 1_000 != 2, "it has no claim of its own");
        at.passes(1);
    }
    at.sound();
}

#[test]
fn a_result_that_the_store_refuses_is_told_of_without_its_body() {
    let Some(at) = queueing(1, "") else { return };
    let too_large = json!({"error": "ERR the body is larger than this gateway takes"}).to_string();
    let refusals =
        [answer(413, too_large), answer(413, "<html>"), answer(413, ""), error("ERR max request size exceeded")];
    for (ended, said) in (1..).zip(refusals) {
        let sent = at.claims(0, &at.stores(0), 1);
        at.host.answer(&sent, ok());
        let first = asked(&at.step("end")).lines;
        at.host.answer(&at.step("end"), said.clone());
        let second = asked(&at.step("end")).lines;
        assert_eq!((&second[..3], second[3] != KEPT), (&first[..3], true), "{said:?}");
        // It is this that is told again, as anything is.
        at.host.answer(&at.step("end"), said);
        at.passes(1_001);
        assert_eq!(asked(&at.step("end")).lines, second);
        at.told("end", &json!([1]));
        assert_eq!((at.count("ended_total"), at.count("failed_total"), at.out()), (ended, 0, Vec::new()));
        // Its page says so.
        let page = at.host.request(0, &at.id, Request::get(&format!("{PAGES}{}", second[0])));
        at.told("look", &json!([3, "r", 1, 0, second[3]]));
        let page: Value = serde_json::from_slice(&page.response().unwrap().body).unwrap();
        let response = &page["response"];
        assert_eq!((&page["status"], &response["status"]), (&json!("done"), &json!(200)));
        assert_eq!(response["content_type"], "application/problem+json");
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["detail"], "The result is too large for the store to keep.");
    }
    // The last failure's answer too; and other refusals say nothing of what was sent.
    let sent = at.claims(0, &at.stores(0), 3);
    at.host.answer(&sent, Answer::Response(Response::new(500).body("no")));
    let first = asked(&at.step("end")).lines;
    let slow = answer(408, json!({"error": "ERR the body did not arrive in time"}).to_string());
    for said in [401, 403, 408, 429, 503].map(|status| answer(status, "")).into_iter().chain([slow]) {
        at.host.answer(&at.step("end"), said);
        assert_eq!(at.out(), Vec::<String>::new());
        at.passes(1_001);
        assert_eq!(asked(&at.step("end")).lines, first);
    }
    at.host.answer(&at.step("end"), answer(413, ""));
    assert_eq!(asked(&at.step("end")).lines[2], "failed");
    at.told("end", &json!([1]));
    assert_eq!((at.count("failed_total"), at.out()), (1, Vec::new()));
    at.sound();
}

#[test]
fn whoever_dies_leaves_its_jobs_to_the_others_and_one_vm_claims_for_all() {
    let Some(at) = queueing(3, "") else { return };
    let job = at.stores(0);
    let sent = at.claims(0, &job, 1);
    at.host.kill(Thread::Worker(0));
    at.host.answer(&sent, ok());
    assert_eq!(at.out(), Vec::<String>::new(), "nobody heard the answer");
    // Once a second, whichever VM it is; the claim that finds the job due again brings it.
    let mut claims = Vec::<Value>::new();
    for ms in 0..10_000 {
        for call in at.steps("claim") {
            claims.push(json!(ms));
            at.host.answer(&call, result(&json!([0, 0])));
        }
        at.host.advance(MS);
    }
    assert!((9..=12).contains(&claims.len()), "{claims:?}");
    at.host.answer(&at.any_claim(), result(&json!([0, 1, "r", 1, 0, job.0, 2, job.1])));
    let sent = at.tries().remove(0);
    assert_eq!(sent.headers.text("x-tidegate-attempt").as_deref(), Some("2"));
    assert_eq!(sent.headers.text("idempotency-key"), Some(job.0));
    at.host.answer(&sent, ok());
    at.told("end", &json!([1]));
    assert_eq!(at.count("ended_total"), 1);
}
