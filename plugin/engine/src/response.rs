//! What the client sees: rate-limit headers, problem details, gRPC status. The headers' draft is not frozen, so all of
//! its syntax is in this file: draft-ietf-httpapi-ratelimit-headers-11 (RFC 9651 Lists of Strings), RFC 9457, and the
//! `X-RateLimit-*` triple that older clients read.

use std::borrow::Cow;

use crate::admin::{number, object, text};
use crate::decision::{Decision, Verdict};
use crate::policy::{HeaderStyle, Node, Policy};
use crate::strategy::{Action, Body, Denial, Reduced, Refusal};
use crate::time::Micros;

/// Marks what is served in a reduced form, to the upstream and to the client; its value is the rule's name.
pub const DEGRADED: &str = "x-tidegate-degraded";

/// gRPC's `RESOURCE_EXHAUSTED`.
const RESOURCE_EXHAUSTED: u32 = 8;

/// An answer that Tidegate gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status. A gRPC answer is 200 on the wire; hosts that know gRPC make it so.
    pub status: u16,
    /// All headers, names in lower case, rate-limit headers included.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body, or for gRPC the message.
    pub body: String,
    /// The gRPC status where the request was a gRPC call.
    pub grpc_status: Option<u32>,
}

/// The headers that a decision gives the response.
pub(crate) fn headers(policy: &Policy, decision: &Decision) -> Vec<(&'static str, String)> {
    let mut headers = rate_limit_headers(policy, decision);
    if let (Action::Degrade(_), Some(denial)) = (&decision.action, &decision.denial) {
        headers.push((DEGRADED, denial.rule.clone()));
    }
    headers
}

/// The rate-limit headers of a decision in the policy's style.
fn rate_limit_headers(policy: &Policy, decision: &Decision) -> Vec<(&'static str, String)> {
    let (draft11, legacy) = match policy.headers {
        HeaderStyle::Off => return Vec::new(),
        HeaderStyle::Draft11 => (true, false),
        HeaderStyle::Legacy => (false, true),
        HeaderStyle::Both => (true, true),
    };
    let Some(tightest) = decision.tightest() else { return Vec::new() };
    let mut headers = Vec::new();
    if draft11 {
        let shown: Vec<&Verdict> = decision.verdicts.iter().filter(|verdict| verdict.enforced).collect();
        headers.push((
            "ratelimit-policy",
            list(policy, &shown, |rule, verdict| {
                format!(";q={};w={}", rule.rate().max(verdict.rate), rule.window().secs_ceil())
            }),
        ));
        // A refusal names the limits that refused, with the same seconds as Retry-After, which must not be earlier.
        let shown: Vec<&Verdict> =
            shown.into_iter().filter(|verdict| !is_refused(decision) || verdict.limited).collect();
        headers.push((
            "ratelimit",
            list(policy, &shown, |_, verdict| {
                let left = seconds_left(decision, verdict).map(|seconds| format!(";t={seconds}"));
                format!(";r={}{}", verdict.remaining, left.unwrap_or_default())
            }),
        ));
    }
    if legacy && let Some(rule) = policy.rules.get(tightest.rule) {
        headers.push(("x-ratelimit-limit", rule.rate().max(tightest.rate).to_string()));
        headers.push(("x-ratelimit-remaining", tightest.remaining.to_string()));
        let left = seconds_left(decision, tightest);
        headers.extend(left.map(|seconds| ("x-ratelimit-reset", seconds.to_string())));
    }
    headers
}

/// An RFC 9651 List: each rule's name as a String with parameters. Rule names need no escaping.
fn list(
    policy: &Policy,
    verdicts: &[&Verdict],
    parameters: impl Fn(&crate::policy::Rule, &Verdict) -> String,
) -> String {
    let items = verdicts.iter().filter_map(|verdict| {
        let rule = policy.rules.get(verdict.rule)?;
        Some(format!("\"{}\"{}", rule.name, parameters(rule, verdict)))
    });
    items.collect::<Vec<_>>().join(", ")
}

/// Seconds until there is more: for a limited rule what Retry-After says, else until its quota is whole again.
fn seconds_left(decision: &Decision, verdict: &Verdict) -> Option<u64> {
    match &decision.denial {
        Some(denial) if verdict.limited && is_refused(decision) => retry_seconds(denial.retry_after),
        _ => Some(verdict.reset_after.secs_ceil()),
    }
}

fn is_refused(decision: &Decision) -> bool {
    matches!(decision.action, Action::Respond(_))
}

/// RFC 9110 `delay-seconds`: whole, rounded up, never zero; `None` for what no wait helps.
fn retry_seconds(wait: Micros) -> Option<u64> {
    (wait != Micros::FOREVER).then(|| wait.secs_ceil().max(1))
}

/// The answer that Tidegate gives itself; `None` where the request is forwarded, held or stored.
pub(crate) fn response(decision: &Decision, is_grpc: bool) -> Option<Response> {
    let denial = decision.denial.as_ref()?;
    let mut response = match &decision.action {
        Action::Respond(refusal) if is_grpc => grpc(refusal, denial),
        Action::Respond(refusal) => http(refusal, denial),
        Action::Degrade(Reduced::Respond { status, headers, body }) => reduced(*status, headers, body),
        Action::Forward | Action::Degrade(_) | Action::Delay(_) | Action::Enqueue(_) => return None,
    };
    response.headers.push(("cache-control".into(), "no-store".to_owned()));
    if let Action::Respond(Refusal { retry_after: Some(wait), .. }) = &decision.action {
        let told = retry_seconds(*wait).map(|seconds| ("retry-after".into(), seconds.to_string()));
        response.headers.extend(told);
    }
    response.headers.extend(decision.headers.iter().map(|(name, value)| ((*name).into(), value.clone())));
    Some(response)
}

/// A reduced form of the answer, as the policy has it.
fn reduced(status: u16, headers: &[(String, String)], body: &Body) -> Response {
    let mut all: Vec<(Cow<'static, str>, String)> =
        headers.iter().map(|(name, value)| (name.clone().into(), value.clone())).collect();
    let body = match body {
        Body::Problem => String::new(),
        Body::Own { content_type, content } => {
            if !headers.iter().any(|(name, _)| name == "content-type") {
                all.push(("content-type".into(), (*content_type).to_owned()));
            }
            content.clone()
        }
    };
    Response { status, headers: all, body, grpc_status: None }
}

fn http(refusal: &Refusal, denial: &Denial) -> Response {
    let (content_type, body) = match &refusal.body {
        Body::Problem => ("application/problem+json", problem(refusal.status, denial)),
        Body::Own { content_type, content } => (*content_type, content.clone()),
    };
    Response {
        status: refusal.status,
        headers: vec![("content-type".into(), content_type.to_owned())],
        body,
        grpc_status: None,
    }
}

/// RFC 9457 problem details, of the type that draft-11 section "quota exceeded" requests.
fn problem(status: u16, denial: &Denial) -> String {
    let violated = denial.violated.iter().map(|name| text(name)).collect();
    let problem = object(&mut [
        ("detail", text(&format!("The limit \"{}\" is reached.", denial.rule))),
        ("status", number(status.into())),
        ("title", text("Request cannot be satisfied as assigned quota has been exceeded")),
        ("type", text("https://iana.org/assignments/http-problem-types#quota-exceeded")),
        ("violated-policies", Node::List(violated)),
    ]);
    problem.to_json()
}

/// gRPC A6: `grpc-retry-pushback-ms` is a decimal int32; a negative one means: do not retry.
fn grpc(refusal: &Refusal, denial: &Denial) -> Response {
    let pushback = match refusal.retry_after {
        Some(wait) if wait != Micros::FOREVER => i32::try_from(wait.millis_ceil().max(1)).unwrap_or(i32::MAX),
        _ => -1,
    };
    Response {
        status: 200,
        headers: vec![("grpc-retry-pushback-ms".into(), pushback.to_string())],
        body: format!("the limit \"{}\" is reached", denial.rule),
        grpc_status: Some(RESOURCE_EXHAUSTED),
    }
}
