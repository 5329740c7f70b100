//! How a test says loudly that it did not run.
//! Not here: what becomes of such lines; the workspace's test runner collects them.

use std::io::Write as _;
use std::path::Path;

/// Whether all `programs` are installed. If not, says so in one line that starts with `SKIPPED:`.
///
/// # Panics
/// Where `CI` is `true`: there, nothing may be skipped.
pub(crate) fn has(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed =
        |program: &str| std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists());
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !is_installed(program)).collect();
    if missing.is_empty() {
        return true;
    }
    tell(test, &format!("not installed: {}", missing.join(", ")));
    false
}

/// Says that `test` did not run.
///
/// # Panics
/// Where `CI` is `true`.
pub(crate) fn tell(test: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run: {why}");
    // Written directly: the test harness swallows what passing tests print by macro.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {test}: {why}");
}
