//! A Cluster of three masters with a replica each: routing, slots, batches, and a master killed.
//! Not here: moving slots between nodes, which the client library follows by itself.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_gateway::script_cache::hash;

use crate::http::Gateway;
use crate::outage::load;
use crate::process::wait_for;
use crate::servers::Cluster;
use crate::skip;

const COUNT: &str = "return redis.call('INCR', KEYS[1])";
const NEEDED: &[&str] = &["redis-server", "redis-cli"];

#[test]
fn keys_go_to_their_nodes() {
    if !skip::has("Cluster", NEEDED) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &["--allow-scripts"]);
    let mut client = gateway.client();
    let sha = hash(COUNT.as_bytes());
    assert_eq!(client.call(&json!(["SCRIPT", "LOAD", COUNT])), (200, json!({"result": sha})));
    for index in 0..100 {
        let (status, answer) = client.call(&json!(["EVALSHA", sha, 1, format!("k{index}")]));
        assert_eq!((status, answer), (200, json!({"result": 1})));
    }
    // A batch over all slots, in order for each key.
    for round in 0..20_usize {
        let commands: Vec<Value> = (0..60).map(|index| json!(["EVALSHA", sha, 1, format!("k{}", index % 5)])).collect();
        let answers = client.post("/pipeline", &json!(commands)).json();
        for index in 0..60_usize {
            assert_eq!(answers[index], json!({"result": 2 + 12 * round + index / 5}), "{index}");
        }
    }
    let answers = client.post("/multi-exec", &json!([["SET", "{t}a", 1], ["INCR", "{t}a"], ["GET", "{t}a"]]));
    assert_eq!(answers.json(), json!([{"result": "OK"}, {"result": 2}, {"result": "2"}]));
    let refused = client.post("/multi-exec", &json!([["SET", "a", 1], ["SET", "b", 1]]));
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].as_str().unwrap().starts_with("CROSSSLOT"), "{refused:?}");
    for node in &cluster.nodes {
        node.ask(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(client.call(&json!(["EVALSHA", sha, 1, "fresh"])), (200, json!({"result": 1})));
}

#[test]
fn hostile_identities_stay_in_one_hash_tag() {
    if !skip::has("Cluster keys", NEEDED) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &["--allow-scripts"]);
    let two = |first: String, second: String| {
        gateway.call(&json!([
            "EVAL",
            "return {redis.call('INCR', KEYS[1]), redis.call('INCR', KEYS[2])}",
            2,
            first,
            second
        ]))
    };
    for identity in ["}", "{", "}x{", "{}}", "a}b{c"] {
        // Raw, the tag may end early or be empty, and the keys part.
        let digest = hash(identity.as_bytes());
        let key = |rule: &str| format!("tg1:{{default:v:{digest}}}:{rule}:t");
        assert_eq!(two(key("a"), key("b")).0, 200, "{identity}");
    }
    let (status, answer) = two("{}}:1".to_owned(), "{}}:2".to_owned());
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("CROSSSLOT"), "{answer}");
}

#[test]
fn a_killed_master_costs_its_own_slots_only() {
    if !skip::has("Cluster failover", NEEDED) {
        return;
    }
    let mut cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &["--allow-scripts"]);
    // A key on each of two masters: one dies, one stays.
    let dying = cluster.master_of("k0");
    let other = (1..100).map(|index| format!("k{index}")).find(|key| cluster.master_of(key) != dying).unwrap();
    let sha = hash(COUNT.as_bytes());
    for key in ["k0", &other] {
        assert_eq!(gateway.call(&json!(["EVAL", COUNT, 1, key])).0, 200);
    }
    let command =
        |worker: usize| json!(["EVALSHA", sha, 1, if worker.is_multiple_of(2) { "k0" } else { other.as_str() }]);
    let mut killed = Duration::ZERO;
    let seen = load(&gateway, 16, &command, |started| {
        std::thread::sleep(Duration::from_millis(300));
        killed = started.elapsed();
        cluster.nodes[dying].kill();
        std::thread::sleep(Duration::from_millis(500));
        wait_for("the promoted replica", Duration::from_secs(20), || {
            (gateway.call(&command(0)).0 == 200).then_some(())
        });
        std::thread::sleep(Duration::from_secs(1));
    });
    let failed: Vec<_> = seen.iter().filter(|seen| seen.status != 200).collect();
    let last = failed.last().unwrap().at.saturating_sub(killed);
    let slowest = seen.iter().map(|seen| seen.took).max().unwrap();
    let ok = |seen: &&crate::outage::Seen| seen.status == 200 && seen.at > killed && seen.at < killed + last;
    let served = seen.iter().filter(ok).count();
    eprintln!(
        "Cluster, master killed: {} failed until +{last:?}, {served} served meanwhile, slowest {slowest:?}",
        failed.len()
    );
    assert!(seen.iter().all(|seen| !seen.answer.to_string().contains("NOSCRIPT")), "a NOSCRIPT reached the caller");
    assert!(served > 100, "the other slots stood still: {served}");
    // cluster-node-timeout is 2 s; noticing, voting and the client's next look take up to 2 s more.
    assert!(last < Duration::from_secs(6), "{last:?}");
    assert!(slowest < Duration::from_millis(600), "{slowest:?}");
    assert_eq!(seen.last().unwrap().status, 200);
}
