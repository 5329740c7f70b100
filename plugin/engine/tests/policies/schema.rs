//! The generated schema: up to date, true to the parser, and described in docs/policy.md.

use serde_json::Value;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::schema_json;

use super::{golden, json_files, parse, root};

fn schema() -> Value {
    serde_json::from_str(&schema_json(&Catalogue::builtin())).unwrap()
}

/// Bad policies that no schema can tell from good ones: what is wrong lies between members, in the spelling of a
/// number, or in what this version does not do yet.
const BEYOND_THE_SCHEMA: &[&str] = &[
    "address_bits_beyond_prefix",
    "admin_token_names_reserved",
    "admin_token_names_twice",
    "admin_token_twice",
    "admin_tokens",
    "admins_bad_range",
    "alert_incomplete",
    "burst_above_twice_the_rate",
    "cost_above_the_burst",
    "cost_above_the_rate",
    "duplicate_member",
    "duplicate_top_member",
    "endpoint_star_in_the_middle",
    "name_twice",
    "rate_with_exponent",
    "replaces_in_a_circle",
    "replaces_itself",
    "replaces_twice",
    "replaces_unknown",
    "store_redis",
    "store_redis_two_credentials",
    "strategy_body_duplicate",
    "strategy_graceful_ceiling_too_high",
    "user_source_twice",
];

#[test]
fn the_file_is_up_to_date() {
    golden(&root().join("policies/schema.json"), &schema_json(&Catalogue::builtin()));
}

#[test]
fn the_schema_agrees_with_the_parser() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (name, text) in json_files(&root().join("policies")).iter().filter(|(name, _)| name != "schema") {
        let policy = serde_json::from_str(text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&policy).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
    for (name, text) in json_files(&root().join("plugin/engine/tests/bad_policies")) {
        let Ok(policy) = serde_json::from_str(&text) else { continue };
        let accepts = validator.is_valid(&policy);
        assert_eq!(accepts, BEYOND_THE_SCHEMA.contains(&&*name), "{name}: accepted by the schema: {accepts}");
    }
}

/// Each object schema's properties, with whether it is required and its default.
fn properties<'a>(node: &'a Value, found: &mut Vec<(&'a str, &'a Value)>) {
    if let Some(properties) = node.get("properties").and_then(Value::as_object) {
        found.extend(properties.iter().map(|(name, described)| (name.as_str(), described)));
    }
    match node {
        Value::Object(members) => members.values().for_each(|value| self::properties(value, found)),
        Value::Array(entries) => entries.iter().for_each(|value| self::properties(value, found)),
        _ => {}
    }
}

#[test]
fn every_member_is_described() {
    let docs = std::fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let schema = schema();
    let mut members = Vec::new();
    properties(&schema, &mut members);
    assert!(members.len() > 80, "{}", members.len());
    for (name, described) in members.into_iter().filter(|(name, _)| *name != "type") {
        let described_in_docs = docs.contains(&format!("`{name}`"));
        assert!(described_in_docs, "docs/policy.md does not describe `{name}`");
        assert!(described.get("description").is_some(), "{name}");
        for word in described.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            assert!(docs.contains(&format!("`{word}`")), "docs/policy.md does not describe `{word}` of `{name}`");
        }
    }
}

#[test]
fn every_default_is_allowed() {
    // What the table's defaults fill in is built like what is written: a policy that names nothing is a policy, and so
    // is one that writes each default out.
    let schema = schema();
    let top = schema["properties"].as_object().unwrap();
    let mut policy = serde_json::Map::new();
    for (name, described) in top {
        if let Some(default) = described.get("default") {
            policy.insert(name.clone(), default.clone());
        }
    }
    policy.insert("version".to_owned(), 1.into());
    policy.insert("rules".to_owned(), serde_json::json!([]));
    parse(&Value::Object(policy).to_string()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut members = Vec::new();
    properties(&schema, &mut members);
    for (name, described) in members {
        let Some(default) = described.get("default") else { continue };
        let mut alone = described.clone();
        alone["$defs"] = schema["$defs"].clone();
        let fits = jsonschema::validator_for(&alone).unwrap().is_valid(default);
        assert!(fits, "the default of {name}: {default}");
    }
    assert!(validator.is_valid(&serde_json::json!({"version": 1, "rules": []})));
}
