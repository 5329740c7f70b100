//! `tidegate-gateway`: the Upstash REST protocol in front of any Redis, for filters that cannot open a socket.
//!
//! A request goes `listen` -> `threads` -> `routes` -> `guard` (who may ask) -> `body` and `request` (what is asked) -> `commands` (may it pass)
//! -> `store` (Redis, with `script_cache`) -> `reply` (how it is written). Not here: rate limiting itself, which is the
//! script that the filter sends, and any state that must outlive the process: there is none.
//!
//! It is a library only so that its parts can be tested; the binary is what ships.

pub mod body;
pub mod commands;
pub mod failure;
pub mod flags;
pub mod guard;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod redis_url;
pub mod reply;
pub mod request;
pub mod routes;
pub mod script_cache;
pub mod scripts;
pub mod store;
pub mod stream;
pub mod threads;
pub mod tls;
