//! `cargo xtask demo` as a user runs it: it serves, its check says yes and no, and Ctrl-C leaves nothing behind.
//! Not here: the default policy, which `cargo xtask test` gives to `demo --check` as a step of its own.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use xtask::load::{Client, Request};
use xtask::{skip, workspace};

/// The program with a policy of so many requests an hour; `None`, said loudly, where no plugin is built.
fn demo(test: &str, rate: u32) -> Option<(tempfile::TempDir, Command)> {
    let wasm = workspace::wasm_file();
    if !wasm.is_file() {
        skip::tell(test, "dist/tidegate.wasm is not built; run `cargo xtask build`");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let policy: PathBuf = folder.path().join("policy.json");
    let rule = format!(r#"{{"name": "all", "scope": "global", "rate": {rate}, "window_seconds": 3600}}"#);
    std::fs::write(&policy, format!(r#"{{"version": 1, "rules": [{rule}]}}"#)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("demo").arg("--policy").arg(policy).env("TIDEGATE_WASM", wasm);
    Some((folder, command))
}

#[test]
fn the_check_says_yes_to_a_policy_that_limits() {
    let Some((_folder, mut demo)) = demo("xtask: demo check", 5) else { return };
    let output = demo.arg("--check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.contains("allowed 5 before") && text.contains("status 429") && text.contains("retry-after: "),
        "{text}"
    );
}

#[test]
fn the_check_says_no_when_nothing_is_limited() {
    let Some((_folder, mut demo)) = demo("xtask: demo check", 1_000_000) else { return };
    let output = demo.arg("--check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("WRONG: the last request got 200, expected 429"), "{text}");
}

#[test]
fn a_policy_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["demo", "--policy", "no-such-policy.json"])
        .env("TIDEGATE_WASM", "none.wasm")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-policy.json"));
}

#[test]
fn ctrl_c_ends_all_of_it() {
    let Some((_folder, mut demo)) = demo("xtask: demo and Ctrl-C", 5) else { return };
    let mut child = demo.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.contains("Ctrl-C")).collect();
    let envoy = head.iter().find_map(|line| line.strip_prefix("Envoy     http://")).expect("Envoy's address");
    let address = envoy.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(head.iter().filter(|line| line.contains("curl ")).count(), 3, "{head:?}");

    let client = Client::http1(address, 1).unwrap();
    for _ in 0..8 {
        client.send(&Request::get("/")).unwrap();
    }
    let start = Instant::now();
    let (mut allowed, mut limited) = (0, 0);
    while (allowed, limited) != (5, 3) {
        let line = lines.next().expect("one more line");
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        allowed += numbers.first().expect("how many were allowed");
        limited += numbers.get(1).expect("how many were limited");
        assert!(start.elapsed() < Duration::from_secs(10), "allowed {allowed}, limited {limited}");
    }

    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let children: Vec<&str> = children.split_whitespace().collect();
    assert_eq!(children.len(), 1, "Envoy is its one child");
    kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    for child in children {
        assert!(!Path::new("/proc").join(child).exists(), "Envoy {child} still runs");
    }
    assert!(TcpStream::connect(address).is_err(), "{address} is still served");
}
