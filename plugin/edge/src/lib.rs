//! Tidegate's engine as JavaScript calls it. The hot call takes a key in a buffer and two numbers and leaves numbers
//! behind; requests go in as one text and come out as one; stores elsewhere are asked with JSON.
//! Clocks, randomness, sleeping and stores are the JavaScript side's: nothing here asks for anything.

mod describe;
mod grants;
mod limiter;
mod redis;
mod remote;
mod table;
mod wire;

pub use limiter::Limiter;
pub use redis::{RedisTalk, redis_clears, redis_refunds, redis_script};
pub use remote::{refund, settle};
