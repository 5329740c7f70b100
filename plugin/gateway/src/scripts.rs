//! The built-in scripts: what EVAL, EVALSHA and SCRIPT LOAD take without `--allow-scripts`.
//! Not here: scripts that clients bring (`script_cache`).

use tidegate_engine::redis::SCRIPT;

/// One script that ships with the gateway.
pub struct BuiltIn {
    /// Its name in logs.
    pub name: &'static str,
    /// Its text, byte for byte as clients send it: its SHA-1 is how they call it.
    pub text: &'static str,
}

/// All of them. A script is added here and nowhere else.
pub const BUILT_IN: &[BuiltIn] = &[BuiltIn { name: "acquire", text: SCRIPT }, BuiltIn { name: "ping", text: PING }];

/// Answers `PONG` and touches nothing: shows a client that scripts run before it relies on one.
pub const PING: &str = "return 'PONG'";
