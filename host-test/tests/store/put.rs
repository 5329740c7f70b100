//! A request on its way into the fleet's queue, and its ticket's page: nothing is promised before the store says that it
//! has it, and what nobody was promised is taken back.

use serde_json::{Value, json};
use tidegate_host_test::{Answer, Cluster, Outcome, Request, Stream};

use crate::jobs::{PAGES, ok, queueing, result, rules};
use crate::played::{MS, Proxy, answer, asked, done, error, policy, proxy_of, refused};
use crate::tidegate;

fn body(stream: &Stream) -> Value {
    serde_json::from_slice(&stream.response().unwrap().body).unwrap()
}

fn page(at: &Proxy, ticket: &str) -> Stream {
    at.host.request(0, &at.id, Request::get(&format!("{PAGES}{ticket}")))
}

#[test]
fn only_what_is_stored_is_answered_202() {
    let Some(at) = queueing(1, "") else { return };
    let stream = at.puts(0);
    assert_eq!(stream.outcome(), Outcome::Paused);
    let put = at.step("put");
    let words = asked(&put);
    assert_eq!(words.keys, ["tg1:{default:q}:"]);
    let [ticket, rule, numbers @ .., request] = words.lines.as_slice() else { panic!("{:?}", words.lines) };
    assert!(ticket.len() == 32 && request.len() > 200);
    // Its room, delay, how long a claim holds, tries, wait, how long it is kept, and its result; its line and that one's gap.
    let week = 604_800_000_u64;
    let kept = (2_000 + 600_000 + 60_000 + week).to_string();
    let [numbers @ .., line, gap] = numbers else { panic!("{numbers:?}") };
    assert!(line.len() == 48 && line.bytes().all(|digit| digit.is_ascii_hexdigit()), "{line}");
    assert_eq!(gap, "60000");
    assert_eq!(
        (rule.as_str(), numbers),
        ("r", ["10", "2000", "10000", "3", "600000", &kept, "60000"].map(str::to_owned).as_slice())
    );
    at.host.advance(19 * MS);
    assert_eq!(stream.outcome(), Outcome::Paused, "it may take as long as the store may");
    at.host.answer(&put, result(&json!([1, 4])));
    assert_eq!(stream.status(), 202);
    let location = format!("{PAGES}{ticket}");
    assert_eq!(stream.response().unwrap().headers.text("location"), Some(location));
    assert_eq!((&body(&stream)["ticket"], at.count("waiting"), at.count("taken_total")), (&json!(ticket), 4, 1));
    assert_eq!(at.out(), Vec::<String>::new());
    at.sound();
}

#[test]
fn without_room_or_answer_it_is_refused_and_its_charge_goes_back() {
    let Some(at) = queueing(1, "") else { return };
    let stream = at.puts(0);
    at.told("put", &json!([0, 10]));
    assert_eq!((stream.status(), at.count("waiting"), at.out()), (507, 10, vec!["refund".to_owned()]));
    let said = stream.response().unwrap();
    assert_eq!(
        (&body(&stream)["detail"], said.headers.text("retry-after").as_deref()),
        (&json!("The queue is full."), Some("60"))
    );
    at.host.answer(&at.step("refund"), done());
    // As long as the store was last said to be full, nobody asks whether it is.
    at.from("a");
    at.host.answer(&at.step("acquire"), refused(&[[5, 0, 0, 5, 0]]));
    at.passes(1_100);
    assert_eq!(at.count("waiting"), 0);
    let not_ours = [
        json!([1]),
        json!([2, 1]),
        json!(["1", 1]),
        json!([1, -1]),
        json!([1, 1, 1]),
        json!([[1], 1]),
        json!([0, "1"]),
    ];
    let answers = not_ours.iter().map(result).chain([
        Answer::Reset,
        Answer::Refused,
        error("OOM command not allowed"),
        error("WRONGTYPE"),
        answer(200, "<html>"),
        answer(502, ""),
    ]);
    for said in answers {
        let stream = at.puts(0);
        at.host.answer(&at.step("put"), said.clone());
        assert_eq!(stream.status(), 503, "{said:?}");
        assert_eq!(body(&stream)["detail"], "The store does not answer: the request was not queued.");
        // It may be stored all the same.
        at.told("drop", &json!([0]));
        at.host.answer(&at.step("refund"), done());
    }
    // What the gateway does not take is the client's to make smaller, and stored nowhere.
    let stream = at.puts(0);
    at.host.answer(&at.step("put"), answer(413, r#"{"error":"ERR the body is larger than this gateway takes"}"#));
    assert_eq!((stream.status(), at.out()), (413, vec!["refund".to_owned()]));
    assert_eq!(body(&stream)["detail"], "The request body is larger than the store's gateway takes.");
    at.host.answer(&at.step("refund"), done());
    let stream = at.puts(0);
    at.host.advance(19 * MS);
    assert_eq!(stream.outcome(), Outcome::Paused);
    at.host.advance(MS);
    assert_eq!(stream.status(), 503, "20 ms of silence");
    assert_eq!(at.out(), ["drop", "refund"]);
    assert_eq!(at.count("taken_total"), 0);
    at.sound();
}

#[test]
fn a_script_that_the_store_has_forgotten_is_sent() {
    let Some(at) = queueing(1, "") else { return };
    let stream = at.puts(0);
    at.host.answer(&at.step("put"), error("NOSCRIPT"));
    let put = at.step("put");
    assert_eq!(asked(&put).command, "EVAL");
    at.host.answer(&put, result(&json!([1, 1])));
    assert_eq!(stream.status(), 202);
    at.sound();
}

#[test]
fn what_a_client_does_not_wait_for_is_taken_back() {
    let Some(at) = queueing(1, "") else { return };
    let stream = at.puts(0);
    let put = at.step("put");
    stream.disconnect();
    at.host.answer(&at.step("refund"), done());
    at.host.answer(&put, result(&json!([1, 1])));
    assert_eq!(asked(&at.step("drop")).lines, [asked(&put).lines[0].clone()]);
    at.told("drop", &json!([1]));
    assert_eq!((at.out(), at.count("taken_total")), (Vec::new(), 0));
    // Nor is one that was not stored.
    let stream = at.puts(0);
    stream.disconnect();
    at.told("put", &json!([0, 10]));
    assert_eq!(at.out(), ["refund"]);
    at.sound();
}

#[test]
fn while_the_store_is_gone_nothing_is_queued() {
    let Some(at) = queueing(1, r#", "breaker": {"failures": 2, "open_ms": 60000}"#) else { return };
    let post = || at.host.request(0, &at.id, Request::new("POST", "/").header("x-user", "a").open());
    // One passes by the proxy's own counters, which would queue the next.
    let statuses: Vec<u16> = (0..4)
        .map(|_| {
            let stream = post();
            for call in at.steps("acquire") {
                at.host.answer(&call, Answer::Reset);
            }
            stream.send_body("work", true);
            stream.status()
        })
        .collect();
    assert_eq!(statuses, [200, 503, 503, 503]);
    assert_eq!(at.out(), Vec::<String>::new());
    // Neither is a ticket looked for.
    assert_eq!(page(&at, &"0".repeat(32)).status(), 503);
    at.sound();
}

#[test]
fn a_ticket_is_told_of_as_the_store_says() {
    let Some(at) = queueing(1, "") else { return };
    let ticket = "0123456789abcdef".repeat(2);
    // Status 200, `text/plain` and `done`, as an answer is kept.
    let kept = "yAAAAAAAAAAKAAAAAAAAAHRleHQvcGxhaW4EAAAAAAAAAGRvbmU";
    let response = json!({"status": 200, "content_type": "text/plain", "body": "done"});
    for (said, wanted) in [
        (
            json!([1, "r", 0, 61_000, ""]),
            json!({"status": "waiting", "attempts": 0, "rule": "r", "position": 2, "estimated_wait_seconds": 61}),
        ),
        (json!([2, "r", 1, 900, ""]), json!({"status": "running", "attempts": 1, "rule": "r"})),
        (json!([3, "r", 2, 0, kept]), json!({"status": "done", "attempts": 2, "rule": "r", "response": response})),
        (json!([4, "gone", 3, 0, ""]), json!({"status": "failed", "attempts": 3, "rule": "gone", "response": null})),
        (json!([4, "r", 3, 0, "%%%"]), json!({"status": "failed", "attempts": 3, "rule": "r", "response": null})),
    ] {
        let stream = page(&at, &ticket);
        assert_eq!((stream.outcome(), asked(&at.step("look")).lines), (Outcome::Paused, vec![ticket.clone()]));
        at.told("look", &said);
        assert_eq!((stream.status(), body(&stream)), (200, wanted));
    }
    let stream = page(&at, &ticket);
    at.told("look", &json!([0]));
    assert_eq!(stream.status(), 404);
    for said in [
        json!([5, "r", 0, 0, ""]),
        json!([1, "r", 0, 0]),
        json!([1, 1, 0, 0, ""]),
        json!([1]),
        json!([1, "r", -1, 0, ""]),
    ] {
        let stream = page(&at, &ticket);
        at.told("look", &said);
        assert_eq!(stream.status(), 503, "{said}");
    }
    let stream = page(&at, &ticket);
    at.host.advance(20 * MS);
    assert_eq!(stream.status(), 503, "silence");
    page(&at, &ticket).disconnect();
    at.told("look", &json!([0]));
    // What is no ticket of a fleet's is not asked for.
    for none in ["0123", &"A".repeat(32), &format!("{ticket}-7"), &format!("{ticket}0"), ""] {
        assert_eq!((page(&at, none).status(), at.out()), (404, Vec::new()), "{none}");
    }
    at.sound();
}

#[test]
fn so_many_tickets_are_looked_up_at_once_and_no_more() {
    let Some(at) = queueing(2, "") else { return };
    let ticket = "0".repeat(32);
    let ask = || page(&at, &ticket);
    let mut waiting: Vec<Stream> = (0..64).map(|_| ask()).collect();
    assert_eq!(at.steps("look").len(), 64);
    let refused = ask();
    assert_eq!((refused.status(), at.steps("look").len()), (503, 64));
    let response = refused.response().unwrap();
    assert_eq!(response.headers.text("retry-after").as_deref(), Some("1"));
    assert_eq!(body(&refused)["detail"], "The store does not answer, or too many tickets are looked up at once.");
    // What the other worker looks up is its own.
    let other = at.host.request(1, &at.id, Request::get(&format!("{PAGES}{ticket}")));
    assert_eq!((other.outcome(), at.steps("look").len()), (Outcome::Paused, 65));
    // A client that leaves makes no room before the store has answered.
    waiting.remove(0).disconnect();
    assert_eq!(ask().status(), 503);
    for said in [result(&json!([0])), Answer::Reset] {
        let calls = at.steps("look");
        at.host.answer(&calls[0], said);
        assert_eq!((ask().outcome(), ask().status()), (Outcome::Paused, 503));
    }
    // The counters are asked all the same.
    at.puts(0);
    at.sound();
}

#[test]
fn a_policy_without_the_rule_still_tells_of_tickets_and_claims() {
    let Some(at) = queueing(1, "") else { return };
    at.stores(0);
    at.host.reconfigure(&at.id, policy("", &[])).unwrap();
    at.host.drain(&at.id);
    at.host.answer(&at.any_claim(), result(&json!([0, 0])));
    let stream = page(&at, &"0".repeat(32));
    at.told("look", &json!([0]));
    assert_eq!(stream.status(), 404);
    at.sound();
}

#[test]
fn jobs_in_the_proxys_own_memory_outlive_the_change_to_a_store() {
    let Some(at) = proxy_of(1, &tidegate::policy(&rules().join(","))) else { return };
    at.host.set_cluster("jobs", Cluster::Healthy { max_requests: 100 });
    let post = || at.host.request(0, &at.id, Request::new("POST", "/").header("x-user", "a").body("work"));
    assert_eq!(post().status(), 200);
    let accepted = post();
    assert_eq!(accepted.status(), 202);
    let ticket = body(&accepted)["ticket"].as_str().unwrap().to_owned();
    at.host.reconfigure(&at.id, policy("", &rules())).unwrap();
    at.host.drain(&at.id);
    assert_eq!(body(&page(&at, &ticket))["status"], "waiting", "its slot is part of the ticket: nobody else is asked");
    for _ in 0..70 {
        at.nothing_due();
        at.host.advance(1_000 * MS);
    }
    let tries = at.tries();
    assert_eq!(tries.len(), 1);
    at.host.answer(&tries[0], ok());
    assert_eq!(body(&page(&at, &ticket))["status"], "done");
    // The store says how many wait, not this.
    assert_eq!((at.count("waiting"), at.count("ended_total")), (0, 1));
    at.sound();
}
