//! What clients are told of queued requests: the 202 with the ticket, and the ticket's page.

use core::str;

use tidegate_engine::admin::{answer, hex, number, object, text};
use tidegate_engine::policy::Node;
use tidegate_engine::redis::queue;
use tidegate_engine::{Micros, Response, Timestamp};

use super::record::{Answer, Outcome, Progress};

/// The answer to a request that was queued: where its outcome will be, and an estimate of when.
pub(crate) fn accepted(path: &str, ticket: String, wait: Micros) -> Response {
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

/// How far a job is that the fleet's store has.
pub(crate) fn progress(seen: &queue::Seen, now: Timestamp) -> Progress {
    match seen.state {
        queue::State::Waiting => Progress::Waiting(now + seen.wait),
        queue::State::Running => Progress::Running(now + seen.wait),
        queue::State::Done => Progress::Ended(now, Outcome::Done(Answer::read(&seen.answer))),
        queue::State::Failed => Progress::Ended(now, Outcome::Failed(Answer::read(&seen.answer))),
    }
}

/// A ticket's page: the job's rule, how often it was tried and how far it is, if there is one. `interval` is what one
/// request takes at the rule's rate, for the position in line.
pub(crate) fn outcome(job: Option<(&str, u32, &Progress)>, interval: Option<Micros>, now: Timestamp) -> Response {
    let Some((rule, attempts, progress)) = job else { return answer::problem(404, "There is no such ticket.") };
    let mut members =
        vec![("attempts", number(attempts.into())), ("rule", text(rule)), ("status", text(word(progress)))];
    let mut retry_after = None;
    match progress {
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

fn word(progress: &Progress) -> &'static str {
    match progress {
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
