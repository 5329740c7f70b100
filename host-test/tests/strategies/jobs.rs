//! `queue` under load: a thousand jobs are carried out as they were sent, at the rule's rate, while the upstream fails
//! and a worker dies; and a new policy does not forget them.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::load::{Answer, Client, Request};
use xtask::upstream::Arrival;

use crate::bench::{Bodies, alone, percentile, policy, send, serve, serve_plugin, with_status, within};
use crate::throttle::{arrived_at, most_within};
use crate::trap;

const JOBS: usize = 1_000;
const RATE: u32 = 50;

/// A job's own body: of another length and other bytes than all others.
fn body(number: usize) -> Vec<u8> {
    (0..number * 7 % 3_000).map(|at| (at * 31 + number) as u8).collect()
}

fn job(number: usize) -> Request {
    let method = if number.is_multiple_of(2) { "POST" } else { "PUT" };
    Request::new(method, &format!("/jobs/{number}?part={}", number % 3))
        .header("x-user", "ann")
        .header("content-type", "application/x-job")
        .header("x-kept", format!("kept {number}"))
        .header("x-not-kept", "secret")
        .body(body(number))
}

/// The number of a job's arrival; `None` for any other request's.
fn number(arrival: &Arrival) -> Option<usize> {
    arrival.path.strip_prefix("/jobs/")?.split('?').next()?.parse().ok()
}

fn page(client: &Client, accepted: &Answer) -> Value {
    client.send(&Request::get(accepted.header("location").unwrap())).unwrap().json().unwrap()
}

/// Every try of a job is what the client sent, under one key that only it has.
fn assert_as_sent(arrival: &Arrival, number: usize, accepted: &Answer) {
    let ticket = accepted.json().unwrap()["ticket"].as_str().unwrap().to_owned();
    let header = |name: &str| arrival.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(arrival.method, if number.is_multiple_of(2) { "POST" } else { "PUT" });
    assert_eq!(arrival.path, format!("/jobs/{number}?part={}", number % 3));
    assert_eq!(arrival.body, body(number), "the body of {number}");
    assert_eq!(header("content-type").as_deref(), Some("application/x-job"));
    assert_eq!(header("x-kept"), Some(format!("kept {number}")));
    assert_eq!(header("x-not-kept"), None);
    assert_eq!(header("host").as_deref(), Some("jobs.test"));
    assert_eq!(header("idempotency-key").as_deref(), ticket.split('-').next());
    assert!(header("x-tidegate-attempt").unwrap().parse::<u32>().unwrap() >= 1);
}

#[test]
fn a_thousand_jobs_survive_a_failing_upstream_and_a_worker_that_dies() {
    let _alone = alone();
    if !xtask::workspace::wasm_file().is_file() {
        return xtask::skip::tell("strategies: queue", "the .wasm is not built; `cargo xtask build` does");
    }
    let jobs = json!({"name": "jobs", "scope": "per_user", "rate": RATE, "window_seconds": 1, "burst": 1,
        "methods": ["POST", "PUT"], "strategy": {"type": "queue", "cluster": "upstream", "authority": "jobs.test",
            "headers": ["X-Kept"], "max_queued": 1_500, "max_attempts": 20, "backoff_ms": 200, "timeout_ms": 2_000}});
    let mut bench = serve_plugin(&trap::wasm(), &policy(json!([jobs, trap::rule()])), Bodies::Seen, |_| ());
    // The line is never empty once the first has passed: a single one at once, of the extra ones.
    let client = bench.http1(100);
    let extra = Request::new("POST", "/extra").header("x-user", "ann");
    let filled = send(&client, (0..5).map(|_| extra.clone()));
    assert!(with_status(&filled, 202) >= 3);
    bench.upstream.fail_every(5);
    let start = Instant::now();
    let accepted = send(&client, (0..JOBS).map(job));
    assert_eq!(with_status(&accepted, 202), JOBS);
    let stored = start.elapsed();

    assert!(within(Duration::from_mins(1), || bench.upstream.requests() > JOBS as u64 / 2));
    trap::kill_one_worker(&bench);
    // A worker starts again with the next request that it gets. New connections each time: the kernel spreads these over
    // the workers, while open ones may all be the other's.
    let again = within(Duration::from_secs(30), || {
        let _ = bench.http1(20).send_all((0..20).map(|_| Request::get("/ping")).collect());
        trap::reloads(&bench) >= 1
    });
    assert!(again, "the VM was started again");
    assert!(within(Duration::from_mins(1), || bench.count("queue_waiting.jobs") == 0), "all have ended");

    let arrivals: Vec<Arrival> = bench.upstream.arrivals().into_iter().filter(|one| number(one).is_some()).collect();
    let mut tries: BTreeMap<usize, usize> = BTreeMap::new();
    for arrival in &arrivals {
        let number = number(arrival).unwrap();
        *tries.entry(number).or_default() += 1;
        assert_as_sent(arrival, number, &accepted[number]);
    }
    assert_eq!(tries.len(), JOBS, "every job arrived");
    let pages: Vec<Value> = accepted.iter().map(|accepted| page(&client, accepted)).collect();
    let done = pages.iter().filter(|page| page["status"] == "done" && page["response"]["status"] == 200).count();
    assert_eq!(done, JOBS, "{:?}", pages.iter().find(|page| page["status"] != "done"));

    let times = arrived_at(&arrivals);
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let took = times.last().unwrap() / 1e3;
    println!(
        "queue 50/s, {JOBS} jobs stored in {stored:.1?}, a fifth of all tries fails, one of two workers dies half-way: all \
         carried out as sent in {took:.1} s with {} tries (at most {} for one job), gaps ms p50 {:.1}, at most {} in 1 s",
        arrivals.len(),
        tries.values().max().unwrap(),
        percentile(gaps, 50),
        most_within(&times, 1_000.0),
    );
    assert!(took > 19.0, "no faster than the rate");
    assert!(bench.envoy.is_running());
}

#[test]
fn a_new_policy_without_the_rule_still_carries_its_jobs_out() {
    let rules = json!([{"name": "jobs", "scope": "per_user", "rate": 10, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "queue", "cluster": "upstream", "authority": "jobs.test", "headers": ["x-kept"], "timeout_ms": 1_000}}]);
    let Some(mut bench) = serve("queue, new policy", &policy(rules), Bodies::Seen) else { return };
    let client = bench.http1(31);
    let answers = send(&client, (0..31).map(job));
    assert_eq!((with_status(&answers, 200), with_status(&answers, 202)), (1, 30));
    sleep(Duration::from_millis(700));
    bench.update(&policy(json!([])));
    assert!(bench.upstream.requests() < 20, "most still wait");
    let all_done = within(Duration::from_secs(40), || {
        let accepted = answers.iter().filter(|answer| answer.status == 202);
        accepted.into_iter().all(|accepted| page(&client, accepted)["status"] == "done")
    });
    assert!(all_done, "{} requests arrived", bench.upstream.requests());
    let mut numbers: Vec<usize> = bench.upstream.arrivals().iter().filter_map(number).collect();
    numbers.sort_unstable();
    println!("queue, the rule removed with jobs waiting: {} tries for 30 jobs", numbers.len() - 1);
    numbers.dedup();
    assert_eq!(numbers, (0..31).collect::<Vec<_>>());
    bench.assert_nothing_died();
}

#[test]
fn the_number_of_waiting_jobs_stays_right_while_they_come_and_go() {
    let rules = json!([{"name": "jobs", "scope": "per_user", "rate": 11, "window_seconds": 1, "burst": 2, "strategy":
        {"type": "queue", "cluster": "upstream", "authority": "jobs.test", "max_queued": 256}}]);
    let Some(mut bench) = serve("queue, gauge", &policy(rules), Bodies::Seen) else { return };
    let client = bench.http1(20);
    // A few wait at any time, while three VMs look over all slots again and again, in two looks each time.
    let requests = (0..900_u64).map(|n| {
        let at = Duration::from_millis(n / 3 * 90);
        Request::get(&format!("/{n}")).header("x-user", ["ann", "bob", "cy"][(n % 3) as usize]).at(at)
    });
    let mut most = 0;
    let asking = std::thread::spawn(move || send(&client, requests));
    while !asking.is_finished() {
        most = most.max(bench.count("queue_waiting.jobs"));
        sleep(Duration::from_millis(10));
    }
    let answers = asking.join().unwrap();
    println!("queue, {} jobs come and go: at most {most} waiting by the gauge", with_status(&answers, 202));
    assert_eq!(with_status(&answers, 429), 0, "the queue never was full");
    assert!(most < 100, "{most}");
    assert!(within(Duration::from_secs(10), || bench.upstream.requests() == 900));
    sleep(Duration::from_millis(300));
    assert_eq!(bench.count("queue_waiting.jobs"), 0);
    bench.assert_nothing_died();
}
