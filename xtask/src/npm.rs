//! Packages from npm at pinned versions, installed once into the target folder.
//! Not here: what they are for (`wasm_opt`, and tests that need some).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::tools::{IfMissing, MissingTools, NODE, ensure_packages};
use crate::workspace;

/// Makes sure that what `pinned`'s `package.json` and `package-lock.json` name is in the target folder, under this
/// name; npm fetches it once. Returns the folder that holds `node_modules`. No script of any package runs.
///
/// # Errors
/// [`MissingTools`] with this reason when it may not be fetched; when npm is missing or fails.
pub fn ensure(name: &str, pinned: &Path, reason: &str, if_missing: IfMissing) -> Result<PathBuf> {
    let folder = workspace::tools_dir().join(name);
    let lock = pinned.join("package-lock.json");
    let wanted = fs::read(&lock).with_context(|| format!("reading {}", lock.display()))?;
    // The new folder takes the old one's place only once everything is there.
    if fs::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    if if_missing == IfMissing::Tell {
        return Err(MissingTools(vec![reason.to_owned()]).into());
    }
    ensure_packages(&[NODE], if_missing)?;
    println!("fetching from npm: {reason}");
    let fresh = workspace::tools_dir().join(format!("{name}.new"));
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
    for file in ["package.json", "package-lock.json"] {
        let file = pinned.join(file);
        let to = fresh.join(file.file_name().unwrap_or_default());
        fs::copy(&file, to).with_context(|| format!("copying {}", file.display()))?;
    }
    let quiet = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    workspace::run(Command::new("npm").current_dir(&fresh).args(quiet)).context("fetching from npm")?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&fresh, &folder).with_context(|| format!("moving to {}", folder.display()))?;
    Ok(folder)
}

/// Grafana's own types and a TypeScript compiler, for the test of the example dashboard; the folder of `node_modules`.
///
/// # Errors
/// As [`ensure`].
pub fn grafana_types(if_missing: IfMissing) -> Result<PathBuf> {
    let reason = "Grafana's types (the dashboard is checked against them): cargo xtask test fetches them from npm";
    ensure("grafana-types", &workspace::root().join("examples/grafana/check"), reason, if_missing)
}
