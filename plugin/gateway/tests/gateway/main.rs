//! The gateway as a process in front of real Redis servers, which each test starts itself and ends by process id.
//! Needed from Debian: redis-server, redis-sentinel, redis-tools, webdis, nodejs, npm. What is missing is skipped loudly, and an
//! error in CI. Not here: what can be tested without a server; that stands beside the code.

// Every function here serves tests, where a panic is how one fails; the lints know only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod authority;
mod bounds;
mod clients;
mod cluster;
mod counters;
mod crossed;
mod demoted;
mod ending;
mod http;
mod hurried;
mod logins;
mod outage;
mod process;
mod protocol;
mod queued;
mod scripts;
mod sentinel;
mod servers;
mod skip;
mod threats;
mod tls;
