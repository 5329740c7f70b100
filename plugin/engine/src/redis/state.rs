//! The state at run time in the store: asking for a newer one, and putting the one that follows. What it holds is
//! `admin::runtime`'s, when to ask the caller's.

use super::call::Call;
use super::failure::Failure;
use super::script::STATE;
use crate::admin::runtime::{Refused, Runtime};
use crate::policy::Node;
use crate::time::Timestamp;

/// What the store says of the state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateAnswer {
    /// The store's clock: one for all proxies, whatever theirs say.
    pub at: Timestamp,
    /// What it has.
    pub has: Has,
}

/// Which state the store has.
#[derive(Clone, Debug, PartialEq)]
pub enum Has {
    /// It is the one that the caller knows.
    Known,
    /// It is another one.
    Other(Box<Runtime>),
    /// It is the one that the caller put.
    Stored,
}

/// `tg1:{<namespace>:s}:state`.
pub fn state_key(namespace: &str) -> String {
    ["tg1:{", namespace, ":s}:state"].concat()
}

impl Call {
    /// Asks for the state, if it is another than the one of this tag.
    pub fn get_state(namespace: &str, known: String) -> Self {
        Self { script: &STATE, keys: vec![state_key(namespace)], arguments: vec![known] }
    }

    /// Puts the state that follows the one of the tag `known`.
    ///
    /// # Errors
    /// It is larger than a state may be.
    pub fn set_state(namespace: &str, known: String, next: &Runtime) -> Result<Self, Refused> {
        let mut call = Self::get_state(namespace, known);
        call.arguments.extend([next.tag(), next.to_spread()?]);
        Ok(call)
    }
}

/// Reads the script's answer.
///
/// # Errors
/// [`Failure::Garbage`]: it is none, or the text in the store is no state.
pub fn read_state(entries: &[Node]) -> Result<StateAnswer, Failure> {
    let [Node::Integer(which), Node::Integer(at), text @ ..] = entries else { return Err(Failure::Garbage) };
    let has = match (which, text) {
        (0, []) => Has::Known,
        (1, [Node::Text(text)]) => Has::Other(Box::new(Runtime::read(text.as_bytes()).ok_or(Failure::Garbage)?)),
        (2, []) => Has::Stored,
        _ => return Err(Failure::Garbage),
    };
    let at = u64::try_from(*at).map_err(|_| Failure::Garbage)?;
    Ok(StateAnswer { at: Timestamp::from_micros(at), has })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{object, text};
    use crate::redis::read;

    const AT: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

    fn state() -> Runtime {
        let mut runtime = Runtime::default();
        runtime.done(AT, "ops", "rule_put", object(&mut [("a", text("\"}"))]));
        runtime
    }

    #[test]
    fn what_is_put_comes_back_through_both_protocols() {
        let call = Call::set_state("fleet", String::new(), &state()).unwrap();
        assert_eq!(call.keys, ["tg1:{fleet:s}:state"]);
        let [known, tag, sent] = call.arguments.as_slice() else { panic!("{call:?}") };
        assert_eq!((known.as_str(), tag.as_str()), ("", state().tag().as_str()));
        let quoted = serde_json::to_string(sent).unwrap();
        for name in ["result", "EVALSHA"] {
            let answer = read(200, format!("{{\"{name}\":[1,1795000000000000,{quoted}]}}").as_bytes()).unwrap();
            assert_eq!(read_state(&answer), Ok(StateAnswer { at: AT, has: Has::Other(Box::new(state())) }));
        }
    }

    #[test]
    fn nothing_stored_is_a_state_in_which_nothing_was_done() {
        let answer = read(200, br#"{"result":[1,1795000000000000,""]}"#).unwrap();
        assert_eq!(read_state(&answer), Ok(StateAnswer { at: AT, has: Has::Other(Box::default()) }));
        assert_eq!(Runtime::default().tag(), "");
    }

    #[test]
    fn anything_else_is_garbage() {
        for text in [
            "[0]",
            "[3,5]",
            "[0,-5]",
            r#"[0,"5"]"#,
            "[0,5,1]",
            "[1,5]",
            r#"[1,5,"{}"]"#,
            "[1,5,2]",
            r#"["0",5]"#,
            r#"[1,5,"{\"layout\":9}"]"#,
            r#"[2,5,""]"#,
        ] {
            let answer = read(200, format!("{{\"result\":{text}}}").as_bytes()).unwrap();
            assert_eq!(read_state(&answer), Err(Failure::Garbage), "{text}");
        }
    }
}
