//! Tidegate's engine on Fastly Compute. Each request has an instance of its own, so there is no memory to count in: the
//! cells live in Redis, reached through a backend that speaks as Upstash does (Upstash itself, or tidegate-gateway).
//! Not here: strategies that hold or store requests; an instance ends with its request.

use std::time::{SystemTime, UNIX_EPOCH};

use fastly::{Error, Request, Response, SecretStore};
use tidegate_engine::acquire::{Reply, StoreError};
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::{Policy, Protocol};
use tidegate_engine::redis::{self, Call, Conversation, Failure, Form};
use tidegate_engine::strategy::{Action, Reduced};
use tidegate_engine::{DEGRADED, Engine, Header, Micros, Pending, Step, Timestamp};

const POLICY: &str = include_str!("../policy.json");

/// The backend that reaches Redis over HTTP, and the one that serves the requests.
const COUNTERS: &str = "counters";
const ORIGIN: &str = "origin";

fn main() -> Result<(), Error> {
    let mut request = Request::from_client();
    let policy = Policy::parse(POLICY.as_bytes(), &Catalogue::builtin())
        .map_err(|mistakes| Error::msg(format!("the policy is wrong:\n{mistakes}")))?;
    if let Some(rule) = policy.rules.iter().find(|rule| rule.strategy.horizon() > Micros::ZERO) {
        return Err(Error::msg(format!("the rule {} holds or stores requests, which nothing here can", rule.name)));
    }
    let engine = Engine::new(policy);
    let mut step = ask(&engine, &request);
    let decision = loop {
        step = match step {
            Step::Done(decision) => break decision,
            Step::Pending(pending) => decide(engine.policy(), pending),
        };
    };
    if let Some(answer) = &decision.response {
        let mut response = Response::from_status(answer.status).with_body(answer.body.as_str());
        answer.headers.iter().for_each(|(name, value)| response.append_header(name.as_ref(), value.as_str()));
        response.send_to_client();
        return Ok(());
    }
    remove_reserved(&engine, &mut request);
    if let Action::Degrade(Reduced::Forward { headers, path }) = &decision.action {
        let rule = decision.denial.as_ref().map_or("", |denial| denial.rule.as_str());
        reduce(&mut request, headers, path.as_deref(), rule);
    }
    let mut response = request.send(ORIGIN)?;
    add_to_response(&mut response, &decision.headers);
    response.send_to_client();
    Ok(())
}

/// Removes what only Tidegate may say, in any spelling that an origin could take for it.
fn remove_reserved(engine: &Engine, request: &mut Request) {
    let names = request.get_header_names().map(ToString::to_string);
    let reserved: Vec<String> = names.filter(|name| engine.reserves_header(name.as_bytes())).collect();
    for name in reserved {
        request.remove_header(name);
    }
}

/// Changes a request into the reduced form that a `graceful` rule forwards.
fn reduce(request: &mut Request, headers: &[(String, String)], path: Option<&str>, rule: &str) {
    request.set_header(DEGRADED, rule);
    for (name, value) in headers {
        request.set_header(name.as_str(), value.as_str());
    }
    let Some(path) = path else { return };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    request.set_path(path);
    match query {
        Some(query) => request.set_query_str(query),
        None => request.remove_query(),
    }
}

/// Adds headers without making the origin's own looser: list fields grow by our members; of the `X-RateLimit-*` triple,
/// which holds one limit, the one with less remaining stays.
fn add_to_response(response: &mut Response, added: &[(&'static str, String)]) {
    const REMAINING: &str = "x-ratelimit-remaining";
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let ours = added.iter().find(|(name, _)| *name == REMAINING).and_then(|(_, value)| number(value));
    let theirs = response.get_header_str(REMAINING).and_then(number);
    let keeps_theirs = theirs.zip(ours).is_some_and(|(theirs, ours)| theirs < ours);
    for (name, value) in added {
        if !name.starts_with("x-ratelimit-") {
            response.append_header(*name, value.as_str());
        } else if !keeps_theirs {
            response.set_header(*name, value.as_str());
        }
    }
}

/// The request as the engine reads it. The address is the one that Fastly saw.
fn ask(engine: &Engine, request: &Request) -> Step {
    let target = match request.get_query_str() {
        Some(query) => [request.get_path(), "?", query].concat(),
        None => request.get_path().to_owned(),
    };
    let peer = request.get_client_ip_addr().map(|address| address.to_string()).unwrap_or_default();
    let own: [Header<'_>; 2] = [(b":method", request.get_method_str().as_bytes()), (b":path", target.as_bytes())];
    let sent = request.get_headers().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let headers: Vec<Header<'_>> = own.into_iter().chain(sent).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_micros(u64::try_from(now.as_micros()).unwrap_or_default());
    engine.check(&tidegate_engine::Request { headers: &headers, peer: peer.as_bytes(), metadata: &[] }, now)
}

/// Asks Redis; where it does not decide, each rule's `on_store_error` does. This instance has no cells of its own, so
/// `local` lets through.
fn decide(policy: &Policy, pending: Pending) -> Step {
    let reply = talk(policy, &pending).map_err(|failure| {
        eprintln!("Redis did not decide: {failure}");
        StoreError
    });
    pending.resume(reply)
}

/// One call in most cases; where Redis is a Cluster, one for each identity.
fn talk(policy: &Policy, pending: &Pending) -> Result<Reply, Failure> {
    let acquire = pending.acquire();
    let rules: Vec<usize> = pending.cell_rules().map(|(rule, _)| rule).collect();
    let keys = redis::keys(policy, &rules, acquire);
    let token = SecretStore::open("tidegate").ok().and_then(|store| store.get("token"));
    let token = token.map(|secret| String::from_utf8_lossy(&secret.plaintext()).into_owned());
    for is_cluster in [false, true] {
        let mut talk = Conversation::new(acquire, is_cluster);
        let mut outcome = Ok(());
        while let (Ok(()), Some(call)) = (&outcome, talk.next_call(acquire, &keys, &[])) {
            outcome = made(&call, token.as_deref()).and_then(|numbers| talk.take(&numbers, acquire, &[]));
        }
        if outcome == Err(Failure::CrossSlot) && !is_cluster {
            continue;
        }
        // What must not stay charged is given back; an answer to that tells nothing.
        for call in Call::refunds(&talk.returned(acquire, &keys), is_cluster) {
            let _ = made(&call, token.as_deref());
        }
        return outcome.map(|()| talk.finish().reply());
    }
    Err(Failure::CrossSlot)
}

/// Makes a call by the script's name, and by its text where Redis does not know it yet.
fn made(call: &Call, token: Option<&str>) -> Result<Vec<i64>, Failure> {
    let send = |form| {
        let mut request = Request::post("https://counters/").with_body(call.body(Protocol::Upstash, form));
        request.set_header("content-type", "application/json");
        if let Some(token) = token {
            request.set_header("authorization", format!("Bearer {token}"));
        }
        let response = request.with_pass(true).send(COUNTERS).map_err(|_| Failure::Status(503))?;
        let status = u32::from(response.get_status().as_u16());
        redis::read(status, &response.into_body_bytes()).and_then(|entries| redis::numbers(&entries))
    };
    match send(Form::Hash) {
        Err(Failure::NoScript) => send(Form::Text),
        other => other,
    }
}
