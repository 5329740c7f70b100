//! `check`, `list`, `explain`, `test`, `completions`, `man`, and usage.

use crate::run::{DEFAULT, Folder};

#[test]
fn a_good_policy_is_ok() {
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    assert_eq!(folder.run(&["check", "p.json"]).clean(0), "p.json: ok, 4 rules, 0 warnings\n");
    let json = folder.run(&["check", "p.json", "--json"]).json();
    assert_eq!((&json["valid"], &json["rules"]), (&true.into(), &4.into()));
}

#[test]
fn every_mistake_is_shown_where_it_stands() {
    let folder = Folder::new();
    let text =
        "{\n  \"version\": 1,\n  \"rules\": [\n    {\"name\": \"a\", \"scope\": \"per_usr\", \"rate\": 0}\n  ]\n}\n";
    folder.write("p.json", text);
    let expected = r#"p.json:4:28: mistake: /rules/0/scope: found "per_usr", allowed: global, per_user, per_ip, per_endpoint; did you mean "per_user"?
  4 |     {"name": "a", "scope": "per_usr", "rate": 0}
    |                            ^
p.json:4:47: mistake: /rules/0/rate: found 0, allowed: a whole number 1 to 10000000, in digits
  4 |     {"name": "a", "scope": "per_usr", "rate": 0}
    |                                               ^
p.json:4:5: mistake: /rules/0: found no "window_seconds", allowed: "window_seconds": a whole number 1 to 31622400, in digits
  4 |     {"name": "a", "scope": "per_usr", "rate": 0}
    |     ^
p.json: not ok, 3 mistakes
"#;
    assert_eq!(folder.run(&["check", "p.json"]).clean(1), expected);
    let json = folder.run(&["check", "p.json", "--json"]).json();
    assert_eq!(json["mistakes"][0]["suggestion"], "per_user");
    assert_eq!((&json["mistakes"][2]["line"], &json["mistakes"][2]["column"]), (&4.into(), &5.into()));
    folder.write("p.json", "{\"version\": 1,\n \"rules\": [},]}");
    assert!(folder.run(&["check", "p.json"]).clean(1).contains("\n  2 |  \"rules\": [},]}\n    |            ^\n"));
}

#[test]
fn warnings_count_where_they_are_denied() {
    let folder = Folder::new();
    folder.write("p.json", "{\"version\": 1, \"rules\": []}");
    let shown = folder.run(&["check", "p.json"]).clean(0);
    assert!(shown.starts_with("p.json:1:25: warning: /rules: no rule limits anything; add one\n"), "{shown}");
    assert!(shown.ends_with("p.json: ok, 0 rules, 1 warning\n"), "{shown}");
    assert!(folder.run(&["check", "p.json", "--deny-warnings"]).clean(1).ends_with("not ok, 0 rules, 1 warning\n"));
}

#[test]
fn secrets_are_not_shown() {
    let folder = Folder::new();
    folder.write(
        "p.json",
        "{\"version\": 1, \"rules\": [], \"store\": {\"type\": \"redis\", \"token\": 4711, \"pasword\": \"hunter2\"}}",
    );
    for flags in [&["check", "p.json"][..], &["check", "p.json", "--json"]] {
        let shown = folder.run(flags).clean(1);
        assert!(!shown.contains("4711") && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn what_cannot_be_read_is_status_2() {
    let folder = Folder::new();
    assert_eq!(
        folder.run(&["check", "none.json"]).complaint(2),
        "tidegate: cannot read none.json: No such file or directory (os error 2)\n"
    );
    std::fs::write(folder.path("bytes.json"), b"\xff\xfe").unwrap();
    assert!(folder.run(&["check", "bytes.json"]).complaint(2).contains("not UTF-8"));
    assert!(folder.run(&["chekc"]).complaint(2).contains("'check'"));
    assert!(folder.run(&["list"]).complaint(2).contains("--policy FILE"));
    assert!(folder.run(&["explain", "--policy", "p", "--header", "x"]).complaint(2).contains("no colon"));
    folder.write("bad.json", "{}");
}

#[test]
fn a_policy_with_mistakes_is_status_1_everywhere() {
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    folder.write("bad.json", "{}");
    folder.write("log", "");
    let add = ["add", "--policy", "bad.json", "--name", "a", "--scope", "global", "--rate", "1", "--window", "1"];
    for words in [
        &["list", "--policy", "bad.json"][..],
        &["explain", "--policy", "bad.json"],
        &["replay", "log", "--policy", "bad.json"],
        &["replay", "log", "--policy", "p.json", "--candidate", "bad.json"],
        &["remove", "--policy", "bad.json", "--name", "a"],
        &add,
    ] {
        let ran = folder.run(words);
        assert!(ran.out.is_empty() && ran.complaint(1).contains("bad.json:1:1: mistake: (the document)"), "{words:?}");
    }
    folder.run(&["check", "bad.json"]).clean(1);
}

#[test]
fn rules_are_listed_with_their_defaults() {
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    let json = folder.run(&["list", "--policy", "p.json", "--json"]).json();
    assert_eq!(json["rules"][3]["endpoints"][0], "/api/search");
    assert_eq!(
        (&json["rules"][0]["strategy"], &json["rules"][0]["state"]),
        (&"retry_after".into(), &"enforced".into())
    );
}

#[test]
fn explaining_tells_who_is_counted_and_hides_what_may_be_a_secret() {
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    let flags = [
        "explain",
        "--policy",
        "p.json",
        "--header",
        "x-api-key: hunter2",
        "--path",
        "//api/search",
        "--ip",
        "2001:db8::7",
    ];
    let shown = folder.run(&flags).clean(0);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("path      //api/search, normalised /api/search\n"), "{shown}");
    assert!(shown.contains("address 2001:db8::/64"), "{shown}");
    let json = folder.run(&[&flags[..], &["--json"]].concat()).json();
    assert_eq!((&json["user"]["id"], &json["user"]["verified"]), (&serde_json::Value::Null, &false.into()));
    assert_eq!(json["rules"][3]["remaining"], 9);
    let json = folder.run(&["explain", "--policy", "p.json", "--user", "bob", "--json"]).json();
    assert_eq!((&json["user"]["id"], &json["user"]["verified"]), (&"bob".into(), &true.into()));
    assert_eq!(json["rules"][3]["reason"], "endpoints");
}

#[test]
fn scenarios_are_run() {
    let folder = Folder::new();
    folder.write("policies/p.json", DEFAULT);
    let scenario = r#"{"description": "d", "policy": "policies/p.json", "requests": [
        {"times": 50, "expect": {"outcome": "allowed"}}, {"expect": {"outcome": "OUTCOME"}}]}"#;
    folder.write("good.json", &scenario.replace("OUTCOME", "limited"));
    folder.write("bad.json", &scenario.replace("OUTCOME", "allowed"));
    assert_eq!(
        folder.run(&["test", "good.json"]).clean(0),
        "test good.json ... ok\n\nresult: ok. 1 passed; 0 failed\n"
    );
    let expected = "test good.json ... ok\ntest bad.json ... FAILED\n  request 1, time 0: outcome: expected \
                    Some(\"allowed\"), found Some(\"limited\")\n\nresult: FAILED. 1 passed; 1 failed\n";
    assert_eq!(folder.run(&["test", "good.json", "bad.json"]).clean(1), expected);
    assert_eq!(folder.run(&["test", "bad.json", "--json"]).json()[0]["passed"], false);
    folder.write("none.json", "{}");
    assert!(folder.run(&["test", "none.json"]).complaint(2).contains("none.json is no scenario"));
}

#[test]
fn the_projects_own_scenarios_pass() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../host-test/scenarios");
    let paths = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let scenarios = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let files: Vec<String> = scenarios.map(|path| path.display().to_string()).collect();
    assert!(files.len() > 20, "{files:?}");
    let words: Vec<&str> = std::iter::once("test").chain(files.iter().map(String::as_str)).collect();
    let ran = Folder::new().run(&words);
    assert_eq!(ran.status, 0, "{}", ran.out);
}

#[test]
fn shells_and_manuals_are_served() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(folder.run(&["completions", shell]).clean(0).contains("tidegate"));
    }
    folder.run(&["man", "pages"]).clean(0);
    assert!(folder.read("pages/tidegate-explain.1").contains("charging"));
}
