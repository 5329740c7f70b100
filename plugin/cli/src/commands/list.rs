//! `tidegate list`: the rules of a policy file or a running proxy, and the exceptions that are granted.

use serde_json::{Value, json};
use tidegate_engine::policy::{Policy, Rule};
use ureq::http::Method;

use super::rows;
use crate::cli::{ListArgs, target::Chosen};
use crate::failure::{Answer, Failure};
use crate::policy_file::PolicyFile;
use crate::remote::encoded;
use crate::screen::Screen;

/// The columns that come first.
const COLUMNS: [&str; 13] = [
    "name",
    "scope",
    "rate",
    "window_seconds",
    "burst",
    "algorithm",
    "strategy",
    "state",
    "source",
    "priority",
    "endpoints",
    "methods",
    "replaces",
];

pub(super) fn run(args: &ListArgs, screen: Screen) -> Result<Answer, Failure> {
    if args.overrides {
        return overrides(args, screen);
    }
    let value = match args.target.chosen()? {
        Chosen::File(path) => {
            let Some(policy) = PolicyFile::read(path)?.accepted() else { return Ok(Answer::No) };
            of_policy(&policy)
        }
        Chosen::Proxy(client) => match client.json(&Method::GET, "/v1/rules", None, &["rules"])? {
            Some(value) => value,
            None => return Ok(Answer::No),
        },
    };
    rows::print(screen, &value, |value| {
        let mut rules = rows::rows(value, "rules");
        rules.iter_mut().for_each(say_state);
        if rules.is_empty() { "no rules\n".to_owned() } else { rows::table(&rules, &COLUMNS).text(screen) }
    })?;
    Ok(Answer::Yes)
}

fn overrides(args: &ListArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("overrides")?;
    let whom = [("user_id", args.user.clone()), ("ip_address", args.ip.map(|ip| ip.to_string()))];
    let whom: Vec<String> =
        whom.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?)))).collect();
    let path =
        if whom.is_empty() { "/v1/overrides".to_owned() } else { format!("/v1/overrides/check?{}", whom.join("&")) };
    let Some(value) = client.json(&Method::GET, &path, None, &["overrides"])? else { return Ok(Answer::No) };
    rows::print(screen, &value, |value| shown_overrides(value, screen))?;
    Ok(Answer::Yes)
}

fn shown_overrides(value: &Value, screen: Screen) -> String {
    const FIRST: [&str; 9] = [
        "override_id",
        "admin_id",
        "target_user_id",
        "target_ip",
        "target_endpoint",
        "target_rule",
        "unlimited",
        "rate_multiplier",
        "expires_at",
    ];
    let mut granted = rows::rows(value, "overrides");
    for grant in granted.iter_mut().filter_map(Value::as_object_mut) {
        // When it ends matters, and why; the rest is for `--json`.
        grant.retain(|name, value| name != "created_at" && name != "expires_in_seconds" && value != "");
    }
    let admin = if value.get("is_admin") == Some(&Value::Bool(true)) { "an admin: never limited\n" } else { "" };
    let table =
        if granted.is_empty() { "nothing is granted\n".to_owned() } else { rows::table(&granted, &FIRST).text(screen) };
    format!("{admin}{table}")
}

/// A proxy gives each rule as it was written, where two members say how it acts: one word says the same.
fn say_state(rule: &mut Value) {
    let state = match (rule.get("enabled"), rule.get("mode").and_then(Value::as_str)) {
        (None, _) => return,
        (Some(Value::Bool(false)), _) => "disabled",
        (_, Some("shadow")) => "shadow",
        _ => "enforced",
    };
    if let Some(members) = rule.as_object_mut() {
        members.retain(|name, _| !["enabled", "mode", "description"].contains(&name.as_str()));
        members.insert("state".to_owned(), state.into());
    }
}

/// The rules with their defaults filled in.
fn of_policy(policy: &Policy) -> Value {
    json!({"rules": policy.rules.iter().map(|rule| of_rule(policy, rule)).collect::<Vec<Value>>()})
}

fn of_rule(policy: &Policy, rule: &Rule) -> Value {
    let state = match (rule.enabled, rule.shadow) {
        (false, _) => "disabled",
        (true, true) => "shadow",
        (true, false) => "enforced",
    };
    let endpoints: Vec<&str> = rule.endpoints.iter().map(tidegate_engine::Template::as_str).collect();
    let replaces = rule.replaces.iter().filter_map(|index| policy.rules.get(*index)).map(|rule| rule.name.as_str());
    let mut value = json!({
        "name": rule.name,
        "scope": rule.scope.as_str(),
        "rate": rule.rate(),
        "window_seconds": rule.window().secs_ceil(),
        "burst": rule.quota.burst.get(),
        "algorithm": rule.algorithm.name(),
        "strategy": rule.strategy.name(),
        "state": state,
        "priority": rule.priority,
    });
    let lists = [
        ("endpoints", endpoints.into_iter().map(str::to_owned).collect()),
        ("methods", rule.methods.clone()),
        ("user_ids", rule.user_ids.clone()),
        ("ip_addresses", rule.ip_addresses.iter().map(ToString::to_string).collect()),
        ("replaces", replaces.map(str::to_owned).collect::<Vec<String>>()),
    ];
    for (name, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        value[name] = values.into();
    }
    value
}
