//! Binaryen's `wasm-opt`, which makes the .wasm an eighth smaller. It comes from npm at a pinned version: Debian's
//! version 108 writes modules that no engine loads.
//! Not here: what is optimised (`build`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::tools::IfMissing;
use crate::{npm, workspace};

/// What rustc's wasm32-wasip1 code uses beyond the first version of WebAssembly. Envoy's V8 has all of it.
const FEATURES: [&str; 5] = [
    "--enable-bulk-memory",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-multivalue",
];

/// Optimised, then nested anew from flat code and optimised again: a second round alone finds far less. The lowest 1,024
/// bytes of memory are unused, as `--low-memory-unused` wants: there the stack ends, of a MiB that nothing fills.
const PASSES: [&str; 8] =
    ["--low-memory-unused", "-Oz", "--flatten", "--rereloop", "-Oz", "-Oz", "--strip-debug", "--strip-producers"];

/// Makes sure that wasm-opt is in the target folder; npm fetches it once.
///
/// # Errors
/// [`crate::tools::MissingTools`] when it may not be fetched; when npm is missing or fails.
pub fn ensure(if_missing: IfMissing) -> Result<PathBuf> {
    let reason = "wasm-opt (makes the .wasm smaller): cargo xtask build fetches binaryen from npm";
    let folder = npm::ensure("npm", &workspace::root().join("xtask/npm"), reason, if_missing)?;
    Ok(folder.join("node_modules/binaryen/bin/wasm-opt"))
}

/// Writes an optimised copy of `from` to `to`.
///
/// # Errors
/// When wasm-opt fails; it checks the module that it writes.
pub fn optimise(program: &Path, from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(from).args(PASSES).args(FEATURES).arg("-o").arg(to);
    workspace::run(&mut command).context("optimising the .wasm")
}
