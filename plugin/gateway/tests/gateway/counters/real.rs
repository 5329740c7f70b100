//! The script as it ships, on Redis's own clock, as a filter will reach it: through the gateway, through webdis, in a
//! Cluster; with the example's ACL user; and where Redis answers with errors.

use std::num::NonZeroU64;

use serde_json::json;
use tidegate_engine::acquire::{Acquire, CellRequest, Outcome};
use tidegate_engine::algorithm::{Algorithm, FIXED_WINDOW, LEAKY_BUCKET, Quota, SLIDING_WINDOW, TOKEN_BUCKET};
use tidegate_engine::identity::{Kind, Subject};
use tidegate_engine::policy::Protocol;
use tidegate_engine::redis::{Call, Conversation, Failure, Lease, Outcomes, key, numbers};
use tidegate_engine::{Micros, Timestamp};

use super::Virtual;
use crate::http::{Client, Gateway};
use crate::servers::{Cluster, Redis, Webdis};
use crate::skip;

const ALGORITHMS: [&dyn Algorithm; 4] = [&TOKEN_BUCKET, &LEAKY_BUCKET, &FIXED_WINDOW, &SLIDING_WINDOW];

fn cell(subject: usize, rule_id: u64, algorithm: &'static dyn Algorithm, rate: u64) -> CellRequest {
    let rate = NonZeroU64::new(rate).unwrap();
    // A window of 360 days: none of these tests meets a boundary by chance, nor gains a unit while it runs.
    let quota = Quota { rate, window: Micros::from_secs(360 * 86_400), burst: rate, horizon: Micros::ZERO };
    CellRequest { subject, rule_id, group: 0, algorithm, quota, cost: 1, must: true, may_wait: false }
}

fn acquire(users: &[&str], cells: Vec<CellRequest>) -> (Acquire, Vec<String>) {
    let subject = |user: &&str| Subject { kind: Kind::VerifiedUser, value: user.as_bytes().to_vec() };
    let subjects: Vec<Subject> = users.iter().map(subject).collect();
    let keys = cells.iter().map(|cell| key("default", &subjects[cell.subject], "api", cell.rule_id)).collect();
    (Acquire { now: Timestamp::default(), subjects, cells }, keys)
}

fn send(client: &mut Client, protocol: Protocol, call: &Call) -> Result<Vec<i64>, Failure> {
    client.script(protocol, call).and_then(|entries| numbers(&entries))
}

fn converse(
    client: &mut Client,
    protocol: Protocol,
    (acquire, keys): &(Acquire, Vec<String>),
    is_cluster: bool,
) -> Result<Outcomes, Failure> {
    let mut talk = Conversation::new(acquire, is_cluster);
    while let Some(call) = talk.next_call(acquire, keys, &[]) {
        talk.take(&send(client, protocol, &call)?, acquire, &[])?;
    }
    for call in Call::refunds(&talk.returned(acquire, keys), is_cluster) {
        assert_eq!(send(client, protocol, &call), Ok(vec![1]));
    }
    Ok(talk.finish())
}

/// Five pass of each algorithm that can, all or none; what is given back passes again.
fn counts_to_five(client: &mut Client, protocol: Protocol) {
    let windows = [&TOKEN_BUCKET as &dyn Algorithm, &FIXED_WINDOW, &SLIDING_WINDOW];
    let cells = windows.into_iter().zip(0..).map(|(algorithm, id)| cell(0, id, algorithm, 5 + id)).collect();
    let asked = acquire(&["u"], cells);
    let mut last = None;
    for sent in 0..8 {
        let outcomes = converse(client, protocol, &asked, false).unwrap();
        assert_eq!(outcomes.outcome == Outcome::Granted, sent < 5, "{sent}: {outcomes:?}");
        let left: Vec<u64> = outcomes.cells.iter().map(|cell| cell.reply.remaining).collect();
        assert_eq!(left, [4, 5, 6].map(|left: u64| left.saturating_sub(sent.min(4))), "{outcomes:?}");
        if sent < 5 {
            last = Some(outcomes);
        }
    }
    let back = last.unwrap().charges(&asked.0, &asked.1).into_iter();
    for call in Call::refunds(&back.collect::<Vec<_>>(), false) {
        assert_eq!(send(client, protocol, &call), Ok(vec![1]));
    }
    // A sixtieth of a second drained from the bucket, of an interval of 72 days: not quite one unit is back.
    let outcomes = converse(client, protocol, &asked, false).unwrap();
    assert!(outcomes.cells[1].reply.wait == Micros::ZERO && outcomes.cells[2].reply.wait == Micros::ZERO);
    assert!(outcomes.cells[0].reply.wait < Micros::from_secs(60), "{outcomes:?}");
}

#[test]
fn the_gateway_carries_it() {
    if !skip::has("counters through the gateway", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    counts_to_five(&mut gateway.client(), Protocol::Upstash);
    redis.ask(&["SCRIPT", "FLUSH"]);
    let cells = ALGORITHMS.into_iter().zip(0..).map(|(algorithm, id)| cell(0, id, algorithm, 5)).collect();
    let (acquire, keys) = acquire(&["after a failover"], cells);
    assert!(converse(&mut gateway.client(), Protocol::Upstash, &(acquire, keys.clone()), false).is_ok());
    // Every key has its end: a token bucket's when it is full again, a window's when it has passed.
    let day = 86_400_000;
    for (key, longest) in keys.iter().zip([72 * day, 72 * day, 360 * day, 383 * day]) {
        let redis::Value::Int(ms) = redis.ask(&["PTTL", key]) else { panic!("{key}") };
        assert!(ms > 0 && ms <= longest + 2, "{key}: {ms}");
    }
}

#[test]
fn webdis_carries_it() {
    if !skip::has("counters through webdis", &["redis-server", "webdis"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let webdis = Webdis::start(&redis, &json!([{"enabled": ["EVAL", "EVALSHA"]}]));
    let mut client = Client::to(webdis.address.clone());
    counts_to_five(&mut client, Protocol::Webdis);
    let asked = acquire(&["foreign"], vec![cell(0, 0, &TOKEN_BUCKET, 5)]);
    redis.ask(&["HSET", &asked.1[0], "a", "b"]);
    assert_eq!(converse(&mut client, Protocol::Webdis, &asked, false), Err(Failure::Refused("WRONGTYPE")));
}

#[test]
fn errors_of_redis_charge_nothing() {
    if !skip::has("errors of acquire.lua", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let mut client = gateway.client();
    let asked = acquire(&["u"], vec![cell(0, 0, &TOKEN_BUCKET, 5), cell(0, 1, &SLIDING_WINDOW, 5)]);
    let mut fails = |code: &'static str| {
        assert_eq!(converse(&mut client, Protocol::Upstash, &asked, false), Err(Failure::Refused(code)));
        assert_eq!(redis.ask(&["EXISTS", &asked.1[0]]), redis::Value::Int(0), "{code}");
    };
    redis.ask(&["HSET", &asked.1[1], "a", "b"]);
    fails("WRONGTYPE");
    for foreign in
        ["", "17", "s1 1 0 5 fifteen bytes..", "s2 1 0 5 sixteen bytes...", "f1 1 2 3", "s1 1 4 5 sixteen bytes..."]
    {
        redis.ask(&["SET", &asked.1[1], foreign]);
        fails("TIDEGATE");
    }
    redis.ask(&["DEL", &asked.1[1]]);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    fails("OOM");
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    fails("NOREPLICAS");
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    redis.ask(&["ACL", "SETUSER", "default", "-set"]);
    fails("NOPERM");
    redis.ask(&["ACL", "SETUSER", "default", "+set"]);
    // In its own form but beyond all numbers: read as a clock that stepped back, and no trap.
    redis.ask(&["SET", &asked.1[1], &format!("s1 {} 0 5 sixteen bytes...", "9".repeat(400))]);
    assert_eq!(converse(&mut client, Protocol::Upstash, &asked, false).unwrap().outcome, Outcome::Refused);
    redis.ask(&["DEL", &asked.1[1]]);
    let mut wrong = Conversation::new(&asked.0, false).next_call(&asked.0, &asked.1, &[]).unwrap();
    for broken in
        ["t 5 60000000 5 0 1 m 1", "t 5 60000000 5 0 -1 m 1 0", "t 5 6e7 5 0 1 m 1 0", "x 5 60000000 5 0 1 m 1 0", ""]
    {
        broken.clone_into(&mut wrong.arguments[2]);
        assert_eq!(send(&mut client, Protocol::Upstash, &wrong), Err(Failure::Refused("TIDEGATE")), "{broken}");
    }
    wrong.arguments.pop();
    assert_eq!(send(&mut client, Protocol::Upstash, &wrong), Err(Failure::Refused("TIDEGATE")));
    "flush".clone_into(&mut wrong.arguments[0]);
    assert_eq!(send(&mut client, Protocol::Upstash, &wrong), Err(Failure::Refused("TIDEGATE")));
    assert_eq!(converse(&mut client, Protocol::Upstash, &asked, false).unwrap().outcome, Outcome::Granted);
}

#[test]
fn the_examples_user_may_run_it() {
    if !skip::has("counters under the example's ACL", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let url = redis.with_examples_user();
    counts_to_five(&mut Gateway::start(&url, &[]).client(), Protocol::Upstash);
}

#[test]
fn a_cluster_is_asked_identity_by_identity() {
    if !skip::has("counters in a Cluster", &["redis-server", "redis-cli"]) {
        return;
    }
    let cluster = Cluster::start();
    let gateway = Gateway::start(&cluster.url(), &[]);
    let mut client = gateway.client();
    for user in ["}", "{", "}x{", "{}}", "a}b{c"] {
        let cells = ALGORITHMS.into_iter().zip(0..).map(|(algorithm, id)| cell(0, id, algorithm, 5)).collect();
        let asked = acquire(&[user], cells);
        let outcomes = converse(&mut client, Protocol::Upstash, &asked, false).unwrap();
        assert_eq!(outcomes.outcome, Outcome::Granted, "{user}: one slot, one call");
    }
    // Three identities: two passes of the scarcest, then what others were charged comes back.
    let cells = vec![cell(0, 10, &FIXED_WINDOW, 3), cell(1, 11, &FIXED_WINDOW, 4), cell(2, 12, &SLIDING_WINDOW, 1_000)];
    let asked = acquire(&["one", "two", "three"], cells);
    assert_eq!(converse(&mut client, Protocol::Upstash, &asked, false), Err(Failure::CrossSlot));
    let once = acquire(&["one", "two", "three"], vec![cell(1, 11, &FIXED_WINDOW, 4)]);
    for _ in 0..3 {
        assert_eq!(converse(&mut client, Protocol::Upstash, &once, true).unwrap().outcome, Outcome::Granted);
    }
    let left = |outcomes: &Outcomes| -> Vec<u64> { outcomes.cells.iter().map(|cell| cell.reply.remaining).collect() };
    let granted = converse(&mut client, Protocol::Upstash, &asked, true).unwrap();
    assert_eq!((granted.outcome, left(&granted)), (Outcome::Granted, vec![2, 0, 999]));
    for _ in 0..3 {
        let refused = converse(&mut client, Protocol::Upstash, &asked, true).unwrap();
        // The first was charged when it answered, and is given back; the third is only probed.
        assert_eq!((refused.outcome, left(&refused)), (Outcome::Refused, vec![1, 0, 999]));
        assert!(refused.cells[1].reply.wait > Micros::ZERO && refused.cells[2].reply.wait == Micros::ZERO);
        assert!(refused.cells.iter().all(|cell| !cell.reply.charged));
    }
}

#[test]
fn a_clock_ten_years_ahead_leaves_no_key_for_ten_years() {
    if !skip::has("expiry of acquire.lua", &["redis-server"]) {
        return;
    }
    let mut redis = Virtual::start();
    let cells: Vec<CellRequest> = ALGORITHMS
        .into_iter()
        .zip(0..)
        .map(|(algorithm, id)| {
            let mut cell = cell(0, id, algorithm, 5);
            cell.quota.window = Micros::from_secs(60);
            cell
        })
        .collect();
    let (acquire, keys) = acquire(&["u"], cells);
    let call = Conversation::new(&acquire, false).next_call(&acquire, &keys, &[]).unwrap();
    let now = 1_700_000_000_000_000_u64;
    let mut ask = |now: u64| -> Vec<i64> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&redis.sha).arg(keys.len()).arg(&keys).arg(&call.arguments).arg(now);
        command.query(&mut redis.connection).unwrap()
    };
    assert_eq!(ask(now + 3_650 * 86_400_000_000)[0], 1);
    ask(now);
    for key in &keys {
        let ends: u64 = redis::cmd("GET").arg(format!("{key}:ends")).query(&mut redis.connection).unwrap();
        assert!((now + 60_000_000..=now + 32 * 60_000_000 + 2_000).contains(&ends), "{key}: {}", ends - now);
    }
}

#[test]
fn a_lease_takes_what_is_there_and_ends_with_its_window() {
    if !skip::has("leases of acquire.lua", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let mut client = gateway.client();
    let cells: Vec<CellRequest> =
        ALGORITHMS.into_iter().zip(0..).map(|(algorithm, id)| cell(0, id, algorithm, 100)).collect();
    let leases: Vec<Lease> = cells.iter().map(|cell| Lease::of(cell, 1, 60)).collect();
    let asked = acquire(&["u"], cells);
    let mut taken = Vec::new();
    for _ in 0..2 {
        let mut talk = Conversation::new(&asked.0, false);
        let call = talk.next_call(&asked.0, &asked.1, &leases).unwrap();
        talk.take(&send(&mut client, Protocol::Upstash, &call).unwrap(), &asked.0, &leases).unwrap();
        taken.push(talk.finish());
    }
    let day = 86_400_000_000;
    // The bucket of 100 leaves 5 to what leases may earn; the leaky bucket is not leased, and refuses the second.
    let units = |outcomes: &Outcomes| outcomes.cells.iter().map(|cell| cell.leased).collect::<Vec<_>>();
    assert_eq!((units(&taken[0]), units(&taken[1])), (vec![59, 0, 59, 59], vec![0; 4]));
    assert_eq!(taken[0].cells[0].life, Micros(18 * day));
    assert_eq!(taken[0].cells[0].reply.remaining, 35);
    let [fixed, sliding] = [2, 3].map(|index: usize| taken[0].cells[index].life.0);
    assert!(fixed <= 360 * day && sliding <= 360 * day / 16 && sliding > 0, "{fixed} {sliding}");
}
