//! A call as text: the bodies and headers of the two protocols. Sending them is the caller's business.
//!
//! Upstash: a JSON array of the command's words, posted to `/`. webdis: the command's words between slashes, posted as the
//! body, where `/`, `.` and `+` in a word must be encoded (seen with webdis 0.1.9).

use base64ct::{Base64, Encoding};

use super::call::Call;
use crate::policy::json::quote;
use crate::policy::{Credentials, Protocol, Redis};

/// How a call names the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By its hash: what every call tries first.
    Hash,
    /// By its text, once the store has answered [`super::Failure::NoScript`]. The store then knows it.
    Text,
}

impl Call {
    /// The body of the request that makes this call.
    pub fn body(&self, protocol: Protocol, form: Form) -> String {
        let (command, script) = match form {
            Form::Hash => ("EVALSHA", self.script.sha1),
            Form::Text => ("EVAL", self.script.text),
        };
        let count = self.keys.len().to_string();
        let rest = self.keys.iter().chain(&self.arguments).map(String::as_str);
        write(protocol, &mut [command, script, &count].into_iter().chain(rest))
    }
}

/// The headers of every request to the store, pseudo-headers first. The credential is in one of them.
pub fn headers(store: &Redis) -> Vec<(&'static str, String)> {
    let content = match store.protocol {
        Protocol::Upstash => "application/json",
        Protocol::Webdis => "application/x-www-form-urlencoded",
    };
    let mut all = vec![
        (":method", "POST".to_owned()),
        (":path", "/".to_owned()),
        (":authority", store.authority.clone()),
        ("content-type", content.to_owned()),
    ];
    match &store.credentials {
        Credentials::None => {}
        Credentials::Token(token) => all.push(("authorization", ["Bearer ", token.reveal()].concat())),
        Credentials::Basic { user, password } => {
            let pair = Base64::encode_string([user, ":", password.reveal()].concat().as_bytes());
            all.push(("authorization", ["Basic ", &pair].concat()));
        }
    }
    all
}

fn write(protocol: Protocol, words: &mut dyn Iterator<Item = &str>) -> String {
    let mut out = String::new();
    match protocol {
        Protocol::Upstash => {
            for word in words {
                out.push(if out.is_empty() { '[' } else { ',' });
                quote(word, &mut out);
            }
            out.push(']');
        }
        Protocol::Webdis => {
            for word in words {
                if !out.is_empty() {
                    out.push('/');
                }
                encode(&mut out, word);
            }
        }
    }
    out
}

/// Percent-encoding of everything but letters, digits, `_` and `-`.
fn encode(out: &mut String, word: &str) {
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            super::push_hex(out, &[byte]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::ACQUIRE;
    use super::*;

    static SHA1: &str = ACQUIRE.sha1;

    fn call() -> Call {
        Call {
            script: &ACQUIRE,
            keys: vec!["tg1:{d:v:0f}:api:01".to_owned()],
            arguments: vec!["probe".to_owned(), "t 1 2".to_owned()],
        }
    }

    #[test]
    fn both_protocols_carry_the_same_words() {
        let upstash = format!(r#"["EVALSHA","{SHA1}","1","tg1:{{d:v:0f}}:api:01","probe","t 1 2"]"#);
        assert_eq!(call().body(Protocol::Upstash, Form::Hash), upstash);
        let webdis = format!("EVALSHA/{SHA1}/1/tg1%3a%7bd%3av%3a0f%7d%3aapi%3a01/probe/t%201%202");
        assert_eq!(call().body(Protocol::Webdis, Form::Hash), webdis);
    }

    #[test]
    fn the_text_arrives_as_it_is() {
        let body: Vec<String> = serde_json::from_str(&call().body(Protocol::Upstash, Form::Text)).unwrap();
        assert_eq!((body[0].as_str(), body[1].as_str()), ("EVAL", ACQUIRE.text));
        let webdis = call().body(Protocol::Webdis, Form::Text);
        assert!(webdis.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%/_-".contains(&byte)), "{webdis}");
        assert_eq!(webdis.matches('/').count(), 5);
    }
}
