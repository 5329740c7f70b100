//! What the session leaves out: every other command on a running proxy, the answers that are no, and the trouble.

use serde_json::json;

use crate::proxy::{Proxy, policy};

fn start(test: &str) -> Option<Proxy> {
    let rules = json!([
        {"name": "everybody", "scope": "global", "rate": 1000, "window_seconds": 60, "algorithm": "fixed_window"},
        {"name": "few", "scope": "per_user", "rate": 2, "window_seconds": 3600, "endpoints": ["/", "/api/*"]},
        {"name": "quiet", "scope": "per_ip", "rate": 1, "window_seconds": 3600, "mode": "shadow"},
    ]);
    Proxy::start(test, &policy(&rules).to_string())
}

#[test]
fn looking_changes_nothing_and_tells_the_truth() {
    let Some(proxy) = start("operate: looking") else { return };
    assert_eq!((0..4).filter(|number| proxy.status(*number, "zo\u{eb}") == 200).count(), 2);

    let status = proxy.shell("tidegate status").clean(0);
    for line in [
        "policy.rules             3\n",
        "store.healthy            yes\n",
        "runtime.misfit           none\n",
        "workers  ",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let list = proxy.shell("tidegate list").clean(0);
    assert!(list.contains("quiet") && list.contains("shadow") && list.contains("/, /api/*"), "{list}");

    let explain = "tidegate explain --path //api/../ --user zo\u{eb} --ip 203.0.113.7 --header 'x-api-key: k'";
    let shown = proxy.shell(explain).clean(0);
    assert!(shown.contains("few           0  2 in 3600 s"), "{shown}");
    assert!(shown.contains("user zo\u{eb}\n") && shown.contains("ip 203.0.113.7 (in shadow)\n"), "{shown}");
    assert_eq!(proxy.shell(explain).clean(0).lines().count(), shown.lines().count(), "it charges nothing");
    let elsewhere = proxy.shell("tidegate explain --path /other --json").json();
    assert_eq!(elsewhere["rules"][2]["why_not"], "the path fits none of its endpoints", "{elsewhere}");
    let hidden = proxy.shell("tidegate explain --path / --header 'x-api-key: s3cret'").clean(0);
    assert!(hidden.contains("unverified ") && !hidden.contains("s3cret"), "{hidden}");
    let twice = proxy.shell("tidegate explain --header a:1 --header a:2").complaint(2);
    assert_eq!(twice, "tidegate: --header a: a running proxy takes each header once\n");

    let watched = proxy.shell("tidegate metrics --watch --interval 1 --count 2").clean(0);
    assert_eq!(watched.matches("NAME ").count(), 2, "{watched}");
    assert!(watched.contains("SHADOW LIMITED") && !watched.contains("QUEUED"), "{watched}");
}

#[test]
fn counters_kill_switches_and_multipliers() {
    let Some(proxy) = start("operate: counters") else { return };
    let passing = |user: &str| (0..6).filter(|number| proxy.status(*number, user) == 200).count();
    assert_eq!((passing("u"), passing("u")), (2, 0));
    let cleared = proxy.shell("tidegate reset --rule few --key u").clean(0);
    assert_eq!(cleared, "cleared the counter of u for few\n");
    assert_eq!(passing("u"), 2);
    let done = proxy.shell("tidegate reset --rule few --key u --kind user --json").json();
    assert_eq!(done["done"], "cleared the counter of u for few");
    assert_eq!(passing("u"), 2);
    proxy.shell("tidegate reset --rule everybody --key ''").clean(0);
    proxy.shell("tidegate reset --rule few --key 127.0.0.1 --kind ip").clean(0);

    let grant = "tidegate override --reason testing --duration 5 --json";
    let doubled = proxy.shell(&format!("{grant} --user u --rule few --multiplier 2.5 --note INC-7")).json();
    assert_eq!((&doubled["rate_multiplier"], &doubled["note"]), (&json!(2.5), &json!("INC-7")));
    assert_eq!(passing("u"), 5);
    let switched = proxy.shell(&format!("{grant} --rule '*' --unlimited")).json();
    assert_eq!(switched["target_rule"], "*");
    assert_eq!(passing("somebody"), 6);
    let id = switched["override_id"].as_str().unwrap();
    assert_eq!(proxy.shell(&format!("tidegate revoke {id} --json")).json()["done"], format!("revoked {id}"));
    assert_eq!(passing("somebody"), 0, "while it was off the rule still counted");

    let add = "tidegate add --name few --scope per_user --rate 3 --window 3600 --endpoint /";
    assert_eq!(proxy.shell(add).complaint(1), "tidegate: there is a rule few already; --force replaces it\n");
    assert_eq!(proxy.shell(&format!("{add} --force")).clean(0), "added few\n");
    assert_eq!(passing("late"), 3);
    proxy.shell("tidegate remove --name few").clean(0);
    assert_eq!(passing("later"), 2, "the file's rule is back");
}

#[test]
fn no_is_1_and_trouble_is_2() {
    let Some(proxy) = start("operate: exit statuses") else { return };
    let no = |line: &str, reason: &str| {
        let complaint = proxy.shell(line).complaint(1);
        assert!(complaint.contains(reason), "{line}: {complaint}");
    };
    no("tidegate remove --name few", "This rule is the policy file's: put it with \"enabled\": false");
    no("tidegate remove --name nobody", "There is no such thing. (404)");
    no("tidegate metrics --rule nobody", "There is no such rule. (404)");
    no("tidegate reset --rule nobody", "There is no such rule. (404)");
    no(
        "tidegate reset --rule fwe --key u",
        "/rule: found \"fwe\", allowed: the name of a rule of this policy; did you mean \"few\"?",
    );
    no("tidegate revoke ov_0", "There is no such thing. (404)");
    let grant = "tidegate override --user u --reason testing --unlimited";
    no(
        &format!("{grant} --admin somebody_else --duration 5"),
        "/admin_id: found \"somebody_else\", allowed: \"admin_123\"",
    );
    no(&format!("{grant} --duration 99999999"), "/duration_minutes");
    no("tidegate override --ip 0.0.0.0/0 --reason other --duration 5 --unlimited", "/target_ip");
    no("tidegate add --name x --scope per_usr --rate 1 --window 1", "did you mean \"per_user\"?");
    no("tidegate add --name x --scope per_user --rate 1 --window 1 --burst 9", "/burst");
    let endless = proxy.shell("tidegate override --user u --reason testing --unlimited --duration 0");
    assert_eq!(endless.status, 2);

    let read_only = proxy.shell("tidegate revoke ov_0 --token-file read-token").complaint(2);
    assert_eq!(read_only, "tidegate: the proxy says: This token may look and not change. (403)\n");
    proxy.shell("tidegate list --token-file read-token").clean(0);
    proxy.folder.write("wrong", "a-token-of-nobody");
    let complaint = proxy.shell("tidegate status --token-file wrong").complaint(2);
    assert_eq!(complaint, "tidegate: the proxy does not know this token\n");
    let failed = proxy.shell("tidegate audit").clean(0);
    assert!(failed.contains("failed logins: 1\n"), "{failed}");
}
