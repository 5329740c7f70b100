//! What came back over HTTP: what a script answered, or why there is nothing. What it means is `reply`'s and `state`'s.
//!
//! Upstash: `{"result":[1,2]}`, and with another status `{"error":"NOSCRIPT ..."}`. webdis: `{"EVALSHA":[1,2]}`, and errors
//! with status 200 as `{"EVALSHA":[false,"NOSCRIPT ..."]}`. Both are one object with one member.

use super::failure::Failure;
use crate::policy::Node;
use crate::policy::json::parse;

/// No answer is longer: a queued request with the longest body that a policy allows, or a state, as a text within it.
const LONGEST: usize = 1 << 21;

/// Reads an answer: its HTTP status and its body.
///
/// # Errors
/// Why there is none. Half an answer, text behind the end, more than two MiB: all are [`Failure::Garbage`]. What is said of a
/// call that came too slowly or is too long (408, 413) is its status, whatever the text.
pub fn read(status: u32, body: &[u8]) -> Result<Vec<Node>, Failure> {
    let garbage = garbage(status);
    if matches!(status, 408 | 413) {
        return Err(garbage);
    }
    let answer = if body.len() > LONGEST { None } else { parse(body).ok() };
    let Some(Node::Object(mut members)) = answer else { return Err(garbage) };
    let (Some((name, value)), true) = (members.pop(), members.is_empty()) else { return Err(garbage) };
    match (name.as_str(), value) {
        ("error", Node::Text(text)) => Err(Failure::of_error(&text)),
        ("result" | "EVALSHA" | "EVAL", Node::List(entries)) => match entries.as_slice() {
            [Node::Boolean(false), Node::Text(text)] => Err(Failure::of_error(text)),
            [] => Err(garbage),
            _ if status == 200 => Ok(entries),
            _ => Err(garbage),
        },
        _ => Err(garbage),
    }
}

/// An answer of numbers only.
///
/// # Errors
/// A list inside the list, a fraction, a number beyond 64 bits: [`Failure::Garbage`].
pub fn numbers(entries: &[Node]) -> Result<Vec<i64>, Failure> {
    entries.iter().map(Node::integer).collect::<Option<_>>().ok_or(Failure::Garbage)
}

fn garbage(status: u32) -> Failure {
    if status == 200 { Failure::Garbage } else { Failure::Status(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u32, body: &[u8]) -> Result<Vec<i64>, Failure> {
        super::read(status, body).and_then(|entries| numbers(&entries))
    }

    #[test]
    fn both_protocols_answers_are_read() {
        for text in [r#"{"result":[1,1795000000123456,-1]}"#, " { \"EVALSHA\" : [ 1 , 1795000000123456\n, -1 ] } \r\n"]
        {
            assert_eq!(read(200, text.as_bytes()), Ok(vec![1, 1_795_000_000_123_456, -1]), "{text}");
        }
        assert_eq!(read(200, br#"{"EVAL":[1]}"#), Ok(vec![1]));
        for (status, text, failure) in [
            (400, r#"{"error":"NOSCRIPT No matching script. Please use EVAL."}"#, Failure::NoScript),
            (200, r#"{"EVALSHA":[false,"NOSCRIPT No matching script."]}"#, Failure::NoScript),
            (200, r#"{"error":"READONLY \"x\" \u0041"}"#, Failure::Refused("READONLY")),
            (200, r#"{"EVALSHA":[false,"LOADING Redis is loading"]}"#, Failure::Refused("LOADING")),
            (401, r#"{"error":"Unauthorized"}"#, Failure::Refused("NOAUTH")),
            (504, r#"{"error":"TIMEOUT no answer"}"#, Failure::Refused("TIMEOUT")),
            (503, "", Failure::Status(503)),
            (413, r#"{"error":"ERR the body is larger than this gateway takes"}"#, Failure::Status(413)),
            (408, r#"{"error":"ERR the body did not arrive in time"}"#, Failure::Status(408)),
            (403, "<html>", Failure::Status(403)),
            (500, r#"{"result":[1]}"#, Failure::Status(500)),
        ] {
            assert_eq!(read(status, text.as_bytes()), Err(failure), "{text}");
        }
    }

    #[test]
    fn anything_else_is_garbage() {
        let long = [r#"{"result":["#, &"1,".repeat(1 << 20), "1]}"].concat();
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "null",
            "<!doctype html><html></html>",
            r#"{"result":[1,2"#,
            r#"{"result":[1,2]"#,
            r#"{"result":1}"#,
            r#"{"result":[1,2]}}"#,
            r#"{"result":[]}"#,
            r#"{"result":[1,]}"#,
            r#"{"result":[1.5]}"#,
            r#"{"result":[1e308]}"#,
            r#"{"result":[99999999999999999999]}"#,
            r#"{"result":[[1]]}"#,
            r#"{"result":["1"]}"#,
            r#"{"result":[1,null]}"#,
            r#"{"result":[1],"error":"x"}"#,
            r#"{"other":[1]}"#,
            r#"{"EVALSHA":[true,"PONG"]}"#,
            r#"{"EVALSHA":[false]}"#,
            r#"{"error":"half"#,
            r#"{"error":"\"#,
            r#"{"result":[1-1]}"#,
            r#"{"result":[--1]}"#,
            &long,
            &deep,
        ] {
            let cut = text.get(..40).unwrap_or(text);
            assert_eq!(read(200, text.as_bytes()), Err(Failure::Garbage), "{cut}");
        }
        assert_eq!(read(200, b"{\"result\":[1\xff]}"), Err(Failure::Garbage));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let whole = br#"{"EVALSHA":[1,1795000000123456,0,-1,5]}"#;
        for end in 0..whole.len() {
            assert_eq!(read(200, &whole[..end]), Err(Failure::Garbage));
            for byte in 0..=255 {
                let mut changed = *whole;
                changed[end] = byte;
                let _ = read(200, &changed);
            }
        }
    }
}
