//! The binary from outside: outputs to the letter, exit statuses, and what it asks of a proxy.

#![allow(clippy::format_push_string, clippy::format_collect, reason = "tests may take their time")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it is wrong")]

mod cli_page;
mod docs;
mod edit;
mod fake_proxy;
mod files;
mod remote;
mod replay;
mod run;
mod terminal;
