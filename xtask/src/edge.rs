//! Builds the npm package `tidegate` in `dist/edge/` and packs it: the engine's .wasm, its JavaScript, types and README.
//! Not here: its sources (`plugin/edge/`), and the tests that install the packed file in real runtimes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

use crate::tools::{self, IfMissing};
use crate::{build, workspace};

/// The target of JavaScript hosts: no WASI, all imports are the package's own.
const TARGET: &str = "wasm32-unknown-unknown";

/// The largest .wasm that may ship, gzipped, in bytes; Workers count their upload in this.
const MAX_WASM_GZ: usize = 120 * 1024;

/// The most JavaScript that may ship in the entry and what it loads, gzipped, in bytes.
const MAX_JS_GZ: usize = 12 * 1024;

/// Builds `dist/edge/` and `dist/edge/tidegate-<version>.tgz`, loads the result once in Node and prints the sizes.
/// Returns the path of the packed file.
///
/// # Errors
/// When a tool is missing and may not be fetched, a step fails, or the package is larger than its budget.
pub fn build(if_missing: IfMissing) -> Result<PathBuf> {
    tools::ensure_packages(&[tools::NODE], if_missing)?;
    tools::ensure_target(TARGET, if_missing)?;
    let npm = npm::ensure(if_missing)?;
    let root = workspace::root();
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--locked", "-p", "tidegate-edge", "--profile", "edge", "--target", TARGET]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", build::reproducible_flags(&root)?);
    workspace::run(&mut cargo).context("building the engine for JavaScript")?;
    let _ = npm;
    bail!("unfinished")
}
