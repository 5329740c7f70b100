//! The scripts as they are sent, and their names. Their sources stand beside this file.

/// A script that runs in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// The source file's name, for logs and metrics.
    pub name: &'static str,
    /// The source without its comments and the spaces that mean nothing, which a filter must not carry, but with all its
    /// line breaks, so that the line of an error message is that of the file.
    pub text: &'static str,
    /// How EVALSHA calls it: the SHA-1 of the text, in hex. A test computes it; no hash is linked for it.
    pub sha1: &'static str,
}

/// Makes a [`Script`] of a source file.
macro_rules! script {
    ($name:literal, $file:literal, $sha1:literal) => {{
        const SOURCE: &[u8] = include_bytes!($file);
        const LENGTH: usize = strip(SOURCE, &mut [0; SOURCE.len()]);
        const STRIPPED: [u8; LENGTH] = {
            let mut out = [0; LENGTH];
            strip(SOURCE, &mut out);
            out
        };
        const TEXT: &str = match core::str::from_utf8(&STRIPPED) {
            Ok(text) => text,
            Err(_) => "",
        };
        Script { name: $name, text: TEXT, sha1: $sha1 }
    }};
}

/// Charges the cells of a request.
pub static ACQUIRE: Script = script!("acquire", "acquire.lua", "dc4b45e4e349e59a78c206bde209c73f12d9107a");

/// Keeps what admin APIs have changed.
pub(super) static STATE: Script = script!("state", "state.lua", "fb533c452e9b2e5f39c6bf8bb2a8a5ac9eeafa0e");

/// Keeps queued requests.
pub static QUEUE: Script = script!("queue", "queue.lua", "60f62499b80a17ad21816a2ea70ff01d96887f7d");

/// All of them.
pub static SCRIPTS: [&Script; 3] = [&ACQUIRE, &STATE, &QUEUE];

/// Writes the stripped source to `out`, as far as that is long, and returns the length of all.
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "runs when this crate is compiled")]
const fn strip(source: &[u8], out: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < source.len() {
        while from < source.len() && source[from] == b' ' {
            from += 1;
        }
        let is_comment = from + 1 < source.len() && source[from] == b'-' && source[from + 1] == b'-';
        // The quote that opened the string that this is in.
        let mut quote = 0;
        let mut last = b'\n';
        while from < source.len() {
            let byte = source[from];
            from += 1;
            let is_idle =
                byte == b' ' && quote == 0 && from < source.len() && !(is_word(last) && is_word(source[from]));
            if byte == quote {
                quote = 0;
            } else if quote == 0 && (byte == b'\'' || byte == b'"') {
                quote = byte;
            }
            if byte == b'\n' || !(is_comment || is_idle) {
                if to < out.len() {
                    out[to] = byte;
                }
                to += 1;
                last = byte;
            }
            if byte == b'\n' {
                break;
            }
        }
    }
    to
}

/// Whether two of these must not be joined. No script has `- -`, or a number before `..`.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [&str; SCRIPTS.len()] =
        [include_str!("acquire.lua"), include_str!("state.lua"), include_str!("queue.lua")];

    /// The words, strings and signs of a line.
    fn tokens(line: &str) -> Vec<String> {
        let mut tokens: Vec<String> = Vec::new();
        let mut quote = None;
        let mut is_apart = true;
        for c in line.chars() {
            let joins = quote.is_some()
                || (!is_apart
                    && u8::try_from(c).is_ok_and(is_word)
                    && tokens.last().is_some_and(|last| last.bytes().all(is_word)));
            if quote.is_none() && c == ' ' {
                is_apart = true;
                continue;
            }
            match tokens.last_mut() {
                Some(last) if joins => last.push(c),
                _ => tokens.push(c.to_string()),
            }
            is_apart = false;
            if quote == Some(c) {
                quote = None;
            } else if quote.is_none() && (c == '\'' || c == '"') {
                quote = Some(c);
            }
        }
        tokens
    }

    #[test]
    fn the_name_is_the_hash_of_the_text() {
        for script in SCRIPTS {
            let computed = sha1_smol::Sha1::from(script.text).hexdigest();
            assert_eq!(script.sha1, computed, "{}.lua changed: put its new hash here", script.name);
        }
    }

    #[test]
    fn only_comments_and_idle_spaces_are_left_out() {
        for (script, source) in SCRIPTS.iter().zip(SOURCES) {
            assert_eq!(source.lines().count(), script.text.lines().count());
            for (line, sent) in source.lines().zip(script.text.lines()) {
                let line = line.trim();
                assert_eq!(tokens(sent), if line.starts_with("--") { Vec::new() } else { tokens(line) }, "{sent}");
            }
            assert!(!script.text.contains("--"), "two signs became a comment");
        }
        for (script, most) in [(ACQUIRE, 11_264), (QUEUE, 4_736)] {
            assert!(
                script.text.len() < most,
                "{}: {} bytes are a part of every filter",
                script.name,
                script.text.len()
            );
        }
    }
}
