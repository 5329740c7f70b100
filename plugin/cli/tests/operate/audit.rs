//! `audit verify` on what a real proxy says and on what stands in a real Envoy's log.

use std::fmt::Write as _;

use serde_json::json;

use crate::proxy::{Proxy, policy};

#[test]
fn the_audit_log_is_verified_where_it_is_and_in_the_hosts_log() {
    let rules = json!([{"name": "few", "scope": "per_user", "rate": 2, "window_seconds": 3600}]);
    let Some(proxy) = Proxy::start("operate: audit", &policy(&rules).to_string()) else { return };
    assert_eq!(proxy.shell("tidegate audit").clean(0), "no entries\n");
    assert_eq!(proxy.shell("tidegate audit verify").clean(0), "audit log: ok, no entries\n");
    let evil = "'\u{9b}2J\u{202e} {\"seq\":9} zo\u{eb}'";
    let grant = "tidegate override --reason testing --duration 5 --unlimited";
    for line in [
        format!("{grant} --user {evil} --note '{{\"seq\":9}}'"),
        "tidegate reset --rule few".to_owned(),
        "tidegate reset --rule few --key u".to_owned(),
        "tidegate add --name more --scope global --rate 5 --window 5".to_owned(),
        "tidegate remove --name more".to_owned(),
    ] {
        proxy.shell(&line).clean(0);
    }
    proxy.shell("TIDEGATE_TOKEN=wrong tidegate status").complaint(2);
    let shown = proxy.shell("tidegate audit").clean(0);
    assert!(shown.starts_with("SEQ  AT ") && shown.contains("admin_123  counter_cleared  few u\n"), "{shown}");
    assert!(shown.contains("\\u{9b}2J\\u{202e}") && !shown.contains(['\u{9b}', '\u{202e}']), "{shown}");
    assert_eq!(proxy.shell("tidegate audit --after 3 --json").json()["entries"].as_array().unwrap().len(), 2);
    let out = proxy.shell("tidegate audit verify").clean(0);
    let head = out.trim_end().strip_prefix("audit log: ok, 5 entries, 1 to 5, head ").unwrap().to_owned();
    proxy.shell(&format!("tidegate audit verify --head {head}")).clean(0);
    let forged = format!("5:{}", "0".repeat(64));
    let complaint = proxy.shell(&format!("tidegate audit verify --head {forged}")).clean(1);
    assert!(complaint.starts_with("entry 5 is not the one that --head names\naudit log: not ok"), "{complaint}");

    let log = proxy.envoy.flushed_log_lines().unwrap();
    let verify = |name: &str, lines: &[String]| {
        let text = lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        });
        proxy.folder.write(name, &text);
        proxy.folder.shell(&format!("tidegate audit verify --log {name} --head {head}"))
    };
    assert!(verify("envoy.log", &log).clean(0).starts_with("audit log: ok, 5 entries, 1 to 5, head 5:"));
    let at: Vec<usize> = (0..log.len()).filter(|at| log[*at].contains("\"actor\":\"admin_123\"")).collect();
    assert_eq!(at.len(), 5, "{log:#?}");
    let mut edited = log.clone();
    edited[at[1]] = edited[at[1]].replace("admin_123", "admin_124");
    assert!(verify("edited", &edited).clean(1).contains("entry 2 does not fit its own hash"));
    let mut gap = log.clone();
    gap.remove(at[2]);
    assert!(verify("gap", &gap).clean(1).contains("entry 4 does not follow entry 2"));
    let mut moved = log.clone();
    moved.swap(at[1], at[3]);
    assert!(verify("moved", &moved).clean(1).contains("does not follow"));
    assert!(verify("cut", &log[..at[4]]).clean(1).contains("entry 5, which --head names, is not in the log"));
}
