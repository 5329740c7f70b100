//! A command that may pass, in the form in which it is sent, and sent again where Redis forgot its script.
//! Not here: sending.

use std::sync::Arc;

use redis::{Cmd, Value};

use crate::commands::{CommandList, Passed};
use crate::failure::Failure;
use crate::reply::Outcome;
use crate::request::Command;
use crate::script_cache::{Script, ScriptCache, hash, not_built_in};

/// A judged command.
#[derive(Debug)]
pub enum Prepared<'a> {
    /// Sent as it came.
    Plain(Command<'a>),
    /// EVAL or EVALSHA of a known script: sent by its hash, in full where that is not known to Redis.
    Script {
        /// The script.
        script: Arc<Script>,
        /// The command as it came; what follows its script or hash are the number of keys, keys and arguments.
        call: Command<'a>,
    },
    /// SCRIPT LOAD.
    Load {
        /// What Redis gets.
        script: Arc<Script>,
        /// The hash that the caller expects and will use: that of the text as it came.
        sha: String,
    },
    /// Known without asking Redis.
    Answered(Value),
}

/// Judges a command and its script.
///
/// # Errors
/// `NotAllowed` or `Malformed`; nothing has run then.
pub fn prepare<'a>(list: &CommandList, scripts: &ScriptCache, command: Command<'a>) -> Result<Prepared<'a>, Failure> {
    match list.judge(&command)? {
        Passed::Plain => Ok(Prepared::Plain(command)),
        // Redis would call it by the name under which it is sent.
        Passed::Eval if command.argument(2).is_none() => Err(too_few("EVAL")),
        Passed::Eval => {
            let script = scripts.learn(command.argument(1).unwrap_or_default())?;
            Ok(Prepared::Script { script, call: command })
        }
        Passed::EvalSha => match scripts.find(command.argument(1).ok_or_else(|| too_few("EVALSHA"))?) {
            Some(script) => Ok(Prepared::Script { script, call: command }),
            None if scripts.passes_unknown() => Ok(Prepared::Plain(command)),
            None => Err(not_built_in()),
        },
        Passed::ScriptLoad => {
            let text = command.argument(2).ok_or_else(|| too_few("SCRIPT LOAD"))?;
            Ok(Prepared::Load { script: scripts.learn(text)?, sha: hash(text) })
        }
        Passed::ScriptExists => {
            let known = |sha| Value::Int(i64::from(scripts.find(sha).is_some()));
            Ok(Prepared::Answered(Value::Array(command.arguments_from(2).map(known).collect())))
        }
    }
}

fn too_few(name: &str) -> Failure {
    Failure::Malformed(format!("wrong number of arguments for '{}' command", name.to_lowercase()))
}

impl Prepared<'_> {
    /// What is sent first; `None` where Redis need not be asked.
    pub(super) fn first(&self) -> Option<Cmd> {
        match self {
            Self::Plain(command) => Some(command.to_redis()),
            Self::Script { script, call } => Some(with_arguments("EVALSHA", script.sha.as_bytes(), call)),
            Self::Load { script, .. } => {
                let mut command = redis::cmd("SCRIPT");
                command.arg("LOAD").arg(&script.text);
                Some(command)
            }
            Self::Answered(_) => None,
        }
    }

    /// What is sent after a NOSCRIPT.
    pub(super) fn in_full(&self) -> Option<Cmd> {
        match self {
            Self::Script { script, call } => Some(with_arguments("EVAL", &script.text, call)),
            _ => None,
        }
    }

    /// What is sent inside MULTI.
    pub(super) fn in_transaction(&self) -> Result<Cmd, Failure> {
        match self {
            Self::Plain(command) => Ok(command.to_redis()),
            Self::Script { script, call } => Ok(with_arguments("EVAL", &script.text, call)),
            Self::Load { .. } | Self::Answered(_) => {
                Err(Failure::Malformed("SCRIPT cannot be part of a transaction".to_owned()))
            }
        }
    }

    /// The result that the caller gets for Redis's `value`.
    pub(super) fn result(&self, value: Value) -> Value {
        match self {
            Self::Load { sha, .. } => Value::BulkString(sha.clone().into_bytes()),
            _ => value,
        }
    }

    /// The result where Redis is not asked.
    pub(super) fn answer(&self) -> Outcome {
        match self {
            Self::Answered(value) => Ok(value.clone()),
            _ => Err(Failure::Unreachable),
        }
    }
}

fn with_arguments(name: &str, script: &[u8], call: &Command<'_>) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script);
    for argument in call.arguments_from(2) {
        command.arg(argument);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::PING;

    fn prepared(parts: &[&str], any: bool) -> Result<Prepared<'static>, Failure> {
        let list = CommandList::new(&[], any).unwrap();
        let scripts = ScriptCache::new(any);
        let parts: Vec<&'static [u8]> = parts.iter().map(|part| &*part.as_bytes().to_vec().leak()).collect();
        prepare(&list, &scripts, Command::from_parts(parts))
    }

    fn packed(command: Option<Cmd>) -> String {
        String::from_utf8(command.unwrap().get_packed_command()).unwrap()
    }

    #[test]
    fn a_script_goes_by_its_hash_first() {
        let command = prepared(&["eval", PING, "1", "k", "a"], false).unwrap();
        let sha = hash(PING.as_bytes());
        assert_eq!(
            packed(command.first()),
            format!("*5\r\n$7\r\nEVALSHA\r\n$40\r\n{sha}\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\na\r\n")
        );
        assert!(packed(command.in_full()).starts_with("*5\r\n$4\r\nEVAL\r\n$13\r\nreturn 'PONG'\r\n$1\r\n1\r\n"));
    }

    #[test]
    fn protocol_in_an_argument_stays_an_argument() {
        let command = prepared(&["GET", "\r\n*1\r\n$8\r\nFLUSHALL\r\n"], false).unwrap();
        assert_eq!(packed(command.first()), "*2\r\n$3\r\nGET\r\n$20\r\n\r\n*1\r\n$8\r\nFLUSHALL\r\n\r\n");
    }

    #[test]
    fn unknown_hashes_pass_only_where_any_script_may() {
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert!(matches!(prepared(&["EVALSHA", sha, "0"], false), Err(Failure::NotAllowed(_))));
        assert!(matches!(prepared(&["EVALSHA", sha, "0"], true), Ok(Prepared::Plain(_))));
        assert!(matches!(prepared(&["EVAL"], true), Err(Failure::Malformed(_))));
        let failure = prepared(&["EVAL", "return 1"], true).unwrap_err();
        assert_eq!(failure.text(), "ERR wrong number of arguments for 'eval' command");
        assert!(matches!(prepared(&["SCRIPT", "LOAD"], true), Err(Failure::Malformed(_))));
    }

    #[test]
    fn script_exists_says_what_the_gateway_can_run() {
        let sha = hash(PING.as_bytes());
        let command = prepared(&["SCRIPT", "EXISTS", &sha, "00"], false).unwrap();
        assert_eq!(command.answer(), Ok(Value::Array(vec![Value::Int(1), Value::Int(0)])));
    }
}
