//! Every example of docs/cli.md on a running proxy prints what the page says. What differs from run to run (moments, hashes,
//! the seconds of an hour that are left) need only be of the same kind; ids are those of the page.

use std::time::{Duration, Instant};

use serde_json::json;
use xtask::load::{Client, Request};

use crate::cli_page::{PROXYS_PART, Way, run};
use crate::proxy::{Proxy, TOKEN, policy};
use crate::run::DEFAULT;

/// The proxy that the page talks to, its queued request, and its grant.
const URL: &str = "http://127.0.0.1:10000/.tidegate";
const TICKET: &str = "8f14e45fceea167a5a36dedd4bea2543";
const GRANT: &str = "ov_8f14e45fceea167a";

#[test]
fn the_page_shows_what_a_real_proxy_answers() {
    let queue = json!({"type": "queue", "cluster": "upstream", "authority": "upstream", "allow_unverified": true});
    let rules = json!([
        {"name": "api_per_user", "scope": "per_user", "rate": 100, "window_seconds": 3600, "algorithm": "token_bucket"},
        {"name": "exports", "scope": "per_user", "rate": 1, "window_seconds": 3600, "endpoints": ["/export"],
            "strategy": queue},
    ]);
    let Some(proxy) = Proxy::start("operate: docs/cli.md", &policy(&rules).to_string()) else { return };
    proxy.folder.write("policies/default.json", DEFAULT);
    let ticket = used(&proxy);
    let own = format!("http://{}/.tidegate", proxy.address);
    let granted = std::cell::RefCell::new(String::new());
    let mut way = Way {
        has: |part| part == PROXYS_PART,
        command: &mut |line| line.replace(URL, &own).replace(TICKET, &ticket).replace(GRANT, &granted.borrow()),
        printed: &mut |text| {
            if let Some(id) = text.strip_prefix("granted ").and_then(|rest| rest.split(' ').next()) {
                id.clone_into(&mut granted.borrow_mut());
            }
            let id = granted.borrow();
            if id.is_empty() { text } else { text.replace(id.as_str(), GRANT) }
        },
        lasting,
    };
    let tried = run(&proxy.folder, &mut way);
    let commands =
        "status list add remove explain override revoke metrics reset counters ticket audit dashboard".split(' ');
    for command in commands {
        assert!(tried.iter().any(|it| it == command), "{command} has no example");
    }
}

/// A proxy with something to tell: a user who came 120 times, and one whose second export is queued. The queued one's
/// ticket; what every worker saw is told by then.
fn used(proxy: &Proxy) -> String {
    let passed = (0..120).filter(|number| proxy.status(*number, "user_456") == 200).count();
    assert_eq!(passed, 100);
    let client = Client::http1(proxy.address, 1).unwrap();
    let export = Request::new("POST", "/export").header("x-user-id", "user_789").body("{}");
    assert_eq!(client.send(&export).unwrap().status, 200);
    let queued = client.send(&export).unwrap();
    let ticket = queued.header("location").unwrap().rsplit('/').next().unwrap().to_owned();
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = proxy.shell("tidegate metrics --json").json();
        if metrics["rules"]["api_per_user"]["violations"]["users"][0]["count"] == 20 {
            return ticket;
        }
        assert!(Instant::now() < patience, "{metrics}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The text with what differs from run to run by its kind; the token is the tests' own.
fn lasting(text: &str) -> String {
    assert!(!text.contains(TOKEN));
    let hour = |word: &str| word.parse::<u32>().is_ok_and(|seconds| (3500..=3600).contains(&seconds));
    let is_moment = |word: &str| word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
    let is_hash = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kind = |word: &str| match word.rsplit_once(':') {
        _ if hour(word) => "AN HOUR".to_owned(),
        _ if is_moment(word) => "MOMENT".to_owned(),
        _ if is_hash(word) => "HASH".to_owned(),
        Some((before, word)) if is_hash(word) => format!("{before}:HASH"),
        _ => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(kind).collect::<Vec<String>>().join(" ");
    text.lines().map(line).collect::<Vec<String>>().join("\n")
}
