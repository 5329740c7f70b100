//! A proxy's admin API in a thread: fixed answers, and a record of what was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) const TOKEN: &str = "s3cret-token";

/// One call as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and path with query.
    pub(crate) line: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

pub(crate) struct FakeProxy {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Method and path below `/.tidegate`, status, body.
pub(crate) type Route = (&'static str, u16, String);

impl FakeProxy {
    /// Answers the routes, and 404 to all else. It ends with the test's process.
    pub(crate) fn start(routes: Vec<Route>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/.tidegate", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &routes, &record);
            }
        });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, routes: &[Route], record: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let line = line.trim().trim_end_matches(" HTTP/1.1").replace(" /.tidegate/", " /");
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap() == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let is_known = authorization == format!("Bearer {TOKEN}");
    record.lock().unwrap().push(Asked { line: line.clone(), authorization, body: String::from_utf8(body).unwrap() });
    let found = routes.iter().find(|(route, ..)| *route == line);
    let (status, body) = match found {
        _ if !is_known => (401, r#"{"title": "Unauthorized"}"#.to_owned()),
        Some((_, status, body)) => (*status, body.clone()),
        None => (404, r#"{"title": "Not Found", "detail": "there is no such thing"}"#.to_owned()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nlocation: /elsewhere\r\n\
         connection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).unwrap();
}

/// A proxy with something to tell at every path.
pub(crate) fn talkative() -> Vec<Route> {
    let text = str::to_owned;
    vec![
        (
            "GET /v1/status",
            200,
            text(
                r#"{"version": "0.1.0", "policy": {"hash": "5f0c", "generation": 3}, "store": {"type": "local", "healthy": true}, "workers": 2, "table_fill": 0.25, "capabilities": ["explain", "audit"]}"#,
            ),
        ),
        (
            "GET /v1/rules",
            200,
            text(
                r#"{"rules": [{"name": "api_per_user", "scope": "per_user", "rate": 100, "window_seconds": 60, "burst": 100, "algorithm": "token_bucket", "strategy": "retry_after", "source": "file"}, {"name": "api_limit", "scope": "per_user", "rate": 100, "window_seconds": 60, "burst": 10, "algorithm": "token_bucket", "strategy": {"type": "throttle", "max_delay_ms": 500}, "source": "runtime"}]}"#,
            ),
        ),
        ("PUT /v1/rules/api_limit", 200, text(r#"{"name": "api_limit"}"#)),
        (
            "PUT /v1/rules/broken",
            422,
            text(
                r#"{"title": "Not a rule", "detail": "the rule has mistakes", "mistakes": [{"pointer": "/burst", "found": "1000", "allowed": "at most 200, twice the rate"}]}"#,
            ),
        ),
        ("DELETE /v1/rules/api_limit", 204, String::new()),
        (
            "GET /v1/overrides",
            200,
            text(
                r#"{"overrides": [{"override_id": "ov-1", "admin_id": "admin_123", "target_user_id": "user_456", "reason": "emergency_access", "unlimited": true, "expires_at": "2026-01-01T01:00:00Z"}]}"#,
            ),
        ),
        (
            "POST /v1/overrides",
            201,
            text(
                r#"{"override_id": "ov-1", "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z"}"#,
            ),
        ),
        ("DELETE /v1/overrides/ov-1", 200, text(r#"{"override_id": "ov-1"}"#)),
        (
            "GET /v1/metrics",
            200,
            text(
                r#"{"rules": [{"name": "api_per_user", "total": 1200, "allowed": 1100, "limited": 100, "hit_rate": 0.083, "violations": {"user": [{"key": "user_456", "count": 80, "error": 0}], "ip": []}}]}"#,
            ),
        ),
        (
            "GET /v1/metrics/api_per_user",
            200,
            text(r#"{"name": "api_per_user", "total": 1200, "allowed": 1100, "limited": 100, "hit_rate": 0.083}"#),
        ),
        ("POST /v1/metrics/api_per_user/reset", 200, text("{}")),
        ("DELETE /v1/counters?rule=api_per_user&key=user_456", 200, text("{}")),
        (
            "POST /v1/explain",
            200,
            text(
                r#"{"path_as_sent": "/x", "path_normalised": "/x", "user": {"id": "user_456", "digest": "ab", "verified": true}, "ip_address": "192.0.2.1", "is_admin": false, "outcome": "limited", "deciding_rule": "api_per_user", "rules": [{"name": "api_per_user", "applies": true, "says": "limited", "rate": 100, "burst": 100, "window_seconds": 60, "remaining": 0, "cells": [{"kind": "verified_user", "value": "user_456", "digest": "ab"}]}]}"#,
            ),
        ),
        ("GET /v1/audit?after=0", 200, audit()),
    ]
}

/// Three entries that follow each other.
fn audit() -> String {
    let mut prev = "0".repeat(64);
    let mut entries = Vec::new();
    for (seq, event) in [(1, "override_granted"), (2, "override_revoked"), (3, "metrics_reset")] {
        let covered = format!(
            "{{\"seq\":{seq},\"at\":\"2026-01-01T00:0{seq}:00Z\",\"event\":\"{event}\",\"admin_id\":\"admin_123\",\"prev\":\"{prev}\""
        );
        prev = sha256(&covered);
        entries.push(format!("{covered},\"hash\":\"{prev}\"}}"));
    }
    format!("{{\"entries\":[{}]}}", entries.join(","))
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
