//! The two readings of a request's path: as sent, and normalised.
//! An attacker picks the spelling, so a limit applies if either reading matches; only `matching` decides that.

use core::ops::Deref;
use std::borrow::Cow;

/// An endpoint template has no more segments than this: it is at most 1,024 characters long.
pub(crate) const MOST_SEGMENTS: usize = 512;

/// A request's path without its query, in both readings. However long it is, it is read once: a bound would let a long
/// path escape its limit, since `/x/..` may stand before any target as often as a client likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings<'a> {
    /// To the letter, or in lower case and without trailing dots and spaces where the policy's paths are loose.
    pub as_sent: Reading<'a>,
    /// Cut at a `#`; percent-decoded once; `\` is `/`; `;params`, empty and dot segments and a trailing slash are
    /// resolved.
    pub normalised: Reading<'a>,
    /// Whether a `#` stands in the path. To some upstreams it ends the path, to others it is a character like any other
    /// (RFC 9112 allows none in a request): where the path leads is then not known well enough to loosen anything.
    pub(crate) has_fragment: bool,
}

impl<'a> Readings<'a> {
    /// Reads a `:path`. The normalised reading always starts with a slash, whatever was sent: nothing is `/`.
    pub fn of(path: &'a [u8], loose: bool) -> Self {
        let sent = up_to(path, b'?');
        let bare = up_to(sent, b'#');
        let has_fragment = bare.len() < sent.len();
        let as_sent = Reading::of(if loose { Cow::Owned(loosely(sent)) } else { Cow::Borrowed(sent) });
        let normalised = if !loose && !has_fragment && is_plain(bare) {
            as_sent.clone()
        } else {
            Reading::of(Cow::Owned(normalise(bare, loose)))
        };
        Self { as_sent, normalised, has_fragment }
    }
}

/// One reading of a path: its bytes, and where each of its segments ends, so that a template need not look for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<'a> {
    path: Cow<'a, [u8]>,
    /// Up to two more than a template can have: enough to see that there are more.
    ends: Vec<usize>,
}

impl<'a> Reading<'a> {
    fn of(path: Cow<'a, [u8]>) -> Self {
        let mut ends = Vec::new();
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' && at > 0 && ends.len() <= MOST_SEGMENTS {
                ends.push(at);
            }
        }
        if path.first() == Some(&b'/') {
            ends.push(path.len());
        } else {
            ends.clear();
        }
        Self { path, ends }
    }

    /// How many segments there are, up to [`MOST_SEGMENTS`] and two: one in `/`, none where no slash comes first.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The segments in order.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(1_usize, |start, end| {
            let segment = self.path.get(*start..*end);
            *start = end.saturating_add(1);
            segment
        })
    }
}

impl Deref for Reading<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.path
    }
}

fn up_to(path: &[u8], end: u8) -> &[u8] {
    let length = path.iter().position(|byte| *byte == end);
    length.and_then(|length| path.get(..length)).unwrap_or(path)
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
                let name = if loose { trimmed(name) } else { name };
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

/// A path in lower case, its segments without trailing dots and spaces.
fn loosely(path: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(path.len());
    for (index, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if index > 0 {
            whole.push(b'/');
        }
        whole.extend_from_slice(loose(segment));
    }
    whole.make_ascii_lowercase();
    whole
}

/// A segment as loose paths compare it to the letter, but for case: without trailing dots and spaces, unless it has
/// nothing else.
pub(crate) fn loose(segment: &[u8]) -> &[u8] {
    let name = trimmed(segment);
    if name.is_empty() { segment } else { name }
}

fn trimmed(mut name: &[u8]) -> &[u8] {
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
        for (path, as_sent) in
            [("/API/Search.", "/api/search"), ("/API./Search. ", "/api/search"), ("/a/../.../b.", "/a/../.../b")]
        {
            assert_eq!(&*Readings::of(path.as_bytes(), true).as_sent, as_sent.as_bytes(), "{path}");
        }
    }

    #[test]
    fn a_fragment_ends_the_normalised_reading_only() {
        for (path, as_sent, normalised, has_fragment) in [
            ("/a#b/../c?d#e", "/a#b/../c", "/a", true),
            ("/a?b#c", "/a", "/a", false),
            ("/a%23b", "/a%23b", "/a#b", false),
            ("#", "#", "/", true),
        ] {
            let readings = Readings::of(path.as_bytes(), false);
            assert_eq!(&*readings.as_sent, as_sent.as_bytes(), "{path}");
            assert_eq!(&*readings.normalised, normalised.as_bytes(), "{path}");
            assert_eq!(readings.has_fragment, has_fragment, "{path}");
        }
    }

    #[test]
    fn segments_are_what_stands_between_slashes() {
        let segments = |path: &'static str| -> Vec<String> {
            let reading = Reading::of(Cow::Borrowed(path.as_bytes()));
            assert_eq!(reading.count(), reading.segments().count());
            reading.segments().map(|segment| String::from_utf8_lossy(segment).into_owned()).collect()
        };
        assert_eq!(segments("/"), [""]);
        assert_eq!(segments("/a"), ["a"]);
        assert_eq!(segments("/a//b/"), ["a", "", "b", ""]);
        assert_eq!(segments("a/b"), [""; 0]);
        assert_eq!(segments(""), [""; 0]);
        let deep = "/a".repeat(5_000);
        assert_eq!(Reading::of(Cow::Borrowed(deep.as_bytes())).count(), MOST_SEGMENTS + 2);
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        let readings = Readings::of(b"/v1/users/7?x=1", false);
        assert!(matches!(readings.normalised.path, Cow::Borrowed(b"/v1/users/7")));
        assert_eq!(normalised("/a/.b/..c"), "/a/.b/..c");
    }
}
