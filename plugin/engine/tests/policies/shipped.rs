//! The policies in `policies/` and in docs/policy.md are valid and draw only the warnings that are known here.

use super::{json_files, parse, root};

/// Warnings that shipped policies may draw: the file and the pointer.
const KNOWN_WARNINGS: &[(&str, &str)] = &[("login-protection", "/rules/1/window_seconds")];

fn shipped() -> Vec<(String, String)> {
    json_files(&root().join("policies")).into_iter().filter(|(name, _)| name != "schema").collect()
}

#[test]
fn shipped_policies_are_valid() {
    let mut warnings = Vec::new();
    for (name, text) in shipped() {
        assert!(text.contains("\"$schema\": \"./schema.json\""), "{name} names its schema");
        let policy = parse(&text).unwrap_or_else(|mistakes| panic!("{name}: {mistakes}"));
        warnings.extend(policy.warnings.into_iter().map(|warning| (name.clone(), warning.pointer)));
    }
    let warnings: Vec<(&str, &str)> = warnings.iter().map(|(name, pointer)| (&**name, &**pointer)).collect();
    assert_eq!(warnings, KNOWN_WARNINGS);
}

#[test]
fn the_default_policy_is_what_the_readme_promises() {
    let (_, text) = shipped().into_iter().find(|(name, _)| name == "default").unwrap();
    let policy = parse(&text).unwrap();
    let limits: Vec<(&str, &str, u64, u64, u64)> = policy
        .rules
        .iter()
        .map(|rule| {
            let seconds = rule.window().secs_ceil();
            (&*rule.name, rule.scope.as_str(), rule.rate(), seconds, rule.quota.burst.get())
        })
        .collect();
    let expected = [
        ("api_global", "global", 1000, 60, 1000),
        ("api_per_user", "per_user", 100, 60, 100),
        ("api_per_ip", "per_ip", 50, 60, 50),
        ("expensive_operations", "per_user", 10, 60, 10),
    ];
    assert_eq!(limits, expected);
    assert!(!policy.rules[3].endpoints.is_empty());
}

#[test]
fn the_policy_with_alerts_has_one_of_each_kind() {
    let (_, text) = shipped().into_iter().find(|(name, _)| name == "alerts").unwrap();
    let policy = parse(&text).unwrap();
    let kinds: Vec<&str> = policy.alerts.iter().map(|alert| alert.when.word()).collect();
    assert_eq!(kinds, ["hit_rate_above", "rejections_per_second_above", "store_unhealthy", "top_violator_share_above"]);
    assert_eq!(policy.alerts.iter().filter(|alert| alert.webhook.is_some()).count(), 2);
}

#[test]
fn documented_policies_are_valid() {
    let text = std::fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let blocks: Vec<&str> = text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    // A block that starts with a version is a whole policy; the others are parts of one.
    let whole: Vec<&&str> = blocks.iter().filter(|block| block.contains("\"version\"")).collect();
    assert!(whole.len() >= 3, "{} whole policies", whole.len());
    for block in whole {
        let policy = parse(block).unwrap_or_else(|mistakes| panic!("{block}\n{mistakes}"));
        assert!(policy.warnings.is_empty(), "{block}\n{:#?}", policy.warnings);
    }
}
