//! Real stores that fail under load, and come back: Redis killed, hung, full, with another password; a master replaced by
//! Sentinels and in a Cluster; the gateway killed. What must hold meanwhile is `outage`'s; answers that are none are
//! `lies`'s.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::http::Gateway;
use crate::outage::{modes, modes_over, through};
use crate::process::wait_for;
use crate::proxies::Fleet;
use crate::servers::{Cluster, Redis, Trio, text};
use crate::skip;

const BACK: Duration = Duration::from_secs(20);

#[test]
fn a_redis_that_is_killed_and_one_that_hangs() {
    if !skip::has("fleet, killed Redis", &["redis-server"]) {
        return;
    }
    let redis = std::cell::RefCell::new(Redis::start(&[]));
    let gateway = Gateway::start(&redis.borrow().url(), &[]);
    let Some(mut fleet) = Fleet::start("fleet, killed Redis", 2, &gateway.address, &modes()) else { return };
    let back = || {
        redis.borrow_mut().restart(&[]);
        wait_for("redis-server", BACK, || redis.borrow().try_ask(&["PING"]));
    };
    through(&fleet, Duration::from_secs(2), || redis.borrow_mut().kill(), back).check("kill -9 Redis", &mut fleet);
    let signal = |signal| redis.borrow().process.signal(signal);
    through(&fleet, Duration::from_secs(5), || signal(Signal::STOP), || signal(Signal::CONT))
        .check("SIGSTOP Redis", &mut fleet);
    assert!(fleet.lines("calls to Redis failed in a row") >= 4);
    assert!(fleet.lines("Redis answers again") >= 4);
    let log = fleet.envoys[0].access_log(1).unwrap();
    let failed = log.iter().filter(|entry| entry["store"] == "failed").count();
    let answered = log.iter().filter(|entry| entry["store"].is_null()).count();
    assert!(failed > 100 && answered > 100, "{failed} failed, {answered} answered");
}

#[test]
fn a_redis_that_hangs_holds_nobody_longer_than_20_ms_by_default_and_10() {
    if !skip::has("fleet, hung Redis by default", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let mut policy = modes_over(json!({}));
    policy["store"].as_object_mut().unwrap().remove("timeout_ms");
    let Some(mut fleet) = Fleet::start("fleet, hung Redis by default", 2, &gateway.address, &policy) else { return };
    let signal = |signal| redis.process.signal(signal);
    through(&fleet, Duration::from_secs(4), || signal(Signal::STOP), || signal(Signal::CONT)).check_times(
        "SIGSTOP Redis, 20 ms",
        Duration::from_millis(20),
        None,
    );
    fleet.assert_nothing_died();
}

#[test]
fn a_redis_that_is_full_and_one_whose_password_has_changed() {
    if !skip::has("fleet, full Redis", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&["--maxmemory-policy", "noeviction", "--user", "app", "on", ">right", "~*", "+@all"]);
    let gateway = Gateway::start(&format!("redis://app:right@127.0.0.1:{}", redis.port), &[]);
    let Some(mut fleet) = Fleet::start("fleet, full Redis", 2, &gateway.address, &modes()) else { return };
    let memory = |bytes: &str| drop(redis.ask(&["CONFIG", "SET", "maxmemory", bytes]));
    through(&fleet, Duration::from_secs(2), || memory("1"), || memory("0")).check("full Redis", &mut fleet);
    let login = |password: &str| {
        redis.ask(&["ACL", "SETUSER", "app", "resetpass", password]);
        redis.try_ask(&["CLIENT", "KILL", "USER", "app"]);
    };
    through(&fleet, Duration::from_secs(2), || login(">other"), || login(">right")).check("wrong password", &mut fleet);
}

#[test]
fn a_gateway_that_is_killed() {
    if !skip::has("fleet, killed gateway", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let mut gateway = Gateway::start(&redis.url(), &[]);
    let address = gateway.address.clone();
    let Some(mut fleet) = Fleet::start("fleet, killed gateway", 2, &address, &modes()) else { return };
    let process = std::cell::RefCell::new(&mut gateway.process);
    let kill = || {
        process.borrow().signal(Signal::KILL);
        process.borrow_mut().0.wait().unwrap();
    };
    let mut next = None;
    let outage = through(&fleet, Duration::from_secs(2), kill, || {
        next = Some(Gateway::start(&redis.url(), &["--listen", &address]));
    });
    outage.check("kill -9 gateway", &mut fleet);
}

#[test]
fn a_master_that_sentinels_replace() {
    if !skip::has("fleet, Sentinel failover", &["redis-server", "redis-sentinel"]) {
        return;
    }
    let trio = std::cell::RefCell::new(Trio::start());
    let gateway = Gateway::start(&trio.borrow().url(), &[]);
    let Some(mut fleet) = Fleet::start("fleet, Sentinel failover", 2, &gateway.address, &modes()) else { return };
    let replaced = || trio.borrow().wait_for_another_master();
    through(&fleet, Duration::from_millis(600), || trio.borrow_mut().servers[0].kill(), replaced)
        .check("Sentinel failover", &mut fleet);
}

#[test]
fn a_master_of_a_cluster_that_is_killed() {
    if !skip::has("fleet, Cluster failover", &["redis-server", "redis-cli"]) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &[]);
    let Some(mut fleet) = Fleet::start("fleet, Cluster failover", 2, &gateway.address, &modes()) else { return };
    // As many as leave the bucket empty: its key lives for a second.
    fleet.send_to(0, 120, 8, &xtask::load::Request::get("/local"));
    let key = cluster.nodes.iter().find_map(|node| {
        let is_master = text(&node.ask(&["INFO", "replication"])).contains("role:master");
        let keys: Vec<String> = redis::from_redis_value(node.ask(&["KEYS", "tg1:*"])).unwrap();
        keys.into_iter().next().filter(|_| is_master)
    });
    let master = cluster.master_of(&key.unwrap());
    let cluster = std::cell::RefCell::new(cluster);
    let replaced = || {
        wait_for("a new master", BACK, || {
            let cluster = cluster.borrow();
            let alive = cluster.nodes.iter().enumerate().filter(|(index, _)| *index != master).map(|(_, node)| node);
            let says = |node: &Redis, what: &str, wanted: &str| {
                node.try_ask(&["CLUSTER", what]).is_some_and(|said| text(&said).contains(wanted))
            };
            let have_seen = |node| says(node, "INFO", "cluster_state:ok") && says(node, "NODES", "master,fail ");
            alive.clone().all(have_seen).then_some(())
        });
    };
    through(&fleet, Duration::from_millis(800), || cluster.borrow_mut().nodes[master].kill(), replaced)
        .check("Cluster master killed", &mut fleet);
}
