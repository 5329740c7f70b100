//! How a test says loudly that it did not run: one line that starts with `SKIPPED:`.
//! Not here: what becomes of such lines; `cargo xtask test` collects them.

use std::io::Write as _;

/// How the line starts; `cargo xtask test` looks for it in all output.
pub const PREFIX: &str = "SKIPPED:";

/// Says that a test is skipped: `what` names the test, `why` what is missing and how to get it.
///
/// Writes to standard error directly, since the test harness swallows what passing tests print by macro.
pub fn tell(what: &str, why: &str) {
    // A test that cannot even say this has no better place to say so.
    let _ = writeln!(std::io::stderr(), "\n{PREFIX} {what}: {why}");
}

/// The skip that a line of output tells of, without the prefix.
pub fn in_line(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix(PREFIX).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_the_prefix_are_skips() {
        assert_eq!(in_line("  SKIPPED: envoy: no wasm"), Some("envoy: no wasm"));
        assert_eq!(in_line("test skipped ... ok"), None);
        assert_eq!(in_line("the word SKIPPED: in the middle"), None);
    }
}
