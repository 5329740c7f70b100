//! The state at run time in the store: asking for a newer one, and putting the one that follows. What it holds is
//! `admin::runtime`'s, when to ask the caller's.

use super::call::Call;
use super::failure::Failure;
use super::script::STATE;
use crate::admin::runtime::{Refused, Runtime};
use crate::policy::Node;

/// What the store says of the state.
#[derive(Clone, Debug, PartialEq)]
pub enum StateAnswer {
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
    let answer = match entries {
        [Node::Integer(0)] => Some(StateAnswer::Known),
        [Node::Integer(1), Node::Text(text)] => {
            Runtime::read(text.as_bytes()).map(|runtime| StateAnswer::Other(Box::new(runtime)))
        }
        [Node::Integer(2)] => Some(StateAnswer::Stored),
        _ => None,
    };
    answer.ok_or(Failure::Garbage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{object, text};
    use crate::redis::read;
    use crate::time::Timestamp;

    fn state() -> Runtime {
        let mut runtime = Runtime::default();
        runtime.done(
            Timestamp::from_micros(1_795_000_000_000_000),
            "ops",
            "rule_put",
            object(&mut [("a", text("\"}"))]),
        );
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
            let answer = read(200, format!("{{\"{name}\":[1,{quoted}]}}").as_bytes()).unwrap();
            assert_eq!(read_state(&answer), Ok(StateAnswer::Other(Box::new(state()))));
        }
    }

    #[test]
    fn nothing_stored_is_a_state_in_which_nothing_was_done() {
        let answer = read(200, br#"{"result":[1,""]}"#).unwrap();
        assert_eq!(read_state(&answer), Ok(StateAnswer::Other(Box::default())));
        assert_eq!(Runtime::default().tag(), "");
    }

    #[test]
    fn anything_else_is_garbage() {
        for text in ["[3]", "[0,1]", "[1]", r#"[1,"{}"]"#, "[1,2]", r#"["0"]"#, r#"[1,"{\"layout\":9}"]"#, r#"[2,""]"#]
        {
            let answer = read(200, format!("{{\"result\":{text}}}").as_bytes()).unwrap();
            assert_eq!(read_state(&answer), Err(Failure::Garbage), "{text}");
        }
    }
}
