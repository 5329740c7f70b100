//! Checks what cargo knows: who depends on whom, where crates come from, and under which licences.
//! Not here: advisories, which need a database (cargo-deny has one).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Finding, licence};
use crate::workspace;

/// The only place that crates may come from, as cargo writes it.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Which packages of ours each package of ours may use, and which ones its tests may use as well (DESIGN section 1).
/// What is not named here may be used by nobody: plugin, edge, gateway, cli.
const RULES: [(&str, &[&str], &[&str]); 8] = [
    ("tidegate-engine", &[], &[]),
    ("tidegate-filter", &["tidegate-engine"], &[]),
    ("tidegate-plugin", &["tidegate-engine", "tidegate-filter"], &[]),
    ("tidegate-edge", &["tidegate-engine"], &[]),
    ("tidegate-gateway", &["tidegate-engine"], &["xtask"]),
    ("tidegate", &["tidegate-engine", "tidegate-host-test"], &["xtask"]),
    ("tidegate-host-test", &["tidegate-engine"], &["xtask"]),
    ("xtask", &["tidegate-engine"], &[]),
];

/// Plugins of users' own, under examples/: what the stock plugin may use.
const CUSTOM_PLUGIN: &[&str] = &["tidegate-engine", "tidegate-filter"];

/// Crates that do I/O, keep time or start threads: nowhere below the engine.
const NOT_PURE: [&str; 14] = [
    "async-std",
    "chrono",
    "getrandom",
    "hyper",
    "js-sys",
    "mio",
    "proxy-wasm",
    "rand",
    "reqwest",
    "rustix",
    "socket2",
    "time",
    "tokio",
    "wasm-bindgen",
];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]);
    let text = workspace::output(&mut cargo).context("asking cargo about all packages")?;
    let metadata = serde_json::from_str(&text).context("reading cargo's metadata")?;
    Ok(check_metadata(&metadata))
}

fn check_metadata(metadata: &Value) -> Vec<Finding> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours: BTreeSet<&str> =
        packages.iter().filter(|it| it["source"].is_null()).filter_map(|it| it["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        if package["source"].is_null() {
            check_ours(package, &ours, &mut findings);
        } else {
            check_foreign(package, &mut findings);
        }
    }
    for name in below(metadata, "tidegate-engine") {
        if NOT_PURE.contains(&name.as_str()) {
            let message = format!("tidegate-engine uses {name}, directly or not; the engine does no I/O");
            findings.push(Finding::new("plugin/engine/Cargo.toml", 0, message));
        }
    }
    findings
}

fn check_ours(package: &Value, ours: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let name = package["name"].as_str().unwrap_or_default();
    let manifest = format!("{name}'s Cargo.toml");
    let rule = RULES.iter().find(|(known, ..)| *known == name);
    let (uses, tests_use) = rule.map_or((CUSTOM_PLUGIN, &[] as &[&str]), |(_, uses, tests_use)| (uses, tests_use));
    if package["license"].as_str() != Some("Apache-2.0") {
        findings.push(Finding::new(&manifest, 0, "should say license = \"Apache-2.0\" (license.workspace = true)"));
    }
    for dependency in package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let Some(name) = dependency["name"].as_str().filter(|name| ours.contains(name)) else {
            continue;
        };
        let is_for_tests = dependency["kind"].as_str() == Some("dev");
        if uses.contains(&name) || (is_for_tests && tests_use.contains(&name)) {
            continue;
        }
        let kind = if is_for_tests { "its tests use" } else { "it uses" };
        let mut allowed = uses.to_vec();
        allowed.extend(tests_use.iter().filter(|_| is_for_tests));
        let allowed = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
        findings.push(Finding::new(&manifest, 0, format!("{kind} {name}; allowed: {allowed}")));
    }
}

fn check_foreign(package: &Value, findings: &mut Vec<Finding>) {
    let (name, version) = (package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
    let source = package["source"].as_str().unwrap_or_default();
    if source != REGISTRY {
        findings.push(Finding::new("Cargo.lock", 0, format!("{name} {version} comes from {source}, not crates.io")));
    }
    let licence = package["license"].as_str().unwrap_or_default();
    if !licence::is_allowed(licence) {
        let message = format!("{name} {version} has licence {licence:?}, which is not on the list in xtask");
        findings.push(Finding::new("Cargo.lock", 0, message));
    }
}

/// The names of all packages that `name` is built with, itself left out; tests' and build scripts' are not followed.
fn below(metadata: &Value, name: &str) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .filter_map(|it| Some((it["id"].as_str()?.to_owned(), it["name"].as_str()?.to_owned())))
        .collect();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let is_linked = |it: &&Value| list(&it["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let ids = list(&node["deps"]);
        let ids = ids.iter().filter(is_linked).filter_map(|it| it["pkg"].as_str().map(str::to_owned)).collect();
        uses.insert(node["id"].as_str().unwrap_or_default().to_owned(), ids);
    }
    let mut waiting: Vec<&String> = names.iter().filter(|(_, it)| *it == name).map(|(id, _)| id).collect();
    let mut seen: BTreeSet<&String> = waiting.iter().copied().collect();
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        for used in uses.get(id).into_iter().flatten() {
            if seen.insert(used) {
                found.extend(names.get(used).cloned());
                waiting.push(used);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ours(name: &str, uses: &[(&str, Option<&str>)]) -> Value {
        let uses: Vec<Value> = uses.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"id": name, "name": name, "source": null, "license": "Apache-2.0", "dependencies": uses})
    }

    fn messages(packages: &[Value], nodes: &[Value]) -> Vec<String> {
        let metadata = json!({"packages": packages, "resolve": {"nodes": nodes}});
        check_metadata(&metadata).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dependencies_that_the_design_does_not_allow_are_found() {
        let packages = [
            ours("tidegate-engine", &[("serde", None)]),
            ours("tidegate-filter", &[("tidegate-engine", None)]),
            ours(
                "tidegate-host-test",
                &[("tidegate-engine", None), ("tidegate-filter", Some("dev")), ("xtask", Some("dev"))],
            ),
            ours("xtask", &[("tidegate-host-test", None)]),
            ours("my-plugin", &[("tidegate-filter", None), ("xtask", None)]),
        ];
        assert_eq!(
            messages(&packages, &[]),
            [
                "tidegate-host-test's Cargo.toml: its tests use tidegate-filter; allowed: tidegate-engine, xtask",
                "xtask's Cargo.toml: it uses tidegate-host-test; allowed: tidegate-engine",
                "my-plugin's Cargo.toml: it uses xtask; allowed: tidegate-engine, tidegate-filter",
            ]
        );
    }

    #[test]
    fn foreign_sources_and_licences_are_found() {
        let foreign = |name: &str, source: &str, licence: &str| json!({"id": name, "name": name, "version": "1.0.0", "source": source, "license": licence});
        let found = messages(
            &[
                foreign("good", REGISTRY, "MIT OR Apache-2.0"),
                foreign("forked", "git+https://example.org/forked", "MIT"),
                foreign("viral", REGISTRY, "AGPL-3.0"),
            ],
            &[],
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("forked 1.0.0 comes from git+"), "{found:?}");
        assert!(found[1].contains("viral 1.0.0 has licence \"AGPL-3.0\""), "{found:?}");
    }

    #[test]
    fn the_engine_is_pure_through_and_through() {
        let uses = |id: &str, used: &str, kind: Option<&str>| json!({"id": id, "deps": [{"pkg": used, "dep_kinds": [{"kind": kind}]}]});
        let package = |name: &str| json!({"id": name, "name": name, "source": REGISTRY, "license": "MIT"});
        let packages = [ours("tidegate-engine", &[]), package("middle"), package("getrandom"), package("tokio")];
        let linked = [uses("tidegate-engine", "middle", None), uses("middle", "getrandom", None)];
        let found = messages(&packages, &linked);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("uses getrandom"), "{found:?}");
        assert!(messages(&packages, &[uses("tidegate-engine", "tokio", Some("dev"))]).is_empty());
    }
}
