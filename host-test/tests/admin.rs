//! The admin API of the shipped .wasm: every call, every refusal, and what must not work. Two workers on a virtual clock.

// Only `#[test]` functions may by themselves.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "admin/alert_kinds.rs"]
mod alert_kinds;
#[path = "admin/alerts.rs"]
mod alerts;
#[path = "admin/calls.rs"]
mod calls;
#[path = "admin/console.rs"]
mod console;
#[path = "admin/full.rs"]
mod full;
#[path = "admin/grants.rs"]
mod grants;
#[path = "admin/looks.rs"]
mod looks;
#[path = "admin/offenders.rs"]
mod offenders;
#[path = "admin/threats.rs"]
mod threats;
#[path = "with_wasm/tidegate.rs"]
#[allow(unused_macros, unused_imports)]
mod tidegate;
