//! No caller ever gets another's reply: not when callers go away, not when the gateway gives up on a slow Redis.
//! Not here: callers of other programs; each gateway has connections of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Gateway;
use crate::servers::Redis;
use crate::skip;

const WORKERS: usize = 16;
const EACH: usize = 625;

/// Sends 10,000 nonces from all workers, of which 30 % are abandoned without reading; says how many came back right.
fn nonces(gateway: &Gateway, allowed: &[u16]) -> usize {
    let right = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (right, mut client) = (&right, gateway.client());
            scope.spawn(move || {
                for turn in 0..EACH {
                    let nonce = format!("nonce-{worker}-{turn}");
                    let (path, body, expected) = request(turn, &nonce);
                    if is_abandoned(worker, turn) {
                        client.abandon(&json!(["ECHO", nonce])).unwrap();
                        continue;
                    }
                    let response = client.post(path, &body);
                    if response.status == 200 {
                        assert_eq!(response.json(), expected, "a reply for somebody else");
                        right.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert!(allowed.contains(&response.status), "{response:?}");
                    }
                }
            });
        }
    });
    right.into_inner()
}

/// A fixed, spread choice of three in ten: 7 has no factor in common with 10.
fn is_abandoned(worker: usize, turn: usize) -> bool {
    (turn * 7 + worker) % 10 < 3
}

/// Single commands, batches, scripts and transactions take turns.
fn request(turn: usize, nonce: &str) -> (&'static str, Value, Value) {
    let result = json!({"result": nonce});
    match turn % 4 {
        0 => ("/", json!(["ECHO", nonce]), result),
        1 => ("/pipeline", json!([["ECHO", nonce], ["HGET", nonce], ["ECHO", nonce]]), {
            let error = json!({"error": "ERR wrong number of arguments for 'hget' command"});
            json!([result, error, result])
        }),
        2 => ("/", json!(["EVAL", "return ARGV[1]", 0, nonce]), result),
        _ => ("/multi-exec", json!([["ECHO", nonce], ["EVAL", "return ARGV[1]", 0, nonce]]), json!([result, result])),
    }
}

#[test]
fn ten_thousand_nonces_with_a_third_of_the_callers_gone() {
    if !skip::has("crossed replies", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    for connections in ["1", "3"] {
        let flags = ["--allow-scripts", "--threads", "2", "--connections", connections, "--timeout-ms", "20000"];
        let gateway = Gateway::start(&redis.url(), &flags);
        let kept = |worker| (0..EACH).filter(|turn| !is_abandoned(worker, *turn)).count();
        assert_eq!(nonces(&gateway, &[]), (0..WORKERS).map(kept).sum::<usize>());
    }
}

#[test]
fn ten_thousand_nonces_while_redis_stutters() {
    if !skip::has("crossed replies after timeouts", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--allow-scripts", "--threads", "1", "--timeout-ms", "25"]);
    let over = std::sync::atomic::AtomicBool::new(false);
    let right = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                redis.ask(&["CLIENT", "PAUSE", "40", "ALL"]);
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        let right = nonces(&gateway, &[503, 504]);
        over.store(true, Ordering::Relaxed);
        right
    });
    let text = String::from_utf8(gateway.client().send("GET", "/metrics", &[], b"").unwrap().body).unwrap();
    let timed_out = text.lines().find(|line| line.contains("timed_out")).unwrap().to_owned();
    eprintln!("stuttering redis: {right} right, none wrong, {timed_out}");
    assert!(right > 1_000, "{right}");
    assert!(!timed_out.ends_with(" 0"), "nothing timed out, so nothing was tested");
}
