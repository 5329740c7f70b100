//! A master named by Sentinels: killed, hung, demoted. Writes go on at the new one.
//! Not here: what Sentinel itself does in between.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tidegate_gateway::script_cache::hash;

use crate::http::Gateway;
use crate::outage::{Seen, load};
use crate::process::wait_for;
use crate::servers::Trio;
use crate::skip;

const COUNT: &str = "return redis.call('INCR', KEYS[1])";
const NEEDED: &[&str] = &["redis-server", "redis-sentinel"];

/// What was seen while the master changed.
struct Through {
    seen: Vec<Seen>,
    /// When the harm was done.
    began: Duration,
    /// When a Sentinel first named another master.
    switched: Duration,
}

/// Does `harm` to the master under load and waits until writes work again.
fn through(trio: &mut Trio, gateway: &Gateway, harm: impl FnOnce(&mut Trio)) -> Through {
    assert_eq!(gateway.call(&json!(["EVAL", COUNT, 1, "n"])).0, 200);
    let evalsha = json!(["EVALSHA", hash(COUNT.as_bytes()), 1, "n"]);
    let (mut began, mut switched) = (Duration::ZERO, Duration::ZERO);
    let seen = load(gateway, 16, &|_| evalsha.clone(), |started| {
        std::thread::sleep(Duration::from_millis(300));
        began = started.elapsed();
        harm(trio);
        trio.wait_for_another_master();
        switched = started.elapsed();
        wait_for("writes at the new master", Duration::from_secs(20), || {
            (gateway.call(&evalsha).0 == 200).then_some(())
        });
        std::thread::sleep(Duration::from_secs(1));
    });
    assert!(seen.iter().all(|seen| !seen.answer.to_string().contains("NOSCRIPT")), "a NOSCRIPT reached the caller");
    assert_eq!(seen.last().unwrap().status, 200);
    Through { seen, began, switched }
}

/// How long after the harm, and how long after Sentinel's own switch, the last request failed.
fn tell(what: &str, through: &Through) -> (Duration, Duration) {
    let Through { seen, began, switched } = through;
    let failed: Vec<&Seen> = seen.iter().filter(|seen| seen.status != 200).collect();
    let end = failed.last().map_or(Duration::ZERO, |seen| seen.at);
    let (last, after) = (end.saturating_sub(*began), end.saturating_sub(*switched));
    let slowest = failed.iter().map(|seen| seen.took).max().unwrap_or_default();
    eprintln!(
        "{what}: {} ok, {} failed until +{last:?} ({after:?} after Sentinel's switch), slowest failure {slowest:?}",
        seen.len() - failed.len(),
        failed.len()
    );
    assert!(slowest < Duration::from_millis(550), "{slowest:?}");
    (last, after)
}

#[test]
fn a_killed_master_is_replaced() {
    if !skip::has("Sentinel failover", NEEDED) {
        return;
    }
    let mut trio = Trio::start();
    let gateway = Gateway::start(&trio.url(), &["--allow-scripts"]);
    let through = through(&mut trio, &gateway, |trio| trio.servers[0].kill());
    let (last, after) = tell("Sentinel, master killed", &through);
    assert!(
        last < Trio::DOWN_AFTER + Duration::from_secs(2) || after < Duration::from_millis(500),
        "{last:?} {after:?}"
    );
}

#[test]
fn a_hung_master_is_replaced() {
    if !skip::has("Sentinel, hung master", NEEDED) {
        return;
    }
    let mut trio = Trio::start();
    let gateway = Gateway::start(&trio.url(), &["--allow-scripts"]);
    let through = through(&mut trio, &gateway, |trio| trio.servers[0].process.signal(Signal::STOP));
    let (_, after) = tell("Sentinel, master hung", &through);
    assert!(after < Duration::from_millis(1_500), "{after:?}");
    // Back as a replica that does not know it yet: nothing may be written there.
    trio.servers[0].process.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    let (status, answer) = gateway.call(&json!(["EVALSHA", hash(COUNT.as_bytes()), 1, "n"]));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_demoted_master_is_left_with_a_sentinel_missing() {
    if !skip::has("Sentinel, demotion", NEEDED) {
        return;
    }
    let mut trio = Trio::start();
    let gateway = Gateway::start(&trio.url(), &["--allow-scripts"]);
    trio.sentinels[0].kill();
    let through = through(&mut trio, &gateway, |trio| {
        trio.sentinels[1].ask(&["SENTINEL", "FAILOVER", "mymaster"]);
    });
    let (_, after) = tell("Sentinel, demotion", &through);
    assert!(after < Duration::from_secs(2), "{after:?}");
    assert!(
        through.seen.iter().all(|seen| !seen.answer.to_string().contains("READONLY")),
        "a READONLY reached the caller"
    );
}

#[test]
fn an_unknown_master_and_credentials_for_sentinels() {
    if !skip::has("Sentinel, names", NEEDED) {
        return;
    }
    let trio = Trio::start();
    let gateway = Gateway::start(&trio.url().replace("/0", "/nobody/0"), &[]);
    assert_eq!(gateway.call(&json!(["PING"])).0, 503);
    // A Sentinel without a password takes any from its default user: this shows that ours is sent, to the Sentinels only.
    let gateway = Gateway::start(&format!("{}?sentinel_user=default&sentinel_password=none", trio.url()), &[]);
    assert_eq!(gateway.call(&json!(["PING"])).0, 200);
}
