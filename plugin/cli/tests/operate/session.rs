//! An operator's session, line by line: a rule is added, a user runs into it, is let through, and is limited again; then
//! all of it is gone. What each line does is seen on connections of both workers.

use std::time::Instant;

use serde_json::{Value, json};

use crate::proxy::{Proxy, policy, refilled};

const ADD: &str = "tidegate add --name api_limit --scope per_user --rate 100 --burst 10 --window 60 --algorithm \
                   token_bucket --strategy retry_after";
const OVERRIDE: &str =
    "tidegate override --admin admin_123 --user user_456 --reason emergency_access --duration 60 --unlimited";

fn counts(proxy: &Proxy) -> Value {
    let value = proxy.shell("tidegate metrics --rule api_limit --json").json();
    value["rules"]["api_limit"].clone()
}

#[test]
fn an_operators_session() {
    let Some(mut proxy) = Proxy::start("operate: an operator's session", &policy(&json!([])).to_string()) else {
        return;
    };
    assert_eq!(proxy.passing("user_456"), (32, 32), "there is no rule yet");
    let status = proxy.shell("tidegate status --json").json();
    assert_eq!(status["workers"], 2, "the connections reach both workers");

    assert_eq!(proxy.shell(ADD).clean(0), "added api_limit\n");
    let list = proxy.shell("tidegate list").clean(0);
    assert_eq!(
        list,
        "NAME       SCOPE     RATE  WINDOW SECONDS  BURST  ALGORITHM     STRATEGY     STATE     SOURCE\n\
         api_limit  per_user   100              60     10  token_bucket  retry_after  enforced  runtime\n"
    );
    let rules = proxy.shell("tidegate list --json").json();
    assert_eq!((&rules["rules"][0]["rate"], &rules["rules"][0]["source"]), (&json!(100), &json!("runtime")));

    let start = Instant::now();
    let mut sent = proxy.until_limited("user_456") + 1;
    assert!(sent > 10, "{sent}: ten may come at once");
    let (passed, tried) = proxy.passing("user_456");
    sent += tried;
    assert!(passed <= refilled(start), "{passed} passed: one worker does not know of the limit");
    let limited = usize::try_from(counts(&proxy)["rejected"].as_u64().unwrap()).unwrap();
    assert_eq!(limited, 1 + tried - passed);

    let granted = proxy.shell(OVERRIDE).clean(0);
    let id = granted.strip_prefix("granted ").unwrap().split(' ').next().unwrap().to_owned();
    assert!(id.starts_with("ov_") && granted.contains(" until 20"), "{granted}");
    assert_eq!(proxy.passing("user_456"), (32, 32), "both workers know of the grant");
    let overrides = proxy.shell("tidegate list --overrides").clean(0);
    assert!(overrides.starts_with("OVERRIDE ID"), "{overrides}");
    assert!(overrides.contains(&id) && overrides.contains("user_456") && overrides.contains("admin_123"));
    for other in ["another", "a_third"] {
        assert!(proxy.until_limited(other) >= 10, "the grant is for one user, and {other} has a bucket of ten");
    }

    let table = proxy.shell("tidegate metrics --rule api_limit").clean(0);
    assert!(table.starts_with("NAME       TOTAL  ALLOWED  LIMITED  REJECTED  GRANTED"), "{table}");
    assert!(table.contains("\napi_limit: rejections by user\nKEY"), "{table}");
    let counted = counts(&proxy);
    let number = |name: &str| usize::try_from(counted[name].as_u64().unwrap()).unwrap();
    assert_eq!(number("total"), number("allowed") + number("rejected") + number("granted"), "{counted}");
    assert!(number("total") > sent + 32 && number("granted") >= 32 - refilled(start), "{counted}");
    assert_eq!(number("rejected"), limited + 2, "two others were refused once each");

    assert_eq!(proxy.shell(&format!("tidegate revoke {id}")).clean(0), format!("revoked {id}\n"));
    assert_eq!(proxy.shell("tidegate list --overrides").clean(0), "nothing is granted\n");
    proxy.until_limited("user_456");
    let again = Instant::now();
    let (passed, _) = proxy.passing("user_456");
    assert!(passed <= refilled(again), "{passed} passed after the grant was revoked");

    assert_eq!(proxy.shell("tidegate reset --rule api_limit").clean(0), "reset the metrics of api_limit\n");
    assert_eq!(counts(&proxy)["total"], 0);
    assert!(proxy.shell("tidegate metrics").clean(0).contains("api_limit      0"));
    assert_eq!(proxy.shell("tidegate remove --name api_limit").clean(0), "removed api_limit\n");
    assert_eq!(proxy.shell("tidegate list").clean(0), "no rules\n");
    assert_eq!(proxy.passing("user_456"), (32, 32), "both workers know that the rule is gone");
    assert!(proxy.envoy.is_running());
}
