//! The command line and the status page against a real proxy: a real Envoy with two workers and the real `.wasm`.

// Only `#[test]` functions may by themselves, and each file uses some of what the others share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code)]
#![allow(clippy::format_push_string, reason = "tests may take their time")]

mod audit;
#[path = "../cli/cli_page.rs"]
mod cli_page;
mod commands;
mod dashboard;
mod docs;
mod page;
mod proxy;
mod readme;
#[path = "../cli/run.rs"]
mod run;
mod session;
