//! What JavaScript asks about a policy and its counters, in JSON: never on the way of a request. JSON is written by the
//! engine's own nodes, which are in the module anyway.

pub(crate) use tidegate_engine::admin::{number, object, text};
use tidegate_engine::policy::{Mistake, Mistakes, Node, Policy, Rule, UserSource, Warning};
use tidegate_engine::strategy::{Queue, Reduced};
use tidegate_engine::{Engine, Micros};

/// A list.
pub(crate) fn list<T>(entries: impl IntoIterator<Item = T>, node: impl Fn(T) -> Node) -> Node {
    Node::List(entries.into_iter().map(node).collect())
}

/// Whole milliseconds, rounded up.
pub(crate) fn millis(length: Micros) -> Node {
    number(length.millis_ceil())
}

/// The mistakes of a policy: `{"mistakes": [{pointer, found, allowed, suggestion, message}], "left_off": 0}`.
pub(crate) fn mistakes(mistakes: &Mistakes) -> String {
    let mistake = |mistake: &Mistake| {
        object(&mut [
            ("pointer", text(&mistake.pointer)),
            ("found", text(&mistake.found)),
            ("allowed", text(&mistake.allowed)),
            ("suggestion", mistake.suggestion.as_deref().map_or(Node::Null, text)),
            ("message", text(&mistake.to_string())),
        ])
    };
    let left_off = number(mistakes.left_off() as u64);
    object(&mut [("mistakes", list(mistakes, mistake)), ("left_off", left_off)]).to_json()
}

/// What the JavaScript side must know of a policy: its rules, the headers that can make a difference, the metadata
/// that requests may bring, and the warnings.
pub(crate) fn policy(engine: &Engine) -> String {
    let policy = engine.policy();
    let rule = |rule: &Rule| {
        object(&mut [
            ("name", text(&rule.name)),
            ("strategy", text(rule.strategy.name())),
            ("largest_cost", number(rule.rate().min(rule.algorithm.largest_cost(&rule.quota)))),
            ("queue", rule.strategy.queue().map_or(Node::Null, queue)),
            ("changes_path", Node::Boolean(changes_path(rule))),
        ])
    };
    let warning =
        |warning: &Warning| object(&mut [("pointer", text(&warning.pointer)), ("message", text(&warning.message))]);
    let described = object(&mut [
        ("rules", list(&policy.rules, rule)),
        ("headers", list(headers(policy), text)),
        ("reserved", list(policy.rules.iter().flat_map(|rule| rule.strategy.request_headers()), text)),
        ("metadata", list(engine.metadata_sources(), |path| text(&path.join("/")))),
        ("warnings", list(&policy.warnings, warning)),
    ]);
    described.to_json()
}

/// Whether the reduced form that a rule forwards has a path of its own.
fn changes_path(rule: &Rule) -> bool {
    matches!(rule.reduced(), Some(Reduced::Forward { path: Some(_), .. }))
}

/// What a job must keep to, wherever it waits.
fn queue(queue: &Queue) -> Node {
    object(&mut [
        ("headers", list(&queue.headers, |name| text(name))),
        ("max_body_bytes", number(queue.max_body_bytes as u64)),
        ("max_attempts", number(queue.max_attempts.into())),
        ("backoff_ms", millis(queue.backoff)),
        ("full_status", number(queue.full_status.into())),
    ])
}

/// The names of the headers that can change a decision, in lower case.
fn headers(policy: &Policy) -> Vec<&str> {
    // gRPC calls and upgrades are answered in their own way.
    let mut names = vec!["content-type", "upgrade"];
    names.extend(policy.identity.trusted_hops.map(|_| "x-forwarded-for"));
    for source in &policy.identity.user {
        let name = match source {
            UserSource::Metadata(_) => continue,
            UserSource::Header { name, .. } => name,
            UserSource::Cookie(_) => "cookie",
            UserSource::JwtClaim { header, .. } => header,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
