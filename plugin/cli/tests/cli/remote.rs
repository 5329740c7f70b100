//! Commands on a running proxy: what they ask, what they show, and that the token stays a secret.

use serde_json::{Value, json};

use crate::fake_proxy::{ECHO, FakeProxy, TOKEN, talkative};
use crate::run::{Folder, Ran};

fn ready() -> (Folder, FakeProxy) {
    let folder = Folder::new();
    folder.write("token", &format!("{TOKEN}\n"));
    (folder, FakeProxy::start(talkative()))
}

fn run(folder: &Folder, proxy: &FakeProxy, words: &[&str]) -> Ran {
    let ran = folder.run(&[words, &["--url", &proxy.url, "--token-file", "token"]].concat());
    assert!(!ran.out.contains(TOKEN) && !ran.err.contains(TOKEN), "{ran:?}");
    ran
}

/// What a command asked last: the line and the body.
fn asked(proxy: &FakeProxy) -> (String, Value) {
    let asked = proxy.asked().pop().unwrap();
    assert_eq!(asked.authorization, format!("Bearer {TOKEN}"));
    (asked.line, serde_json::from_str(&asked.body).unwrap_or_default())
}

#[test]
fn every_command_asks_what_the_api_takes() {
    let (folder, proxy) = ready();
    let add = ["add", "--name", "api_limit", "--scope", "per_user", "--rate", "100", "--window", "60"];
    let grant = ["override", "--admin", "admin_123", "--reason", "emergency_access", "--duration", "60"];
    let rule = json!({"name": "api_limit", "scope": "per_user", "rate": 100, "window_seconds": 60});
    let granted = json!({"admin_id": "admin_123", "target_user_id": "user_456", "reason": "emergency_access", "duration_minutes": 60, "unlimited": true});
    let doubled = json!({"admin_id": "admin_123", "target_ip": "192.0.2.0/24", "reason": "emergency_access", "duration_minutes": 60, "rate_multiplier": 2.0});
    let explained =
        json!({"method": "GET", "path": "/x", "headers": {"a": "b"}, "ip_address": "192.0.2.1", "user_id": "user_456"});
    for (words, line, body, shown) in [
        (vec!["status"], "GET /v1/status", Value::Null, "policy.namespace         default\n"),
        (vec!["list"], "GET /v1/rules", Value::Null, "runtime"),
        (add.to_vec(), "PUT /v1/rules/api_limit", rule, "added api_limit\n"),
        (vec!["remove", "--name", "api_limit"], "DELETE /v1/rules/api_limit", Value::Null, "removed api_limit\n"),
        (
            [&grant[..], &["--user", "user_456", "--unlimited"]].concat(),
            "POST /v1/overrides",
            granted,
            "granted ov_8f14e45fceea167a until 2026-01-01T01:00:00Z\n",
        ),
        (
            [&grant[..], &["--ip", "192.0.2.0/24", "--multiplier", "2"]].concat(),
            "POST /v1/overrides",
            doubled,
            "granted ov_8f14e45fceea167a",
        ),
        (vec!["list", "--overrides"], "GET /v1/overrides", Value::Null, "user_456"),
        (
            vec!["list", "--overrides", "--user", "user_456", "--ip", "192.0.2.1"],
            "GET /v1/overrides/check?user_id=user_456&ip_address=192.0.2.1",
            Value::Null,
            "an admin: never limited\nOVERRIDE ID",
        ),
        (
            vec!["counters", "--rule", "api_per_user", "--key", "user_456", "--kind", "user"],
            "GET /v1/counters?rule=api_per_user&key=user_456&kind=user",
            Value::Null,
            "user user_456\n",
        ),
        (
            vec!["revoke", "ov_8f14e45fceea167a"],
            "DELETE /v1/overrides/ov_8f14e45fceea167a",
            Value::Null,
            "revoked ov_8f14e45fceea167a\n",
        ),
        (vec!["metrics"], "GET /v1/metrics", Value::Null, "api_per_user: rejections by user\n"),
        (vec!["metrics", "--rule", "api_per_user"], "GET /v1/metrics/api_per_user", Value::Null, "0.083"),
        (
            vec!["reset", "--rule", "api_per_user"],
            "POST /v1/metrics/api_per_user/reset",
            Value::Null,
            "reset the metrics of api_per_user\n",
        ),
        (
            vec!["reset", "--rule", "api_per_user", "--key", "user_456"],
            "DELETE /v1/counters?rule=api_per_user&key=user_456",
            Value::Null,
            "cleared",
        ),
        (
            vec!["explain", "--path", "/x", "--header", "A: b", "--user", "user_456"],
            "POST /v1/explain",
            explained,
            "user user_456\n",
        ),
        (vec!["audit"], "GET /v1/audit?after=0", Value::Null, "override_given"),
        (vec!["audit", "verify"], "GET /v1/audit?after=0", Value::Null, "audit log: ok, 3 entries, 1 to 3, head 3:"),
    ] {
        let out = run(&folder, &proxy, &words).clean(0);
        assert!(out.contains(shown), "{words:?}: {out}");
        assert_eq!(asked(&proxy), (line.to_owned(), body), "{words:?}");
        run(&folder, &proxy, &[&words[..], &["--json"]].concat()).json();
    }
    let ticket = folder.run(&["ticket", "8f14e45fceea167a", "--url", &proxy.url]).clean(0);
    assert_eq!(ticket, "attempts  0\nrule      api_per_user\nstatus    waiting\n");
    let asked = proxy.asked().pop().unwrap();
    assert_eq!((asked.line.as_str(), asked.authorization.as_str()), ("GET /v1/queue/8f14e45fceea167a", ""));
    let out = run(&folder, &proxy, &["metrics", "--watch", "--interval", "1", "--count", "2"]).clean(0);
    assert_eq!(out.matches("\napi_per_user").count(), 6, "{out}");
}

#[test]
fn a_no_is_status_1_and_trouble_is_2() {
    let (folder, proxy) = ready();
    assert_eq!(run(&folder, &proxy, &["revoke", "../rules"]).complaint(1), "tidegate: there is no such thing (404)\n");
    assert_eq!(asked(&proxy).0, "DELETE /v1/overrides/..%2Frules");
    let broken =
        ["add", "--name", "broken", "--scope", "per_user", "--rate", "100", "--burst", "1000", "--window", "60"];
    let complaint = run(&folder, &proxy, &broken).complaint(1);
    assert!(
        complaint.contains("What was sent does not fit. (422)\n  /burst: found 1000, allowed: at most 200"),
        "{complaint}"
    );

    folder.write("wrong", "other");
    let flags = ["status", "--url", &proxy.url, "--token-file", "wrong"];
    assert_eq!(folder.run(&flags).complaint(2), "tidegate: the proxy does not know this token\n");
    folder.write("wrong", "two words");
    assert!(folder.run(&flags).complaint(2).contains("wrong holds no token"));
    let complaint = folder.run(&["status", "--url", &proxy.url]).complaint(2);
    assert_eq!(complaint, "tidegate: the admin API needs a token: --token-file FILE, or TIDEGATE_TOKEN\n");
    let environment = format!("TIDEGATE_TOKEN={TOKEN} tidegate status --url {}", proxy.url);
    folder.shell(&environment).clean(0);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let complaint = folder.run(&["status", "--url", &format!("http://{nobody}"), "--token-file", "token"]).complaint(2);
    assert!(complaint.starts_with(&format!("tidegate: cannot reach http://{nobody}/.tidegate: ")), "{complaint}");
}

#[test]
fn a_redirect_is_not_followed_and_html_is_no_answer() {
    let folder = Folder::new();
    folder.write("token", TOKEN);
    let proxy = FakeProxy::start(vec![("GET /v1/status", 302, String::new()), ("GET /v1/rules", 200, "<html>".into())]);
    assert!(run(&folder, &proxy, &["status"]).complaint(2).contains("302"));
    assert_eq!(proxy.asked().len(), 1);
    assert!(run(&folder, &proxy, &["list"]).complaint(2).contains("does not answer in JSON"));
}

#[test]
fn what_lifts_a_rule_is_told() {
    let (folder, proxy) = ready();
    let expected = "\
request   GET /x from 192.0.2.1
user      user_456, verified

RULE          LEFT  RATE         FULL AGAIN IN  COUNTED FOR, OR WHY NOT
api_per_user     0  100 in 60 s  60 s           user user_456
doubled          7  200 in 60 s  60 s           ip 192.0.2.1 (2.0 times the rate by ov_8f14e45fceea167a)
               207  400 in 60 s  30 s           its ceiling
lifted           9  9 in 1 s     0 s            global (no limit by ov_8f14e45fceea167a)
killed           9  9 in 1 s     0 s            global (switched off)
quiet            9  9 in 1 s     0 s            global (in shadow)
api_limit                                       the path fits none of its endpoints
";
    assert_eq!(run(&folder, &proxy, &["explain", "--path", "/x", "--user", "user_456"]).clean(0), expected);
}

#[test]
fn a_dry_run_asks_no_proxy() {
    let (folder, proxy) = ready();
    let add = ["add", "--name", "api_limit", "--scope", "global", "--rate", "1", "--window", "1", "--dry-run"];
    for words in [&add[..], &["remove", "--name", "api_limit", "--dry-run"]] {
        let expected = "tidegate: --dry-run is for files: name one with --policy FILE\n";
        assert_eq!(run(&folder, &proxy, words).complaint(2), expected);
        let environment = format!("TIDEGATE_URL={} TIDEGATE_TOKEN={TOKEN}", proxy.url);
        let quoted: String = words.iter().map(|word| format!(" {word}")).collect();
        assert_eq!(folder.shell(&format!("{environment} tidegate{quoted}")).complaint(2), expected);
        assert!(proxy.asked().is_empty());
    }
}

/// An upstream that the address leads to may answer anything, and may send back what it was sent.
#[test]
fn somebody_elses_answers_are_not_the_admin_apis() {
    let folder = Folder::new();
    folder.write("token", TOKEN);
    let echo = || format!(r#"{{"headers": {{"authorization": "{ECHO}", "{ECHO}": 1}}}}"#);
    let lines = [
        "GET /v1/status",
        "GET /v1/rules",
        "GET /v1/metrics",
        "GET /v1/rules/a",
        "GET /v1/audit?after=0",
        "POST /v1/explain",
        "POST /v1/overrides",
        "DELETE /v1/rules/a",
        "DELETE /v1/overrides/a",
        "POST /v1/metrics/a/reset",
        "DELETE /v1/counters?rule=a&key=b",
        "GET /v1/counters?rule=a&key=b",
        "GET /v1/overrides",
    ];
    let proxy = FakeProxy::start(lines.map(|line| (line, 200, echo())).to_vec());
    for words in [
        "status",
        "list",
        "metrics",
        "add --name a --scope global --rate 1 --window 1",
        "audit",
        "audit verify",
        "explain",
        "override --user a --reason other --duration 1 --unlimited",
        "remove --name a",
        "revoke a",
        "reset --rule a",
        "reset --rule a --key b",
        "counters --rule a --key b",
        "list --overrides",
    ] {
        for more in [&[][..], &["--json"]] {
            let ran = run(&folder, &proxy, &[&words.split(' ').collect::<Vec<&str>>(), more].concat());
            assert!(ran.out.is_empty() && ran.complaint(2).contains("is it the admin API?"), "{words}");
        }
    }
    let status = format!(r#"{{"version": "{ECHO}", "capabilities": [], "{ECHO}": ["{ECHO}"]}}"#);
    let refusal = format!(r#"{{"detail": "you sent {ECHO}", "mistakes": ["{ECHO}"]}}"#);
    let proxy = FakeProxy::start(vec![
        ("GET /v1/status", 200, status),
        ("GET /v1/rules", 500, refusal.clone()),
        ("DELETE /v1/rules/a", 409, refusal),
    ]);
    assert!(run(&folder, &proxy, &["status"]).clean(0).contains("Bearer (the token)"));
    run(&folder, &proxy, &["status", "--json"]).clean(0);
    let complaint = run(&folder, &proxy, &["list"]).complaint(2);
    let told = "you sent Bearer (the token) (500)\n  Bearer (the token)\n";
    assert_eq!(complaint, format!("tidegate: the proxy says: {told}"));
    assert!(
        run(&folder, &proxy, &["remove", "--name", "a"]).complaint(1).contains("you sent Bearer (the token) (409)")
    );
}

#[test]
fn a_404_of_everything_says_what_may_be_wrong() {
    let folder = Folder::new();
    folder.write("token", TOKEN);
    let proxy = FakeProxy::start(Vec::new());
    for words in ["status", "list", "list --overrides", "metrics", "audit", "explain"] {
        let complaint = run(&folder, &proxy, &words.split(' ').collect::<Vec<&str>>()).complaint(2);
        let hint = "is its path the policy's admin_api.path, and its host one of admin_api.hosts? (--host NAME";
        assert!(complaint.contains(hint), "{words}: {complaint}");
    }
}

#[test]
fn the_host_is_the_flags_or_the_environments() {
    let (folder, proxy) = ready();
    let authority = proxy.url.trim_start_matches("http://").trim_end_matches("/.tidegate").to_owned();
    run(&folder, &proxy, &["status"]).clean(0);
    assert_eq!(proxy.asked().pop().unwrap().host, authority);
    run(&folder, &proxy, &["status", "--host", "proxy.internal"]).clean(0);
    assert_eq!(proxy.asked().pop().unwrap().host, "proxy.internal");
    let line = format!("TIDEGATE_HOST=other:8080 TIDEGATE_TOKEN={TOKEN} tidegate status --url {}", proxy.url);
    folder.shell(&line).clean(0);
    assert_eq!(proxy.asked().pop().unwrap().host, "other:8080");
    assert!(run(&folder, &proxy, &["status", "--host", "a b"]).complaint(2).contains("the host a b: allowed: a name"));
    let both = folder.run(&["list", "--policy", "p.json", "--host", "a"]).complaint(2);
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn what_lives_in_a_proxy_needs_one() {
    let folder = Folder::new();
    folder.write("p.json", crate::run::DEFAULT);
    let grant = ["override", "--rule", "*", "--reason", "maintenance", "--duration", "5", "--unlimited"];
    for (words, what) in [
        (&grant[..], "overrides"),
        (&["revoke", "x"], "overrides"),
        (&["list", "--overrides"], "overrides"),
        (&["metrics"], "metrics"),
        (&["reset", "--rule", "a"], "metrics and counters"),
        (&["status"], "workers and stores"),
        (&["counters", "--rule", "a", "--key", "b"], "counters"),
        (&["audit"], "audit logs"),
        (&["audit", "verify"], "audit logs"),
    ] {
        let complaint = folder.run(&[words, &["--policy", "p.json"]].concat()).complaint(2);
        assert_eq!(complaint, format!("tidegate: {what} live in a running proxy: name it with --url URL\n"));
    }
    let complaint = folder.run(&["ticket", "00"]).complaint(2);
    assert_eq!(complaint, "tidegate: tickets live in a running proxy: name it with --url URL\n");
    for factor in ["1", "0", "1000.5", "NaN", "x"] {
        let words = ["override", "--user", "a", "--reason", "other", "--duration", "1", "--multiplier", factor];
        assert!(folder.run(&words).complaint(2).contains("--multiplier <FACTOR>"), "{factor}");
    }
}
