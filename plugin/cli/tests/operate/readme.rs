//! The shell blocks of README's "Operate it", as they stand there, against a real Envoy. A block is run where the line
//! before it is `<!-- run: NAME -->`; what each of its lines prints is checked here.

use std::fmt::Write as _;

use serde_json::Value;

use crate::proxy::Proxy;
use crate::run::Folder;

const README: &str = include_str!("../../../../README.md");

/// The lines of the block of that name.
fn block(name: &str) -> Vec<&'static str> {
    let (_, after) = README.split_once(&format!("<!-- run: {name} -->\n```sh\n")).expect("a block of this name");
    after.split_once("\n```\n").expect("the block's end").0.lines().collect()
}

/// Runs a block with the demo's usual address replaced; each line's output. Lines share one shell.
fn run(proxy: &Proxy, name: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = block(name).into_iter().filter(|line| !line.is_empty()).collect();
    let mut script = "set -eu\n".to_owned();
    for (number, line) in lines.iter().enumerate() {
        let line = line.replace("localhost:10000", &proxy.address.to_string());
        let _ = writeln!(script, "echo; echo '@@ {number}'\n{line}");
    }
    let out = proxy.folder.shell(&script).clean(0);
    let mut printed = vec![String::new(); lines.len()];
    for part in out.split("\n@@ ").skip(1) {
        let (number, text) = part.split_once('\n').unwrap_or((part, ""));
        let number: usize = number.trim().parse().unwrap();
        printed[number].push_str(text.trim());
    }
    lines.iter().map(|line| (*line).to_owned()).zip(printed).collect()
}

/// The policy that the first block writes, and a proxy with it that knows the token that it makes.
fn prepared(test: &str) -> Option<Proxy> {
    let folder = Folder::new();
    folder.write("target/.keep", "");
    let lines: Vec<&str> = block("prepare");
    let (last, lines) = lines.split_last().unwrap();
    assert_eq!(*last, "cargo xtask demo --policy target/operated.json");
    folder.shell(&lines.join("\n")).clean(0);
    let policy = folder.read("target/operated.json");
    folder.run(&["check", "target/operated.json"]).clean(0);
    let proxy = Proxy::start(test, &policy)?;
    proxy.folder.write("target/token", &folder.read("target/token"));
    Some(proxy)
}

/// The statuses that the calls of `ask` got.
fn asked(lines: &[(String, String)]) -> Vec<Vec<u16>> {
    let asks = lines.iter().filter(|(line, _)| line.starts_with("ask "));
    asks.map(|(_, out)| out.split_whitespace().map(|code| code.parse().unwrap()).collect()).collect()
}

/// Ten pass, then a refusal; all pass; most are refused. A bucket of 100 a minute gains one in 0.6 s, so that a slow
/// machine may see a few more pass.
fn assert_statuses(asked: &[Vec<u16>]) {
    let [first, granted, again] = asked else { panic!("three asks: {asked:?}") };
    assert_eq!(first[..10], [200; 10]);
    assert!(first[10..].iter().all(|code| [200, 429].contains(code)) && first.len() == 12);
    assert_eq!(granted[..], [200; 12]);
    assert!(again.contains(&429), "{again:?}");
}

#[test]
fn the_session_by_command_line() {
    let Some(proxy) = prepared("operate: README's session") else { return };
    let lines = run(&proxy, "session");
    assert_statuses(&asked(&lines));
    let said = |start: &str| &lines.iter().find(|(line, _)| line.starts_with(start)).expect("the line").1;
    assert_eq!(said("tidegate add"), "added api_limit");
    assert!(said("tidegate list").contains("api_limit  per_user   100              60     10"));
    assert!(said("tidegate metrics").contains("api_limit     24"), "{}", said("tidegate metrics"));
    assert!(said("tidegate revoke").starts_with("revoked ov_"));
    assert_eq!(said("tidegate reset"), "reset the metrics of api_limit");
    assert_eq!(said("tidegate remove"), "removed api_limit");
    assert!(said("tidegate audit").starts_with("audit log: ok, 5 entries, 1 to 5, head 5:"));
}

#[test]
fn the_session_by_curl() {
    let Some(proxy) = prepared("operate: README's calls") else { return };
    let lines = run(&proxy, "curl");
    assert_statuses(&asked(&lines));
    let said = |start: &str| -> Value {
        let out = &lines.iter().find(|(line, _)| line.starts_with(start)).expect("the line").1;
        serde_json::from_str(out).unwrap_or_else(|error| panic!("{start}: {error}: {out}"))
    };
    assert_eq!(said("call -X PUT")["rule"]["source"], "runtime");
    assert_eq!(said("call $API/rules")["rules"][0]["name"], "api_limit");
    assert_eq!(said("call $API/metrics")["rules"]["api_limit"]["total"], 24);
    assert_eq!(said("call -X POST $API/metrics")["rules"]["api_limit"]["total"], 0);
    let deleted = lines.iter().filter(|(line, _)| line.starts_with("call -X DELETE"));
    assert!(deleted.clone().count() == 2 && deleted.clone().all(|(_, out)| out.is_empty()), "204 has no body");
    assert_eq!(said("call $API/audit")["head"]["seq"], 5);
}
