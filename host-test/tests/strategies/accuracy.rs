//! How near to its reserved moment a held request is released, with Envoy's coarse timer and with its precise one.

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use serde_json::json;
use xtask::load::Request;

use crate::bench::{Bench, Bodies, alone, percentile, policy, send, serve_with, with_status};

/// Envoy's own summary of the histogram `release_lag_us`: `P50`, `P99` and `P100` over all, in microseconds.
fn release_lag(bench: &Bench) -> Vec<f64> {
    // Histograms are merged every five seconds.
    sleep(Duration::from_secs(6));
    let text = bench.envoy.admin("GET", "/stats?filter=release_lag_us").unwrap();
    let line = text.lines().find(|line| line.contains("release_lag_us: ")).unwrap();
    let of = |name: &str| {
        let words = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('('));
        // `(nan,4215)`: in the last interval, and since the start.
        words.and_then(|pair| pair.trim_end_matches(')').split(',').next_back()?.parse().ok()).unwrap()
    };
    ["P50", "P99", "P100"].map(of).to_vec()
}

/// How late two hundred requests arrived, in milliseconds behind their moments: median, 99th percentile, worst.
fn measure(precise: bool) -> Option<Vec<f64>> {
    let rules = json!([{"name": "even", "scope": "global", "rate": 50, "window_seconds": 1, "burst": 1, "strategy":
        {"type": "throttle", "max_delay_ms": 10_000, "max_waiting": 1_000, "max_waiting_per_key": 1_000}}]);
    let mut bench = serve_with("throttle, accuracy", &policy(rules), Bodies::Unseen, |settings| {
        if precise {
            settings.environment.push(("EVENT_PRECISE_TIMER".into(), "1".into()));
        }
    })?;
    let answers = send(&bench.http2(200), (0..200).map(|n| Request::get(&format!("/{n}"))));
    assert_eq!(with_status(&answers, 200), 200);
    // The one that passed at once was decided at `at`; the n-th behind it has its moment n x 20 ms later.
    let log = bench.envoy.access_log(200).unwrap();
    let first = log.iter().find(|line| line["outcome"] == "allowed").unwrap();
    let first: u64 = first["at"].as_str().unwrap().parse().unwrap();
    let moment = |n: usize| SystemTime::UNIX_EPOCH + Duration::from_micros(first + n as u64 * 20_000);
    let mut arrivals: Vec<SystemTime> = bench.upstream.arrivals().iter().map(|arrival| arrival.time).collect();
    arrivals.sort_unstable();
    let after =
        |(n, time): (usize, &SystemTime)| time.duration_since(moment(n)).unwrap_or_default().as_secs_f64() * 1e3;
    let late: Vec<f64> = arrivals.iter().enumerate().map(after).collect();
    let lag = release_lag(&bench);
    println!(
        "throttle, accuracy, {} timer: released {:.1} ms late (p50), {:.1} (p99), {:.1} (worst); arrived {:.1} ms late \
         (p50), {:.1} (p99)",
        if precise { "precise" } else { "coarse" },
        lag[0] / 1e3,
        lag[1] / 1e3,
        lag[2] / 1e3,
        percentile(late.clone(), 50),
        percentile(late, 99),
    );
    bench.assert_nothing_died();
    Some(lag)
}

#[test]
fn a_held_request_is_released_within_milliseconds_of_its_moment() {
    let _alone = alone();
    let (Some(coarse), Some(precise)) = (measure(false), measure(true)) else { return };
    assert!(coarse[0] < 15_000.0, "{coarse:?}");
    assert!(precise[0] < coarse[0], "{precise:?} against {coarse:?}");
}
