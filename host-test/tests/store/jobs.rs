//! A proxy with a rule that queues, whose store the test plays: the steps that it asks for, and the tries that it makes.

use serde_json::{Value, json};
use tidegate_host_test::{Answer, Callout, Request, Response, Stream, Thread};

use crate::played::{MS, Proxy, answer, asked, granted, policy, proxy_of};
use crate::tidegate::rule;

/// One a minute at once; jobs go to a cluster of their own name.
const QUEUE: &str = r#", "burst": 1, "strategy": {"type": "queue", "cluster": "jobs", "authority": "jobs",
    "max_queued": 10, "max_body_bytes": 1000, "max_attempts": 3, "backoff_ms": 100, "timeout_ms": 5000,
    "max_wait_seconds": 600, "result_ttl_seconds": 60, "full_status": 507}"#;

pub(crate) const PAGES: &str = "/.tidegate/v1/queue/";

pub(crate) fn rules() -> [String; 1] {
    [rule("r", "per_user", 1, 60, QUEUE)]
}

/// A proxy of so many workers, with a claim that found nothing behind it.
pub(crate) fn queueing(workers: usize, store: &str) -> Option<Proxy> {
    let at = proxy_of(workers, &policy(store, &rules()))?;
    at.host.set_cluster("jobs", tidegate_host_test::Cluster::Healthy { max_requests: 100 });
    at.host.advance(MS);
    at.nothing_due();
    Some(at)
}

pub(crate) fn result(entries: &Value) -> Answer {
    answer(200, json!({"result": entries}).to_string())
}

pub(crate) fn ok() -> Answer {
    Answer::Response(Response::new(200).header("content-type", "text/plain").body("done"))
}

impl Proxy {
    fn calls_of(&self, authority: &str) -> Vec<Callout> {
        let all = self.host.callouts().into_iter();
        all.filter(|call| call.headers.text(":authority").as_deref() == Some(authority)).collect()
    }

    /// The calls that ask for this step.
    pub(crate) fn steps(&self, step: &str) -> Vec<Callout> {
        self.calls_of("gateway").into_iter().filter(|call| asked(call).purpose == step).collect()
    }

    /// The one call that asks for this step.
    pub(crate) fn step(&self, step: &str) -> Callout {
        let mut calls = self.steps(step);
        assert_eq!(calls.len(), 1, "calls for {step}; out are {:?}", self.out());
        calls.remove(0)
    }

    /// What is asked for, besides claims.
    pub(crate) fn out(&self) -> Vec<String> {
        let all = self.calls_of("gateway").iter().map(|call| asked(call).purpose).collect::<Vec<_>>();
        all.into_iter().filter(|step| step != "claim").collect()
    }

    /// Answers the one call for this step.
    pub(crate) fn told(&self, step: &str, entries: &Value) {
        self.host.answer(&self.step(step), result(entries));
    }

    /// Answers every claim that is out with nothing.
    pub(crate) fn nothing_due(&self) {
        for call in self.steps("claim") {
            self.host.answer(&call, result(&json!([0, 0])));
        }
    }

    /// The tries that are out.
    pub(crate) fn tries(&self) -> Vec<Callout> {
        self.calls_of("jobs")
    }

    pub(crate) fn count(&self, what: &str) -> u64 {
        let metrics = self.host.metrics();
        let name = format!("tidegate.default.queue_{what}.r");
        metrics.counter(&name).or_else(|| metrics.gauge(&name)).unwrap()
    }

    /// A request that the store has a moment for, in two seconds: it waits until it is stored.
    pub(crate) fn puts(&self, worker: usize) -> Stream {
        let request = Request::new("POST", "/report?x=1").header("x-user", "a").header("content-type", "text/x");
        let stream = self.host.request(worker, &self.id, request.body("work"));
        self.host.answer(&self.step("acquire"), granted(&[[2_000_000, 1, 0, 62_000_000, 0]]));
        stream
    }

    /// Has a request stored, and returns its ticket and what the store was given to keep.
    pub(crate) fn stores(&self, worker: usize) -> (String, String) {
        let stream = self.puts(worker);
        let put = self.step("put");
        let words = asked(&put).lines;
        self.host.answer(&put, result(&json!([1, 1])));
        assert_eq!(stream.status(), 202);
        (words[0].clone(), words.last().unwrap().clone())
    }

    /// The next claim of a worker, within so many milliseconds; those of other VMs find nothing.
    pub(crate) fn claim_of(&self, worker: usize, most_ms: u32) -> Callout {
        for _ in 0..=most_ms {
            let is_its = |call: &Callout| call.thread == Thread::Worker(worker);
            let (its, others): (Vec<_>, Vec<_>) = self.steps("claim").into_iter().partition(is_its);
            for call in others {
                self.host.answer(&call, result(&json!([0, 0])));
            }
            if let Some(call) = its.into_iter().next() {
                return call;
            }
            self.host.advance(MS);
        }
        panic!("worker {worker} did not claim within {most_ms} ms; out are {:?}", self.out());
    }

    /// The next claim of any VM.
    pub(crate) fn any_claim(&self) -> Callout {
        for _ in 0..2_000 {
            if let Some(call) = self.steps("claim").into_iter().next() {
                return call;
            }
            self.host.advance(MS);
        }
        panic!("no VM claims");
    }

    /// Has a worker claim this job, as its so manieth try, and returns the try.
    pub(crate) fn claims(&self, worker: usize, (ticket, request): &(String, String), attempt: u32) -> Callout {
        let claim = self.claim_of(worker, 3_000);
        self.host.answer(&claim, result(&json!([0, 1, "r", 1, 0, ticket, attempt, request])));
        let mut tries = self.tries();
        assert_eq!(tries.len(), 1, "tries");
        tries.remove(0)
    }

    /// Lets so much time pass; claims on the way find nothing.
    pub(crate) fn passes(&self, ms: u32) {
        for _ in 0..ms {
            self.nothing_due();
            self.host.advance(MS);
        }
    }
}
