//! The script as it ships, on Redis's own clock, as a filter reaches it: through the gateway, through webdis, in a Cluster,
//! with the example's ACL user; how long keys live; and where Redis is full.

use std::time::Duration;

use serde_json::json;
use tidegate_engine::Micros;
use tidegate_engine::policy::{Node, Protocol};
use tidegate_engine::redis::queue::{Jobs, Line, State, claimed, looked, settled, stored};
use tidegate_engine::redis::{Call, Failure};

use super::{Virtual, queue};
use crate::http::{Client, Gateway};
use crate::servers::{Cluster, Redis, Webdis};
use crate::skip;

const WEEK_MS: i64 = 604_800_000;

fn put(jobs: &Jobs, ticket: &str, request: &[u8]) -> Call {
    let line = Line { name: "0f".to_owned(), gap: Micros::from_secs(60) };
    let settings = queue(100, 2, Micros::from_secs(600));
    jobs.put(ticket, ("r", &settings), (&line, Micros::ZERO), Micros::from_secs(10), request)
}

/// Two jobs from the first step to the last: one is done, one becomes a dead letter. Their requests are any bytes.
fn lives(client: &mut Client, protocol: Protocol) {
    let jobs = Jobs::of("default");
    let request: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let mut send = |call: Call| client.script(protocol, &call).unwrap();
    assert_eq!(stored(&send(put(&jobs, "one", &request))), Some((true, 1)));
    assert_eq!(stored(&send(put(&jobs, "two", &request))), Some((true, 2)));
    std::thread::sleep(Duration::from_millis(5));
    let mut seen = claimed(&send(jobs.claim("h"))).unwrap();
    seen.jobs.sort();
    let brought = ["one", "two"].map(|ticket| (ticket.to_owned(), 1, request.clone()));
    assert_eq!((seen.jobs, seen.next), (brought.to_vec(), None));
    let state = |entries: Vec<Node>| looked(&entries).unwrap().map(|seen| (seen.state, seen.answer));
    assert_eq!(state(send(jobs.look("one"))), Some((State::Running, Vec::new())));
    assert_eq!(settled(&send(jobs.end("one", "other", true, b"x"))), Some(0));
    assert_eq!(settled(&send(jobs.end("one", "h", true, &request))), Some(1));
    assert_eq!(state(send(jobs.look("one"))), Some((State::Done, request.clone())));
    assert_eq!(settled(&send(jobs.again("two", "h", Micros::ZERO, true))), Some(1));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(claimed(&send(jobs.claim("i"))).unwrap().jobs[0].1, 2);
    assert_eq!(settled(&send(jobs.end("two", "i", false, b""))), Some(1));
    assert_eq!(state(send(jobs.look("two"))), Some((State::Failed, Vec::new())));
    assert_eq!(state(send(jobs.look("three"))), None);
}

#[test]
fn the_gateway_carries_it_and_every_key_has_its_end() {
    if !skip::has("queue through the gateway", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let mut client = gateway.client();
    let jobs = Jobs::of("default");
    client.script(Protocol::Upstash, &put(&jobs, "zero", b"")).unwrap();
    let left = |key: &str| match redis.ask(&["PTTL", &format!("tg1:{{default:q}}:{key}")]) {
        redis::Value::Int(ms) => ms,
        other => panic!("{other:?}"),
    };
    // Its longest wait, its result's life, and a week.
    let life = WEEK_MS + 660_000;
    for key in ["job:zero", "due:r", "rules"] {
        assert!((life - 5_000..=life).contains(&left(key)), "{key}: {}", left(key));
    }
    assert_eq!(settled(&client.script(Protocol::Upstash, &jobs.drop("zero")).unwrap()), Some(1));
    // What comes late has its line run behind: for as long as it does, its gap, and what a job may be late by.
    client.script(Protocol::Upstash, &put(&jobs, "late", b"")).unwrap();
    std::thread::sleep(Duration::from_millis(1_600));
    assert_eq!(claimed(&client.script(Protocol::Upstash, &jobs.claim("g")).unwrap()).unwrap().jobs.len(), 1);
    assert!((60_000..=70_000).contains(&left("lag:0f")), "{}", left("lag:0f"));
    client.script(Protocol::Upstash, &jobs.end("late", "g", true, b"")).unwrap();
    redis.ask(&["DEL", "tg1:{default:q}:lag:0f"]);
    redis.ask(&["SCRIPT", "FLUSH"]);
    lives(&mut client, Protocol::Upstash);
    for (key, life) in [("job:one", 60_000), ("job:two", WEEK_MS), ("dead", WEEK_MS), ("claim:h", 60_000)] {
        assert!((life - 5_000..=life).contains(&left(key)), "{key}: {}", left(key));
    }
    assert_eq!([left("due:r"), left("job:zero")], [-2, -2]);
}

#[test]
fn webdis_carries_it() {
    if !skip::has("queue through webdis", &["redis-server", "webdis"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let webdis = Webdis::start(&redis, &json!([{"enabled": ["EVAL", "EVALSHA"]}]));
    lives(&mut Client::to(webdis.address.clone()), Protocol::Webdis);
}

#[test]
fn a_cluster_carries_it() {
    if !skip::has("queue in a Cluster", &["redis-server", "redis-cli"]) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &[]);
    lives(&mut gateway.client(), Protocol::Upstash);
}

#[test]
fn the_examples_user_may_run_it() {
    if !skip::has("queue under the example's ACL", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let url = redis.with_examples_user();
    lives(&mut Gateway::start(&url, &[]).client(), Protocol::Upstash);
}

#[test]
fn a_full_redis_takes_no_job_and_lets_those_that_it_has_end() {
    if !skip::has("queue in a full Redis", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let mut client = gateway.client();
    let jobs = Jobs::of("default");
    let mut send = |call: Call| client.script(Protocol::Upstash, &call);
    for ticket in ["one", "two"] {
        send(put(&jobs, ticket, b"x")).unwrap();
    }
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(send(put(&jobs, "three", b"x")), Err(Failure::Refused("OOM")));
    assert_eq!(redis.ask(&["EXISTS", "tg1:{default:q}:job:three"]), redis::Value::Int(0));
    std::thread::sleep(Duration::from_millis(5));
    let seen = claimed(&send(jobs.claim("h")).unwrap()).unwrap();
    assert_eq!(seen.jobs.len(), 2);
    assert_eq!(settled(&send(jobs.end("one", "h", true, b"x")).unwrap()), Some(1));
    assert_eq!(settled(&send(jobs.end("two", "h", false, b"x")).unwrap()), Some(1));
    // What is of another kind than the script's own is an error before anything is written.
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.ask(&["SET", "tg1:{default:q}:rules", "x"]);
    assert_eq!(send(put(&jobs, "four", b"x")), Err(Failure::Refused("WRONGTYPE")));
    assert_eq!(redis.ask(&["EXISTS", "tg1:{default:q}:job:four"]), redis::Value::Int(0));
}

#[test]
fn the_thousand_latest_dead_letters_are_kept_and_no_older_than_a_week() {
    if !skip::has("dead letters' bounds", &["redis-server"]) {
        return;
    }
    let mut redis = Virtual::start(tidegate_engine::redis::QUEUE.text);
    let jobs = Jobs::of("t");
    let settings = queue(2_000, 1, Micros::from_secs(600));
    let dies = |redis: &mut Virtual, ticket: &str| {
        let terms = (&Line::default(), Micros::ZERO);
        let call = jobs.put(ticket, ("r", &settings), terms, Micros::from_secs(10), b"x");
        assert_eq!(stored(&redis.run(&call).unwrap()), Some((true, 1)));
        redis.now += 2;
        assert_eq!(claimed(&redis.run(&jobs.claim(ticket)).unwrap()).unwrap().jobs.len(), 1);
        assert_eq!(settled(&redis.run(&jobs.end(ticket, ticket, false, b"")).unwrap()), Some(1));
    };
    for number in 0..1_003 {
        dies(&mut redis, &format!("t{number}"));
    }
    let count = |redis: &Virtual| redis.server.ask(&["ZCARD", "tg1:{t:q}:dead"]);
    assert_eq!(count(&redis), redis::Value::Int(1_000));
    let kept =
        |redis: &Virtual, ticket: &str| redis.server.ask(&["HEXISTS", &format!("tg1:{{t:q}}:job:{ticket}"), "d"]);
    let ends = |redis: &Virtual, ticket: &str| redis.server.ask(&["PTTL", &format!("tg1:{{t:q}}:job:{ticket}")]);
    assert_eq!([kept(&redis, "t2"), kept(&redis, "t3")], [redis::Value::Int(0), redis::Value::Int(1)]);
    // Of the older ones only the result is left, for as long as the rule says.
    assert!(matches!(ends(&redis, "t2"), redis::Value::Int(50_000..=60_000)), "{:?}", ends(&redis, "t2"));
    assert!(matches!(ends(&redis, "t3"), redis::Value::Int(600_000_000..)));
    redis.now += u64::try_from(WEEK_MS).unwrap() + 1;
    dies(&mut redis, "last");
    assert_eq!(count(&redis), redis::Value::Int(1));
}
