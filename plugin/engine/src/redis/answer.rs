//! What came back over HTTP: the script's numbers, or why there are none. What the numbers mean is `reply`'s.
//!
//! Upstash: `{"result":[1,2]}`, and with another status `{"error":"NOSCRIPT ..."}`. webdis: `{"EVALSHA":[1,2]}`, and errors
//! with status 200 as `{"EVALSHA":[false,"NOSCRIPT ..."]}`. Both are one object with one member, and nothing else is
//! read: this is no JSON parser, which would cost more room in the filter than it is worth.

use super::failure::Failure;

/// No answer is longer: a thousand rules with two cells of five numbers, sixteen digits each, and an error's text.
const LONGEST: usize = 256 * 1024;

/// Reads an answer: its HTTP status and its body.
///
/// # Errors
/// Why there are no numbers. Half an answer, a list inside the list, a fraction, a number beyond 64 bits, text behind
/// the end: all are [`Failure::Garbage`].
pub fn read(status: u32, body: &[u8]) -> Result<Vec<i64>, Failure> {
    let garbage = if status == 200 { Failure::Garbage } else { Failure::Status(status) };
    if body.len() > LONGEST {
        return Err(garbage);
    }
    let Some(answer) = core::str::from_utf8(body).ok().and_then(object) else { return Err(garbage) };
    match answer {
        Answer::Error(text) => Err(Failure::of_error(&text)),
        Answer::Numbers(numbers) if status == 200 => Ok(numbers),
        Answer::Numbers(_) => Err(garbage),
    }
}

enum Answer {
    Numbers(Vec<i64>),
    Error(String),
}

fn object(text: &str) -> Option<Answer> {
    let mut rest = Rest(text);
    rest.skip("{")?;
    let name = rest.string()?;
    rest.skip(":")?;
    let answer = match name.as_str() {
        "error" => Answer::Error(rest.string()?),
        "result" | "EVALSHA" | "EVAL" => {
            rest.skip("[")?;
            if rest.skip("false").is_some() {
                rest.skip(",")?;
                Answer::Error(rest.last_of_list(Rest::string)?)
            } else {
                Answer::Numbers(rest.numbers()?)
            }
        }
        _ => return None,
    };
    rest.skip("}")?;
    rest.trim().is_empty().then_some(answer)
}

/// What is left to read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn trim(&self) -> &'a str {
        self.0.trim_start_matches([' ', '\t', '\r', '\n'])
    }

    /// Passes over `wanted` and the white space before it, where that comes next.
    fn skip(&mut self, wanted: &str) -> Option<()> {
        self.0 = self.trim().strip_prefix(wanted)?;
        Some(())
    }

    fn last_of_list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        let last = read(self)?;
        self.skip("]")?;
        Some(last)
    }

    fn number(&mut self) -> Option<i64> {
        let text = self.trim();
        let end = text.find(|character: char| !character.is_ascii_digit() && character != '-').unwrap_or(text.len());
        let (digits, rest) = text.split_at_checked(end)?;
        self.0 = rest;
        digits.parse().ok()
    }

    fn numbers(&mut self) -> Option<Vec<i64>> {
        let mut all = Vec::new();
        loop {
            all.push(self.number()?);
            if self.skip(",").is_none() {
                self.skip("]")?;
                return Some(all);
            }
        }
    }

    /// A string. Escapes other than of one character are left out: only the first word of an error is looked at.
    fn string(&mut self) -> Option<String> {
        self.skip("\"")?;
        let mut text = String::new();
        let mut characters = self.0.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => text.push(match characters.next()? {
                    'n' | 'r' | 't' | 'u' => ' ',
                    plain => plain,
                }),
                plain => text.push(plain),
            }
        }
        self.0 = characters.as_str();
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (403, "<html>", Failure::Status(403)),
            (500, r#"{"result":[1]}"#, Failure::Status(500)),
        ] {
            assert_eq!(read(status, text.as_bytes()), Err(failure), "{text}");
        }
    }

    #[test]
    fn anything_else_is_garbage() {
        let long = [r#"{"result":["#, &"1,".repeat(LONGEST / 2), "1]}"].concat();
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
