//! Which commands pass: a short list, what an operator adds to it, and what never passes.
//! Not here: which scripts pass (`script_cache`), and which keys: that is what a Redis ACL user is for.

use std::collections::HashSet;

use crate::failure::Failure;
use crate::request::Command;

/// What Tidegate and the clients @upstash/redis and @upstash/ratelimit need. EVAL, EVALSHA and SCRIPT have rules of their
/// own. Nothing here lists keys, reads another user's data at large, changes the server or takes long on a large key.
const DEFAULT: &[&str] = &[
    "PING",
    "ECHO",
    "TIME", //
    "GET",
    "SET",
    "SETEX",
    "PSETEX",
    "MGET",
    "DEL",
    "UNLINK",
    "EXISTS",
    "TYPE",
    "INCR",
    "INCRBY",
    "DECR",
    "DECRBY", //
    "EXPIRE",
    "PEXPIRE",
    "EXPIREAT",
    "PEXPIREAT",
    "TTL",
    "PTTL",
    "PERSIST", //
    "HGET",
    "HSET",
    "HMGET",
    "HDEL",
    "HGETALL",
    "HINCRBY",
    "HEXISTS",
    "HLEN", //
    "SADD",
    "SREM",
    "SCARD",
    "SISMEMBER",
    "SMISMEMBER",
    "SMEMBERS",
    "SDIFFSTORE",
    "SUNIONSTORE", //
    "ZADD",
    "ZREM",
    "ZCARD",
    "ZSCORE",
    "ZINCRBY",
    "ZRANGE",
    "ZREMRANGEBYSCORE",
];

/// Connections are shared by all callers, so a command that changes or blocks one would reach into other callers'
/// requests; and commands that stop the server or turn it into another's replica are nobody's to send over HTTP.
const NEVER: &[&str] = &[
    // who the connection is, where it points and how it talks
    "AUTH",
    "HELLO",
    "SELECT",
    "SWAPDB",
    "CLIENT",
    "RESET",
    "QUIT",
    "ASKING",
    "READONLY",
    "READWRITE", //
    // transactions: /multi-exec is the way
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH",
    "UNWATCH", //
    // replies without requests
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
    "SYNC",
    "PSYNC",
    "REPLCONF", //
    // waiting
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BLMOVE",
    "BLMPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "BZMPOP",
    "WAIT",
    "WAITAOF", //
    // the server itself
    "SHUTDOWN",
    "DEBUG",
    "REPLICAOF",
    "SLAVEOF",
    "FAILOVER",
    "CLUSTER",
    "MIGRATE",
    "RESTORE-ASKING",
    "PFSELFTEST",
    "PFDEBUG",
];

/// Other ways to run a script: only with `--allow-scripts`, and then only where named.
const SCRIPTS_IN_DISGUISE: &[&str] = &["EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO", "FUNCTION"];

/// What to do with a command that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Send it as it is.
    Plain,
    /// EVAL: its script is judged next.
    Eval,
    /// EVALSHA: likewise.
    EvalSha,
    /// SCRIPT LOAD: likewise.
    ScriptLoad,
    /// SCRIPT EXISTS: answered by the gateway.
    ScriptExists,
}

/// The commands that pass.
pub struct CommandList {
    allowed: HashSet<String>,
    any_script: bool,
}

impl CommandList {
    /// The default list and `more`; `any_script` is `--allow-scripts`.
    ///
    /// # Errors
    /// A name that never passes, is malformed, or needs `--allow-scripts`.
    pub fn new(more: &[String], any_script: bool) -> Result<Self, String> {
        let mut allowed: HashSet<String> = DEFAULT.iter().map(|name| (*name).to_owned()).collect();
        for name in more.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            let name = name.to_ascii_uppercase();
            if !is_name(name.as_bytes()) {
                return Err("a command's name has letters, digits, `.`, `_` and `-` only".to_owned());
            }
            if NEVER.contains(&name.as_str()) {
                return Err(format!("{name} never passes: connections are shared by all callers"));
            }
            if matches!(name.as_str(), "EVAL" | "EVALSHA" | "SCRIPT") {
                return Err(format!("{name} takes built-in scripts already; for others give --allow-scripts"));
            }
            if SCRIPTS_IN_DISGUISE.contains(&name.as_str()) && !any_script {
                return Err(format!("{name} runs any script, so it needs --allow-scripts"));
            }
            allowed.insert(name);
        }
        Ok(Self { allowed, any_script })
    }

    /// Whether scripts other than the built-in ones pass.
    pub fn takes_any_script(&self) -> bool {
        self.any_script
    }

    /// Judges one command by its name and, where those matter, its arguments.
    ///
    /// # Errors
    /// `NotAllowed` or, for an empty command, `Malformed`.
    pub fn judge(&self, command: &Command<'_>) -> Result<Passed, Failure> {
        let Some(name) = command.name() else {
            return Err(Failure::Malformed("empty command".to_owned()));
        };
        if !is_name(name) {
            return Err(Failure::NotAllowed("that is not the name of a command".to_owned()));
        }
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        match name.as_str() {
            "EVAL" => return Ok(Passed::Eval),
            "EVALSHA" => return Ok(Passed::EvalSha),
            "SCRIPT" => return judge_script(command),
            _ => {}
        }
        if NEVER.contains(&name.as_str()) {
            return Err(Failure::NotAllowed(format!("{name} never passes: connections are shared by all callers")));
        }
        if !self.allowed.contains(&name) {
            return Err(Failure::NotAllowed(format!(
                "{name} is not on this gateway's list; start it with --allow-command {name}"
            )));
        }
        if waits(&name, command) {
            return Err(Failure::NotAllowed(format!("{name} with BLOCK never passes: connections are shared")));
        }
        Ok(Passed::Plain)
    }
}

fn judge_script(command: &Command<'_>) -> Result<Passed, Failure> {
    let subcommand = command.argument(1).unwrap_or_default().to_ascii_uppercase();
    match subcommand.as_slice() {
        b"LOAD" => Ok(Passed::ScriptLoad),
        b"EXISTS" => Ok(Passed::ScriptExists),
        _ => Err(Failure::NotAllowed("of SCRIPT only LOAD and EXISTS pass".to_owned())),
    }
}

/// `XREAD BLOCK` holds the connection. Read word for word as Redis does, since names of groups, consumers and, after
/// STREAMS, keys may be anything: `streams` and `block` too.
fn waits(name: &str, command: &Command<'_>) -> bool {
    if !matches!(name, "XREAD" | "XREADGROUP") {
        return false;
    }
    let mut words = command.arguments();
    while let Some(word) = words.next() {
        match word.to_ascii_uppercase().as_slice() {
            b"BLOCK" => return true,
            b"STREAMS" => return false,
            // Its group and its consumer.
            b"GROUP" => drop(words.nth(1)),
            _ => {}
        }
    }
    false
}

fn is_name(name: &[u8]) -> bool {
    (1..=64).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(list: &CommandList, parts: &[&str]) -> Result<Passed, Failure> {
        list.judge(&Command::from_parts(parts.iter().map(|part| part.as_bytes())))
    }

    fn plain() -> CommandList {
        CommandList::new(&[], false).unwrap()
    }

    #[test]
    fn names_pass_in_any_case() {
        assert_eq!(judge(&plain(), &["gEt", "k"]), Ok(Passed::Plain));
        assert_eq!(judge(&plain(), &["eVaL", "return 1", "0"]), Ok(Passed::Eval));
        assert_eq!(judge(&plain(), &["script", "load", "x"]), Ok(Passed::ScriptLoad));
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        for parts in [
            &["FLUSHALL"][..],
            &["flushdb"],
            &["KEYS", "*"],
            &["CONFIG", "GET", "*"],
            &["SCRIPT", "FLUSH"],
            &["SCRIPT"],
            &["EVAL_RO", "return 1", "0"],
            &["GET ", "k"],
            &["GET\r\nFLUSHALL"],
            &["get/a"],
            &[""],
            &["GET\0"],
        ] {
            assert!(matches!(judge(&plain(), parts), Err(Failure::NotAllowed(_))), "{parts:?}");
        }
        assert!(matches!(judge(&plain(), &[]), Err(Failure::Malformed(_))));
    }

    #[test]
    fn nothing_that_changes_a_connection_can_be_allowed() {
        for name in NEVER {
            assert!(CommandList::new(&[name.to_ascii_lowercase()], true).is_err(), "{name}");
            assert!(judge(&plain(), &[name]).is_err(), "{name}");
        }
    }

    #[test]
    fn an_operator_can_add_commands_but_not_blocking_ones() {
        let list = CommandList::new(&["xread".to_owned(), " lpush ".to_owned()], false).unwrap();
        assert_eq!(judge(&list, &["LPUSH", "k", "v"]), Ok(Passed::Plain));
        assert_eq!(judge(&list, &["XREAD", "STREAMS", "block", "0"]), Ok(Passed::Plain));
        assert!(judge(&list, &["XREAD", "block", "0", "STREAMS", "s", "$"]).is_err());
        let list = CommandList::new(&["XREADGROUP".to_owned()], false).unwrap();
        for (group, consumer) in [("g", "c"), ("streams", "c"), ("g", "STREAMS"), ("group", "streams")] {
            let read = ["XREADGROUP", "group", group, consumer, "COUNT", "1", "BLOCK", "0", "STREAMS", "s", ">"];
            assert!(judge(&list, &read).is_err(), "{group} {consumer}");
        }
        assert!(judge(&list, &["XREADGROUP", "GROUP", "block", "BLOCK", "STREAMS", "block", ">"]).is_ok());
        assert!(CommandList::new(&["FCALL".to_owned()], false).is_err());
        assert!(CommandList::new(&["FCALL".to_owned()], true).is_ok());
        assert!(CommandList::new(&["A B".to_owned()], true).is_err());
    }
}
