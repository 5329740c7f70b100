//! Whatever a policy, a log or a proxy holds: no control character reaches the terminal.

use crate::fake_proxy::{FakeProxy, TOKEN, talkative};
use crate::run::{Folder, Ran};

/// Clears a screen, moves the cursor, sets a title, reorders: as text and as JSON writes it.
const EVIL: &str = "\\u001b[2J\\u009b2J\\r\\u0007\\u202e\\u001b]0;x\\u0007";

fn is_harmless(ran: &Ran, what: &str) {
    for text in [&ran.out, &ran.err] {
        let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}'));
        assert_eq!(bad, None, "{what}: {text:?}");
    }
}

#[test]
fn answers_of_a_proxy_are_harmless() {
    let folder = Folder::new();
    folder.write("token", TOKEN);
    let routes = talkative().into_iter().map(|(line, status, body)| {
        let body = body.replace("api_per_user", EVIL).replace("user_456", EVIL).replace("admin_123", EVIL);
        (
            line,
            status,
            body.replace("ov_8f14e45fceea167a", EVIL)
                .replace("0.1.0", EVIL)
                .replace("allowed", &format!("allowed{EVIL}")),
        )
    });
    let proxy = FakeProxy::start(routes.collect());
    for words in [
        &["status"][..],
        &["list"],
        &["list", "--overrides"],
        &["metrics"],
        &["audit"],
        &["audit", "verify"],
        &["explain"],
        &["counters", "--rule", "api_per_user", "--key", "user_456", "--kind", "user"],
        &["override", "--user", "a", "--reason", "other", "--duration", "1", "--unlimited"],
        &["add", "--name", "broken", "--scope", "global", "--rate", "1", "--window", "1"],
    ] {
        for more in [&[][..], &["--json"]] {
            let ran = folder.run(&[words, more, &["--url", &proxy.url, "--token-file", "token"]].concat());
            is_harmless(&ran, &format!("{words:?} {more:?}"));
        }
    }
}

#[test]
fn files_are_shown_harmless() {
    let folder = Folder::new();
    let raw = "\u{1b}[2J\u{9b}2J\u{202e}";
    folder.write("bad.json", &format!("{{\"version\": 1, \"rules\": [], \"{raw}\": \"{raw}\"}}"));
    folder.write(
        "p.json",
        r#"{"version": 1, "rules": [{"name": "a", "scope": "per_endpoint", "rate": 1, "window_seconds": 60}]}"#,
    );
    let line = format!("192.0.2.1 - - [17/May/2015:10:05:01 +0000] \"GET /{raw}\\x1b[2J HTTP/1.1\" 200 5\n");
    folder.write("log", &format!("{raw}\n{line}{line}"));
    folder.write(&format!("{raw}.json"), "{}");
    for words in [
        &["check", "bad.json"][..],
        &["check", &format!("{raw}.json")],
        &["check", &format!("{raw}.none")],
        &["list", "--policy", "bad.json"],
        &["replay", "log", "--policy", "p.json"],
        &["explain", "--policy", "p.json", "--path", &format!("/{raw}"), "--user", raw, "--method", raw],
        &["remove", "--policy", "p.json", "--name", raw],
        &["test", "bad.json"],
        &[raw],
    ] {
        for more in [&[][..], &["--json"]] {
            is_harmless(&folder.run(&[words, more].concat()), &format!("{words:?} {more:?}"));
        }
    }
}
