//! The text of `acquire.lua` as it is sent, and its name. The script itself stands beside this file.

/// The script as it is sent: `acquire.lua` without its comments and the spaces that mean nothing, which a filter must not carry, but
/// with all its line breaks, so that the line of an error message is that of the file.
pub const SCRIPT: &str = match core::str::from_utf8(&STRIPPED) {
    Ok(text) => text,
    Err(_) => "",
};

/// How EVALSHA calls the script: the SHA-1 of [`SCRIPT`], in hex. A test computes it; no hash is linked for it.
pub const SHA1: &str = "dc4b45e4e349e59a78c206bde209c73f12d9107a";

const SOURCE: &[u8] = include_bytes!("acquire.lua");

const STRIPPED: [u8; strip(&mut [0; SOURCE.len()])] = {
    let mut out = [0; strip(&mut [0; SOURCE.len()])];
    strip(&mut out);
    out
};

/// Writes the stripped source to `out`, as far as that is long, and returns the length of all.
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "runs when this crate is compiled")]
const fn strip(out: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < SOURCE.len() {
        while from < SOURCE.len() && SOURCE[from] == b' ' {
            from += 1;
        }
        let is_comment = from + 1 < SOURCE.len() && SOURCE[from] == b'-' && SOURCE[from + 1] == b'-';
        // The quote that opened the string that this is in.
        let mut quote = 0;
        let mut last = b'\n';
        while from < SOURCE.len() {
            let byte = SOURCE[from];
            from += 1;
            let is_idle =
                byte == b' ' && quote == 0 && from < SOURCE.len() && !(is_word(last) && is_word(SOURCE[from]));
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

/// Whether two of these must not be joined. The script has no `- -`, and no number before `..`.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let computed = sha1_smol::Sha1::from(SCRIPT).hexdigest();
        assert_eq!(SHA1, computed, "acquire.lua changed: put its new hash here");
    }

    #[test]
    fn only_comments_and_idle_spaces_are_left_out() {
        let source = core::str::from_utf8(SOURCE).unwrap();
        assert_eq!(source.lines().count(), SCRIPT.lines().count());
        for (line, sent) in source.lines().zip(SCRIPT.lines()) {
            let line = line.trim();
            assert_eq!(tokens(sent), if line.starts_with("--") { Vec::new() } else { tokens(line) }, "{sent}");
        }
        assert!(!SCRIPT.contains("--"), "two signs became a comment");
        assert!(SCRIPT.len() < 11_264, "{} bytes are a part of every filter", SCRIPT.len());
    }
}
