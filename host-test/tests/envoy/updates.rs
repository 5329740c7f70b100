//! A policy that changes while Envoy serves: at once, without losing counters; and what a bad policy does.

use serde_json::{Value, json};
use xtask::envoy::{Filter, Plugin, Settings};
use xtask::load::{Client, Request};
use xtask::upstream::Upstream;
use xtask::workspace;

use crate::proxy::{self, Proxy};
use crate::wire::Reply;

const DAY: u64 = 24 * 3600;

fn policy(rules: &[Value]) -> Value {
    json!({
        "version": 1,
        "namespace": "updates",
        "identity": {"user": [{"header": "x-user-id", "trust": "verified"}]},
        "rules": rules,
    })
}

fn rule(name: &str, scope: &str, rate: u64) -> Value {
    json!({"name": name, "scope": scope, "rate": rate, "window_seconds": DAY})
}

/// Mistakes of three kinds, and the pointer that each must be reported with.
fn bad_policy() -> (Value, [&'static str; 3]) {
    let mut bad = policy(&[rule("kept", "global", 0), rule("changed", "per_usr", 5)]);
    bad["versoin"] = json!(1);
    (bad, ["/rules/0/rate", "/rules/1/scope", "/versoin"])
}

fn refusals<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let message = |line: &'a str| line.find("policy refused: ").map(|at| line[at..].to_owned());
    let mut messages: Vec<String> = lines.into_iter().filter_map(message).collect();
    // The thread that logs a message may log it for the next worker too.
    messages.sort();
    messages.dedup();
    messages
}

struct Session {
    proxy: Proxy,
    /// One connection for the whole test.
    client: Client,
}

impl Session {
    /// The status of a request of this user, and what it is told is left.
    fn told(&self, user: &str) -> String {
        let request = Request::get("/").header("x-user-id", user);
        Reply::from(self.client.send(&request).unwrap()).status_and_left()
    }

    fn update(&self, policy: &Value) -> anyhow::Result<()> {
        self.proxy.envoy.update(&Plugin { policy: policy.to_string(), ..self.proxy.plugin.clone() })
    }
}

fn session(test: &str, policy: &Value) -> Option<Session> {
    let proxy = Proxy::start(test, policy)?;
    let client = Client::http1(proxy.address(), 1).unwrap();
    Some(Session { proxy, client })
}

#[test]
fn a_change_takes_effect_at_once_and_keeps_the_counters() {
    let before = policy(&[rule("kept", "global", 100), rule("changed", "per_user", 5), rule("gone", "per_ip", 50)]);
    let Some(mut session) = session("a policy update", &before) else { return };
    for left in [4, 3, 2] {
        assert!(session.told("alice").contains(&format!("changed={left}")));
    }
    assert_eq!(session.told("bob"), "200 kept=96 changed=4 gone=46");

    // `kept` changes in everything but its quota, `changed` in its rate, `gone` goes, `new` comes.
    let mut kept = rule("kept", "global", 100);
    kept["strategy"] = json!("hard");
    kept["priority"] = json!(7);
    let after = policy(&[rule("new", "per_ip", 9), kept, rule("changed", "per_user", 3)]);
    session.update(&after).unwrap();
    assert_eq!(session.told("alice"), "200 new=8 kept=95 changed=2");
    assert_eq!(session.told("alice"), "200 new=7 kept=94 changed=1");
    assert_eq!(session.told("alice"), "200 new=6 kept=93 changed=0");
    assert_eq!(session.told("alice"), "429 changed=0");

    session.update(&before).unwrap();
    assert_eq!(session.told("alice"), "200 kept=92 changed=1 gone=45", "the old quota's counter was kept too");
    assert_eq!(session.proxy.connections_by_worker().iter().sum::<u64>(), 1, "all on one connection");
    session.proxy.assert_unharmed();
}

/// The counters outlive the plugin's code: the same module with one more custom section is other code for Envoy.
#[test]
fn new_code_keeps_the_counters_and_the_metrics() {
    let Some(mut session) = session("a code update", &policy(&[rule("kept", "global", 100)])) else { return };
    for _ in 0..5 {
        session.told("alice");
    }
    let folder = std::env::temp_dir().join(format!("tidegate-code-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut code = std::fs::read(workspace::wasm_file()).unwrap();
    // Section 0 of 3 bytes: a name of one byte, `x`, and one byte of content.
    code.extend_from_slice(&[0, 3, 1, b'x', 0]);
    let wasm = folder.join("other.wasm");
    std::fs::write(&wasm, code).unwrap();
    let updated = session.proxy.envoy.update(&Plugin { wasm, ..session.proxy.plugin.clone() });
    std::fs::remove_dir_all(&folder).unwrap();
    updated.unwrap();
    assert_eq!(session.told("alice"), "200 kept=94");
    assert_eq!(session.proxy.metric("verdicts_total.kept.allowed"), 6);
    session.proxy.assert_unharmed();
}

#[test]
fn a_bad_policy_is_refused_with_its_mistakes_and_the_old_one_goes_on() {
    let (bad, pointers) = bad_policy();
    let good = policy(&[rule("kept", "global", 100)]);
    let Some(session) = session("a bad policy", &good) else { return };
    assert_eq!(session.told("alice"), "200 kept=99");
    let error = session.update(&bad).unwrap_err().to_string();
    assert!(error.contains("refused the update of tidegate"), "{error}");
    let lines = session.proxy.log_lines();
    let while_running = refusals(lines.iter().map(String::as_str));
    assert_eq!(while_running.len(), pointers.len(), "{while_running:#?}");
    for pointer in pointers {
        assert!(while_running.iter().any(|line| line.contains(pointer)), "{pointer} is not in {while_running:#?}");
    }
    assert_eq!(session.told("alice"), "200 kept=98", "the old policy goes on with its counters");
    session.update(&policy(&[rule("next", "global", 10)])).unwrap();
    assert_eq!(session.told("alice"), "200 next=9", "a refused update does not block the next");

    let upstream = Upstream::start().unwrap();
    let settings = Settings::new(upstream.address(), vec![Filter::Static(Plugin::new(&bad.to_string()))]);
    let error = format!("{:#}", proxy::start(&settings).unwrap_err());
    assert!(error.contains("it ended with exit status"), "{error}");
    assert_eq!(refusals(error.lines()), while_running, "the same messages stop Envoy at its start");
    println!("a bad policy's messages in Envoy's log:\n{}", while_running.join("\n"));
}
