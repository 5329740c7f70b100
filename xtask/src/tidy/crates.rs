//! Checks what cargo knows of every workspace in git: who depends on whom, in which versions, and under which licences.
//! Not here: where crates come from (`locks`), and advisories, which need a database (cargo-deny has one).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Finding, Tree, licence};
use crate::workspace;

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

/// Asks cargo about the workspace that each of these locks belongs to. A lock that does not fit its manifests is an
/// error here: cargo may not mend it.
pub(super) fn check(tree: &Tree, locks: &[&Path]) -> Result<Vec<Finding>> {
    let deny = fs::read_to_string(tree.root.join("deny.toml")).context("reading deny.toml")?;
    let licences = licence::listed(&deny);
    let mut findings = Vec::new();
    let mut covered = BTreeSet::new();
    for lock in locks {
        let metadata = metadata(&tree.root, lock)?;
        // A manifest that holds nothing but a workspace is no package.
        covered.extend(metadata["workspace_root"].as_str().map(|root| Path::new(root).join("Cargo.toml")));
        for package in packages(&metadata) {
            if package["source"].is_null() {
                covered.extend(package["manifest_path"].as_str().map(PathBuf::from));
                check_versions(package, &mut findings);
            } else {
                check_licence(lock, package, &licences, &mut findings);
            }
        }
        if *lock == Path::new("Cargo.lock") {
            findings.extend(check_design(&metadata));
        }
    }
    for manifest in tree.files.iter().filter(|file| file.file_name().is_some_and(|name| name == "Cargo.toml")) {
        if !covered.contains(&tree.root.join(manifest)) {
            findings.push(Finding::new(manifest, 0, "no Cargo.lock in git says which versions it takes"));
        }
    }
    Ok(findings)
}

fn metadata(root: &Path, lock: &Path) -> Result<Value> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(root).args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
    cargo.arg(lock.with_file_name("Cargo.toml"));
    let text = workspace::output(&mut cargo).with_context(|| format!("asking cargo about {}", lock.display()))?;
    serde_json::from_str(&text).context("reading cargo's metadata")
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What the design says of our own workspace: who uses whom, under which licence, and that the engine is pure.
fn check_design(metadata: &Value) -> Vec<Finding> {
    let packages = packages(metadata).iter().filter(|it| it["source"].is_null());
    let ours: BTreeSet<&str> = packages.clone().filter_map(|it| it["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        check_ours(package, &ours, &mut findings);
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

/// `*` takes whatever is newest when a lock is made anew; a path inside the checkout has one version only.
fn check_versions(package: &Value, findings: &mut Vec<Finding>) {
    let ours = package["name"].as_str().unwrap_or_default();
    for dependency in package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default() {
        if dependency["req"].as_str() == Some("*") && dependency["path"].is_null() {
            let name = dependency["name"].as_str().unwrap_or_default();
            let message = format!("it takes {name} in any version, \"*\"; say which");
            findings.push(Finding::new(format!("{ours}'s Cargo.toml"), 0, message));
        }
    }
}

fn check_licence(lock: &Path, package: &Value, licences: &[String], findings: &mut Vec<Finding>) {
    let (name, version) = (package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
    let licence = package["license"].as_str().unwrap_or_default();
    if !licence::is_allowed(licence, licences) {
        let message = format!("{name} {version} has licence {licence:?}, which is not on the list in deny.toml");
        findings.push(Finding::new(lock, 0, message));
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

    use super::super::tests::tree;
    use super::*;

    fn ours(name: &str, uses: &[(&str, Option<&str>)]) -> Value {
        let uses: Vec<Value> = uses.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"id": name, "name": name, "source": null, "license": "Apache-2.0", "dependencies": uses})
    }

    fn messages(packages: &[Value], nodes: &[Value]) -> Vec<String> {
        let metadata = json!({"packages": packages, "resolve": {"nodes": nodes}});
        check_design(&metadata).iter().map(ToString::to_string).collect()
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
    fn licences_that_deny_toml_does_not_list_are_found() {
        let foreign = |name: &str, licence: &str| json!({"name": name, "version": "1.0.0", "license": licence});
        let mut found = Vec::new();
        for package in [foreign("good", "MIT OR Apache-2.0"), foreign("viral", "AGPL-3.0"), foreign("silent", "")] {
            check_licence(Path::new("a/Cargo.lock"), &package, &["MIT".to_owned()], &mut found);
        }
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "a/Cargo.lock: viral 1.0.0 has licence \"AGPL-3.0\", which is not on the list in deny.toml",
                "a/Cargo.lock: silent 1.0.0 has licence \"\", which is not on the list in deny.toml",
            ]
        );
    }

    #[test]
    fn any_version_is_none() {
        let uses =
            json!([{"name": "a", "req": "*"}, {"name": "b", "req": "^1"}, {"name": "c", "req": "*", "path": "/c"}]);
        let mut found = Vec::new();
        check_versions(&json!({"name": "ours", "dependencies": uses}), &mut found);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["ours's Cargo.toml: it takes a in any version, \"*\"; say which"]);
    }

    /// A checkout with one crate of ours that git knows, its lock, and this list of licences.
    fn checkout(lock: &str) -> (tempfile::TempDir, Tree) {
        tree(&[
            ("deny.toml", b"[licenses]\nallow = []\n"),
            ("a/Cargo.toml", b"[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n"),
            ("a/src/lib.rs", b"//! A.\n"),
            ("a/Cargo.lock", lock.as_bytes()),
            ("b/Cargo.toml", b"[package]\nname = \"b\"\n"),
        ])
    }

    #[test]
    fn each_manifest_has_a_lock() {
        let (_folder, tree) = checkout("version = 4\n\n[[package]]\nname = \"a\"\nversion = \"0.1.0\"\n");
        let found = check(&tree, &[Path::new("a/Cargo.lock")]).unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["b/Cargo.toml: no Cargo.lock in git says which versions it takes"]);
    }

    #[test]
    fn a_lock_that_does_not_fit_is_told_and_stays_as_it_is() {
        let edited = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"0.2.0\"\n";
        let (folder, tree) = checkout(edited);
        let message = format!("{:#}", check(&tree, &[Path::new("a/Cargo.lock")]).unwrap_err());
        assert!(message.contains("asking cargo about a/Cargo.lock") && message.contains("--locked"), "{message}");
        assert_eq!(fs::read_to_string(folder.path().join("a/Cargo.lock")).unwrap(), edited);
    }

    #[test]
    fn the_engine_is_pure_through_and_through() {
        let uses = |id: &str, used: &str, kind: Option<&str>| json!({"id": id, "deps": [{"pkg": used, "dep_kinds": [{"kind": kind}]}]});
        let package = |name: &str| json!({"id": name, "name": name, "source": "registry", "license": "MIT"});
        let packages = [ours("tidegate-engine", &[]), package("middle"), package("getrandom"), package("tokio")];
        let linked = [uses("tidegate-engine", "middle", None), uses("middle", "getrandom", None)];
        let found = messages(&packages, &linked);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("uses getrandom"), "{found:?}");
        assert!(messages(&packages, &[uses("tidegate-engine", "tokio", Some("dev"))]).is_empty());
    }
}
