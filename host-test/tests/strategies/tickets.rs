//! `queue` towards its clients: tickets and their pages, what is refused instead of queued, and what a job carries.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::load::{self, Answer, Client, Request};

use crate::bench::{Bench, Bodies, policy, send, serve, serve_with, with_status, within};
use crate::raw_http2::Connection;

/// A rule that lets one request an hour pass at once, with these options of `queue` beside cluster and authority.
fn rule(rate: u32, window_seconds: u32, options: Value) -> Value {
    let mut strategy = json!({"type": "queue", "cluster": "upstream", "authority": "jobs.test", "backoff_ms": 200});
    for (name, value) in options.as_object().unwrap() {
        strategy[name] = value.clone();
    }
    json!({"name": "jobs", "scope": "per_user", "rate": rate, "window_seconds": window_seconds, "burst": 1,
        "strategy": strategy})
}

fn start(what: &str, rule: Value, bodies: Bodies) -> Option<(Bench, Client)> {
    let bench = serve(&format!("queue, {what}"), &policy(json!([rule])), bodies)?;
    let client = bench.http1(20);
    // The line is empty: this one passes, and those behind it wait.
    assert_eq!(client.send(&post("/first")).unwrap().status, 200);
    Some((bench, client))
}

fn post(path: &str) -> Request {
    Request::new("POST", path).header("x-user", "ann").body("work")
}

fn page(client: &Client, accepted: &Answer) -> Answer {
    client.send(&Request::get(accepted.header("location").unwrap())).unwrap()
}

/// The ticket's page once its job is in that state.
fn page_when(client: &Client, accepted: &Answer, status: &str) -> Value {
    let start = Instant::now();
    loop {
        let page = page(client, accepted).json().unwrap();
        if page["status"] == status {
            return page;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not {status}: {page}");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_ticket_tells_how_far_its_job_is() {
    let Some((mut bench, client)) = start("states", rule(1, 2, json!({})), Bodies::Seen) else { return };
    let accepted = client.send(&post("/delay/700/a")).unwrap();
    assert_eq!(accepted.status, 202);
    let ticket = accepted.json().unwrap()["ticket"].as_str().unwrap().to_owned();
    assert_eq!(accepted.header("location").unwrap(), format!("/.tidegate/v1/queue/{ticket}"));
    assert_eq!(accepted.header("retry-after"), Some("2"));
    assert_eq!(accepted.header("cache-control"), Some("no-store"));
    let second = client.send(&post("/b")).unwrap();

    let waiting = page(&client, &accepted);
    assert_eq!((waiting.status, waiting.header("cache-control")), (200, Some("no-store")));
    assert_eq!(waiting.header("x-content-type-options"), Some("nosniff"));
    assert!(waiting.header("retry-after").is_some());
    let waiting = waiting.json().unwrap();
    assert_eq!(
        (&waiting["status"], &waiting["position"], &waiting["attempts"]),
        (&json!("waiting"), &json!(1), &json!(0))
    );
    assert_eq!(page(&client, &second).json().unwrap()["position"], 2);

    assert_eq!(page_when(&client, &accepted, "running")["attempts"], 1);
    let done = page_when(&client, &accepted, "done");
    assert_eq!(
        (&done["response"]["status"], &done["response"]["content_type"]),
        (&json!(200), &json!("application/json"))
    );
    let body: Value = serde_json::from_str(done["response"]["body"].as_str().unwrap()).unwrap();
    assert_eq!((&body["path"], &body["body_bytes"]), (&json!("/delay/700/a"), &json!(4)));
    page_when(&client, &second, "done");
    bench.assert_nothing_died();
}

#[test]
fn a_job_that_keeps_failing_is_tried_with_growing_pauses_and_kept_as_failed() {
    let Some((bench, client)) = start("failure", rule(10, 1, json!({"max_attempts": 4})), Bodies::Seen) else { return };
    let accepted = client.send(&post("/status/500/no")).unwrap();
    let failed = page_when(&client, &accepted, "failed");
    assert_eq!((&failed["attempts"], &failed["response"]["status"]), (&json!(4), &json!(500)));
    let tries: Vec<_> = bench.upstream.arrivals().into_iter().filter(|one| one.path == "/status/500/no").collect();
    let attempts: Vec<_> = tries.iter().map(|one| one.headers["x-tidegate-attempt"].to_str().unwrap()).collect();
    assert_eq!(attempts, ["1", "2", "3", "4"]);
    let keys: Vec<_> = tries.iter().map(|one| one.headers["idempotency-key"].clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let gaps: Vec<u128> =
        tries.windows(2).map(|pair| pair[1].time.duration_since(pair[0].time).unwrap().as_millis()).collect();
    println!("queue, pauses between tries: {gaps:?} ms (200, 400, 800 are due)");
    for (gap, due) in gaps.iter().zip([200, 400, 800]) {
        assert!((due..due + 2_000).contains(gap), "{gaps:?}");
    }
    // A client's mistake is an outcome, not a failure.
    let answers = send(&client, (0..2).map(|_| post("/status/404")));
    let accepted = answers.iter().find(|answer| answer.status == 202).unwrap();
    assert_eq!(page_when(&client, accepted, "done")["attempts"], 1);
    bench.wait_for("queue_ended_total.jobs", bench.count("queue_taken_total.jobs"));
    assert_eq!(bench.count("queue_failed_total.jobs"), 1);
}

#[test]
fn a_result_is_kept_for_as_long_as_the_rule_says_and_cut_to_its_size() {
    let options = json!({"result_ttl_seconds": 2, "max_result_bytes": 40});
    let Some((_bench, client)) = start("results", rule(10, 1, options), Bodies::Seen) else { return };
    let accepted = client.send(&post("/x")).unwrap();
    let done = page_when(&client, &accepted, "done");
    assert_eq!(done["response"]["body"].as_str().unwrap().len(), 40);
    // One look over all slots takes eight seconds at most: 2,000 slots, 256 a second.
    assert!(within(Duration::from_secs(20), || page(&client, &accepted).status == 404), "it is forgotten");
}

#[test]
fn a_full_queue_says_so_and_takes_no_work() {
    let options = json!({"max_queued": 5, "full_status": 503});
    let Some((mut bench, client)) = start("full", rule(1, 60, options), Bodies::Seen) else { return };
    let answers = send(&client, (0..20).map(|n| post(&format!("/{n}"))));
    assert_eq!((with_status(&answers, 202), with_status(&answers, 503)), (5, 15));
    for full in answers.iter().filter(|answer| answer.status == 503) {
        assert!(full.header("retry-after").is_some(), "{full:?}");
        assert!(full.header("location").is_none());
    }
    assert_eq!(bench.count("queue_waiting.jobs"), 5);
    assert_eq!(bench.upstream.requests(), 1);
    bench.assert_nothing_died();
}

#[test]
fn what_may_not_be_queued_is_refused() {
    let options = json!({"max_body_bytes": 100, "headers": ["te", "x-envoy-max-retries", "x-kept", "connection"]});
    let Some((mut bench, client)) = start("refusals", rule(2, 1, options), Bodies::Seen) else { return };
    let status = |request: Request| client.send(&request).unwrap().status;
    // The line is kept busy, so that nothing passes at once: 429 is a refusal and 202 a ticket.
    let busy = || assert_eq!(with_status(&send(&client, (0..4).map(|n| post(&format!("/busy/{n}")))), 202), 4);
    busy();
    assert_eq!(status(post("/large").body(vec![b'x'; 101])), 413);
    assert_eq!(status(post("/fits").body(vec![b'x'; 100])), 202);
    busy();
    let grpc = client.send(&post("/s.S/M").header("content-type", "application/grpc")).unwrap();
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("8")), "never queued, refused as gRPC refuses");
    let put =
        Request::new("PUT", "/put").header("x-user", "ann").header("content-type", "application/grpc").body("work");
    let put = client.send(&put).unwrap();
    assert_eq!((put.status, put.header("grpc-status")), (202, None), "a PUT is no gRPC call, whatever it says");
    assert!(put.header("location").is_some());
    let large = Request::new("PUT", "/put").header("x-user", "ann").header("content-type", "application/grpc");
    assert_eq!(status(large.body(vec![b'x'; 101])), 413);
    let upgrade =
        b"GET /socket HTTP/1.1\r\nHost: t\r\nx-user: ann\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let raw = load::raw(bench.address(), upgrade, Duration::from_millis(500)).unwrap();
    assert!(raw.starts_with(b"HTTP/1.1 429 "), "{}", String::from_utf8_lossy(&raw));
    // Nobody has verified this one: its first request passes, its second is not queued.
    let unverified = |n: u32| Request::new("POST", &format!("/unverified/{n}")).header("x-api-key", "made up");
    assert_eq!([status(unverified(1)), status(unverified(2))], [200, 429]);
    busy();
    let hop = post("/hop")
        .header("x-envoy-max-retries", "9")
        .header("te", "trailers")
        .header("x-kept", "yes")
        .header("idempotency-key", "the client's")
        .header("X_Tidegate_Attempt", "99")
        .header("x-tidegate-rule", "forged");
    assert_eq!(status(hop), 202);
    bench.wait_for("queue_waiting.jobs", 0);

    let arrivals = bench.upstream.arrivals();
    let paths: Vec<&str> = arrivals.iter().map(|one| one.path.as_str()).collect();
    assert!(!paths.iter().any(|path| ["/large", "/s.S/M", "/socket", "/unverified/2"].contains(path)), "{paths:?}");
    let hop = &arrivals.iter().find(|one| one.path == "/hop").unwrap().headers;
    assert_eq!(hop["x-kept"], "yes");
    assert_eq!(
        (&hop["x-tidegate-attempt"], &hop["x-tidegate-rule"]),
        (&"1".parse().unwrap(), &"jobs".parse().unwrap())
    );
    assert_eq!(hop.get_all("idempotency-key").iter().count(), 1);
    for dropped in ["te", "x-envoy-max-retries", "connection", "x_tidegate_attempt", "x-user"] {
        assert_eq!(hop.get(dropped), None, "{dropped}");
    }
    assert_ne!(hop["idempotency-key"], "the client's");
    bench.assert_nothing_died();
}

#[test]
fn users_whom_nobody_verified_queue_where_the_rule_says_so() {
    let Some((bench, client)) = start("unverified", rule(2, 1, json!({"allow_unverified": true})), Bodies::Seen) else {
        return;
    };
    let unverified = |n: u32| Request::new("POST", &format!("/{n}")).header("x-api-key", "made up").body("work");
    let answers: Vec<Answer> = (0..3).map(|n| client.send(&unverified(n)).unwrap()).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 202, 202]);
    page_when(&client, &answers[2], "done");
    assert_eq!(bench.upstream.requests(), 4);
}

#[test]
fn two_users_with_one_idempotency_key_are_two_jobs() {
    let Some((bench, client)) = start("idempotency", rule(20, 1, json!({})), Bodies::Seen) else { return };
    let of = |user: &str| {
        let request = |n| {
            let body = format!("{user} {n}");
            Request::new("POST", "/pay").header("x-user", user).header("idempotency-key", "one").body(body)
        };
        send(&client, (0..3).map(request))
    };
    let answers: Vec<Answer> = of("ann").into_iter().chain(of("bob")).collect();
    for accepted in answers.iter().filter(|answer| answer.status == 202) {
        page_when(&client, accepted, "done");
    }
    let arrivals: Vec<_> = bench.upstream.arrivals().into_iter().filter(|one| one.path == "/pay").collect();
    let mut bodies: Vec<_> = arrivals.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect();
    bodies.sort();
    assert_eq!(bodies, ["ann 0", "ann 1", "ann 2", "bob 0", "bob 1", "bob 2"]);
}

#[test]
fn a_hundred_thousand_guesses_find_no_ticket() {
    let Some((mut bench, client)) = start("guesses", rule(1, 3600, json!({})), Bodies::Seen) else { return };
    let accepted = client.send(&post("/secret")).unwrap();
    let right = accepted.header("location").unwrap().to_owned();
    let (start_of_it, slot) = right.rsplit_once('-').unwrap();
    let guess = {
        let (start_of_it, slot) = (start_of_it.to_owned(), slot.to_owned());
        let bits = start_of_it.len() - 32;
        move |n: u64| {
            // Half of them in the right slot; some near misses, some not even of the right form.
            let digits = format!("{:016x}{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n.rotate_left(32));
            match n % 4 {
                0 | 1 => format!("{}{digits}-{slot}", &start_of_it[..bits]),
                2 => format!("{}{digits}-{}", &start_of_it[..bits], n % 4_000),
                _ => format!("{start_of_it}-{slot}{n}"),
            }
        }
    };
    let mut seen: Vec<(u16, Vec<u8>)> = Vec::new();
    let started = Instant::now();
    bench.http2(500).for_each((0..100_000).map(move |n| Request::get(&guess(n))), |_, answer| {
        let answer = answer.unwrap();
        let this = (answer.status, answer.body.to_vec());
        if !seen.contains(&this) {
            seen.push(this);
        }
    });
    println!("queue, 100,000 guessed tickets took {:.1?}: {} kind of answer", started.elapsed(), seen.len());
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].0, 404);
    assert_eq!(page(&client, &accepted).json().unwrap()["status"], "waiting");
    assert_eq!(bench.upstream.requests(), 1, "no guess is forwarded");
    bench.assert_nothing_died();
}

#[test]
fn without_sight_of_bodies_requests_with_one_are_refused_and_the_log_says_why() {
    // Each worker finds it out for itself.
    let one_worker = |settings: &mut xtask::envoy::Settings| settings.concurrency = 1;
    let policy = policy(json!([rule(2, 1, json!({}))]));
    let Some(mut bench) = serve_with("queue, no bodies", &policy, Bodies::Unseen, one_worker) else { return };
    let client = bench.http1(20);
    assert_eq!(client.send(&post("/first")).unwrap().status, 200);
    let get = client.send(&Request::get("/get").header("x-user", "ann")).unwrap();
    assert_eq!(get.status, 202, "without a body there is nothing to see");
    page_when(&client, &get, "done");
    // The line is empty again: the first of two passes.
    sleep(Duration::from_millis(1_100));
    let answers = send(&client, (0..2).map(|n| post(&format!("/post/{n}"))));
    assert_eq!((with_status(&answers, 200), with_status(&answers, 503)), (1, 1));
    let started = Instant::now();
    let answers = send(&client, (2..5).map(|n| post(&format!("/post/{n}"))));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}: now it is known", started.elapsed());
    let why = answers.iter().find(|answer| answer.status == 503).unwrap().json().unwrap();
    assert!(why["detail"].as_str().unwrap().contains("allow_on_headers_stop_iteration"), "{why}");
    let says_why = |line: &String| line.contains("allow_on_headers_stop_iteration");
    assert!(within(Duration::from_secs(5), || bench.envoy.log_lines().unwrap().iter().any(says_why)));
    assert_eq!(bench.count("queue_waiting.jobs"), 0);
    bench.assert_nothing_died();
}

#[test]
fn a_cluster_that_does_not_exist_makes_the_job_fail_and_the_log_says_so() {
    let rule = rule(5, 1, json!({"cluster": "nowhere", "max_attempts": 2}));
    let Some((mut bench, client)) = start("unknown cluster", rule, Bodies::Seen) else { return };
    let accepted = client.send(&post("/x")).unwrap();
    assert_eq!(page_when(&client, &accepted, "failed")["response"], Value::Null);
    let says_so = |line: &String| line.contains("no cluster nowhere");
    assert!(within(Duration::from_secs(5), || bench.envoy.log_lines().unwrap().iter().any(says_so)));
    bench.assert_nothing_died();
}

#[test]
fn bodies_that_come_in_pieces_are_queued_whole_and_slow_ones_are_bounded() {
    let options = json!({"max_queued": 60, "max_body_bytes": 100_000});
    let Some((mut bench, client)) = start("pieces", rule(20, 1, options), Bodies::Seen) else { return };
    // Over HTTP/2 Envoy keeps no more of a body than the stream's window (65,536 here) and then answers 413 itself.
    let http2 = bench.http2(20);
    let bytes = |size: u32| -> Vec<u8> { (0..size).map(|at| (at % 251) as u8).collect() };
    for (client, large) in [(&client, bytes(100_000)), (&http2, bytes(65_536))] {
        let answers = send(client, (0..10).map(|n| post(&format!("/large/{n}")).body(large.clone())));
        assert!(with_status(&answers, 202) >= 7, "{:?}", answers.first());
        for accepted in answers.iter().filter(|answer| answer.status == 202) {
            let done = page_when(client, accepted, "done");
            let report: Value = serde_json::from_str(done["response"]["body"].as_str().unwrap()).unwrap();
            assert_eq!(report["body_sha256"], json!(xtask::envoy::fetch::hex_sha256(&large)));
        }
    }
    let too_large = send(&http2, (0..3).map(|n| post(&format!("/too-large/{n}")).body(bytes(65_537))));
    assert!(with_status(&too_large, 413) >= 2, "{:?}", too_large.first());
    // Two hundred clients that send a byte and then nothing: no more of them are read than may be queued.
    let mut connection = Connection::open(bench.address());
    for n in 0..200 {
        connection.request(n * 2 + 1, "POST", "/slow", "ann");
        connection.data(n * 2 + 1, b"x", false);
    }
    let (refused, left) = (|| bench.count("requests_total.limited"), || bench.count("abandoned_total"));
    assert!(within(Duration::from_secs(5), || refused() >= 130), "{} were refused", refused());
    drop(connection);
    // Sixty, but for the jobs that still wait.
    assert!(within(Duration::from_secs(5), || left() >= 40), "{} left", left());
    sleep(Duration::from_secs(1));
    println!("queue of 60, 200 clients that send one byte: {} were read, {} refused", left(), refused());
    assert!(left() <= 60, "{}", left());
    // Their places are free again.
    let answers = send(&client, (0..10).map(|n| post(&format!("/after/{n}"))));
    assert!(with_status(&answers, 202) >= 7, "{}", with_status(&answers, 202));
    bench.wait_for("queue_waiting.jobs", 0);
    bench.assert_nothing_died();
}
