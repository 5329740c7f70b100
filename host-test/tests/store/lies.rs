//! A store that lies: true answers of every kind, most of them damaged. Nothing that it says ends a VM or holds a request,
//! and once it tells the truth again it decides.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_engine::redis::{ACQUIRE, QUEUE};
use tidegate_host_test::{Answer, Callout, Cluster, Outcome, Request, Stream};
use xtask::envoy::fetch::hex_sha256;

use crate::jobs::{ok, result, rules as queueing};
use crate::played::{MS, NOW, Proxy, answer, asked, passed, policy, proxy_of};
use crate::tidegate;

const TOKEN: &str = "write-token-51aa";
const WORKERS: usize = 2;
const STEPS: usize = 3_000;
/// Longer than any call may take.
const SECOND: Duration = Duration::from_secs(1);

/// What stands where a number stood.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "2",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e308",
    "0.5",
    "null",
    "\"\"",
    "[]",
];

/// Numbers that a seed determines (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit as u64)).unwrap()
    }

    /// A text with one thing wrong.
    fn damaged(&mut self, text: &str) -> Vec<u8> {
        let at = self.below(text.len() + 1);
        let mut bytes = text.as_bytes().to_vec();
        match self.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = b"\0\x80\"[]{},0z"[self.below(10)]),
            // A piece of it once more.
            2 => {
                let piece = bytes[at..].iter().take(40).copied().collect::<Vec<u8>>();
                bytes.splice(at..at, piece);
            }
            _ => {
                let is_digit = |at: &usize| bytes.get(*at).is_some_and(u8::is_ascii_digit);
                let from = (at..bytes.len()).find(is_digit).unwrap_or(at);
                let to = (from..bytes.len()).find(|at| !is_digit(at)).unwrap_or(bytes.len());
                bytes.splice(from..to, NUMBERS[self.below(NUMBERS.len())].bytes());
            }
        }
        bytes
    }
}

/// What the store has been given, to say it again.
#[derive(Default)]
struct Given {
    /// The last state, and its tag.
    state: (String, String),
    /// The last job's ticket, and its request.
    job: (String, String),
}

impl Given {
    /// A true answer.
    fn truth(&mut self, call: &Callout) -> Value {
        let words: Vec<String> = serde_json::from_slice(&call.body).unwrap();
        let is = |script: &tidegate_engine::redis::Script| words[1] == script.sha1 || words[1] == script.text;
        let question = asked(call);
        if is(&ACQUIRE) {
            // All that is asked for, and where that is more than this request's unit, for two seconds.
            let cells = question.lines.iter().flat_map(|line| {
                let number = |at| line.split(' ').nth(at).unwrap().parse::<i64>().unwrap();
                let (burst, most) = (number(3), number(7));
                [
                    if burst == 1 { 100_000 } else { 0 },
                    most,
                    burst / 2,
                    60_000_000,
                    if most > 1 { 2_000_000 } else { 0 },
                ]
            });
            return [1, NOW].into_iter().chain(cells).collect();
        }
        if is(&QUEUE) {
            return match question.purpose.as_str() {
                "put" => {
                    self.job = (question.lines[0].clone(), question.lines.last().unwrap().clone());
                    json!([1, 1])
                }
                "claim" => json!([0, 1, "r", 1, 0, self.job.0, 1, self.job.1]),
                "look" => json!([3, "r", 1, 0, "yAAAAAAAAAA"]),
                _ => json!([1]),
            };
        }
        match question.lines.as_slice() {
            [text] => {
                self.state = (question.purpose, text.clone());
                json!([2])
            }
            _ if question.purpose == self.state.0 => json!([0]),
            _ => json!([1, self.state.1]),
        }
    }

    /// The answer to a call, with something wrong in its own text or in one that it carries where there is a `liar`. Jobs'
    /// upstream is honest.
    fn answer(&mut self, call: &Callout, liar: Option<&mut Random>) -> Answer {
        if call.cluster == "jobs" {
            return ok();
        }
        let mut truth = self.truth(call);
        let Some(random) = liar else { return result(&truth) };
        if random.below(20) == 0 {
            return [Answer::Reset, Answer::Refused, Answer::Timeout][random.below(3)].clone();
        }
        for text in truth.as_array_mut().unwrap().iter_mut().filter(|entry| entry.is_string()) {
            if random.below(2) == 0 {
                *text = String::from_utf8_lossy(&random.damaged(text.as_str().unwrap())).into();
            }
        }
        let whole = json!({ "result": truth }).to_string();
        answer(200, if random.below(2) == 0 { whole.into_bytes() } else { random.damaged(&whole) })
    }

    /// Answers all calls that are out.
    fn answer_all(&mut self, at: &Proxy, mut liar: Option<&mut Random>) {
        for call in at.host.callouts() {
            at.host.answer(&call, self.answer(&call, liar.as_deref_mut()));
        }
    }
}

fn admin(at: &Proxy, method: &str, path: &str, body: &Value) -> Stream {
    let request = Request::new(method, &format!("/.tidegate/v1/{path}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json");
    at.host.request(0, &at.id, if body.is_null() { request } else { request.body(body.to_string()) })
}

fn asks_for_something(at: &Proxy, random: &mut Random, ticket: &str) -> Stream {
    let user = format!("u{}", random.below(2));
    let grant = json!({"target_user_id": user, "reason": "testing", "duration_minutes": 5, "unlimited": true});
    let rule = json!({"scope": "global", "rate": 100_000, "window_seconds": 60});
    match random.below(10) {
        0 => admin(at, "POST", "overrides", &grant),
        1 => admin(at, "PUT", "rules/more", &rule),
        2 => admin(at, "DELETE", "rules/more", &Value::Null),
        3 => admin(at, "GET", &format!("counters/user/{user}"), &Value::Null),
        4 => admin(at, "DELETE", &format!("counters/user/{user}"), &Value::Null),
        5 => at.host.request(1, &at.id, Request::get(&format!("/.tidegate/v1/queue/{ticket}"))),
        6 => {
            let request = Request::new("POST", "/work").header("x-user", user).body("work");
            at.host.request(random.below(WORKERS), &at.id, request)
        }
        _ => at.host.request(random.below(WORKERS), &at.id, tidegate::from(&user)),
    }
}

#[test]
fn nothing_that_a_store_says_ends_a_vm_or_holds_a_request() {
    let token = hex_sha256(TOKEN.as_bytes());
    let api =
        format!(r#""admin_api": {{"tokens": [{{"name": "ops", "role": "write", "sha256": "{token}"}}]}}, "store":"#);
    let leased = tidegate::rule("many", "per_user", 1_000, 60, "");
    for mode in ["exact", "lease"] {
        // Open at no time: it goes on asking.
        let settings = format!(r#", "mode": "{mode}", "breaker": {{"failures": 100, "open_ms": 100}}"#);
        let queued = queueing().concat().replace(r#""burst""#, r#""endpoints": ["/work"], "burst""#);
        let rules = [queued, leased.clone()];
        let Some(at) = proxy_of(WORKERS, &policy(&settings, &rules).replace(r#""store":"#, &api)) else { return };
        at.host.set_cluster("jobs", Cluster::Healthy { max_requests: 1_000 });
        let (mut random, mut given) = (Random(0x9E37_79B9_7F4A_7C15), Given::default());
        for _ in 0..STEPS {
            let stream = asks_for_something(&at, &mut random, &given.job.0);
            // What is told makes it ask for more.
            for _ in 0..4 {
                given.answer_all(&at, Some(&mut random));
            }
            at.host.advance(if random.below(20) == 0 { SECOND } else { 30 * MS });
            at.host.advance(SECOND * u32::from(stream.outcome() == Outcome::Paused) * 2);
            assert_ne!(stream.outcome(), Outcome::Paused, "{mode}: a request is held");
            at.sound();
        }
        let [answered, failed, _, _, leased] = at.counted();
        let jobs = at.count("taken_total");
        println!("store, lies in {mode}: {answered} calls answered, {failed} not, {leased} leased, {jobs} jobs");
        assert!(answered.min(failed).min(jobs) > 30 && (leased > 30) == (mode == "lease"), "all of it happens");
        // From here on it tells the truth, as far as it has been told any.
        for _ in 0..120 {
            given.answer_all(&at, None);
            at.host.advance(SECOND);
        }
        let stream = at.from("new");
        given.answer_all(&at, None);
        assert!(passed(&stream) && at.is_healthy(), "{mode}: {:?}", stream.outcome());
        at.sound();
    }
}
