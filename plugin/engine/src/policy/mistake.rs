//! What is wrong with a policy, in the words that its author reads. Which things are wrong is decided elsewhere.

use core::fmt;

use super::json::Node;
use super::meant::meant;

/// More messages than this help nobody; the rest is counted.
const MOST: usize = 100;
/// A found value is quoted up to this many characters.
const LONGEST_QUOTE: usize = 60;
/// A member's name that is longer than this, or holds a colon, does not enter a pointer: the pointer then names the
/// object it is in. No right name has a colon, and behind one may stand a header's value or a password.
const LONGEST_SEGMENT: usize = 200;

/// One mistake in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// JSON pointer (RFC 6901) to the place; empty is the whole document.
    pub pointer: String,
    /// What stands there: bounded, escaped, never a secret.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
    /// The nearest right name, where one is near.
    pub suggestion: Option<String>,
}

impl Mistake {
    /// A mistake without a suggestion.
    pub fn new(pointer: &str, found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { pointer: pointer.to_owned(), found: found.into(), allowed: allowed.into(), suggestion: None }
    }

    /// The same mistake with the one of `names` that was probably meant by what was `written`, if there is one.
    #[must_use]
    pub fn suggesting<'a>(mut self, written: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        self.suggestion = meant(written, &names).map(str::to_owned);
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place =
            if self.pointer.is_empty() { "(the document)".to_owned() } else { escaped(&self.pointer, usize::MAX) };
        write!(out, "{place}: found {}, allowed: {}", self.found, self.allowed)?;
        match &self.suggestion {
            Some(name) => write!(out, "; did you mean \"{name}\"?"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a policy; one line each when displayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
    left_off: usize,
}

impl Mistakes {
    /// Adds one, unless the same is there already or there are too many.
    pub(crate) fn add(&mut self, mistake: Mistake) {
        if self.list.len() >= MOST {
            self.left_off = self.left_off.saturating_add(1);
        } else if !self.list.contains(&mistake) {
            self.list.push(mistake);
        }
    }

    /// Says more precisely what the last mistake, if it is at `pointer`, should have been.
    pub(super) fn refine(&mut self, pointer: &str, allowed: String) {
        if let Some(last) = self.list.last_mut()
            && last.pointer == pointer
            && !allowed.is_empty()
        {
            last.allowed = allowed;
        }
    }

    /// The mistakes, at most 100, in the order they were found.
    pub fn iter(&self) -> core::slice::Iter<'_, Mistake> {
        self.list.iter()
    }

    /// How many more there were.
    pub fn left_off(&self) -> usize {
        self.left_off
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether there is room for another.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// Whether nothing is wrong at the pointer or below it.
    pub(super) fn spare(&self, pointer: &str) -> bool {
        let within = |rest: &str| rest.is_empty() || rest.starts_with('/');
        !self.is_full() && !self.list.iter().any(|mistake| mistake.pointer.strip_prefix(pointer).is_some_and(within))
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = core::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self { list: vec![mistake], left_off: 0 }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(out, "{line_end}{mistake}")?;
        }
        match self.left_off {
            0 => Ok(()),
            more => write!(out, "\n... and {more} more"),
        }
    }
}

impl core::error::Error for Mistakes {}

/// The pointer to `name` in the object at `pointer`.
pub(super) fn member(pointer: &str, name: &str) -> String {
    if name.len() > LONGEST_SEGMENT || colon(name).is_some() {
        return pointer.to_owned();
    }
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The pointer to the entry `index` of the list at `pointer`.
pub(super) fn entry(pointer: &str, index: usize) -> String {
    format!("{pointer}/{index}")
}

/// A value as a message shows it: quoted, cut, escaped; of lists and objects only the kind.
pub(super) fn shown(node: &Node) -> String {
    match node {
        Node::Text(text) => quoted(text),
        Node::Boolean(_) | Node::Integer(_) | Node::Number(_) => escaped(&node.to_json(), LONGEST_QUOTE),
        _ => node.kind().to_owned(),
    }
}

/// A text in quotes, cut and escaped. Of a URL only the scheme is shown: what follows may hold a password.
pub(crate) fn quoted(text: &str) -> String {
    match scheme(text) {
        Some(scheme) => format!("\"{}://...\"", escaped(scheme, LONGEST_QUOTE)),
        None => format!("\"{}\"", escaped(text, LONGEST_QUOTE)),
    }
}

/// A member's name in quotes, cut at its first colon.
pub(super) fn quoted_name(name: &str) -> String {
    match colon(name).and_then(|at| name.get(..at)) {
        Some(before) => format!("\"{}:...\"", escaped(before, LONGEST_QUOTE)),
        None => quoted(name),
    }
}

fn colon(name: &str) -> Option<usize> {
    name.bytes().position(|byte| byte == b':')
}

/// What precedes the first `://` of a text. The library's search for texts would be 5 KB of the .wasm.
pub(super) fn scheme(text: &str) -> Option<&str> {
    let length = text.as_bytes().windows(3).position(|window| window == b"://")?;
    text.get(..length)
}

/// The text with everything escaped that could move a terminal's cursor, break a line or reorder what is shown.
fn escaped(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index >= longest {
            out.push_str("...");
            break;
        }
        let invisible =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ if c.is_control() || invisible => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_harmless() {
        assert_eq!(quoted("a\"\r\n\u{202e}"), r#""a\"\u{d}\u{a}\u{202e}""#);
        assert_eq!(quoted(&"x".repeat(100)).len(), LONGEST_QUOTE + 5);
        assert_eq!(quoted("redis://:pw@host"), "\"redis://...\"");
        assert_eq!(member("/a", "b/c~"), "/a/b~1c~0");
        assert_eq!(member("/a", "authorization: Bearer x"), "/a");
        assert_eq!(quoted_name("authorization: Bearer x"), "\"authorization:...\"");
        assert_eq!(quoted_name("x\n"), r#""x\u{a}""#);
    }

    #[test]
    fn messages_are_bounded() {
        let mut mistakes = Mistakes::default();
        (0..150).for_each(|n| mistakes.add(Mistake::new(&entry("", n), "x", "y")));
        assert_eq!((mistakes.iter().count(), mistakes.left_off()), (MOST, 50));
        assert!(mistakes.to_string().ends_with("\n... and 50 more"));
    }
}
