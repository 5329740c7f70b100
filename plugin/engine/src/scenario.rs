//! Scenario files: a policy, timed requests and what each must get. The engine runs them natively; the hosts' tests run
//! the same files through the shipped .wasm and the edge package, and all must agree to the byte.
//! Reading files is the caller's; nothing here waits, time is what the file says.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Decision;
use crate::catalogue::Catalogue;
use crate::engine::{Engine, Step};
use crate::memory::Memory;
use crate::policy::Policy;
use crate::request::{Header, Request};
use crate::time::Timestamp;

/// When a scenario starts unless it says so: 2026-01-01T00:00:00Z, which no window of up to a day straddles.
const START: u64 = 1_767_225_600_000_000;

/// One scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    pub description: String,
    /// The policy, whole, or the name of its file relative to the scenario's.
    pub policy: serde_json::Value,
    /// When time zero is, microseconds since the epoch.
    #[serde(default = "start")]
    pub start_us: u64,
    /// The requests in order. Time may stand still and may go back.
    pub requests: Vec<TimedRequest>,
}

/// One request, or several equal ones, and what each must get.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedRequest {
    /// Milliseconds after the scenario's start; may be negative.
    #[serde(default)]
    pub at_ms: i64,
    /// Microseconds added to that.
    #[serde(default)]
    pub at_us: i64,
    /// How many equal requests are made at that moment.
    #[serde(default = "once")]
    pub times: u32,
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// The path with its query.
    #[serde(default = "root")]
    pub path: String,
    /// Further headers; a list makes several lines of one name.
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMore>,
    /// The peer's address as the host prints it.
    #[serde(default = "peer")]
    pub peer: String,
    /// The host's metadata: path of names, joined by `/`, to value.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// What each of the requests must get; what is not named is not looked at.
    #[serde(default)]
    pub expect: Expectation,
}

/// The value of a header that a request carries once or several times.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One line.
    One(String),
    /// A line each.
    More(Vec<String>),
}

/// What a request must get.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// `allowed`, `limited` or `unlimited`.
    pub outcome: Option<String>,
    /// The status of Tidegate's own answer.
    pub status: Option<u16>,
    /// The rule that a log shows.
    pub rule: Option<String>,
    /// Headers that the client must see; `null` is one that it must not.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
    /// Text that the body of Tidegate's own answer must hold.
    pub body_has: Option<String>,
}

/// What one request got: everything that a client or an access log can tell of Tidegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// `allowed`, `limited` or `unlimited`.
    pub outcome: String,
    /// The rule that a log shows, if any applied.
    pub rule: Option<String>,
    /// The status of Tidegate's own answer; `None` where the request went on.
    pub status: Option<u16>,
    /// The headers that Tidegate gave the response, sorted.
    pub headers: Vec<(String, String)>,
    /// The body of Tidegate's own answer.
    pub body: String,
}

fn start() -> u64 {
    START
}

fn once() -> u32 {
    1
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn peer() -> String {
    "192.0.2.1:40000".to_owned()
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Says where the text is no scenario.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The policy's text; `read` gives that of a file named in the scenario.
    ///
    /// # Errors
    /// What `read` says.
    pub fn policy_text(&self, read: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
        match &self.policy {
            serde_json::Value::String(file) => read(file),
            inline => Ok(inline.to_string()),
        }
    }

    /// When a request of this scenario is made.
    pub fn moment(&self, request: &TimedRequest) -> Timestamp {
        let offset = request.at_ms.saturating_mul(1_000).saturating_add(request.at_us);
        Timestamp::from_micros(self.start_us.saturating_add_signed(offset))
    }

    /// Runs the scenario in this process and returns what each request got, `times` counted out.
    ///
    /// # Errors
    /// The policy's mistakes.
    pub fn run(&self, policy: &str, catalogue: &Catalogue) -> Result<Vec<Observed>, String> {
        let policy = Policy::parse(policy.as_bytes(), catalogue).map_err(|mistakes| mistakes.to_string())?;
        let max_keys = policy.store.max_keys();
        let engine = Engine::new(policy);
        let mut memory = Memory::new(max_keys, [0; 16]);
        let mut observed = Vec::new();
        for request in &self.requests {
            for _ in 0..request.times {
                observed.push(request.run(&engine, &mut memory, self.moment(request)));
            }
        }
        Ok(observed)
    }

    /// Compares what each request got with what it must get. Each line says which request differs, and how.
    pub fn differences(&self, observed: &[Observed]) -> Vec<String> {
        let expected = self
            .requests
            .iter()
            .enumerate()
            .flat_map(|(index, request)| (0..request.times).map(move |time| (index, time, &request.expect)));
        let mut differences = Vec::new();
        let mut compared: usize = 0;
        for ((index, time, expect), observed) in expected.zip(observed) {
            compared = compared.saturating_add(1);
            let wrong = expect.differences(observed);
            differences.extend(wrong.into_iter().map(|wrong| format!("request {index}, time {time}: {wrong}")));
        }
        let wanted: usize = self.requests.iter().map(|request| request.times as usize).sum();
        if compared != wanted || observed.len() != wanted {
            differences.push(format!("{wanted} requests were to be made, {} were", observed.len()));
        }
        differences
    }
}

impl TimedRequest {
    /// All header lines, pseudo-headers first, names in lower case.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            (":method".to_owned(), self.method.clone()),
            (":path".to_owned(), self.path.clone()),
            (":authority".to_owned(), "scenario.test".to_owned()),
            (":scheme".to_owned(), "http".to_owned()),
        ];
        for (name, values) in &self.headers {
            let values = match values {
                OneOrMore::One(value) => core::slice::from_ref(value),
                OneOrMore::More(values) => values.as_slice(),
            };
            lines.extend(values.iter().map(|value| (name.to_ascii_lowercase(), value.clone())));
        }
        lines
    }

    fn run(&self, engine: &Engine, memory: &mut Memory, now: Timestamp) -> Observed {
        let lines = self.lines();
        let headers: Vec<Header<'_>> = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let metadata: Vec<Vec<u8>> = engine
            .metadata_sources()
            .map(|path| self.metadata.get(&path.join("/")).map(|value| value.clone().into_bytes()).unwrap_or_default())
            .collect();
        let request = Request { headers: &headers, peer: self.peer.as_bytes(), metadata: &metadata };
        let mut step = engine.check(&request, now);
        loop {
            step = match step {
                Step::Done(decision) => return Observed::of(engine, &decision),
                Step::Pending(pending) => {
                    let reply = memory.acquire(engine, pending.acquire());
                    pending.resume(Ok(reply))
                }
            };
        }
    }
}

impl Observed {
    /// What a client and a log see of a decision.
    pub fn of(engine: &Engine, decision: &Decision) -> Self {
        let policy = engine.policy();
        let rule = decision.leading_rule(policy).and_then(|rule| policy.rules.get(rule)).map(|rule| rule.name.clone());
        let owned = |name: &str, value: &String| (name.to_owned(), value.clone());
        let mut headers: Vec<(String, String)> = match &decision.response {
            Some(response) => response.headers.iter().map(|(name, value)| owned(name, value)).collect(),
            None => decision.headers.iter().map(|(name, value)| owned(name, value)).collect(),
        };
        headers.sort();
        let (status, body) = match &decision.response {
            Some(response) => (Some(response.status), response.body.clone()),
            None => (None, String::new()),
        };
        Self { outcome: decision.outcome().to_owned(), rule, status, headers, body }
    }

    /// The value of a header, where there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Expectation {
    fn differences(&self, observed: &Observed) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, wanted: Option<&str>, found: Option<&str>| {
            if wanted != found {
                differences.push(format!("{what}: expected {wanted:?}, found {found:?}"));
            }
        };
        if let Some(outcome) = &self.outcome {
            compare("outcome", Some(outcome), Some(&observed.outcome));
        }
        if let Some(status) = self.status {
            let found = observed.status.map(|status| status.to_string());
            compare("status", Some(&status.to_string()), found.as_deref());
        }
        if let Some(rule) = &self.rule {
            compare("rule", Some(rule), observed.rule.as_deref());
        }
        for (name, value) in &self.headers {
            compare(name, value.as_deref(), observed.header(name));
        }
        if let Some(text) = &self.body_has
            && !observed.body.contains(text.as_str())
        {
            differences.push(format!("body: expected {text:?} in {:?}", observed.body));
        }
        differences
    }
}
