//! Answers that are none, under load: each is a store that fails, and what `outage` demands holds.
//! Not here: which bytes are an answer at all (the engine's tests).

use std::time::Duration;

use crate::http::Gateway;
use crate::liar::{Liar, Says};
use crate::outage::{modes, through};
use crate::proxies::Fleet;
use crate::servers::Redis;
use crate::skip;

const LIES: [(&str, Says); 10] = [
    ("HTML with status 200", Says::Body("<!doctype html><html><body>Welcome to nginx!</body></html>")),
    ("half an answer, whole by its length", Says::Body("{\"result\":[1,1795000")),
    ("half a body, then closed", Says::Half),
    ("10 MB of numbers", Says::Long(10_000_000)),
    ("1e308", Says::Body("{\"result\":[1,1795000000123456,0,1,1e308,0,0]}")),
    ("-1", Says::Body("{\"result\":[1,1795000000123456,0,-1,-1,-1,-1]}")),
    ("a charge beyond the cost", Says::Body("{\"result\":[1,1795000000123456,0,9000,1,0,0]}")),
    ("READONLY", Says::Status(400, "{\"error\":\"READONLY You can't write against a read only replica.\"}")),
    ("another status", Says::Status(502, "")),
    ("no answer", Says::Silence),
];

#[test]
fn answers_that_are_none() {
    if !skip::has("fleet, garbage", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let liar = Liar::start(&gateway.address);
    let Some(mut fleet) = Fleet::start("fleet, garbage", 2, &liar.address, &modes()) else { return };
    for (name, lie) in LIES {
        let outage = through(&fleet, Duration::from_millis(1_500), || liar.says(lie), || liar.says(Says::Truth));
        // Some 700 MB go through the two cores before the breakers open: a worker that copies them looks late at its timers.
        let late = if matches!(lie, Says::Long(_)) { Some(Duration::from_millis(300)) } else { None };
        outage.check_with(name, &mut fleet, late);
    }
    assert_eq!(fleet.lines("Welcome to nginx"), 0, "nothing that a store says reaches a log");
}
