//! The filter's counters under thousands of seeded interleavings of workers, some with a VM that dies half-way: never more
//! admitted than the quota, nothing admitted uncharged, nothing charged for a refusal. A failure names its seed;
//! `TIDEGATE_SEED=n` runs that one alone.

// Only `#[test]` functions may by themselves.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "with_wasm/tidegate.rs"]
mod tidegate;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tidegate::{assert_nothing_died, module_or_skip, passed, policy, rule, serve};
use tidegate_host_test::{Host, Job, Module, Outcome, PluginId, Request, Stream, Thread};

const WORKERS: usize = 4;
const ALGORITHMS: [&str; 4] = ["token_bucket", "fixed_window", "sliding_window", "leaky_bucket"];

/// Longer than any counter here remembers: a window and two of its sixteenths.
const FORGOTTEN: Duration = Duration::from_secs(71);

/// Seeds to run: all of `count`, or the one that `TIDEGATE_SEED` names.
fn seeds(count: u64) -> Vec<u64> {
    let one = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    one.map_or_else(|| (0..count).collect(), |seed| vec![seed])
}

/// splitmix64 from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }
}

/// A request of the test: who, from where, for what.
#[derive(Clone, Copy, Debug)]
struct Asked {
    user: usize,
    address: usize,
    endpoint: usize,
}

impl Asked {
    fn random(random: &mut Random) -> Self {
        Self { user: random.index(4), address: random.index(3), endpoint: random.index(2) }
    }

    fn request(self) -> Request {
        Request::get(["/a", "/b"][self.endpoint])
            .header("x-user", format!("u{}", self.user))
            .peer(&format!("10.0.0.{}:1", self.address))
    }

    /// The cells it is counted in, each with its capacity.
    fn cells(self, one_by_one: bool) -> [(String, u64); 4] {
        let capacity = |rate: u64| if one_by_one { 1 } else { rate };
        [
            (format!("user {}", self.user), capacity(5)),
            (format!("address {}", self.address), capacity(7)),
            (format!("endpoint {}", self.endpoint), capacity(9)),
            ("all".to_owned(), capacity(14)),
        ]
    }
}

/// Four rules of one algorithm, a fifth in shadow that none of them may notice.
fn rules(algorithm: &str) -> String {
    let more = format!(r#", "algorithm": "{algorithm}""#);
    let shadow = format!(r#"{more}, "mode": "shadow""#);
    let rules = [
        rule("user", "per_user", 5, 60, &more),
        rule("shadow", "per_user", 2, 60, &shadow),
        rule("address", "per_ip", 7, 60, &more),
        rule("endpoint", "per_endpoint", 9, 60, &format!(r#"{more}, "endpoints": ["/a", "/b"]"#)),
        rule("all", "global", 14, 60, &more),
    ];
    policy(&rules.join(","))
}

/// What has been admitted so far, by cell.
#[derive(Default)]
struct Admitted(BTreeMap<String, u64>);

impl Admitted {
    fn add(&mut self, asked: Asked, one_by_one: bool, seed: u64) {
        for (cell, capacity) in asked.cells(one_by_one) {
            let count = self.0.entry(cell.clone()).or_default();
            *count += 1;
            assert!(*count <= capacity, "seed {seed}: {cell} admitted {count} of {capacity}");
        }
    }

    fn has_room(&self, asked: Asked, one_by_one: bool) -> bool {
        let count = |cell: &str| self.0.get(cell).copied().unwrap_or(0);
        asked.cells(one_by_one).iter().all(|(cell, capacity)| count(cell) < *capacity)
    }
}

type Results = Rc<RefCell<Vec<(Asked, Stream)>>>;

/// Runs random requests on all workers, interleaved by `seed`.
fn interleave(host: &Host, id: &PluginId, seed: u64, count: usize) -> Vec<(Asked, Stream)> {
    let mut random = Random(seed ^ 0xA5A5);
    let results: Results = Rc::default();
    let jobs = (0..count).map(|_| {
        let (asked, worker) = (Asked::random(&mut random), random.index(WORKERS));
        let (id, results) = (id.clone(), Rc::clone(&results));
        Job::new(worker, move |host| {
            let stream = host.request(worker, &id, asked.request());
            results.borrow_mut().push((asked, stream));
        })
    });
    host.run_interleaved(seed, jobs.collect());
    results.take()
}

/// One host for all seeds of an algorithm: between them, time passes until all is forgotten.
fn hosts(module: &Module) -> Vec<(Host, PluginId, bool)> {
    ALGORITHMS
        .map(|algorithm| {
            let (host, id) = serve(module, WORKERS, &rules(algorithm));
            (host, id, algorithm == "leaky_bucket")
        })
        .into()
}

/// Checks the counters against a model: a request passes exactly where every cell of it has room.
fn assert_exact(host: &Host, id: &PluginId, admitted: &mut Admitted, one_by_one: bool, seed: u64) {
    let mut random = Random(!seed);
    for _ in 0..20 {
        let asked = Asked::random(&mut random);
        let stream = host.request(random.index(WORKERS), id, asked.request());
        let expected = admitted.has_room(asked, one_by_one);
        assert_eq!(passed(&stream), expected, "seed {seed}: {asked:?} after {:?}", admitted.0);
        if expected {
            admitted.add(asked, one_by_one, seed);
        }
    }
}

#[test]
fn interleaved_workers_admit_exactly_what_the_quotas_say() {
    let module = module_or_skip!();
    let hosts = hosts(&module);
    for seed in seeds(2_000) {
        let (host, id, one_by_one) = &hosts[usize::try_from(seed % 4).unwrap()];
        let mut admitted = Admitted::default();
        // The nearer to the limits, the more often one rule refuses what another was charged for already.
        let ahead = interleave(host, id, !seed, Random(seed).index(14));
        for (asked, stream) in ahead.into_iter().chain(interleave(host, id, seed, 16)) {
            if passed(&stream) {
                admitted.add(asked, *one_by_one, seed);
            } else {
                assert_eq!(stream.status(), 429, "seed {seed}");
            }
        }
        assert_exact(host, id, &mut admitted, *one_by_one, seed);
        host.advance(FORGOTTEN);
    }
    let lost: u64 = hosts
        .iter()
        .map(|(host, ..)| {
            assert_nothing_died(host);
            host.metrics().counter("tidegate.default.contended_total").unwrap()
        })
        .sum();
    assert_eq!(lost, 0, "four workers never lose 64 races");
}

#[test]
fn workers_that_die_half_way_admit_no_more_and_leave_nothing_for_ever() {
    let module = module_or_skip!();
    let hosts = hosts(&module);
    let mut deaths = 0;
    for seed in seeds(1_000) {
        let (host, id, one_by_one) = &hosts[usize::try_from(seed % 4).unwrap()];
        let mut random = Random(seed.wrapping_mul(31));
        let armed = Rc::new(Cell::new(true));
        for _ in 0..2 {
            let (thread, nth) = (Thread::Worker(random.index(WORKERS)), 1 + random.index(6));
            let function = ["proxy_set_shared_data", "proxy_get_shared_data"][random.index(2)];
            let armed = Rc::clone(&armed);
            host.before_call(thread, function, u32::try_from(nth).unwrap(), move |host| {
                if armed.get() {
                    host.kill(thread);
                }
            });
        }
        let mut admitted = Admitted::default();
        let results = interleave(host, id, seed, 24);
        armed.set(false);
        for (asked, stream) in results {
            deaths += u32::from(stream.outcome() == Outcome::VmFailed);
            if passed(&stream) {
                admitted.add(asked, *one_by_one, seed);
            }
        }
        host.advance(FORGOTTEN);
        // Dead VMs come back with their next request, and all that their last one charged has aged out.
        assert_exact(host, id, &mut Admitted::default(), *one_by_one, seed);
        host.advance(FORGOTTEN);
    }
    assert!(deaths > 300 || std::env::var_os("TIDEGATE_SEED").is_some(), "{deaths} requests met a dying VM");
}

#[test]
fn interleaved_workers_reserve_moments_that_nobody_else_has() {
    let module = module_or_skip!();
    let more = r#", "burst": 1, "strategy": {"type": "throttle", "max_delay_ms": 60000}"#;
    let (host, id) = serve(&module, WORKERS, &policy(&rule("line", "global", 10, 1, more)));
    for seed in seeds(150) {
        let results: Vec<Stream> = interleave(&host, &id, seed, 16).into_iter().map(|(_, stream)| stream).collect();
        for place in 0..16 {
            let on = results.iter().filter(|stream| passed(stream)).count();
            assert_eq!(on, place + 1, "seed {seed}: one every tenth of a second");
            host.advance(Duration::from_millis(100));
        }
        host.advance(Duration::from_secs(2));
    }
    assert_eq!(host.metrics().gauge("tidegate.default.waiting"), Some(0));
    assert_nothing_died(&host);
}
