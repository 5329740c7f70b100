//! What operators are given to watch Tidegate with, tried for real: the Prometheus rules by promtool and in a running
//! Prometheus that scrapes a real Envoy, every query of the Grafana dashboard against it, the dashboard against Grafana's
//! own types, and the table of metrics in the docs against what Envoy shows.
//! Not here: a Grafana server; there is none for Debian, npm or pip.

// clippy.toml allows these in `#[test]` functions only; a failure here is a failed test all the same.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod dashboard;
mod metrics_page;
mod prometheus;
mod promql;
mod queries;
mod rules;
mod site;
mod types;
