//! What the npm package ships and what its .wasm asks of JavaScript, compared with lists that change only on purpose: a
//! stray file in the package's folder reaches nobody, and a new import is seen. `UPDATE_GOLDEN=1 cargo xtask edge` rewrites
//! the lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// One path in the package a line, sorted.
const FILES: &str = "host-test/golden/npm_files.txt";
/// One `module.name` a line, sorted.
const IMPORTS: &str = "host-test/golden/edge_imports.txt";

/// Compares the files that `npm pack --json` says it has packed.
///
/// # Errors
/// Names each file that is packed and not listed, or listed and not packed.
pub(super) fn check_files(told: &str) -> Result<()> {
    check(FILES, "npm packs", &packed(told).context("reading what npm has packed")?)
}

/// Compares the imports of the .wasm, as the runtime sees them, without the hashes that wasm-bindgen ends some names with.
///
/// # Errors
/// Names each import that is new, and each that is gone.
pub(super) fn check_imports(module: &Path) -> Result<()> {
    let script = "const file = require('fs').readFileSync(process.argv[1]);
        for (const { module, name } of WebAssembly.Module.imports(new WebAssembly.Module(file))) {
            console.log(`${module}.${name.replace(/_[0-9a-f]{16}$/, '')}`);
        }";
    let imports = workspace::output(Command::new("node").args(["-e", script]).arg(module))?;
    check(IMPORTS, "the .wasm imports", &imports.lines().map(str::to_owned).collect())
}

fn packed(told: &str) -> Result<BTreeSet<String>> {
    let told: Value = serde_json::from_str(told)?;
    let files = told.pointer("/0/files").and_then(Value::as_array).context("npm names no files")?;
    files.iter().map(|file| Ok(file["path"].as_str().context("a file without a path")?.to_owned())).collect()
}

fn check(golden: &str, what: &str, found: &BTreeSet<String>) -> Result<()> {
    let file = workspace::root().join(golden);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let lines: Vec<&str> = found.iter().map(String::as_str).chain([""]).collect();
        return fs::write(&file, lines.join("\n")).with_context(|| format!("writing {}", file.display()));
    }
    let listed = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let differences = differences(what, found, &listed);
    if !differences.is_empty() {
        bail!("{golden} differs; if it is meant, UPDATE_GOLDEN=1 cargo xtask edge:\n{}", differences.join("\n"));
    }
    Ok(())
}

fn differences(what: &str, found: &BTreeSet<String>, listed: &str) -> Vec<String> {
    let listed: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
    let added = found.difference(&listed).map(|line| format!("{what} {line}, which is not listed"));
    let gone = listed.difference(found).map(|line| format!("{line} is listed and gone"));
    added.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_file_and_a_missing_one_are_named() {
        let told = r#"[{"files": [{"path": "lib/a.js"}, {"path": "lib/.env"}]}]"#;
        let found = packed(told).unwrap();
        assert_eq!(differences("npm packs", &found, "lib/.env\nlib/a.js\n"), Vec::<String>::new());
        let expected = ["npm packs lib/.env, which is not listed", "lib/b.js is listed and gone"];
        assert_eq!(differences("npm packs", &found, "lib/a.js\nlib/b.js\n"), expected);
        assert!(packed("[]").is_err());
    }
}
