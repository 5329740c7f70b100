//! What clients are told of queued requests: the 202 with the ticket, and the ticket's page.

use core::str;

use tidegate_engine::admin::{answer, hex, number, object, text};
use tidegate_engine::policy::Node;
use tidegate_engine::{Micros, Response, Timestamp};

use super::record::{Answer, Job, Outcome, Progress};
use super::slots::Ticket;

/// The answer to a request that was queued: where its outcome will be, and an estimate of when.
pub(crate) fn accepted(path: &str, ticket: Ticket, wait: Micros) -> Response {
    let ticket = ticket.to_string();
    let location = [path, &ticket].concat();
    let seconds = wait.secs_ceil().max(1);
    let body = object(&mut [
        ("estimated_wait_seconds", number(seconds)),
        ("location", text(&location)),
        ("status", text("waiting")),
        ("ticket", Node::Text(ticket)),
    ]);
    let mut response = answer::json(202, &body);
    response.headers.push(("location".into(), location));
    response.headers.push(("retry-after".into(), seconds.to_string()));
    response
}

/// A ticket's page. `interval` is what one request takes at the rule's rate, for the position in line.
pub(crate) fn outcome(job: Option<&Job>, interval: Option<Micros>, now: Timestamp) -> Response {
    let Some(job) = job else { return answer::problem(404, "There is no such ticket.") };
    let mut members =
        vec![("attempts", number(job.attempts.into())), ("rule", text(&job.rule)), ("status", text(word(job)))];
    let mut retry_after = None;
    match &job.progress {
        Progress::Waiting(due) => {
            let left = due.since(now);
            let position = interval.and_then(|one| left.0.checked_div(one.0)).unwrap_or(0).saturating_add(1);
            members.push(("estimated_wait_seconds", number(left.secs_ceil())));
            members.push(("position", number(position)));
            retry_after = Some(left.secs_ceil().max(1));
        }
        Progress::Running(_) => retry_after = Some(1),
        Progress::Ended(_, Outcome::Done(answer) | Outcome::Failed(answer)) => {
            members.push(("response", response(answer)));
        }
    }
    let mut page = answer::json(200, &object(&mut members));
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
fn response(answer: &Answer) -> Node {
    if answer.status == 0 {
        return Node::Null;
    }
    let body = match str::from_utf8(&answer.body) {
        Ok(body) => ("body", text(body)),
        Err(_) => ("body_hex", Node::Text(hex(&answer.body))),
    };
    object(&mut [body, ("content_type", text(&answer.content_type)), ("status", number(answer.status.into()))])
}
