//! What a valid policy compiles to: defaults, units, spelling, tags, and what a plugin of one's own may add.

use tidegate_engine::algorithm::{Algorithm, Cell, Plan, Quota, Standing};
use tidegate_engine::catalogue::{Catalogue, StrategyKind};
use tidegate_engine::policy::{Anonymous, HeaderStyle, Member, OnStoreError, Policy, Scope, Shape, Store, UserSource};
use tidegate_engine::strategy::{Action, Body, Denial, Reason, Refusal, Reject, Relief};
use tidegate_engine::{Micros, Timestamp};

use super::parse;

/// A policy with one rule, `more` being members besides the required ones.
fn with_rule(more: &str) -> Policy {
    let rule = format!(r#"{{"name": "a", "scope": "global", "rate": 10, "window_seconds": 60{more}}}"#);
    parse(&format!(r#"{{"version": 1, "rules": [{rule}]}}"#)).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn refused(policy: &Policy) -> Refusal {
    let denial = Denial {
        rule: "a".to_owned(),
        reason: Reason::OverQuota,
        retry_after: Micros(1),
        relief: Relief::None,
        violated: vec!["a".to_owned()],
    };
    let Action::Respond(refusal) = policy.rules[0].strategy.apply(&denial) else { panic!("not refused") };
    refusal
}

#[test]
fn what_is_absent_has_its_default() {
    let policy = with_rule("");
    let rule = &policy.rules[0];
    assert_eq!((&*policy.namespace, policy.paths_are_loose, policy.headers), ("default", false, HeaderStyle::Draft11));
    assert_eq!(policy.store, Store::Local { max_keys: 65_536 });
    let jwt = ["envoy.filters.http.jwt_authn", "payload", "sub"].map(str::to_owned).to_vec();
    assert_eq!(policy.identity.user, [UserSource::Metadata(jwt)]);
    assert_eq!((policy.identity.anonymous, policy.identity.trusted_hops), (Anonymous::PerIp, None));
    assert_eq!((policy.identity.ipv4_prefix, policy.identity.ipv6_prefix), (32, 64));
    assert_eq!(
        (rule.algorithm.name(), rule.strategy.name(), rule.scope),
        ("token_bucket", "retry_after", Scope::Global)
    );
    assert_eq!((rule.quota.burst.get(), rule.cost, rule.priority), (10, 1, 0));
    assert_eq!(rule.quota.window, Micros::from_secs(60));
    assert!(rule.enabled && !rule.shadow && !policy.admin_api.is_on() && policy.alerts.is_empty());
    assert_eq!((rule.on_store_error, rule.local_share_ppm), (OnStoreError::Local, 1_000_000));
}

#[test]
fn what_is_written_counts() {
    let policy = with_rule(
        r#", "burst": 20, "methods": ["get"], "mode": "shadow", "enabled": false, "local_share": 0.25, "cost": 3,
           "algorithm": "fixed_window", "strategy": "hard", "on_store_error": "allow", "priority": -7"#,
    );
    let rule = &policy.rules[0];
    assert_eq!((rule.algorithm.name(), rule.strategy.name()), ("fixed_window", "hard"));
    assert_eq!((rule.methods.join(","), rule.local_share_ppm, rule.priority), ("GET".to_owned(), 250_000, -7));
    assert!(rule.shadow && !rule.enabled);
    let replacing = r#"{"version": 1, "rules": [
        {"name": "a", "scope": "global", "rate": 1, "window_seconds": 1, "replaces": ["c", "b"]},
        {"name": "b", "scope": "per_ip", "rate": 1, "window_seconds": 1},
        {"name": "c", "scope": "per_endpoint", "rate": 1, "window_seconds": 1}],
        "identity": {"user": [{"header": "X-Api-Key"}, {"jwt_claim": "sub", "trust": "unverified"}]}}"#;
    let policy = parse(replacing).unwrap();
    assert_eq!(policy.rules[0].replaces, [2, 1]);
    let header = UserSource::Header { name: "x-api-key".to_owned(), verified: false };
    let claim = UserSource::JwtClaim { claim: "sub".to_owned(), header: "authorization".to_owned() };
    assert_eq!(policy.identity.user, [header, claim]);
}

#[test]
fn defaults_serve_rules_that_say_nothing() {
    let text = r#"{"version": 1,
        "defaults": {"algorithm": "sliding_window", "strategy": {"type": "hard", "status": 503}},
        "rules": [{"name": "a", "scope": "global", "rate": 1, "window_seconds": 1}]}"#;
    let policy = parse(text).unwrap();
    assert_eq!(policy.rules[0].algorithm.name(), "sliding_window");
    assert_eq!(refused(&policy), Refusal { status: 503, body: Body::Problem, retry_after: None });
}

#[test]
fn bodies_are_problem_text_or_json() {
    let body = |more: &str| refused(&with_rule(&format!(r#", "strategy": {{"type": "retry_after"{more}}}"#))).body;
    assert_eq!(body(""), Body::Problem);
    let own = |content_type, content: &str| Body::Own { content_type, content: content.to_owned() };
    assert_eq!(body(r#", "body": "slow\ndown""#), own("text/plain; charset=utf-8", "slow\ndown"));
    assert_eq!(body(r#", "body": {"b": [1, "x"], "a": 0.5}"#), own("application/json", r#"{"b":[1,"x"],"a":0.5}"#));
    assert_eq!(body(r#", "body": []"#), own("application/json", "[]"));
}

#[test]
fn a_tag_changes_with_what_a_cell_depends_on_and_with_nothing_else() {
    let tag = |text: &str| parse(text).unwrap_or_else(|mistakes| panic!("{mistakes}")).rules[0].tag;
    let text = r#"{"version": 1, "rules": [{"name": "a", "scope": "global", "rate": 10, "window_seconds": 60, "burst": 10, "algorithm": "token_bucket"}]}"#;
    let changes = [
        ("global", "per_ip"),
        ("\"rate\": 10", "\"rate\": 11"),
        ("60", "61"),
        ("\"burst\": 10", "\"burst\": 9"),
        ("token_bucket", "fixed_window"),
    ];
    let mut tags = vec![tag(text)];
    tags.extend(changes.iter().map(|(from, to)| tag(&text.replace(from, to))));
    let distinct: std::collections::BTreeSet<&u64> = tags.iter().collect();
    assert_eq!(distinct.len(), tags.len());
    for (from, to) in
        [("\"a\"", "\"b\""), ("\"burst\": 10, ", ""), ("60,", "60, \"priority\": 5, \"endpoints\": [\"/x\"],")]
    {
        assert_eq!(tag(&text.replace(from, to)), tags[0], "{from} to {to}");
    }
    // Other stores and later versions must find the same cells: this number never changes.
    assert_eq!(tags[0], 5_605_616_416_852_628_631);
}

#[test]
fn a_strategy_is_built_or_refused_but_never_another_one() {
    for kind in Catalogue::builtin().strategies() {
        let options = match kind.name {
            "queue" => r#", "cluster": "c", "authority": "a""#,
            "graceful" => r#", "respond": {}"#,
            _ => "",
        };
        let text = format!(
            r#"{{"version": 1, "rules": [{{"name": "a", "scope": "global", "rate": 1, "window_seconds": 1,
            "strategy": {{"type": "{}"{options}}}}}]}}"#,
            kind.name
        );
        match parse(&text) {
            Ok(policy) => assert_eq!(policy.rules[0].strategy.name(), kind.name),
            Err(mistakes) => {
                let messages = mistakes.to_string();
                let refused =
                    format!("/rules/0/strategy: found \"{}\", which is not available in this version", kind.name);
                assert!(messages.starts_with(&refused), "{messages}");
            }
        }
    }
}

struct Everything;

impl Algorithm for Everything {
    fn name(&self) -> &'static str {
        "everything"
    }

    fn plan(&self, cell: Cell, _: &Quota, _: u64, _: Timestamp) -> Plan {
        Plan { wait: Micros::ZERO, cell }
    }

    fn standing(&self, _: Cell, quota: &Quota, _: Timestamp) -> Standing {
        Standing { remaining: quota.rate.get(), reset_after: Micros::ZERO }
    }

    fn pull(&self, cell: Cell, _: &Quota, _: Timestamp) -> Cell {
        cell
    }

    fn refund(&self, cell: Cell, _: &Quota, _: u64, _: Timestamp, _: Timestamp) -> Cell {
        cell
    }

    fn largest_cost(&self, quota: &Quota) -> u64 {
        quota.rate.get()
    }
}

static TEAPOT: StrategyKind = StrategyKind {
    name: "teapot",
    doc: "Says that it is one.",
    options: &[Member::or("status", Shape::Integer { min: 418, max: 419 }, "418", "Which one.")],
    build: |node, _| {
        let status = u16::try_from(node.small("status").unwrap_or_default()).unwrap_or_default();
        Ok(Box::new(Reject { status, body: Body::Problem, says_when: false }))
    },
};

#[test]
fn a_plugin_adds_algorithms_and_strategies() {
    let catalogue = Catalogue::builtin().with_algorithm(&Everything).with_strategy(&TEAPOT);
    let text = r#"{"version": 1, "rules": [{"name": "a", "scope": "global", "rate": 1, "window_seconds": 1,
        "algorithm": "everything", "strategy": "teapot"}]}"#;
    let policy = Policy::parse(text.as_bytes(), &catalogue).unwrap();
    assert_eq!(policy.rules[0].algorithm.name(), "everything");
    assert_eq!(refused(&policy).status, 418);
    assert!(parse(text).unwrap_err().to_string().contains("token_bucket, leaky_bucket"));
    let wrong = text.replace("\"teapot\"", r#"{"type": "teapot", "status": 420}"#);
    let messages = Policy::parse(wrong.as_bytes(), &catalogue).unwrap_err().to_string();
    assert!(messages.contains("/rules/0/strategy/status: found 420, allowed: a whole number 418 to 419"), "{messages}");
    let redis = r#""store": {"type": "redis", "cluster": "g", "authority": "g", "protocol": "upstash"}, "rules""#;
    let messages = Policy::parse(text.replace("\"rules\"", redis).as_bytes(), &catalogue).unwrap_err().to_string();
    assert!(
        messages.contains("/rules/0/algorithm: found \"everything\", an algorithm that this plugin adds"),
        "{messages}"
    );
    assert!(tidegate_engine::policy::schema_json(&catalogue).contains("\"teapot\""));
}
