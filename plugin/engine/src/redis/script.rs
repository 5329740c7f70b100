//! The text of `acquire.lua` as it is sent, and its name. The script itself stands beside this file.

/// The script as it is sent: `acquire.lua` without its comments and its indentation, which a filter must not carry, but
/// with all its line breaks, so that the line of an error message is that of the file.
pub const SCRIPT: &str = match core::str::from_utf8(&STRIPPED) {
    Ok(text) => text,
    Err(_) => "",
};

/// How EVALSHA calls the script: the SHA-1 of [`SCRIPT`], in hex. A test computes it; no hash is linked for it.
pub const SHA1: &str = "e14659df8314183f27c5bdd0ab437c30a4a0d5c9";

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
        while from < SOURCE.len() {
            let byte = SOURCE[from];
            from += 1;
            if !is_comment || byte == b'\n' {
                if to < out.len() {
                    out[to] = byte;
                }
                to += 1;
            }
            if byte == b'\n' {
                break;
            }
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_hash_of_the_text() {
        let computed = sha1_smol::Sha1::from(SCRIPT).hexdigest();
        assert_eq!(SHA1, computed, "acquire.lua changed: put its new hash here");
    }

    #[test]
    fn only_comments_and_indentation_are_left_out() {
        let source = core::str::from_utf8(SOURCE).unwrap();
        assert_eq!(source.lines().count(), SCRIPT.lines().count());
        for (line, sent) in source.lines().zip(SCRIPT.lines()) {
            let line = line.trim();
            assert_eq!(sent, if line.starts_with("--") { "" } else { line });
        }
        assert!(SCRIPT.len() < 12_288, "{} bytes are a part of every filter", SCRIPT.len());
    }
}
