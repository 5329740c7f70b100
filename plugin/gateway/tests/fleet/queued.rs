//! Queued requests of a fleet: whatever is killed, each one that was answered with 202 is carried out; any proxy tells of
//! it; and what keeps failing is kept as a dead letter. The script by itself is `gateway`'s.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use xtask::load::{Answer, Client, Request};

use crate::http::Gateway;
use crate::process::wait_for;
use crate::proxies::{Fleet, count, policy};
use crate::servers::Redis;
use crate::skip;

/// A Redis that has on its disk what it has confirmed.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn rule(name: &str, rate: u64, window: u64, options: &Value) -> Value {
    let mut strategy = json!({
        "type": "queue", "cluster": "upstream", "authority": "jobs", "max_queued": 10_000, "max_attempts": 20,
        "backoff_ms": 100, "timeout_ms": 1000, "max_wait_seconds": 600, "result_ttl_seconds": 600,
        "allow_unverified": true
    });
    for (name, value) in options.as_object().unwrap() {
        strategy[name] = value.clone();
    }
    json!({"name": name, "scope": "global", "rate": rate, "window_seconds": window, "burst": 1, "strategy": strategy,
        "on_store_error": "local"})
}

struct Parts {
    fleet: Fleet,
    redis: Redis,
    gateway: Gateway,
}

fn start(test: &str, rules: &Value) -> Option<Parts> {
    if !skip::has(test, &["redis-server"]) {
        return None;
    }
    let redis = Redis::start(&DURABLE);
    let gateway = Gateway::start(&redis.url(), &["--max-body-bytes", "2000000"]);
    let policy = policy(json!({"timeout_ms": 500, "mode": "exact"}), rules.clone());
    let fleet = Fleet::start(test, 2, &gateway.address, &policy)?;
    Some(Parts { fleet, redis, gateway })
}

impl Parts {
    fn client(&self, proxy: usize) -> Client {
        Client::http1(self.fleet.envoys[proxy].address("main").unwrap(), 8).unwrap()
    }

    fn kill_gateway(&mut self) {
        self.gateway.process.signal(Signal::KILL);
        self.gateway.process.0.wait().unwrap();
    }

    /// The idempotency keys that the upstream has seen on this path.
    fn keys(&self, path: &str) -> Vec<String> {
        let arrivals = self.fleet.upstream.arrivals();
        let keys = arrivals.iter().filter(|arrival| arrival.path.starts_with(path));
        keys.filter_map(|arrival| Some(arrival.headers.get("idempotency-key")?.to_str().unwrap().to_owned())).collect()
    }
}

fn ticket(accepted: &Answer) -> String {
    accepted.json().unwrap()["ticket"].as_str().unwrap().to_owned()
}

fn page(client: &Client, ticket: &str) -> Value {
    let page = client.send(&Request::get(&format!("/.tidegate/v1/queue/{ticket}"))).unwrap();
    page.json().unwrap()
}

#[test]
fn nothing_accepted_is_lost_whatever_is_killed() {
    let rules = json!([rule("work", 60, 1, &json!({}))]);
    let Some(mut parts) = start("fleet, durable queue", &rules) else { return };
    let load = |address, path: &'static str| {
        // Sixty a second through each proxy, for nine seconds: twice the rate.
        let requests = (0..540_u32).map(move |number| {
            let at = Duration::from_millis(16) * number;
            Request::new("POST", &format!("{path}/{number}")).body(format!("body {number}")).at(at)
        });
        let client = Client::http1(address, 64).unwrap();
        let mut answers = Vec::new();
        client.for_each(requests, |_, answer| answers.extend(answer.ok()));
        answers
    };
    let addresses: Vec<_> = parts.fleet.envoys.iter().map(|envoy| envoy.address("main").unwrap()).collect();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let loads = [(addresses[0], "/delay/200/a"), (addresses[1], "/delay/200/b")]
            .map(|(address, path)| scope.spawn(move || load(address, path)));
        let start = Instant::now();
        let wait_until = |at: u64| std::thread::sleep(Duration::from_secs(at).saturating_sub(start.elapsed()));
        wait_until(2);
        let pid = Pid::from_raw(i32::try_from(parts.fleet.envoys[1].pid()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        wait_until(4);
        parts.kill_gateway();
        std::thread::sleep(Duration::from_millis(500));
        parts.gateway = Gateway::start(&parts.redis.url(), &["--listen", &parts.gateway.address]);
        wait_until(6);
        parts.redis.kill();
        parts.redis.restart(&DURABLE);
        wait_for("redis-server", Duration::from_secs(20), || parts.redis.try_ask(&["PING"]));
        loads.into_iter().flat_map(|load| load.join().unwrap()).collect()
    });
    parts.fleet.envoys.remove(1);
    let accepted: BTreeSet<String> = answers.iter().filter(|answer| answer.status == 202).map(ticket).collect();
    let others = |status| count(&answers, status);
    assert!(accepted.len() > 300, "{}", accepted.len());
    let strange = answers.iter().find(|answer| ![200, 202, 429, 503].contains(&answer.status));
    assert!(strange.is_none(), "{strange:?}");

    let missing = |parts: &Parts| {
        let arrived: BTreeSet<String> = parts.keys("/delay").into_iter().collect();
        accepted.difference(&arrived).count()
    };
    let start = Instant::now();
    wait_for("all jobs", Duration::from_mins(1), || (missing(&parts) == 0).then_some(()));
    let took = start.elapsed();
    let client = parts.client(0);
    wait_for("all results", Duration::from_secs(20), || {
        accepted.iter().all(|ticket| page(&client, ticket)["status"] == "done").then_some(())
    });
    let tries = parts.keys("/delay");
    let jobs: BTreeSet<&String> = tries.iter().collect();
    println!(
        "fleet, durable queue: {} answered 202, {} passed, {} refused with 503, {} with 429; one of two proxies, the gateway \
         and Redis killed: all 202 carried out {took:.1?} after the load, {} jobs in {} tries",
        accepted.len(),
        others(200),
        others(503),
        others(429),
        jobs.len(),
        tries.len()
    );
    // Tried twice is what was under way when somebody died; stored and not promised is what the answer was lost of.
    assert!(tries.len() < jobs.len() + 200 && jobs.len() < accepted.len() + 100);
    wait_for("an empty line", Duration::from_secs(20), || (parts.fleet.count("queue_waiting.work") == 0).then_some(()));
    parts.fleet.assert_nothing_died();
}

#[test]
fn what_keeps_failing_is_a_dead_letter_that_can_be_put_back() {
    let rules = json!([rule("sick", 20, 1, &json!({"max_attempts": 2}))]);
    let Some(mut parts) = start("fleet, dead letters", &rules) else { return };
    let clients = [parts.client(0), parts.client(1)];
    let post = || Request::new("POST", "/status/500/x").body("work");
    let answers: Vec<Answer> = (0..6).map(|_| clients[0].send(&post()).unwrap()).collect();
    let tickets: Vec<String> = answers.iter().filter(|answer| answer.status == 202).map(ticket).collect();
    assert!(tickets.len() >= 4, "{answers:?}");
    // The other proxy tells of them, and of no other.
    wait_for("the last tries", Duration::from_secs(20), || {
        tickets.iter().all(|ticket| page(&clients[1], ticket)["status"] == "failed").then_some(())
    });
    let failed = page(&clients[1], &tickets[0]);
    assert_eq!((&failed["attempts"], &failed["response"]["status"]), (&json!(2), &json!(500)));
    assert_eq!(clients[1].send(&Request::get(&format!("/.tidegate/v1/queue/{:032x}", 7))).unwrap().status, 404);
    assert_eq!(parts.fleet.count("queue_failed_total.sick"), tickets.len() as u64);
    // As the page about Redis says.
    let dead: Vec<String> = redis::from_redis_value(parts.redis.ask(&["ZRANGE", "tg1:{t:q}:dead", "0", "-1"])).unwrap();
    assert_eq!(dead.iter().collect::<BTreeSet<_>>(), tickets.iter().collect());
    let job = format!("tg1:{{t:q}}:job:{}", tickets[0]);
    parts.redis.ask(&["ZREM", "tg1:{t:q}:dead", &tickets[0]]);
    parts.redis.ask(&["HDEL", &job, "s", "a", "c"]);
    parts.redis.ask(&["HSET", &job, "n", "0"]);
    parts.redis.ask(&["SADD", "tg1:{t:q}:rules", "sick"]);
    parts.redis.ask(&["ZADD", "tg1:{t:q}:due:sick", "0", &tickets[0]]);
    let tries = || parts.keys("/status").into_iter().filter(|key| *key == tickets[0]).count();
    wait_for("two more tries", Duration::from_secs(20), || (tries() == 4).then_some(()));
    parts.fleet.assert_nothing_died();
}

#[test]
fn jobs_of_two_proxies_keep_one_pace() {
    let Some(mut parts) = start("fleet, pace of jobs", &json!([rule("work", 20, 1, &json!({}))])) else { return };
    let answers = parts.fleet.send(40, 20, &Request::new("POST", "/pace").body("work"));
    assert_eq!((count(&answers, 200), count(&answers, 202)), (1, 39));
    wait_for("all jobs", Duration::from_secs(20), || (parts.fleet.upstream.requests() == 40).then_some(()));
    let mut times: Vec<_> = parts.fleet.upstream.arrivals().into_iter().map(|arrival| arrival.time).collect();
    times.sort();
    let mut gaps: Vec<_> = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap()).collect();
    gaps.sort();
    let all = times[39].duration_since(times[0]).unwrap();
    println!(
        "fleet, pace of jobs: 40 at 20 a second over {all:?}, 1.95 s by the limit, gaps p50 {:?} max {:?}",
        gaps[19], gaps[38]
    );
    assert!(all > Duration::from_millis(1_900) && gaps[19] > Duration::from_millis(40), "{all:?}");
    // Claimed when it is due by whoever put it, not when it next looks.
    assert!(all < Duration::from_millis(2_700), "{all:?}");
    parts.fleet.assert_nothing_died();
}

#[test]
fn after_an_outage_jobs_come_at_the_rules_rate_not_all_at_once() {
    let rules = json!([rule("work", 20, 1, &json!({}))]);
    let Some(mut parts) = start("fleet, jobs after an outage", &rules) else { return };
    let answers = parts.fleet.send(120, 4, &Request::new("POST", "/pace").body("work"));
    let accepted = count(&answers, 202) as u64;
    assert!(accepted > 80, "{accepted} accepted");
    // By the end of it all of them are due.
    parts.gateway.process.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(7));
    let before = parts.fleet.upstream.requests();
    parts.gateway.process.signal(Signal::CONT);
    wait_for("all jobs", Duration::from_secs(30), || (parts.fleet.upstream.requests() > accepted).then_some(()));
    let mut times: Vec<_> = parts.fleet.upstream.arrivals().into_iter().map(|arrival| arrival.time).collect();
    times.sort();
    let late = &times[usize::try_from(before).unwrap()..];
    let in_one_second = |from: &SystemTime| {
        let of_it = |at: &&SystemTime| at.duration_since(*from).is_ok_and(|since| since < Duration::from_secs(1));
        late.iter().filter(of_it).count()
    };
    let most = late.iter().map(in_one_second).max().unwrap();
    let all = late[late.len() - 1].duration_since(late[0]).unwrap();
    println!(
        "fleet, jobs after an outage: {} late at 20 a second over {all:?}, at most {most} in a second",
        late.len()
    );
    assert!(late.len() > 60, "{} were late", late.len());
    // 20, and what a busy machine keeps back for less than a second and a half.
    assert!(most <= 50, "{most} in one second");
    // As fast as the rule allows, too.
    assert!(all < Duration::from_millis(late.len() as u64 * 50 + 1_500), "{all:?}");
    parts.fleet.assert_nothing_died();
}

#[test]
fn the_largest_body_comes_whole() {
    let rules = json!([rule("work", 1, 2, &json!({"max_body_bytes": 1_048_576}))]);
    let Some(mut parts) = start("fleet, large jobs", &rules) else { return };
    let client = parts.client(0);
    let body: Vec<u8> = (0..=255).rev().cycle().take(1_048_000).collect();
    let post = |path: &str| client.send(&Request::new("POST", path).body(body.clone())).unwrap();
    let tickets: Vec<String> = ["/1", "/2", "/3"]
        .iter()
        .map(|path| post(path))
        .filter(|answer| answer.status == 202)
        .map(|it| ticket(&it))
        .collect();
    assert_eq!(tickets.len(), 2, "one passes");
    for ticket in &tickets {
        let done = wait_for("its result", Duration::from_secs(20), || {
            Some(page(&client, ticket)).filter(|page| page["status"] == "done")
        });
        // What the upstream says that it was sent.
        let report: Value = serde_json::from_str(done["response"]["body"].as_str().unwrap()).unwrap();
        assert_eq!(report["body_sha256"], json!(xtask::envoy::fetch::hex_sha256(&body)));
    }
    assert_eq!(parts.fleet.upstream.requests(), 3);
    parts.fleet.assert_nothing_died();
}

#[test]
fn a_full_queue_is_full_on_every_proxy_and_nothing_is_promised_without_redis() {
    // The first passes; the others' moments lie hours ahead, and there is room for seven.
    let options = json!({"max_queued": 7, "max_wait_seconds": 604_800});
    let rules = json!([rule("work", 1, 3600, &options)]);
    let Some(mut parts) = start("fleet, full queue", &rules) else { return };
    let answers = parts.fleet.send(40, 10, &Request::new("POST", "/work/x").body("work"));
    assert_eq!([200, 202, 429].map(|status| count(&answers, status)), [1, 7, 32]);
    // Where there is room, but no Redis to keep it: the proxies' own counters let some pass, and promise nothing.
    let rules = json!([rule("work", 100, 3600, &json!({"max_wait_seconds": 604_800}))]);
    let policy = policy(json!({"timeout_ms": 500, "mode": "exact"}), rules);
    parts.redis.kill();
    parts.fleet = Fleet::start("fleet, full queue", 2, &parts.gateway.address, &policy).unwrap();
    let answers = parts.fleet.send(40, 4, &Request::new("POST", "/work/x").body("work"));
    assert_eq!(count(&answers, 200) + count(&answers, 503), 40);
    assert!(count(&answers, 503) > 30, "{answers:?}");
    let refused = answers.iter().find(|answer| answer.status == 503).unwrap().json().unwrap();
    assert_eq!(refused["detail"], "The store does not answer: the request was not queued.");
    parts.fleet.assert_nothing_died();
}
