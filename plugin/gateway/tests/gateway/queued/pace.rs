//! How a line of jobs keeps its pace when it comes late: the model's way, and what it comes to after an outage.

use tidegate_engine::Micros;
use tidegate_engine::redis::QUEUE;
use tidegate_engine::redis::queue::{Jobs, Line as Counter, claimed, settled, stored};

use super::{Virtual, queue};
use crate::skip;

/// A job that is later than this was kept back.
pub(super) const LATE_MS: u64 = 1_500;

/// How far a line runs behind the moments that its jobs had reserved, in milliseconds, the last of these that was seen, and
/// when that is forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    lag: u64,
    last: u64,
    until: u64,
}

impl Line {
    /// From when a job may be tried that had reserved `own` and is looked at because it is `due`.
    pub(super) fn slot(&mut self, own: u64, gap: u64, due: u64, now: u64) -> u64 {
        if now >= self.until {
            *self = Self::default();
        }
        // Idle time makes up for it.
        let mut lag = self.lag.min((self.last + self.lag + gap).saturating_sub(own));
        if now - due > LATE_MS {
            lag = lag.max(now - own);
        }
        if lag > 0 {
            let last = self.last.max(own);
            *self = Self { lag, last, until: now + lag + gap + LATE_MS };
        }
        own + lag
    }
}

/// A queue that one worker claims from as soon as it is told to, and once a second.
struct Worker {
    redis: Virtual,
    jobs: Jobs,
    start: u64,
    claims: u64,
    looks_at: u64,
}

impl Worker {
    fn start() -> Self {
        let redis = Virtual::start(QUEUE.text);
        let start = redis.now;
        Self { redis, jobs: Jobs::of("t"), start, claims: 0, looks_at: start }
    }

    /// Has a job of a line stored that is due so many milliseconds from now.
    fn puts(&mut self, ticket: &str, (line, gap): (&str, u64), delay: u64) {
        let counter = Counter { name: line.to_owned(), gap: Micros::from_millis(gap) };
        let settings = queue(100_000, 3, Micros::from_secs(3_600));
        let terms = (&counter, Micros::from_millis(delay - 1));
        let call = self.jobs.put(ticket, ("r", &settings), terms, Micros::from_secs(10), b"x");
        assert!(stored(&self.redis.run(&call).unwrap()).unwrap().0);
    }

    /// Claims for so long; says which ticket came when, in milliseconds since the start.
    fn claims_for(&mut self, ms: u64) -> Vec<(u64, String)> {
        let (mut came, end) = (Vec::new(), self.redis.now + ms);
        while self.looks_at < end {
            self.redis.now = self.redis.now.max(self.looks_at);
            self.claims += 1;
            let holder = format!("h{}", self.claims);
            let brought = claimed(&self.redis.run(&self.jobs.claim(&holder)).unwrap()).unwrap();
            let is_idle = brought.jobs.is_empty();
            for (ticket, ..) in brought.jobs {
                let end = self.jobs.end(&ticket, &holder, true, b"");
                assert_eq!(settled(&self.redis.run(&end).unwrap()), Some(1));
                came.push((self.redis.now - self.start, ticket));
            }
            let next = brought.next.map_or(1_000, |wait| wait.0 / 1_000);
            assert!(next > 0 || !is_idle, "a filter takes no word for more where nothing came");
            self.looks_at = self.redis.now + next.min(1_000);
        }
        self.redis.now = end;
        came
    }
}

#[test]
fn after_an_outage_jobs_come_as_they_were_reserved_not_all_at_once() {
    if !skip::has("queue after an outage", &["redis-server"]) {
        return;
    }
    let mut worker = Worker::start();
    // Ten a second of one counter, and one of another.
    for number in 1..=300 {
        worker.puts(&format!("{number:03}"), ("00", 100), number * 100);
    }
    worker.puts("other", ("01", 100), 25_000);
    worker.redis.now += 20_000;
    worker.looks_at = worker.redis.now;
    let came = worker.claims_for(40_000);
    let (other, came): (Vec<_>, Vec<_>) = came.into_iter().partition(|(_, ticket)| ticket == "other");
    // The line's first at once, and each other one a tenth of a second later, in order; also those that were not late.
    let tickets: Vec<String> = (1..=300).map(|number| format!("{number:03}")).collect();
    assert_eq!(came.iter().map(|(_, ticket)| ticket).collect::<Vec<_>>(), tickets.iter().collect::<Vec<_>>());
    for (number, (at, ticket)) in (0..).zip(&came) {
        let due = 20_000 + number * 100;
        assert!((due..due + 50).contains(at), "{ticket} came at {at} ms");
    }
    let ["other"] = other.iter().map(|(_, ticket)| ticket.as_str()).collect::<Vec<_>>()[..] else {
        panic!("{other:?}")
    };
    assert!((25_000..26_000).contains(&other[0].0), "what waits for another counter is not kept back: {other:?}");
    // One claim a job, and one for each 32 that were set back: nobody asks in circles.
    assert!(worker.claims < 400, "{} claims", worker.claims);
}

#[test]
fn what_is_on_time_is_never_kept_back() {
    if !skip::has("queue on time", &["redis-server"]) {
        return;
    }
    let mut worker = Worker::start();
    // A fixed window admits all of its moments together; nobody but the look once a second comes for these.
    for number in 0..30 {
        worker.puts(&format!("{number:02}"), ("00", 10_000), if number < 20 { 10_050 } else { 20_050 });
    }
    let came = worker.claims_for(25_000);
    let times: Vec<u64> = came.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [[11_000; 20].as_slice(), &[21_000; 10]].concat());
}

#[test]
fn idle_time_makes_up_for_an_outage_but_never_a_window_too_early() {
    if !skip::has("queue's idle time", &["redis-server"]) {
        return;
    }
    let mut worker = Worker::start();
    // Two windows of ten seconds, then three idle ones.
    for (ticket, delay) in [("1a", 10_000), ("1b", 10_000), ("2a", 20_000), ("2b", 20_000), ("6a", 60_000)] {
        worker.puts(ticket, ("00", 10_000), delay);
    }
    worker.redis.now += 18_000;
    worker.looks_at = worker.redis.now;
    let came: Vec<(u64, String)> = worker.claims_for(60_000);
    let seconds: Vec<(u64, &str)> = came.iter().map(|(at, ticket)| (at / 1_000, ticket.as_str())).collect();
    assert_eq!(seconds, [(18, "1a"), (18, "1b"), (28, "2a"), (28, "2b"), (60, "6a")]);
}
