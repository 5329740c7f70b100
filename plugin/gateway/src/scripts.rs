//! The built-in scripts: what EVAL, EVALSHA and SCRIPT LOAD take without `--allow-scripts`.
//! Not here: scripts that clients bring (`script_cache`).

use tidegate_engine::redis::SCRIPTS;

/// The texts of all of them, byte for byte as clients send them: a text's SHA-1 is how they call it. What Tidegate needs
/// stands in its engine and nowhere else.
pub fn built_in() -> impl Iterator<Item = &'static str> {
    SCRIPTS.into_iter().map(|script| script.text).chain([PING])
}

/// Answers `PONG` and touches nothing: shows a client that scripts run before it relies on one.
pub const PING: &str = "return 'PONG'";
