//! From a body or a path to commands: strings and numbers in, bytes out, each decoded exactly once.
//! Not here: whether a command may pass (`commands`).

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// One command with its arguments, as bytes. Borrows from the body where nothing had to be unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    parts: Vec<Cow<'a, [u8]>>,
}

impl<'a> Command<'a> {
    /// A command of these parts, the name first.
    pub fn from_parts(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self { parts: parts.into_iter().map(Cow::Borrowed).collect() }
    }

    /// The command's name as it was sent; `None` for an empty command.
    pub fn name(&self) -> Option<&[u8]> {
        self.argument(0)
    }

    /// The part at `index`; 0 is the name.
    pub fn argument(&self, index: usize) -> Option<&[u8]> {
        self.parts.get(index).map(Cow::as_ref)
    }

    /// Everything after the name.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        self.arguments_from(1)
    }

    /// Everything from the part at `first`.
    pub fn arguments_from(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().skip(first).map(Cow::as_ref)
    }

    /// In the client library's form.
    pub fn to_redis(&self) -> redis::Cmd {
        let mut command = redis::Cmd::new();
        for part in self.arguments_from(0) {
            command.arg(part);
        }
        command
    }
}

/// The command of a `POST /` body: a JSON array.
///
/// # Errors
/// `Malformed`, with what was found and what is allowed.
pub fn single(body: &[u8]) -> Result<Command<'_>, Failure> {
    command_of(&parsed::<Vec<&RawValue>>(body, "an array of strings and numbers")?)
}

/// The commands of a `/pipeline` or `/multi-exec` body: a JSON array of arrays, of at most `most` commands.
///
/// # Errors
/// `Malformed`, also for no command at all.
pub fn batch(body: &[u8], most: usize) -> Result<Vec<Command<'_>>, Failure> {
    let rows = parsed::<Vec<Vec<&RawValue>>>(body, "an array of arrays of strings and numbers")?;
    if rows.is_empty() {
        return Err(Failure::Malformed("empty pipeline".to_owned()));
    }
    if rows.len() > most {
        return Err(Failure::Malformed(format!("{} commands in one request; at most {most} are allowed", rows.len())));
    }
    rows.iter().map(|row| command_of(row)).collect()
}

fn parsed<'a, T: serde::Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::Malformed(format!("the body is not {what} (line {}, column {})", error.line(), error.column()))
    })
}

fn command_of<'a>(parts: &[&'a RawValue]) -> Result<Command<'a>, Failure> {
    let parts = parts.iter().enumerate().map(|(index, raw)| part(index, raw.get())).collect::<Result<_, _>>()?;
    Ok(Command { parts })
}

/// One JSON value as Redis will see it. Numbers keep their digits: 1795000000123456 must not pass through a double.
fn part(index: usize, raw: &str) -> Result<Cow<'_, [u8]>, Failure> {
    let found = match raw.as_bytes().first() {
        Some(b'"') => return string(index, raw),
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => return Ok(Cow::Borrowed(raw.as_bytes())),
        Some(b'n') => "null",
        Some(b'[') => "an array",
        _ => "an object",
    };
    Err(Failure::Malformed(format!("part {index} of the command is {found}; a string or a number is allowed")))
}

fn string(index: usize, raw: &str) -> Result<Cow<'_, [u8]>, Failure> {
    let inside = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(inside) if !inside.contains('\\') => Ok(Cow::Borrowed(inside.as_bytes())),
        _ => serde_json::from_str::<Unescaped>(raw)
            .map(|text| Cow::Owned(text.0))
            .map_err(|_| Failure::Malformed(format!("part {index} of the command has a broken escape"))),
    }
}

/// A JSON string as UTF-8. Half a surrogate pair, which `JSON.stringify` writes as `\ud800`, becomes U+FFFD, as in every
/// encoder that JavaScript has.
struct Unescaped(Vec<u8>);

impl<'de> serde::Deserialize<'de> for Unescaped {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(UnescapedVisitor)
    }
}

struct UnescapedVisitor;

impl serde::de::Visitor<'_> for UnescapedVisitor {
    type Value = Unescaped;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a string")
    }

    /// Asked for bytes, the parser gives half a pair as the three bytes that it would have in UTF-8, were it allowed there:
    /// ED and then A0 to BF, which nothing else has.
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Unescaped, E> {
        let mut text = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            if let (0xed, [0xa0..=0xbf, _, beyond @ ..]) = (first, after) {
                text.extend_from_slice("\u{fffd}".as_bytes());
                rest = beyond;
            } else {
                text.push(*first);
                rest = after;
            }
        }
        Ok(Unescaped(text))
    }
}

/// The command of a path such as `/set/foo/bar`. The path is split first and decoded once after, so an encoded slash stays
/// inside its argument. A body is one more argument, and the query's names and values follow it.
///
/// # Errors
/// `Malformed` for an empty segment: whether it was meant as an argument cannot be told.
pub fn of_path<'a>(path: &'a str, query: Option<&'a str>, body: Option<&'a [u8]>) -> Result<Command<'a>, Failure> {
    let mut parts: Vec<Cow<'a, [u8]>> = Vec::new();
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        if segment.is_empty() {
            return Err(Failure::Malformed("an empty part in the path; send the command as a JSON array".to_owned()));
        }
        parts.push(percent_decode(segment.as_bytes()).into());
    }
    parts.extend(body.map(Cow::Borrowed));
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        parts.push(query_part(name));
        parts.extend(value.filter(|value| !value.is_empty()).map(query_part));
    }
    Ok(Command { parts })
}

/// In a query, unlike in a path, `+` is a space.
fn query_part(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        Cow::Owned(percent_decode(text.replace('+', " ").as_bytes()).collect())
    } else {
        percent_decode(text.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(command: &Command<'_>) -> Vec<String> {
        command.arguments_from(0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }

    #[test]
    fn numbers_keep_their_digits() {
        let command = single(br#"["SET","k",1795000000123456,-1,1e308,0.10,18446744073709551616,true]"#).unwrap();
        assert_eq!(
            parts(&command),
            ["SET", "k", "1795000000123456", "-1", "1e308", "0.10", "18446744073709551616", "true"]
        );
    }

    #[test]
    fn escapes_are_undone_once() {
        let command = single(br#"["a\"b","\u00e9\n","plain","\\u0041"]"#).unwrap();
        assert_eq!(parts(&command), ["a\"b", "é\n", "plain", "\\u0041"]);
    }

    #[test]
    fn other_shapes_are_refused_with_the_place() {
        for (body, part) in [
            (&br#"["GET",null]"#[..], "part 1 of the command is null"),
            (br#"["GET",["a"]]"#, "is an array"),
            (br#"["GET",{}]"#, "is an object"),
            (br#"["GET","\ud80"]"#, "line 1"),
            (br#"{"a":1}"#, "line 1, column 0"),
            (br#"["GET""#, "line 1, column 6"),
            (b"", "line 1, column 0"),
            (b"[\"\xff\"]", "line 1"),
        ] {
            let failure = single(body).unwrap_err();
            assert!(failure.text().contains(part), "{}", failure.text());
        }
        assert!(batch(b"[]", 10).is_err());
        assert!(batch(br#"["GET","a"]"#, 10).is_err());
        assert!(batch(br#"[["PING"],["PING"]]"#, 1).is_err());
        assert_eq!(batch(br#"[["PING"],["GET","a"]]"#, 2).unwrap().len(), 2);
    }

    #[test]
    fn half_a_surrogate_pair_becomes_a_replacement_character() {
        let command =
            single(br#"["GET","a\ud800b\udc00","\ud83d\ude00","\ud800\ud83d\ude00","\ud7ff\u00ed"]"#).unwrap();
        assert_eq!(parts(&command), ["GET", "a\u{fffd}b\u{fffd}", "\u{1f600}", "\u{fffd}\u{1f600}", "\u{d7ff}\u{ed}"]);
        assert!(command.arguments_from(0).all(|part| std::str::from_utf8(part).is_ok()));
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let body = "[".repeat(100_000);
        assert!(single(body.as_bytes()).is_err());
        let body = format!("[\"GET\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert!(single(body.as_bytes()).is_err());
    }

    #[test]
    fn a_path_is_split_first_and_decoded_once() {
        let of = |path, query, body| of_path(path, query, body).map(|command| parts(&command));
        assert_eq!(of("/set/foo/a%20b", None, None).unwrap(), ["set", "foo", "a b"]);
        assert_eq!(of("/get%2fa", None, None).unwrap(), ["get/a"]);
        assert_eq!(of("/get/%252f", None, None).unwrap(), ["get", "%2f"]);
        assert_eq!(of("/%66lushall", None, None).unwrap(), ["flushall"]);
        assert_eq!(of("/get/a+b", None, None).unwrap(), ["get", "a+b"]);
        assert_eq!(
            of("/set/foo", Some("EX=100&NX"), Some(b"va/lue")).unwrap(),
            ["set", "foo", "va/lue", "EX", "100", "NX"]
        );
        assert!(of("//flushall", None, None).is_err());
        assert!(of("/get//a", None, None).is_err());
        assert!(of("/get/a/", None, None).is_err());
        assert!(of("/", None, None).is_err());
    }
}
