//! `queue.lua` in a real Redis: random histories of several workers against a model in Rust; what Redis itself adds, which
//! is expiry, Clusters and errors; and deliberate mistakes in the script, each of which the histories must find.
//!
//! The script is tested byte for byte as it ships. Redis's clock cannot be set, so a line before it takes the time from an
//! argument.

mod history;
mod model;
mod mutants;
mod pace;
mod real;

use tidegate_engine::Micros;
use tidegate_engine::policy::Node;
use tidegate_engine::redis::{Call, QUEUE};
use tidegate_engine::strategy::Queue;

use crate::counters::connect;
use crate::servers::Redis;
use crate::skip;

/// Stands before the script: the last argument is the time in milliseconds, by which a string that has an end ends.
const VIRTUAL: &str = "
local redis = (function(real)
  local now = tonumber(table.remove(ARGV))
  local own = { error_reply = real.error_reply }
  function own.call(command, ...)
    local key, value, _, ms = ...
    if command == 'SET' then
      real.call('HSET', 'until', key, now + ms)
      return real.call('SET', key, value)
    end
    if command == 'GET' and now >= (tonumber(real.call('HGET', 'until', key)) or 0) then return false end
    if command ~= 'TIME' then return real.call(command, ...) end
    return { string.format('%.0f', math.floor(now / 1000)), string.format('%.0f', now % 1000 * 1000) }
  end
  return own
end)(redis)
";

/// A Redis that runs the script on a clock of ours.
struct Virtual {
    connection: redis::Connection,
    sha: String,
    now: u64,
    server: Redis,
}

impl Virtual {
    fn start(script: &str) -> Self {
        let server = Redis::start(&[]);
        let mut this = Self { connection: connect(&server), sha: String::new(), now: 1_795_000_000_000, server };
        this.load(script);
        this
    }

    fn load(&mut self, script: &str) {
        let text = format!("{VIRTUAL}{script}");
        self.sha = redis::cmd("SCRIPT").arg("LOAD").arg(text).query(&mut self.connection).unwrap();
    }

    fn forget(&mut self) {
        let () = redis::cmd("FLUSHALL").query(&mut self.connection).unwrap();
    }

    fn run(&mut self, call: &Call) -> Result<Vec<Node>, String> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha).arg(call.keys.len()).arg(&call.keys).arg(&call.arguments).arg(self.now);
        let answer: redis::Value = command.query(&mut self.connection).map_err(|error| error.to_string())?;
        let redis::Value::Array(entries) = answer else { return Err(format!("{answer:?}")) };
        entries.iter().map(node).collect()
    }
}

/// A reply as a filter reads it.
fn node(value: &redis::Value) -> Result<Node, String> {
    match value {
        redis::Value::Int(number) => Ok(Node::Integer(*number)),
        redis::Value::BulkString(bytes) => Ok(Node::Text(String::from_utf8(bytes.clone()).map_err(|_| "no text")?)),
        other => Err(format!("{other:?}")),
    }
}

/// A rule's settings, by what matters here.
fn queue(max_queued: u32, max_attempts: u32, max_wait: Micros) -> Queue {
    Queue {
        cluster: "c".to_owned(),
        authority: "a".to_owned(),
        max_queued,
        max_body_bytes: 1_000,
        headers: Vec::new(),
        max_attempts,
        backoff: Micros::from_millis(100),
        timeout: Micros::from_secs(5),
        max_wait,
        result_ttl: Micros::from_secs(60),
        max_result_bytes: 1_000,
        full_status: 429,
        allow_unverified: false,
    }
}

#[test]
fn nothing_stored_is_lost_whatever_the_workers_do() {
    if !skip::has("queue.lua against a model", &["redis-server"]) {
        return;
    }
    let mut redis = Virtual::start(QUEUE.text);
    let mut seen = history::Tally::default();
    for seed in 1..=200 {
        history::live_through(&mut redis, seed, &mut seen)
            .unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
        redis.forget();
    }
    println!("queue.lua, 200 histories: {seen:?}");
    assert!(
        seen.done > 2_000
            && seen.dead > 500
            && seen.lost > 500
            && seen.full > 200
            && seen.again > 1_000
            && seen.behind > 1_000,
        "{seen:?}"
    );
}
