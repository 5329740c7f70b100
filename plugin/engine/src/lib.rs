//! Tidegate's engine: policies, algorithms and decisions. It never asks, it is told: time, the request, the store's
//! answers and the policy's text come in as arguments; decisions and store requests go out as values. There is no I/O,
//! no clock and no randomness in this crate, so a decision is the same in the proxy, at the edge and in a replay.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod acquire;
pub mod address;
pub mod admin;
pub mod alert;
pub mod algorithm;
pub mod catalogue;
pub mod conformance;
mod decision;
pub mod described;
mod engine;
pub mod explain;
pub mod identity;
mod matching;
mod memory;
mod path;
pub mod policy;
pub mod redis;
pub mod replay;
mod request;
mod response;
pub mod scenario;
pub mod sorted;
pub mod strategy;
pub mod table;
mod template;
mod time;
pub mod topk;

pub use decision::{Decision, Reservation, Verdict};
pub use engine::{AskedCell, Engine, Keyed, KeyedCell, Pending, Step};
pub use matching::Obstacle;
pub use memory::Memory;
pub use path::Readings;
pub use request::{Header, Request, looks_like_grpc};
pub use response::{DEGRADED, Response};
pub use template::Template;
pub use time::{Micros, Timestamp};
