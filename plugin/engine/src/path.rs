//! The two readings of a request's path: as sent, and normalised.
//! An attacker picks the spelling, so a limit applies if either reading matches; only `matching` decides that.

use std::borrow::Cow;

/// A request's path without its query, in both readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings<'a> {
    /// To the letter, or in lower case and without trailing dots and spaces where the policy's paths are loose.
    pub as_sent: Cow<'a, [u8]>,
    /// Percent-decoded once; `\` is `/`; `;params`, empty and dot segments and a trailing slash are resolved.
    pub normalised: Cow<'a, [u8]>,
}

impl<'a> Readings<'a> {
    /// Reads a `:path`. The normalised reading always starts with a slash, whatever was sent: nothing is `/`.
    pub fn of(path: &'a [u8], loose: bool) -> Self {
        let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
        let bare = path.get(..end).unwrap_or(path);
        let normalised = if is_plain(bare) { Cow::Borrowed(bare) } else { Cow::Owned(normalise(bare, false)) };
        if !loose {
            return Self { as_sent: Cow::Borrowed(bare), normalised };
        }
        let mut as_sent = bare.to_ascii_lowercase();
        while as_sent.last().is_some_and(|byte| matches!(byte, b'.' | b' ')) {
            as_sent.pop();
        }
        Self { as_sent: Cow::Owned(as_sent), normalised: Cow::Owned(normalise(bare, true)) }
    }
}

/// Whether normalising would change nothing: the common case, decided in one pass.
fn is_plain(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else { return false };
    let mut before = b'/';
    for byte in rest {
        match byte {
            b'%' | b'\\' | b';' => return false,
            b'/' | b'.' if before == b'/' => return false,
            _ => before = *byte,
        }
    }
    before != b'/' || rest.is_empty()
}

fn normalise(path: &[u8], loose: bool) -> Vec<u8> {
    let decoded = decode(path);
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
        match name {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            _ => {
                let name = if loose { trim_end(name) } else { name };
                if !name.is_empty() {
                    kept.push(name);
                }
            }
        }
    }
    if kept.is_empty() {
        return b"/".to_vec();
    }
    let mut whole = Vec::with_capacity(decoded.len());
    for name in kept {
        whole.push(b'/');
        whole.extend_from_slice(name);
    }
    if loose {
        whole.make_ascii_lowercase();
    }
    whole
}

fn trim_end(mut name: &[u8]) -> &[u8] {
    while let Some((b'.' | b' ', rest)) = name.split_last() {
        name = rest;
    }
    name
}

/// Percent-decodes once. An escape that is cut short or not hexadecimal stays as it is.
pub(crate) fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%'
            && let [high, low, tail @ ..] = after
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push((high << 4) | low);
            rest = tail;
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    decoded
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(path: &str) -> String {
        String::from_utf8_lossy(&Readings::of(path.as_bytes(), false).normalised).into_owned()
    }

    #[test]
    fn every_spelling_of_a_path_has_one_normalised_reading() {
        for path in [
            "/api/search",
            "//api//search",
            "/x/%2E./api/search",
            "/x/..;/api/search",
            "/api/search/",
            "/api/search;v=1",
            "/api%2fsearch",
            "/api\\search",
            "/api%5csearch",
            "/api/%73earch",
            "/api/./search?q=1",
            "/../api/search",
            "/api;x/search",
            "/api/search#top",
            "/api/search//",
            "/api/x/../search",
        ] {
            assert_eq!(normalised(path), "/api/search", "{path}");
        }
    }

    #[test]
    fn decoding_happens_once() {
        assert_eq!(normalised("/api/search%252f"), "/api/search%2f");
        assert_eq!(normalised("/a%zz%4"), "/a%zz%4");
    }

    #[test]
    fn what_names_nothing_is_the_root() {
        for path in ["", "/", "?x", "//", "/..", "/%2e%2e/"] {
            assert_eq!(normalised(path), "/", "{path}");
        }
    }

    #[test]
    fn loose_paths_ignore_case_and_trailing_dots() {
        for path in ["/API/Search", "/api/search.", "/api./search%20", "/Api/SEARCH/."] {
            assert_eq!(&*Readings::of(path.as_bytes(), true).normalised, b"/api/search", "{path}");
        }
        assert_eq!(&*Readings::of(b"/API/Search.", true).as_sent, b"/api/search");
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        let readings = Readings::of(b"/v1/users/7?x=1", false);
        assert!(matches!(readings.normalised, Cow::Borrowed(b"/v1/users/7")));
        assert_eq!(normalised("/a/.b/..c"), "/a/.b/..c");
    }
}
