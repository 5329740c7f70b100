//! The plugin in a real Envoy with two workers: each test starts an Envoy of its own and ends it.
//! Not here: what can be shown without Envoy (scenarios in this crate's host, units in the engine).

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod concurrency;
mod default_policy;
mod flood;
mod forgery;
mod frames;
mod hostile_headers;
mod instances;
mod metrics;
mod oracle;
mod protocols;
mod proxy;
mod resets;
mod site_log;
mod spelling;
mod traffic;
mod updates;
mod wire;
