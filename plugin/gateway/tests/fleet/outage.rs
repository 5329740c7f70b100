//! Two proxies under load while their store fails and comes back, and what each of the three `on_store_error` modes must
//! have done meanwhile. Not here: how a store is made to fail (`failing`, `lies`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::load::{Answer, Client, Request};

use crate::proxies::{Fleet, policy};

/// The policy's `timeout_ms`, where a test names none: a busy machine answers within it.
const TIMEOUT: Duration = Duration::from_millis(100);
/// What the filter may add to it, for all but one request in a hundred; and for the one that is longest. What the machine
/// adds to that is what requests take meanwhile that no rule counts.
const OURS: Duration = Duration::from_millis(10);
const SLACK: Duration = Duration::from_millis(100);
/// How soon after the store's own recovery its answers decide again. The breaker tries once a second.
const RECOVERY: Duration = Duration::from_secs(2);
/// As many as either proxy's workers all have a part in: about half a second's.
const SETTLED: u32 = 80;
/// Each proxy's share of the local rule's 60 a second.
const LOCAL_RATE: f64 = 15.0;
const PROXIES: u32 = 2;
const PATHS: [&str; 4] = ["/local", "/allow", "/deny", FREE];
/// No rule counts it, so it asks nobody.
const FREE: &str = "/free";

/// A policy with a rule a mode, over a store in `exact` mode.
pub(crate) fn modes() -> Value {
    modes_over(json!({"timeout_ms": u64::try_from(TIMEOUT.as_millis()).unwrap()}))
}

/// The same over a store of these members.
pub(crate) fn modes_over(mut store: Value) -> Value {
    store["mode"] = json!("exact");
    let rule = |path: &str, rate: u64, mode: &str| json!({"name": mode, "scope": "global", "rate": rate, "window_seconds": 1, "endpoints": [path], "on_store_error": mode});
    let mut local = rule("/local", 60, "local");
    local["local_share"] = json!(0.25);
    let rules = json!([local, rule("/allow", 60, "allow"), rule("/deny", 100_000, "deny")]);
    policy(store, rules)
}

/// A store that fails under load.
pub(crate) struct Outage {
    answers: Vec<(usize, Answer)>,
    /// When it was made to fail, when its repair began, and when that was known to be done; from the load's start.
    down: Duration,
    mending: Duration,
    back: Duration,
    /// Calls without an answer, and questions that were not put, meanwhile.
    failed: u64,
    spared: u64,
}

/// How long requests took, sorted.
struct Took(Vec<Duration>);

impl Took {
    fn of_thousand(&self, thousandth: usize) -> Duration {
        self.0[(self.0.len() - 1) * thousandth / 1_000]
    }
}

/// Puts both proxies under load, harms the store, waits, and waits for its recovery, which is what `repair` returns from.
pub(crate) fn through(fleet: &Fleet, lasts: Duration, harm: impl FnOnce(), repair: impl FnOnce()) -> Outage {
    let over = Arc::new(AtomicBool::new(false));
    let before = ["failed", "spared"].map(|name| fleet.count(&format!("store_calls_total.{name}")));
    std::thread::scope(|scope| {
        let start = Instant::now();
        let load = |address| {
            let over = Arc::clone(&over);
            let requests = (0_u32..)
                .take_while(move |_| !over.load(Ordering::Relaxed))
                .map(|number| Request::get(PATHS[number as usize % PATHS.len()]).at(Duration::from_millis(4) * number));
            move || {
                let mut answers = Vec::new();
                let client = Client::http1(address, 32).unwrap();
                client.for_each(requests, |number, answer| answers.push((number, answer.unwrap())));
                answers
            }
        };
        let loads: Vec<_> =
            fleet.envoys.iter().map(|envoy| scope.spawn(load(envoy.address("main").unwrap()))).collect();
        // Also where this panics: the load must end, or the test never does.
        let harmed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::sleep(Duration::from_secs(1));
            let down = start.elapsed();
            harm();
            std::thread::sleep(lasts);
            assert_eq!(fleet.is_healthy(), Some(false), "the gauge says that the store fails");
            // It may be back at any moment from here on.
            let mending = start.elapsed();
            repair();
            let back = start.elapsed();
            std::thread::sleep(RECOVERY + Duration::from_millis(700));
            (down, mending, back)
        }));
        over.store(true, Ordering::Relaxed);
        let (down, mending, back) = harmed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut answers: Vec<_> = loads.into_iter().flat_map(|load| load.join().unwrap()).collect();
        answers.sort_by_key(|(_, answer)| answer.sent);
        let count = |name: &str, before: u64| fleet.count(&format!("store_calls_total.{name}")) - before;
        let (failed, spared) = (count("failed", before[0]), count("spared", before[1]));
        Outage { answers, down, mending, back, failed, spared }
    })
}

impl Outage {
    /// How many requests of this path passed, of how many, between two moments.
    fn passed(&self, path: &str, from: Duration, to: Duration) -> (usize, usize) {
        let on_path = |number: usize| PATHS[number % PATHS.len()] == path;
        let within =
            self.answers.iter().filter(|(number, answer)| on_path(*number) && (from..to).contains(&answer.sent));
        let statuses: Vec<u16> = within.map(|(_, answer)| answer.status).collect();
        (statuses.iter().filter(|status| **status == 200).count(), statuses.len())
    }

    /// How long requests took that no rule counts, or those that one does.
    fn took(&self, is_free: bool) -> Took {
        let of_kind = |(number, _): &&(usize, Answer)| (PATHS[number % PATHS.len()] == FREE) == is_free;
        let mut took: Vec<Duration> = self.answers.iter().filter(of_kind).map(|(_, answer)| answer.took).collect();
        took.sort_unstable();
        Took(took)
    }

    /// How long after the store was back its answers decided again: `SETTLED` requests in a row. A stall of the machine
    /// after that, longer than `timeout_ms`, is an outage of its own.
    fn recovered(&self) -> Duration {
        let (mut since, mut in_a_row) = (Duration::ZERO, 0);
        for (number, answer) in &self.answers {
            if PATHS[number % PATHS.len()] != "/deny" || answer.sent <= self.back || in_a_row == SETTLED {
                continue;
            }
            if answer.status == 200 {
                in_a_row += 1;
            } else {
                (since, in_a_row) = (answer.sent.saturating_sub(self.back), 0);
            }
        }
        if in_a_row == SETTLED { since } else { Duration::MAX }
    }

    /// What must hold whatever failed; says what was seen.
    pub(crate) fn check(&self, what: &str, fleet: &mut Fleet) {
        self.check_with(what, fleet, None);
    }

    /// The same where the harm itself keeps the machine so busy that any request may be so late.
    pub(crate) fn check_with(&self, what: &str, fleet: &mut Fleet, late: Option<Duration>) {
        self.check_times(what, TIMEOUT, late);
        let (from, to) = (self.down + SLACK, self.mending);
        let lasted = to.saturating_sub(self.down).as_secs_f64();
        let [local, allow, deny, _] = PATHS.map(|path| self.passed(path, from, to));
        let recovered = self.recovered();
        println!(
            "{what}: for {lasted:.1} s local {local:?} allow {allow:?} deny {deny:?} passed; {} failed, {} spared; \
             recovered {recovered:?} after the store",
            self.failed, self.spared
        );
        // Before it failed, the store's limits held, and it answered.
        let (passed, all) = self.passed("/deny", Duration::ZERO, self.down);
        assert!(passed * 100 >= all * 95, "{what}: {passed} of {all} before");
        let (passed, all) = self.passed("/allow", Duration::ZERO, self.down);
        assert!(passed < all, "{what}: limited before");
        let bound = f64::from(PROXIES) * LOCAL_RATE * (1.0 + lasted);
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        let local = local.0 as f64;
        assert!(local <= bound, "{what}: local {local}, at most {bound}");
        assert!(local >= f64::from(PROXIES) * LOCAL_RATE * (lasted - 0.5) * 0.7, "{what}: local {local}");
        assert_eq!(allow.0, allow.1, "{what}: allow");
        assert!(recovered <= RECOVERY, "{what}: {recovered:?}");
        // Four VMs: five failures in a row open a breaker, besides what was out already; then one try a second.
        let tries = self.back.saturating_sub(self.down).as_secs() + 3;
        assert!(self.failed <= 4 * (5 + 20 + tries), "{what}: {} failed", self.failed);
        assert!(self.spared * 10 >= (deny.1 as u64) * 3 * 7, "{what}: {} spared", self.spared);
        // The machine may just have stalled again: then the next try is due within the second.
        if fleet.is_healthy() != Some(true) {
            std::thread::sleep(RECOVERY);
        }
        assert_eq!(fleet.is_healthy(), Some(true), "{what}");
        fleet.assert_nothing_died();
    }

    /// Every request was decided, without the store where a rule says so, and none was held longer than `timeout` and what
    /// the filter may add.
    pub(crate) fn check_times(&self, what: &str, timeout: Duration, late: Option<Duration>) {
        let [free, asking] = [true, false].map(|is_free| self.took(is_free));
        println!(
            "{what}: {} requests, p50 {:?} p99 {:?} p99.9 {:?} max {:?}; without a rule p50 {:?} p99 {:?} max {:?}",
            asking.0.len(),
            asking.of_thousand(500),
            asking.of_thousand(990),
            asking.of_thousand(999),
            asking.of_thousand(1_000),
            free.of_thousand(500),
            free.of_thousand(990),
            free.of_thousand(1_000)
        );
        let all = self.answers.iter().map(|(_, answer)| answer);
        let strange: Vec<&Answer> = all.filter(|answer| ![200, 429].contains(&answer.status)).collect();
        assert!(strange.is_empty(), "{what}: {strange:?}");
        for (thousandth, ours) in [(990, late.unwrap_or(OURS)), (1_000, OURS + late.unwrap_or(SLACK))] {
            let (longest, machine) = (asking.of_thousand(thousandth), free.of_thousand(thousandth));
            assert!(
                longest <= timeout + ours + machine,
                "{what}: {longest:?} of {thousandth} in 1,000, {machine:?} without"
            );
        }
        let (passed, all) = self.passed("/deny", self.down + SLACK, self.mending);
        assert!(passed == 0 && all > 10, "{what}: deny, {passed} of {all}");
    }
}
