//! A single Redis that hangs, dies and comes back: every answer in bounded time, and recovery by itself.
//! Not here: failover to another server (`sentinel`, `cluster`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Gateway;
use crate::process::wait_for;
use crate::servers::Redis;
use crate::skip;

/// What one request met.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When its answer came, since the load began.
    pub(crate) at: Duration,
    /// How long it took.
    pub(crate) took: Duration,
    pub(crate) status: u16,
    pub(crate) answer: Value,
}

/// Sends `command` from `workers` connections for as long as `during` runs, and gives back every answer in time's order.
pub(crate) fn load(
    gateway: &Gateway,
    workers: usize,
    command: &(impl Fn(usize) -> Value + Sync),
    during: impl FnOnce(Instant),
) -> Vec<Seen> {
    let (started, over) = (Instant::now(), AtomicBool::new(false));
    let mut seen: Vec<Seen> = std::thread::scope(|scope| {
        let worker = |number: usize| {
            let (over, mut client) = (&over, gateway.client());
            move || {
                let mut seen = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    let (status, answer) = client.call(&command(number));
                    seen.push(Seen { at: started.elapsed(), took: sent.elapsed(), status, answer });
                    std::thread::sleep(Duration::from_millis(2));
                }
                seen
            }
        };
        let threads: Vec<_> = (0..workers).map(|number| scope.spawn(worker(number))).collect();
        // Also where `during` panics: the workers must end, or the test never does.
        let harm = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| during(started)));
        over.store(true, Ordering::Relaxed);
        harm.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    seen.sort_by_key(|seen| seen.at);
    seen
}

#[test]
fn a_hung_redis_costs_the_timeout_and_no_more() {
    if !skip::has("hung redis", &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &["--timeout-ms", "200"]);
    let mut continued = Duration::ZERO;
    let seen = load(&gateway, 16, &|_| json!(["INCR", "n"]), |started| {
        std::thread::sleep(Duration::from_millis(300));
        redis.process.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(2_500));
        redis.process.signal(Signal::CONT);
        continued = started.elapsed();
        std::thread::sleep(Duration::from_secs(1));
    });
    let slowest = seen.iter().map(|seen| seen.took).max().unwrap();
    let timed_out = seen.iter().filter(|seen| seen.status == 504).count();
    let last_failure = seen.iter().rev().find(|seen| seen.status != 200).unwrap().at;
    eprintln!(
        "hung: {} answers, {timed_out} timed out, slowest {slowest:?}, last failure {:?} after CONT",
        seen.len(),
        last_failure.saturating_sub(continued)
    );
    assert!(seen.iter().all(|seen| matches!(seen.status, 200 | 503 | 504)), "{seen:?}");
    assert!(timed_out >= 16, "{timed_out}");
    assert!(slowest < Duration::from_millis(450), "{slowest:?}");
    assert!(last_failure < continued + Duration::from_secs(1), "{last_failure:?} {continued:?}");
}

#[test]
fn a_killed_redis_fails_fast_and_is_found_again() {
    if !skip::has("killed redis", &["redis-server"]) {
        return;
    }
    let mut redis = Redis::start(&[]);
    let gateway = Gateway::start(&redis.url(), &[]);
    let (mut killed, mut back) = (Duration::ZERO, Duration::ZERO);
    let seen = load(&gateway, 16, &|_| json!(["INCR", "n"]), |started| {
        std::thread::sleep(Duration::from_millis(300));
        killed = started.elapsed();
        redis.kill();
        std::thread::sleep(Duration::from_secs(1));
        redis.restart(&[]);
        wait_for("the restarted redis", Duration::from_secs(10), || redis.try_ask(&["PING"]));
        back = started.elapsed();
        std::thread::sleep(Duration::from_millis(1_500));
    });
    let down: Vec<&Seen> =
        seen.iter().filter(|seen| seen.at > killed + Duration::from_millis(100) && seen.status != 200).collect();
    let slowest = down.iter().map(|seen| seen.took).max().unwrap();
    let last_failure = seen.iter().rev().find(|seen| seen.status != 200).unwrap().at;
    eprintln!(
        "killed: {} failures, slowest {slowest:?}, last {:?} after its return",
        down.len(),
        last_failure.saturating_sub(back)
    );
    assert!(down.iter().all(|seen| seen.status == 503), "{down:?}");
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    assert!(last_failure < back + Duration::from_secs(1), "{last_failure:?} {back:?}");
    assert!(seen.last().unwrap().status == 200);
}
