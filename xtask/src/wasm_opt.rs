//! Binaryen's `wasm-opt`, which makes the .wasm an eighth smaller. It comes from npm at a pinned version: Debian's
//! version 108 writes modules that no engine loads.
//! Not here: what is optimised (`build`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::tools::{IfMissing, MissingTools, NODE, ensure_packages};
use crate::workspace;

/// What rustc's wasm32-wasip1 code uses beyond the first version of WebAssembly. Envoy's V8 has all of it.
const FEATURES: [&str; 5] = [
    "--enable-bulk-memory",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-multivalue",
];

/// Makes sure that wasm-opt is in the target folder; npm fetches it once.
///
/// # Errors
/// [`MissingTools`] when it may not be fetched; when npm is missing or fails.
pub fn ensure(if_missing: IfMissing) -> Result<PathBuf> {
    let folder = workspace::tools_dir().join("npm");
    let program = folder.join("node_modules/binaryen/bin/wasm-opt");
    let pinned = workspace::root().join("xtask/npm");
    let lock = fs::read(pinned.join("package-lock.json")).context("reading xtask/npm/package-lock.json")?;
    // The lock is copied last, once everything is there.
    if program.is_file() && fs::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == lock) {
        return Ok(program);
    }
    if if_missing == IfMissing::Tell {
        let line = "wasm-opt (makes the .wasm smaller): cargo xtask build fetches binaryen from npm".to_owned();
        return Err(MissingTools(vec![line]).into());
    }
    ensure_packages(&[NODE], if_missing)?;
    println!("fetching wasm-opt from npm");
    let fresh = workspace::tools_dir().join("npm.new");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(pinned.join(file), fresh.join(file)).with_context(|| format!("copying xtask/npm/{file}"))?;
    }
    let quiet = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    workspace::run(Command::new("npm").current_dir(&fresh).args(quiet)).context("fetching wasm-opt")?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&fresh, &folder).with_context(|| format!("moving to {}", folder.display()))?;
    Ok(program)
}

/// Writes an optimised copy of `from` to `to`.
///
/// # Errors
/// When wasm-opt fails; it checks the module that it writes.
pub fn optimise(program: &Path, from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(from).args(["-Oz", "--strip-debug", "--strip-producers"]).args(FEATURES).arg("-o").arg(to);
    workspace::run(&mut command).context("optimising the .wasm")
}
