//! Checks every lock file in git, cargo's and npm's: each package comes from the public registry, with a checksum.
//! Not here: licences and who depends on whom (`crates`); what npm's packages may be licensed under, since none ships.

use std::path::Path;

use serde_json::Value;

use super::Finding;

/// The only place that crates may come from, as cargo writes it.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The only place that npm's packages may come from. Where a lock names no place, npm asks the registry that the user
/// has set, and the integrity says what it must give.
const NPM: &str = "https://registry.npmjs.org/";

/// What is wrong with a `Cargo.lock`, and how many packages it names, ours among them.
pub(super) fn check_cargo(file: &Path, text: &str) -> (Vec<Finding>, usize) {
    let mut findings = Vec::new();
    let mut count = 0_usize;
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line != "[[package]]" {
            continue;
        }
        count = count.saturating_add(1);
        let entry: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.is_empty()).collect();
        let member = |name: &str| {
            let lines = entry.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            lines.map(|value| value.trim_matches('"')).next()
        };
        let name = format!("{} {}", member("name").unwrap_or("?"), member("version").unwrap_or("?"));
        match (member("source"), member("checksum")) {
            // A path inside the checkout: ours.
            (None, _) | (Some(CRATES_IO), Some(_)) => (),
            (Some(CRATES_IO), None) => findings.push(Finding::new(file, number, format!("{name} has no checksum"))),
            (Some(other), _) => {
                findings.push(Finding::new(file, number, format!("{name} comes from {other}, not crates.io")));
            }
        }
    }
    (findings, count)
}

/// What is wrong with a `package-lock.json`, and how many packages it names, its own left out.
pub(super) fn check_npm(file: &Path, text: &str) -> (Vec<Finding>, usize) {
    let lock: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(packages) = lock["packages"].as_object() else {
        return (vec![Finding::new(file, 0, "is no lock of npm 7 or newer: it has no `packages`")], 0);
    };
    let mut findings = Vec::new();
    let foreign = packages.iter().filter(|(place, _)| !place.is_empty());
    for (place, package) in foreign.clone() {
        let from = package["resolved"].as_str();
        if let Some(other) = from.filter(|from| !from.starts_with(NPM)) {
            findings.push(Finding::new(file, 0, format!("{place} comes from {other}, not {NPM}")));
        } else if !package["integrity"].as_str().is_some_and(|it| it.starts_with("sha512-")) {
            findings.push(Finding::new(file, 0, format!("{place} has no SHA-512 integrity")));
        }
    }
    (findings, foreign.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cargo(text: &str) -> (Vec<String>, usize) {
        let (findings, count) = check_cargo(Path::new("a/Cargo.lock"), text);
        (findings.iter().map(ToString::to_string).collect(), count)
    }

    fn npm(text: &str) -> Vec<String> {
        check_npm(Path::new("package-lock.json"), text).0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn crates_come_from_the_registry_with_a_checksum() {
        let good =
            format!("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"{CRATES_IO}\"\nchecksum = \"00\"\n");
        let ours = "[[package]]\nname = \"tidegate\"\nversion = \"0.1.0\"\ndependencies = [\n \"a\",\n]\n";
        assert_eq!(cargo(&format!("version = 4\n\n{good}\n{ours}")), (vec![], 2));

        let forked = good.replace(CRATES_IO, "git+https://example.org/a#0123");
        let unsummed = good.replace("checksum = \"00\"\n", "");
        assert_eq!(
            cargo(&format!("version = 4\n\n{forked}\n{unsummed}")).0,
            [
                "a/Cargo.lock:3: a 1.0.0 comes from git+https://example.org/a#0123, not crates.io",
                "a/Cargo.lock:9: a 1.0.0 has no checksum",
            ]
        );
    }

    #[test]
    fn packages_of_npm_come_from_its_registry_with_an_integrity() {
        let lock = |package: &str| format!(r#"{{"packages": {{"": {{}}, "node_modules/a": {package}}}}}"#);
        assert_eq!(npm(&lock(r#"{"integrity": "sha512-AA=="}"#)), [""; 0]);
        let named = r#"{"resolved": "https://registry.npmjs.org/a/-/a-1.0.0.tgz", "integrity": "sha512-AA=="}"#;
        assert_eq!(npm(&lock(named)), [""; 0]);
        for (package, told) in [
            (
                r#"{"resolved": "git+ssh://git@example.org/a.git#0123"}"#,
                "comes from git+ssh://git@example.org/a.git#0123",
            ),
            (r#"{"resolved": "https://registry.npmjs.org.example/a.tgz", "integrity": "sha512-AA=="}"#, "comes from"),
            (r#"{"resolved": "../a", "link": true}"#, "comes from ../a"),
            (r#"{"version": "1.0.0"}"#, "has no SHA-512 integrity"),
            (r#"{"integrity": "sha1-AA=="}"#, "has no SHA-512 integrity"),
        ] {
            let found = npm(&lock(package));
            assert!(found.len() == 1 && found[0].contains(told), "{package}: {found:?}");
        }
        assert!(npm(r#"{"lockfileVersion": 1, "dependencies": {}}"#)[0].contains("npm 7"));
    }
}
