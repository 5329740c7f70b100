//! What a test needs to use a page as somebody would: Chromium, and a driver for Node from npm at a pinned version.
//! Not here: the page and what is done on it (`plugin/cli/tests/page/`).

use std::path::PathBuf;

use anyhow::Result;

use crate::tools::{CHROMIUM, IfMissing, NODE, ensure_packages};
use crate::{npm, workspace};

/// The folder whose `node_modules` holds the driver. Chromium and Node are there as well when this returns.
///
/// # Errors
/// [`crate::tools::MissingTools`] when something may not be fetched; when apt or npm fails.
pub fn driver(if_missing: IfMissing) -> Result<PathBuf> {
    ensure_packages(&[NODE, CHROMIUM], if_missing)?;
    let reason = "puppeteer-core (drives a browser in a test): cargo xtask test fetches it from npm";
    npm::ensure("browser", &workspace::root().join("plugin/cli/tests/page"), reason, if_missing)
}
