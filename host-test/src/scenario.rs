//! Runs a scenario file through a plugin in this host, so that the .wasm can be held to what the engine says natively.
//! The file's format, and what is compared, are the engine's; nothing here decides anything.

use std::time::Duration;

use tidegate_engine::scenario::{Observed, Scenario, TimedRequest};

use crate::headers::Headers;
use crate::host::{Host, Upstream};
use crate::message::{Request, Response};
use crate::module::Module;
use crate::plugin::Plugin;
use crate::stream::{Outcome, Stream};

/// How long after the last request a held one may still be waiting, in seconds: longer than any policy holds one.
const LONGEST_HOLD: u64 = 600;

/// Runs a scenario and returns what each request got, `times` counted out, in the file's order. Requests go to the
/// workers in turn; the answer must not depend on how many there are.
///
/// What a log sees are the properties `tidegate.outcome` and `tidegate.rule`; what the client sees is Tidegate's own
/// answer as it gave it, or what it added to the answer of an upstream that says only `200`. Requests that are held
/// are released as the clock moves on to the later ones, and after the last.
///
/// # Errors
/// The policy is refused (with the plugin's log), the VM dies, a request stays held, or the client is told another
/// status than the plugin gave.
pub fn run(scenario: &Scenario, policy: &str, module: &Module, workers: usize) -> Result<Vec<Observed>, String> {
    let workers = workers.max(1);
    let host = Host::builder()
        .workers(workers)
        .start_micros(scenario.start_us)
        .upstream(Upstream::Direct(Response::new(200)))
        .build();
    let plugin = Plugin::new(module).name("tidegate").configuration(policy);
    let plugin = host.load(plugin).map_err(|error| error.to_string())?;
    let mut streams: Vec<Stream> = Vec::new();
    for request in &scenario.requests {
        host.turn_clock_to(scenario.moment(request).micros());
        for _ in 0..request.times {
            let stream = host.request(streams.len() % workers, &plugin, message(request));
            streams.push(stream);
        }
    }
    for _ in 0..LONGEST_HOLD {
        if !streams.iter().any(|stream| stream.outcome() == Outcome::Paused) {
            break;
        }
        host.advance(Duration::from_secs(1));
    }
    let observed = streams.iter().enumerate().map(|(index, stream)| {
        observe(stream).map_err(|what| {
            let died = host.logs().into_iter().rev().find(|line| line.level == crate::LogLevel::Critical);
            let died = died.map_or(String::new(), |line| format!("\n{}", line.message));
            format!("the request made as number {index}: {what}{died}")
        })
    });
    observed.collect()
}

impl Host {
    /// Lets time pass until the wall clock shows `micros`, or steps it back there.
    pub(crate) fn turn_clock_to(&self, micros: u64) {
        match micros.checked_sub(self.clock().micros()) {
            Some(ahead) => self.advance(Duration::from_micros(ahead)),
            None => self.clock().set_micros(micros),
        }
    }
}

/// The request as a client sends it, with the properties that the real host would have.
fn message(request: &TimedRequest) -> Request {
    let mut message = Request::new(&request.method, &request.path).peer(&request.peer);
    for (name, value) in request.lines() {
        match name.as_str() {
            ":method" | ":path" | ":scheme" => {}
            ":authority" => message = message.set_header(name, value),
            _ => message = message.header(name, value),
        }
    }
    for (path, value) in &request.metadata {
        let names: Vec<&str> = ["metadata", "filter_metadata"].into_iter().chain(path.split('/')).collect();
        message = message.property(&names, value);
    }
    message
}

fn observe(stream: &Stream) -> Result<Observed, String> {
    let told = |name: &str| stream.set_property(&[name]).map(|value| String::from_utf8_lossy(&value).into_owned());
    let outcome = told("tidegate.outcome").unwrap_or_else(|| "unlimited".to_owned());
    let rule = told("tidegate.rule");
    match stream.outcome() {
        Outcome::LocalReply(reply) if reply.status == stream.status() => Ok(Observed {
            outcome,
            rule,
            status: Some(reply.status),
            headers: sorted(&reply.headers),
            body: String::from_utf8_lossy(&reply.body).into_owned(),
        }),
        Outcome::LocalReply(reply) => {
            Err(format!("the plugin answers {}, the client is told {}", reply.status, stream.status()))
        }
        Outcome::Forwarded(_) => {
            let response = stream.response().ok_or("it went on and got no answer")?;
            let headers = sorted(&response.headers);
            Ok(Observed { outcome, rule, status: None, headers, body: String::new() })
        }
        other => Err(format!("it ended as {other:?}")),
    }
}

/// All headers but the upstream's `:status`.
fn sorted(headers: &Headers) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let own = headers.iter().filter(|(name, _)| *name != b":status");
    let mut sorted: Vec<(String, String)> = own.map(|(name, value)| (text(name), text(value))).collect();
    sorted.sort();
    sorted
}
