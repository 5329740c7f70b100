//! A proxy's admin API in a thread: fixed answers, and a record of what was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tidegate_engine::Timestamp;
use tidegate_engine::admin::audit::Trail;
use tidegate_engine::admin::text;
use tidegate_engine::policy::Node;

pub(crate) const TOKEN: &str = "s3cret-token";
/// Where this stands in an answer, the call's `authorization` is sent back.
pub(crate) const ECHO: &str = "@authorization@";

/// One call as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and path with query.
    pub(crate) line: String,
    pub(crate) authorization: String,
    pub(crate) host: String,
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
    let (mut length, mut authorization, mut host) = (0, String::new(), String::new());
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap() == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "host" => value.trim().clone_into(&mut host),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let is_known = authorization == format!("Bearer {TOKEN}") || line.starts_with("GET /v1/queue/");
    let body = String::from_utf8(body).unwrap();
    record.lock().unwrap().push(Asked { line: line.clone(), authorization: authorization.clone(), host, body });
    let found = routes.iter().find(|(route, ..)| *route == line);
    let (status, body) = match found {
        _ if !is_known => (401, r#"{"title": "Unauthorized"}"#.to_owned()),
        Some((_, status, body)) => (*status, body.clone()),
        None => (404, r#"{"title": "Not Found", "detail": "there is no such thing"}"#.to_owned()),
    };
    let body = body.replace(ECHO, &authorization);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nlocation: /elsewhere\r\n\
         connection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).unwrap();
}

/// A proxy with something to tell at every path, in the shapes of the real one (`tests/operate` has that).
pub(crate) fn talkative() -> Vec<Route> {
    let of_rule = json!({"name": "api_per_user", "scope": "per_user", "rate": 100, "window_seconds": 60, "burst": 100,
        "algorithm": "token_bucket", "strategy": "retry_after", "source": "file", "enabled": true});
    let of_runtime = json!({"name": "api_limit", "scope": "per_user", "rate": 100, "window_seconds": 60, "burst": 10,
        "algorithm": "token_bucket", "strategy": {"type": "throttle", "max_delay_ms": 500}, "source": "runtime",
        "enabled": true});
    let counts = json!({"total": 1200, "allowed": 1100, "limited": 100, "rejected": 100, "delayed": 0, "queued": 0,
        "degraded": 0, "shadow_limited": 0, "granted": 0, "near_limit": 12, "average_remaining": 41.5,
        "hit_rate": 0.083, "violations": {"users": [{"key": "user_456", "count": 80, "error": 0}],
        "ips": [{"key": "192.0.2.7", "count": 100, "error": 0}], "endpoints": []}});
    let grant = json!({"override_id": "ov_8f14e45fceea167a", "admin_id": "admin_123", "target_user_id": "user_456",
        "reason": "emergency_access", "note": "", "unlimited": true, "created_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2026-01-01T01:00:00.000000Z", "expires_in_seconds": 3600});
    let checked = json!({"overrides": [grant], "is_admin": true});
    let metrics = json!({"rules": {"api_per_user": counts}});
    let mistake = json!({"type": "about:blank", "status": 422, "detail": "What was sent does not fit.", "mistakes":
        [{"pointer": "/burst", "found": "1000", "allowed": "at most 200, twice the rate"}], "left_off": 0});
    let route = |line, status, body: Value| (line, status, body.to_string());
    vec![
        route("GET /v1/status", 200, status()),
        route("GET /v1/rules", 200, json!({"generation": 3, "rules": [of_rule, of_runtime]})),
        route("PUT /v1/rules/api_limit", 200, json!({"generation": 4, "rule": of_runtime})),
        route("PUT /v1/rules/broken", 422, mistake),
        ("DELETE /v1/rules/api_limit", 204, String::new()),
        route("GET /v1/overrides", 200, json!({"overrides": [grant]})),
        route("GET /v1/overrides/check?user_id=user_456&ip_address=192.0.2.1", 200, checked),
        route("POST /v1/overrides", 201, grant),
        ("DELETE /v1/overrides/ov_8f14e45fceea167a", 204, String::new()),
        route("GET /v1/metrics", 200, metrics.clone()),
        route("GET /v1/metrics/api_per_user", 200, metrics.clone()),
        route("POST /v1/metrics/api_per_user/reset", 200, metrics),
        ("DELETE /v1/counters?rule=api_per_user&key=user_456", 204, String::new()),
        route("GET /v1/counters?rule=api_per_user&key=user_456&kind=user", 200, explained()),
        route(
            "GET /v1/queue/8f14e45fceea167a",
            200,
            json!({"attempts": 0, "rule": "api_per_user", "status": "waiting"}),
        ),
        route("POST /v1/explain", 200, explained()),
        ("GET /v1/audit?after=0", 200, audit()),
    ]
}

fn status() -> Value {
    json!({
        "version": "0.1.0",
        "policy": {"sha256": "5f0c", "namespace": "default", "rules": 2},
        "generation": 3,
        "runtime": {"rules": ["api_limit"], "wins": "runtime", "applied": true, "misfit": [], "overrides": 1},
        "store": {"type": "local", "healthy": true, "survives_restart": false},
        "workers": 2,
        "table": {"keys": 812, "capacity_keys": 131_072, "bytes": 32_480, "given_up_limiting": 0},
        "waiting": 0,
        "queue": {"waiting": {}},
        "audit": {"seq": 3, "hash": "c4ca"},
        "capabilities": ["audit", "counters", "explain", "metrics", "overrides", "rules", "violations"],
    })
}

fn explained() -> Value {
    json!({"is_admin": false, "rules": [
        {"rule": "api_per_user", "applies": true, "enforced": true, "killed": false,
            "key": {"kind": "user", "value": "user_456"}, "limit": 100, "window_seconds": 60, "remaining": 0,
            "reset_after_seconds": 60},
        {"rule": "doubled", "applies": true, "enforced": true, "killed": false, "key": {"kind": "ip", "value": "192.0.2.1"},
            "limit": 200, "window_seconds": 60, "remaining": 7, "reset_after_seconds": 60,
            "ceiling": {"limit": 400, "remaining": 207, "reset_after_seconds": 30},
            "granted": {"override_id": "ov_8f14e45fceea167a", "rate_multiplier": 2.0}},
        {"rule": "lifted", "applies": true, "enforced": false, "killed": false, "key": {"kind": "global", "value": ""},
            "limit": 9, "window_seconds": 1, "remaining": 9, "reset_after_seconds": 0,
            "granted": {"override_id": "ov_8f14e45fceea167a", "unlimited": true}},
        {"rule": "killed", "applies": true, "enforced": false, "killed": true, "key": {"kind": "global", "value": ""},
            "limit": 9, "window_seconds": 1, "remaining": 9, "reset_after_seconds": 0},
        {"rule": "quiet", "applies": true, "enforced": false, "killed": false, "key": {"kind": "global", "value": ""},
            "limit": 9, "window_seconds": 1, "remaining": 9, "reset_after_seconds": 0},
        {"rule": "api_limit", "applies": false, "why_not": "the path fits none of its endpoints"},
    ]})
}

/// Three entries that follow each other.
fn audit() -> String {
    let mut trail = Trail::default();
    for (minute, action, detail) in [
        (1, "override_given", json!({"override_id": "ov_8f14e45fceea167a", "target_user_id": "user_456"})),
        (2, "override_revoked", json!({"override_id": "ov_8f14e45fceea167a"})),
        (3, "metrics_reset", json!({"rule": "api_per_user"})),
    ] {
        // 2026-01-01T00:00:00Z, and so many minutes.
        let at = Timestamp::from_micros((1_767_225_600 + minute * 60) * 1_000_000);
        let words = detail.as_object().unwrap().iter();
        let members = words.map(|(name, value)| (name.clone(), text(value.as_str().unwrap()))).collect();
        trail.append(at, "admin_123", action, Node::Object(members));
    }
    let mut answer: Value = serde_json::from_str(&trail.shown(0).to_json()).unwrap();
    answer["failed_logins"] = json!({"total": 0, "entries": []});
    answer.to_string()
}
