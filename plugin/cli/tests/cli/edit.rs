//! `add` and `remove` on a file: only what they are about changes, and only if the result is a policy.

use std::os::unix::fs::PermissionsExt as _;

use crate::run::{DEFAULT, Folder};

const ADD: [&str; 15] = [
    "add",
    "--name",
    "api_limit",
    "--scope",
    "per_user",
    "--rate",
    "100",
    "--burst",
    "10",
    "--window",
    "60",
    "--algorithm",
    "token_bucket",
    "--strategy",
    "retry_after",
];

fn add(folder: &Folder, more: &[&str]) -> crate::run::Ran {
    folder.run(&[&ADD[..], &["--policy", "p.json"], more].concat())
}

#[test]
fn a_rule_is_added_and_removed_without_a_trace() {
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    std::fs::set_permissions(folder.path("p.json"), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(
        add(&folder, &["--endpoint", "/api/x", "--endpoint", "/v1/{id}"]).clean(0),
        "added api_limit in p.json\n"
    );
    let text = folder.read("p.json");
    let (before, after) = text.split_once(",\n    {\n      \"name\": \"api_limit\",\n").unwrap();
    assert!(DEFAULT.starts_with(before));
    assert!(after.contains("      \"endpoints\": [\"/api/x\", \"/v1/{id}\"]\n    }\n  ]\n}\n"), "{after}");
    let mode = std::fs::metadata(folder.path("p.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(folder.path("")).unwrap().count(), 1);

    let complaint = add(&folder, &[]).complaint(1);
    assert_eq!(complaint, "tidegate: there is a rule api_limit already; --force replaces it\n");
    add(&folder, &["--force", "--shadow"]).clean(0);
    assert!(folder.read("p.json").contains("\"mode\": \"shadow\""));
    assert_eq!(
        folder.run(&["remove", "--policy", "p.json", "--name", "api_limit"]).clean(0),
        "removed api_limit in p.json\n"
    );
    assert_eq!(folder.read("p.json"), DEFAULT);
    let complaint = folder.run(&["remove", "--policy", "p.json", "--name", "api_limit"]).complaint(1);
    assert_eq!(complaint, "tidegate: there is no rule api_limit\n");
}

#[test]
fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let folder = Folder::new();
    folder.write("p.json", "{\"version\": 1,\n  \"rules\": [\n    {\"name\": \"a\", \"scope\": \"global\", \"rate\": 1, \"window_seconds\": 1}\n  ]\n}\n");
    let before = folder.read("p.json");
    let expected = "--- p.json\n+++ p.json (edited)\n@@ -1,5 +1,6 @@\n {\"version\": 1,\n   \"rules\": [\n-    {\"name\": \
        \"a\", \"scope\": \"global\", \"rate\": 1, \"window_seconds\": 1}\n+    {\"name\": \"a\", \"scope\": \"global\", \"rate\": 1, \
        \"window_seconds\": 1},\n+    {\"name\": \"api_limit\", \"scope\": \"per_user\", \"rate\": 100, \"window_seconds\": 60, \
        \"burst\": 10, \"algorithm\": \"token_bucket\", \"strategy\": \"retry_after\"}\n   ]\n }\n";
    assert_eq!(add(&folder, &["--dry-run"]).clean(0), expected);
    assert_eq!(folder.read("p.json"), before);
}

#[test]
fn what_would_not_pass_the_check_is_not_written() {
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    let complaint = add(&folder, &["--cost", "11"]).complaint(1);
    assert!(complaint.contains("p.json would have mistakes, and is left as it is"), "{complaint}");
    assert!(complaint.contains("/rules/4/cost: found 11"), "{complaint}");
    assert!(add(&folder, &["--strategy", "x"]).complaint(2).contains("cannot be used multiple times"));
    add(&folder, &["--replaces", "nobody"]).complaint(1);
    assert_eq!(folder.read("p.json"), DEFAULT);

    add(&folder, &["--replaces", "api_per_user", "--method", "POST"]).clean(0);
    let text = folder.read("p.json");
    let complaint = folder.run(&["remove", "--policy", "p.json", "--name", "api_per_user"]).complaint(1);
    assert!(complaint.contains("replaces/0: found \"api_per_user\""), "{complaint}");
    assert_eq!(folder.read("p.json"), text);

    folder.write("p.json", "{}");
    assert!(add(&folder, &[]).complaint(1).contains("has mistakes, and is left as it is"));
}

#[test]
fn a_strategy_may_have_options_and_a_link_stays_one() {
    let folder = Folder::new();
    folder.write("real.json", DEFAULT);
    std::os::unix::fs::symlink("real.json", folder.path("p.json")).unwrap();
    let strategy = "{\"type\": \"hard\", \"status\": 503}";
    let flags = ["add", "--policy", "p.json", "--name", "x", "--scope", "per_ip", "--rate", "1", "--window", "1"];
    folder.run(&[&flags[..], &["--strategy", strategy]].concat()).clean(0);
    assert!(folder.read("real.json").contains("\"strategy\": {\"status\": 503, \"type\": \"hard\"}"));
    assert!(std::fs::symlink_metadata(folder.path("p.json")).unwrap().is_symlink());
    assert!(folder.run(&[&flags[..], &["--strategy", "{"]].concat()).complaint(2).contains("--strategy"));
}

#[test]
fn warnings_of_an_edit_are_told() {
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    let flags = ["add", "--policy", "p.json", "--name", "x", "--scope", "per_ip", "--rate", "1", "--window", "1"];
    let ran = folder.run(&[&flags[..], &["--cost", "0"]].concat());
    assert_eq!(ran.status, 0);
    assert!(ran.err.contains("warning: /rules/4/cost: 0 takes nothing"), "{}", ran.err);
    assert_eq!(ran.err.matches("warning").count(), 1);
}
