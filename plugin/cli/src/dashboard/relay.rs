//! Passes the page's calls on to the proxy's admin API, and nothing else: `/v1/` below the one address that the operator
//! named, with the token that the call carries. Not here: whose calls they are (`guard`).

use std::io::Read as _;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{self, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::sync::Semaphore;

use super::problem;
use crate::remote::AdminApi;

/// The proxy takes no larger body.
const LONGEST_BODY: usize = 65_536;
/// The longest answer is that of 1,000 rules' metrics, below 4 MB.
const LONGEST_ANSWER: u64 = 8 << 20;
/// Calls under way at once; others wait. A page makes six.
const AT_ONCE: usize = 16;

pub(super) struct Relay {
    api: AdminApi,
    under_way: Arc<Semaphore>,
}

impl Relay {
    pub(super) fn new(api: AdminApi) -> Self {
        Self { api, under_way: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The proxy's answer to a call of the page.
    pub(super) async fn pass_on(&self, request: Request) -> Response {
        let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str).to_owned();
        if !is_a_call(&target) {
            return problem(StatusCode::NOT_FOUND, "There is no such call.");
        }
        let (head, body) = request.into_parts();
        if ![Method::GET, Method::POST, Method::PUT, Method::DELETE].contains(&head.method) {
            return problem(StatusCode::METHOD_NOT_ALLOWED, "No call has this method.");
        }
        let Ok(body) = to_bytes(body, LONGEST_BODY).await else {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 65,536 bytes.");
        };
        if !body.is_empty() && ![Method::POST, Method::PUT].contains(&head.method) {
            return problem(StatusCode::BAD_REQUEST, "This call has no body.");
        }
        // Only what the admin API reads: no cookie and no header that a page could use against a proxy on the way.
        let mut call = self.api.request(&head.method, &target);
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
            if let Some(value) = head.headers.get(&name) {
                call = call.header(name, value);
            }
        }
        let Ok(call) = call.body(body) else {
            return problem(StatusCode::BAD_REQUEST, "This is no call.");
        };
        let Ok(_turn) = Arc::clone(&self.under_way).acquire_owned().await else {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "The page's server ends.");
        };
        let agent = self.api.agent.clone();
        match tokio::task::spawn_blocking(move || ask(&agent, call)).await {
            Ok(Ok(response)) => response,
            Ok(Err(reason)) => problem(StatusCode::BAD_GATEWAY, &format!("The proxy cannot be reached: {reason}")),
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "The call was lost."),
        }
    }
}

/// Whether a target is below `/v1/` and stays there, however the proxy or anything before it reads it: no dot segment, no
/// empty one, no encoded separator.
fn is_a_call(target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(rest) = path.strip_prefix("/v1/") else { return false };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
    let stays = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).collect::<Vec<u8>>();
        let leads_away = decoded == b"." || decoded == b".." || decoded.iter().any(|byte| b"/\\%;".contains(byte));
        !part.is_empty() && part.bytes().all(is_plain) && !leads_away
    };
    rest.split('/').all(stays) && query.bytes().all(|byte| is_plain(byte) || b"=&+".contains(&byte))
}

fn ask(agent: &ureq::Agent, call: http::Request<Bytes>) -> Result<Response, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (head, body) = call.into_parts();
    // A body that is there, even an empty one, is refused for methods that have none.
    let answered = if body.is_empty() {
        agent.run(http::Request::from_parts(head, ()))
    } else {
        agent.run(http::Request::from_parts(head, body.to_vec()))
    };
    let mut answer = answered.map_err(|error| told(&error))?;
    if answer.status().is_redirection() || answer.status().is_informational() {
        return Err(format!("it answers {}; is this the admin API's address?", answer.status().as_u16()));
    }
    let is_json = |value: &&HeaderValue| {
        let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        matches!(kind, "application/json" | "application/problem+json")
    };
    let kind = answer.headers().get(header::CONTENT_TYPE).filter(is_json).cloned();
    let mut body = Vec::new();
    let read = answer.body_mut().as_reader().take(LONGEST_ANSWER + 1).read_to_end(&mut body);
    read.map_err(|error| told(&error))?;
    if body.len() as u64 > LONGEST_ANSWER {
        return Err("its answer is too long".to_owned());
    }
    if kind.is_none() && !body.is_empty() {
        return Err(format!("it answers {} and no JSON; is this the admin API's address?", answer.status().as_u16()));
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = answer.status();
    response.headers_mut().extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_are_passed_on() {
        for good in [
            "/v1/status",
            "/v1/metrics/api_limit/reset",
            "/v1/audit?after=7",
            "/v1/counters?rule=a&key=zo%C3%AB%20x",
            "/v1/overrides/ov_8f14e45fceea167a",
            "/v1/rules/a..b",
        ] {
            assert!(is_a_call(good), "{good}");
        }
        for bad in [
            "/",
            "/v1",
            "/v1/",
            "/v2/status",
            "/v1/../secret",
            "/v1/a/../../x",
            "/v1/%2e%2e/%2E./x",
            "/v1/./x",
            "/v1//x",
            "/v1/a%2fb",
            "/v1/a%5cb",
            "/v1/a\\b",
            "/v1/%252e%252e/x",
            "/v1/x;y",
            "/v1/x#y",
            "/v1/a?b#c",
            "/v1/a?b c",
        ] {
            assert!(!is_a_call(bad), "{bad}");
        }
    }
}
