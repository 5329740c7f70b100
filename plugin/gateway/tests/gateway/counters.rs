//! `acquire.lua` against the Rust: random histories through both, with a real Redis; what Redis itself adds, which is
//! errors, expiry and Clusters; and deliberate mistakes in the script, each of which the histories must find.
//!
//! The script is tested byte for byte as it ships. Redis's clock cannot be set, so a few lines before it put another
//! `redis` in its place, which takes the time from an argument and lets keys expire by that clock.

mod history;
mod mutants;
mod oracle;
mod real;

use std::time::Duration;

use tidegate_engine::redis::ACQUIRE;

use crate::servers::Redis;
use crate::skip;

/// Stands before the script: the last argument is the time.
const VIRTUAL: &str = "
local redis = (function(real)
  local now = tonumber(table.remove(ARGV))
  local own = { error_reply = real.error_reply }
  function own.call(command)
    if command ~= 'TIME' then error('unexpected ' .. command) end
    return { string.format('%.0f', math.floor(now / 1e6)), string.format('%.0f', now % 1e6) }
  end
  function own.pcall(command, key, text, option, ms)
    if command == 'GET' then
      local ends = real.call('GET', key .. ':ends')
      if ends and tonumber(ends) <= now then return false end
      return real.call('GET', key)
    end
    if command ~= 'SET' or option ~= 'PX' then error('unexpected ' .. command) end
    real.call('SET', key .. ':ends', string.format('%.0f', now + ms * 1000))
    return real.call('SET', key, text)
  end
  return own
end)(redis)
";

/// A Redis that runs the script on a clock of ours.
struct Virtual {
    connection: redis::Connection,
    sha: String,
    _server: Option<Redis>,
}

impl Virtual {
    fn start() -> Self {
        let server = Redis::start(&[]);
        let mut this = Self { connection: connect(&server), sha: String::new(), _server: Some(server) };
        this.load(ACQUIRE.text);
        this
    }

    fn load(&mut self, script: &str) {
        let text = format!("{VIRTUAL}{script}");
        self.sha = redis::cmd("SCRIPT").arg("LOAD").arg(text).query(&mut self.connection).unwrap();
    }

    fn forget(&mut self) {
        let () = redis::cmd("FLUSHALL").query(&mut self.connection).unwrap();
    }

    /// Lives through the history of a seed; says where the script differs from the oracle.
    fn live_through(&mut self, seed: u64) -> Result<usize, String> {
        let steps = history::of_seed(seed);
        let mut pipe = redis::pipe();
        for step in &steps {
            let command = pipe.cmd("EVALSHA").arg(&self.sha).arg(step.call.keys.len()).arg(&step.call.keys);
            command.arg(&step.call.arguments).arg(step.now);
        }
        let answers: Vec<redis::Value> =
            pipe.query(&mut self.connection).map_err(|error| format!("seed {seed}: {error}"))?;
        for (index, (step, answer)) in steps.iter().zip(answers).enumerate() {
            let numbers: Vec<i64> =
                redis::from_redis_value(answer).map_err(|error| format!("seed {seed}, step {index}: {error}"))?;
            if numbers != step.wanted {
                return Err(format!(
                    "seed {seed}, step {index} at {}: {:?} gave {numbers:?}, not {:?}",
                    step.now, step.call, step.wanted
                ));
            }
        }
        Ok(steps.len())
    }
}

/// A connection of its own, which waits for long scripts.
pub(crate) fn connect(server: &Redis) -> redis::Connection {
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_connection_with_timeout(Duration::from_secs(5)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection
}

#[test]
fn random_histories_end_as_in_memory() {
    if !skip::has("acquire.lua against the Rust", &["redis-server"]) {
        return;
    }
    let mut redis = Virtual::start();
    let mut steps = 0;
    for seed in 0..1_000 {
        steps += redis.live_through(seed).unwrap_or_else(|difference| panic!("{difference}"));
        if seed % 100 == 99 {
            redis.forget();
        }
    }
    assert!(steps >= 100_000, "{steps}");
}

#[test]
fn the_largest_numbers_are_exact() {
    if !skip::has("acquire.lua's largest numbers", &["redis-server"]) {
        return;
    }
    let mut redis = Virtual::start();
    for seed in history::EXTREME..history::EXTREME + 50 {
        redis.live_through(seed).unwrap_or_else(|difference| panic!("{difference}"));
    }
    let step = history::of_seed(0).remove(0);
    let mut ask = |now: u64| -> Result<Vec<i64>, String> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&redis.sha).arg(step.call.keys.len()).arg(&step.call.keys).arg(&step.call.arguments).arg(now);
        command.query(&mut redis.connection).map_err(|error| error.to_string())
    };
    assert!(ask(7_799_999_999_999_999).is_ok());
    for too_late in [7_800_000_000_000_000, (1 << 53) - 1] {
        assert!(ask(too_late).unwrap_err().contains("2217"), "{too_late}");
    }
}
