//! What clients are told of queued requests: the 202 with the ticket, and the ticket's page.

use core::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_engine::{Micros, Response, Timestamp};

use super::record::{Answer, Job, Outcome, Progress};
use super::slots::Ticket;

/// The answer to a request that was queued: where its outcome will be, and an estimate of when.
pub(crate) fn accepted(path: &str, ticket: Ticket, wait: Micros) -> Response {
    let location = format!("{path}{ticket}");
    let seconds = wait.secs_ceil().max(1);
    let body = json!({
        "ticket": ticket.to_string(),
        "status": "waiting",
        "location": location,
        "estimated_wait_seconds": seconds,
    });
    let mut response = page(202, &body);
    response.headers.push(("location".into(), location));
    response.headers.push(("retry-after".into(), seconds.to_string()));
    response
}

/// A ticket's page. `interval` is what one request takes at the rule's rate, for the position in line.
pub(crate) fn outcome(job: Option<&Job>, interval: Option<Micros>, now: Timestamp) -> Response {
    let Some(job) = job else { return problem(404, "There is no such ticket.") };
    let mut body = json!({ "status": word(job), "rule": job.rule, "attempts": job.attempts });
    let mut retry_after = None;
    if let Value::Object(members) = &mut body {
        match &job.progress {
            Progress::Waiting(due) => {
                let left = due.since(now);
                let position = interval.and_then(|one| left.0.checked_div(one.0)).unwrap_or(0).saturating_add(1);
                members.insert("position".to_owned(), json!(position));
                members.insert("estimated_wait_seconds".to_owned(), json!(left.secs_ceil()));
                retry_after = Some(left.secs_ceil().max(1));
            }
            Progress::Running(_) => retry_after = Some(1),
            Progress::Ended(_, Outcome::Done(answer) | Outcome::Failed(answer)) => {
                members.insert("response".to_owned(), response(answer));
            }
        }
    }
    let mut page = page(200, &body);
    page.headers.extend(retry_after.map(|seconds| ("retry-after".into(), seconds.to_string())));
    page
}

fn word(job: &Job) -> &'static str {
    match &job.progress {
        Progress::Waiting(_) => "waiting",
        Progress::Running(_) => "running",
        Progress::Ended(_, Outcome::Done(_)) => "done",
        Progress::Ended(_, Outcome::Failed(_)) => "failed",
    }
}

/// What the upstream answered; a body that is no text is in hexadecimal. `null` where it never answered.
fn response(answer: &Answer) -> Value {
    if answer.status == 0 {
        return Value::Null;
    }
    let mut shown = json!({ "status": answer.status, "content_type": answer.content_type });
    if let Value::Object(members) = &mut shown {
        match core::str::from_utf8(&answer.body) {
            Ok(text) => members.insert("body".to_owned(), json!(text)),
            Err(_) => members.insert("body_hex".to_owned(), json!(hex(&answer.body))),
        };
    }
    shown
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A JSON answer that nobody stores and no browser takes for a page.
fn page(status: u16, body: &Value) -> Response {
    Response {
        status,
        headers: vec![
            ("content-type".into(), "application/json".to_owned()),
            ("cache-control".into(), "no-store".to_owned()),
            ("x-content-type-options".into(), "nosniff".to_owned()),
        ],
        body: body.to_string(),
        grpc_status: None,
    }
}

/// RFC 9457 problem details of no special type.
pub(crate) fn problem(status: u16, detail: &str) -> Response {
    let mut response = page(status, &json!({ "type": "about:blank", "status": status, "detail": detail }));
    if let Some((_, content_type)) = response.headers.first_mut() {
        "application/problem+json".clone_into(content_type);
    }
    response
}
