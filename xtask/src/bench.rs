//! `cargo xtask bench`: the criterion benches, after building the plugin that some of them load.
//! Not here: the benches; they lie beside the code they measure, in each package's `benches/`.

use anyhow::Result;

use crate::tools::IfMissing;
use crate::{build, workspace};

/// The packages that have benches: decisions in the engine, whole requests through the .wasm in host-test.
const PACKAGES: [&str; 2] = ["tidegate-engine", "tidegate-host-test"];

/// Builds the plugin and runs the benches of each package in turn.
///
/// # Errors
/// When the plugin cannot be built or a bench fails.
pub fn run(if_missing: IfMissing) -> Result<()> {
    build::run(if_missing)?;
    for package in PACKAGES {
        println!("\n== benches of {package}");
        // `--benches` alone would also run the library's unit tests in bench mode.
        workspace::run(
            workspace::cargo()
                .args(["bench", "--locked", "-p", package, "--bench", "*"])
                .env("TIDEGATE_WASM", workspace::wasm_file()),
        )?;
    }
    Ok(())
}
