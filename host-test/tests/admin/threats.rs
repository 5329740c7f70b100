//! What must not work.

use serde_json::{Value, json};
use tidegate_engine::admin::audit;
use tidegate_host_test::{Host, Job, LogLevel, Request};
use xtask::envoy::fetch::hex_sha256;

use crate::console::{WRITE, admin_api, console, console_of, per_user, policy};
use crate::tidegate::{messages, rule, with_settings};

#[test]
fn other_spellings_of_the_path_are_404_and_reach_no_upstream() {
    let search = rule("search", "global", 2, 60, r#", "endpoints": ["/api/search"]"#);
    let Some(at) = console_of(&policy("", &search)) else { return };
    let bearer = format!("Bearer {WRITE}");
    let send = |path: &str| at.send(0, Request::get(path).header("authorization", &bearer));
    for path in [
        "/x/../.tidegate/v1/rules",
        "/%2etidegate/",
        "/%2etidegate/v1/rules",
        "//.tidegate/",
        "/.tidegate;x/",
        "/.tidegate;x/v1/rules",
        "/./.tidegate/v1/rules",
        "/\\.tidegate/v1/rules",
        "/.tidegate%2fv1/rules",
        "/.tidegate%00/../.tidegate/v1/rules",
    ] {
        let said = send(path);
        assert_eq!(said.status, 404, "{path}");
        assert!(said.stream.upstream_request().is_none(), "{path}");
    }
    for path in ["/.tidegateway", "/x/.tidegate/v1/rules", "/.tidegate%252f"] {
        assert!(send(path).stream.upstream_request().is_some(), "{path} is another path");
    }
    let passed: Vec<bool> =
        (0..3).map(|_| send("/.tidegate/../api/search").stream.upstream_request().is_some()).collect();
    assert_eq!(passed, [true, true, false], "it counts as what it resolves to");
}

#[test]
fn without_tokens_the_path_is_like_any_other() {
    let Some(at) = console_of(&crate::tidegate::policy(&per_user())) else { return };
    for path in ["/.tidegate/v1/rules", "/.tidegate", "//.tidegate/"] {
        let said = at.send(0, Request::get(path).header("x-user", path));
        assert!(said.stream.upstream_request().is_some(), "{path}");
    }
}

#[test]
fn whoever_has_no_right_token_learns_nothing() {
    let Some(at) = console() else { return };
    let mut answers = Vec::new();
    let almost = &WRITE[..WRITE.len() - 1];
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        &format!("Bearer {almost}"),
        &format!("Basic {WRITE}"),
        &format!("Bearer {}", "a".repeat(60_000)),
    ] {
        for (method, path) in [
            ("GET", "/v1/rules"),
            ("POST", "/v1/overrides"),
            ("PATCH", "/v9/none"),
            ("GET", ""),
            ("OPTIONS", "/v1/rules"),
            ("DELETE", "/v1/overrides/ov_1"),
        ] {
            for body in ["", "{}", "{"] {
                let path = format!("/.tidegate{path}?token={WRITE}");
                let mut request = Request::new(method, &path).header("cookie", format!("token={WRITE}"));
                if !authorization.is_empty() {
                    request = request.header("authorization", authorization);
                }
                let said = at.send(1, request.body(body));
                let response = said.stream.response().unwrap();
                let lines: Vec<_> = ["content-type", "www-authenticate", "cache-control", "allow"]
                    .map(|name| response.headers.text(name))
                    .into();
                answers.push((said.status, lines, response.text()));
            }
        }
    }
    // Two lines of it are none.
    let twice = Request::get("/.tidegate/v1/rules").header("authorization", format!("Bearer {WRITE}"));
    let said = at.send(0, twice.header("authorization", format!("Bearer {WRITE}")));
    assert_eq!(said.status, 401);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "one answer");
    assert_eq!(answers[0].0, 401);
    at.sound();
}

#[test]
fn a_wrong_token_takes_as_long_however_much_of_it_is_right() {
    // As many instructions for every wrong hash, whichever of its bytes is the first that differs; no clock tells as much.
    let guess = "a guess";
    let right = hex_sha256(guess.as_bytes());
    let mut used = Vec::new();
    for byte in 0..32 {
        let mut known = right.clone();
        let flipped = if &right[2 * byte..2 * byte + 2] == "00" { "01" } else { "00" };
        known.replace_range(2 * byte..2 * byte + 2, flipped);
        let tokens =
            format!(r#""admin_api": {{"tokens": [{{"name": "ops", "role": "write", "sha256": "{known}"}}]}},"#);
        let Some(at) = console_of(&with_settings(&tokens, &per_user())) else { return };
        let before = at.host.fuel_used();
        assert_eq!(at.call(guess, "GET", "/v1/rules", "").status, 401);
        used.push(at.host.fuel_used() - before);
    }
    assert!(used.iter().all(|fuel| *fuel == used[0]), "{used:?}");
}

#[test]
fn failures_never_keep_the_right_token_out_nor_push_a_grant_off_the_trail() {
    let Some(at) = console() else { return };
    at.grant(r#""target_user_id": "u", "unlimited": true"#);
    let logged = messages(&at.host, LogLevel::Trace).len();
    for number in 0..100_000_u32 {
        let peer = format!("10.{}.{}.{}:1", number >> 12, (number >> 6) & 63, number & 63);
        let request = Request::get("/.tidegate/v1/rules").header("authorization", format!("Bearer {number}"));
        assert_eq!(at.host.request(0, &at.id, request.peer(&peer)).status(), 401);
    }
    let shown = at.get("/v1/audit");
    assert_eq!(shown["entries"][0]["action"], "override_given");
    assert_eq!(shown["failed_logins"]["total"], 100_000);
    let failures = json!({"entries": shown["failed_logins"]["entries"]});
    assert_eq!(audit::verify(failures.to_string().as_bytes(), None), Ok(60), "a minute's worth");
    assert!(messages(&at.host, LogLevel::Trace).len() - logged <= 60, "nor do they fill the log");
    at.sound();
}

#[test]
fn other_hosts_get_nothing() {
    let text = with_settings(&admin_api(r#", "hosts": ["admin.internal"]"#), &per_user());
    let Some(at) = console_of(&text) else { return };
    let send = |host: &str| {
        let request = Request::get("/.tidegate/v1/rules").header("authorization", format!("Bearer {WRITE}"));
        let said = at.send(0, request.set_header(":authority", host).header("origin", "https://evil"));
        assert!(said.stream.upstream_request().is_none());
        assert_eq!(said.header("access-control-allow-origin"), "");
        said.status
    };
    assert_eq!(
        ["admin.internal", "ADMIN.internal:8080", "evil.test", "admin.internal.evil.test"].map(send),
        [200, 200, 404, 404]
    );
}

#[test]
fn a_rule_reaches_no_cluster_that_the_file_does_not_give_it() {
    let queued =
        rule("q", "per_user", 1, 60, r#", "strategy": {"type": "queue", "cluster": "jobs", "authority": "jobs"}"#);
    let chosen = rule(
        "g",
        "per_user",
        9,
        60,
        r#", "strategy": {"type": "graceful", "forward": {"cluster_header": {"name": "x-cluster", "cluster": "lite"}}}"#,
    );
    let Some(at) = console_of(&policy("", &[queued, chosen].join(","))) else { return };
    let put = |name: &str, strategy: &str, status: u16| {
        let body = format!(r#"{{"scope": "per_user", "rate": 5, "window_seconds": 60, "strategy": {strategy}}}"#);
        at.write("PUT", &format!("/v1/rules/{name}"), &body, status)
    };
    put("x", r#"{"type": "queue", "cluster": "xds", "authority": "a"}"#, 422);
    put("x", r#"{"type": "queue", "cluster": "jobs", "authority": "jobs"}"#, 422);
    put("q", r#"{"type": "queue", "cluster": "xds", "authority": "jobs"}"#, 422);
    put("q", r#"{"type": "queue", "cluster": "jobs", "authority": "jobs", "max_attempts": 2}"#, 200);
    put("x", r#"{"type": "graceful", "forward": {"cluster_header": {"name": "x-cluster", "cluster": "xds"}}}"#, 422);
    put("x", r#"{"type": "graceful", "forward": {"headers": {"X-Cluster": "xds"}}}"#, 422);
    put(
        "g",
        r#"{"type": "graceful", "forward": {"cluster_header": {"name": "x-cluster", "cluster": "lite"}, "path": "/l"}}"#,
        200,
    );
}

#[test]
fn bytes_in_shared_data_that_nobody_wrote_are_survived() {
    let Some(at) = console() else { return };
    at.grant(r#""target_user_id": "u", "unlimited": true"#);
    at.passing("x", 9);
    let keys: Vec<Vec<u8>> = at.host.shared_data("tidegate").iter().map(|(key, _)| key.to_vec()).collect();
    let mine = keys.iter().filter(|key| matches!(key.get(8), Some(b'A' | b'L' | b'V')));
    for junk in [&b"\xff\xfe"[..], b"{}", br#"{"layout":1,"generation":-1}"#, b"[[[[", br#"{"layout":1}"#] {
        for key in mine.clone() {
            at.host.put_shared_data("tidegate", key, junk);
        }
        for path in ["/v1/status", "/v1/rules", "/v1/overrides", "/v1/metrics", "/v1/audit"] {
            at.get(path);
        }
        at.grant(r#""target_user_id": "u", "unlimited": true"#);
        assert_eq!(at.passing("u", 5), 5);
    }
    at.sound();
}

#[test]
fn secrets_are_never_shown() {
    let Some(at) = console() else { return };
    for _ in 0..6 {
        at.send(0, Request::get("/").header("x-api-key", "s3cret-key"));
    }
    let metrics = at.get("/v1/metrics");
    let users = &metrics["rules"]["api_per_user"]["violations"]["users"];
    assert!(users[0]["key"].as_str().unwrap().starts_with("sha256:"), "{metrics}");
    let everything: Vec<Value> =
        ["/v1/status", "/v1/rules", "/v1/overrides", "/v1/audit"].iter().map(|path| at.get(path)).collect();
    let text = format!("{metrics}{everything:?}{:?}", messages(&at.host, LogLevel::Trace));
    for secret in ["s3cret", WRITE, &xtask::envoy::fetch::hex_sha256(WRITE.as_bytes())] {
        assert!(!text.contains(secret), "{secret}");
    }
    for (key, value) in at.host.shared_data("tidegate").iter() {
        assert!(![key, value].iter().any(|bytes| bytes.windows(6).any(|window| window == b"s3cret")));
    }
}

#[test]
fn four_vms_append_at_once_and_the_chain_is_whole() {
    const EACH: usize = 12;
    for seed in 0..12 {
        let Some(plugin) = crate::console::plugin(&policy("", &per_user())) else { return };
        let host = Host::builder().workers(4).build();
        let id = host.load(plugin).unwrap();
        let append = |worker: usize| {
            let id = id.clone();
            Job::new(worker, move |host| {
                let body = format!(
                    r#"{{"target_user_id": "u{worker}", "unlimited": true, "reason": "testing", "duration_minutes": 5}}"#
                );
                let request = Request::post("/.tidegate/v1/overrides", body.as_bytes());
                let request = request.header("authorization", format!("Bearer {WRITE}"));
                let stream = host.request(worker, &id, request.header("content-type", "application/json"));
                assert_eq!(stream.status(), 201);
            })
        };
        host.run_interleaved(seed, (0..4 * EACH).map(|number| append(number % 4)).collect());
        let request = Request::get("/.tidegate/v1/audit").header("authorization", format!("Bearer {WRITE}"));
        let answer = host.request(0, &id, request).response().unwrap();
        let trail: Value = serde_json::from_slice(&answer.body).unwrap();
        let head = (trail["head"]["seq"].as_u64().unwrap(), trail["head"]["hash"].as_str().unwrap());
        assert_eq!(audit::verify(&answer.body, Some(head)), Ok(4 * EACH), "seed {seed}");
        // The host's log has every entry too, whoever wrote it; in the order of their numbers they are the chain.
        let mut lines: Vec<String> = messages(&host, LogLevel::Info);
        lines.retain(|line| line.contains("override_given"));
        lines.sort_by_key(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64());
        assert_eq!(audit::verify(lines.join("\n").as_bytes(), Some(head)), Ok(4 * EACH), "seed {seed}");
        let racing = host.calls().count("proxy_set_shared_data");
        assert!(racing > 4 * EACH as u64, "seed {seed}");
        crate::tidegate::assert_nothing_died(&host);
    }
}
